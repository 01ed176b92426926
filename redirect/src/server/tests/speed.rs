//! What forwarding costs, without sockets. A measurement, to be run by itself:
//! `cargo test --release -p redirect -- --ignored --nocapture forwarding`.

use super::*;
use std::time::Instant;

/// Calls that the messages belong to, so that the record of calls is looked up in earnest; each has a
/// message in every round, and a round's messages are few enough to be in the cache, as they are when
/// the kernel has just copied them.
const CALLS: usize = 500;
const ROUNDS: usize = 400;

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
    let info = |round: usize, call: usize| {
        let branch = format!("info{round}in{call}");
        let (call, cseq) = (format!("{call}@switch.example.com"), 2 + round as u32);
        let uri = "sip:callee@127.0.0.1:5070";
        let text = request("INFO", &call, uri, cseq, &branch, "callee");
        Bytes::from(text.replacen("\r\nCall-ID", headers, 1))
    };
    let world = World {
        now: scene.now,
        wall: NOON,
        map: &scene.map,
    };
    let node = &mut scene.nodes[0];
    let mut pass = |address: SocketAddr, messages: Vec<Bytes>, took: &mut Vec<Duration>| {
        let way = Way::Datagram(0);
        let mut out = Vec::with_capacity(CALLS);
        let began = Instant::now();
        for message in messages {
            node.receive_datagram(world, Hop { way, address }, message, &mut out);
        }
        took.push(began.elapsed());
        assert_eq!(out.len(), CALLS);
        out
    };
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let requests = (0..CALLS).map(|call| info(round, call)).collect();
        let passed = pass(switch(), requests, &mut took[0]);
        let answer = |output: Output| {
            let Output::Send { bytes, .. } = output else {
                panic!("{output:?}");
            };
            let message = Message::from_datagram(bytes).expect("own writing");
            let response = ResponseBuilder::new(&message, 200).finish();
            response.expect("an answer")
        };
        let responses = passed.into_iter().map(answer).collect();
        pass(server_of(1), responses, &mut took[1]);
    }
    // The first quartile: what else runs on the machine disturbs the others.
    let each = took.map(|mut took| {
        took.sort_unstable();
        took[ROUNDS / 4].as_nanos() / CALLS as u128
    });
    println!(
        "requests: {} ns each; responses: {} ns each",
        each[0], each[1]
    );
}
