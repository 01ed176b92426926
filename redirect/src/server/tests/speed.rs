//! What forwarding costs, without sockets. A measurement, to be run by itself:
//! `cargo test --release -p redirect -- --ignored --nocapture forwarding`.

use super::*;
use std::time::Instant;

/// Calls that the messages belong to, so that the record of calls is looked up in earnest.
const CALLS: usize = 1000;
const MESSAGES: usize = 300_000;

#[test]
#[ignore = "a measurement"]
fn forwarding_within_calls() {
    let mut scene = Scene::new(1, CALLS as u32);
    for call in 0..CALLS {
        answered(&mut scene, 1, &format!("{call}@switch.example.com"));
        scene.ladder.clear();
    }
    let headers = "\r\nRoute: <sip:192.0.2.100:5060;lr>\r\nUser-Agent: Example Switch 7.2\r\n\
        Supported: timer, 100rel\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO\r\nCall-ID";
    let info = |number: usize| {
        let call = format!("{}@switch.example.com", number % CALLS);
        let cseq = 2 + number as u32;
        let branch = format!("info{number}");
        let text = request(
            "INFO",
            &call,
            "sip:callee@127.0.0.1:5070",
            cseq,
            &branch,
            "callee",
        );
        Bytes::from(text.replacen("\r\nCall-ID", headers, 1))
    };
    let requests: Vec<Bytes> = (0..MESSAGES).map(info).collect();
    let (from, mut out) = (switch(), Vec::new());
    let hop = |address| Hop {
        way: Way::Datagram(0),
        address,
    };
    let world = World {
        now: scene.now,
        wall: NOON,
        map: &scene.map,
    };
    let node = &mut scene.nodes[0];
    let mut responses = Vec::with_capacity(MESSAGES);
    let began = Instant::now();
    for request in requests {
        node.receive_datagram(world, hop(from), request, &mut out);
        match out.pop() {
            Some(Output::Send { bytes, .. }) => responses.push(bytes),
            other => panic!("{other:?}"),
        }
    }
    let took = began.elapsed().as_nanos() / MESSAGES as u128;
    println!("requests: {took} ns each");
    for bytes in &mut responses {
        let message = Message::from_datagram(bytes.clone()).expect("own writing");
        let response = ResponseBuilder::new(&message, 200).finish();
        *bytes = response.expect("an answer");
    }
    let began = Instant::now();
    for response in responses {
        node.receive_datagram(world, hop(server_of(1)), response, &mut out);
        assert!(matches!(out.pop(), Some(Output::Send { .. })));
    }
    let took = began.elapsed().as_nanos() / MESSAGES as u128;
    println!("responses: {took} ns each");
}
