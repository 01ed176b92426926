//! Calls that a node does not take: seed 1, claim 5, message by message, and what could go wrong.

use super::*;
use lb_proto::admission::slots::LEASE;
use lb_sip::headers::NameAddr;

/// The URI of a 302's first Contact, and all q-values.
fn contacts(arrived: &Arrived) -> (String, Vec<u16>) {
    let contacts = arrived.message.addresses(Name::Contact);
    let contacts: Vec<NameAddr<'_>> = contacts
        .map(|contact| contact.expect("well-formed"))
        .collect();
    let uri = contacts.first().map_or(&b""[..], |contact| contact.uri);
    let q = contacts.iter().map(NameAddr::q_thousandths).collect();
    (String::from_utf8_lossy(uri).into_owned(), q)
}

/// The switch follows a 302: acknowledges it by way of the VIP, and sends its INVITE to the Contact.
/// The node that it is for, and what it sends there.
pub(super) fn follow(
    scene: &mut Scene,
    home: usize,
    call: &str,
    answer: &Arrived,
    hop: u32,
) -> usize {
    let (uri, _) = contacts(answer);
    let node = (1..=scene.nodes.len())
        .find(|node| uri.contains(&format!("@{};", own(*node))))
        .unwrap_or_else(|| panic!("a node's own address: {uri}"));
    scene.by_vip(
        home,
        &request("ACK", call, CALLEE, 1, &format!("inv{call}"), "any"),
    );
    let branch = format!("inv{call}hop{hop}");
    let text = request("INVITE", call, &uri, 1 + hop, &branch, "");
    scene.deliver(node, own(node), switch(), text.as_bytes());
    node
}

#[test]
fn claim_five_message_by_message() {
    let mut scene = Scene::new(3, 1);
    // Only node 2 has room beside node 1, which is full with its first call.
    answered(&mut scene, 1, "first");
    answered(&mut scene, 3, "other");
    scene.beacons();
    scene.ladder.clear();

    scene.by_vip(1, &invite("a"));
    let moved = scene.one();
    // The second node itself tells the switch that it can take the call.
    assert_eq!(
        (moved.status(), moved.from, moved.at),
        (302, own(2), switch())
    );
    assert_eq!(moved.message.elements(Name::Via).count(), 1);
    let (uri, q) = contacts(&moved);
    assert!(
        uri.starts_with("sip:bob@192.0.2.12:5062;pm-for=192.0.2.100:5060;pm-hop="),
        "{uri}"
    );
    assert_eq!(q, [1000]);
    assert_eq!(
        scene.node(2).gate().facts(START).free,
        0,
        "its slot is held"
    );

    assert_eq!(follow(&mut scene, 1, "a", &moved, 1), 2);
    let arrived = scene.one();
    assert_eq!((arrived.at, arrived.uri().as_str()), (server_of(2), CALLEE));
    assert_eq!(
        arrived.header(Name::RecordRoute),
        "<sip:192.0.2.12:5062;lr>"
    );
    scene.answer(&arrived, 200);
    let ok = scene.one();
    assert_eq!((ok.status(), ok.from), (200, own(2)));
    assert_eq!(
        scene.ladder,
        [
            "switch -> node 1: INVITE",
            "node 1 -> node 2: INVITE",
            "node 2 -> switch: 302",
            "switch -> node 1: ACK",
            "switch -> node 2: INVITE",
            "node 2 -> server 2: INVITE",
            "server 2 -> node 2: 200",
            "node 2 -> switch: 200",
        ]
    );
    let counted = [Count::Relayed, Count::AckAbsorbed].map(|count| scene.count(1, count));
    assert_eq!(counted, [1, 1]);
    let counted = [Count::Promised, Count::TakenOffered].map(|count| scene.count(2, count));
    assert_eq!(counted, [1, 1]);
    assert!(scene.reports.is_empty(), "nobody is there to report to");
}

#[test]
fn copies_while_it_is_relayed_take_the_same_way() {
    let mut scene = Scene::new(6, 1);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let moved = scene.one();
    for _ in 0..5 {
        scene.by_vip(1, &invite("a"));
        let again = scene.one();
        assert_eq!(again.message.bytes(), moved.message.bytes());
        assert_eq!(again.from, moved.from);
    }
    assert_eq!(scene.count(1, Count::Relayed), 1);
    assert_eq!(scene.count(1, Count::Again), 5);
    // A CANCEL comes too late for this node to do anything, and never leaves it.
    scene.by_vip(1, &request("CANCEL", "a", CALLEE, 1, "inva", ""));
    let ok = scene.one();
    assert_eq!((ok.status(), ok.at), (200, switch()));
    for _ in 0..2 {
        scene.by_vip(1, &ack_of_refusal("a"));
    }
    assert!(scene.take().is_empty());
    assert_eq!(scene.count(1, Count::AckAbsorbed), 2);
}

#[test]
fn a_slot_that_is_promised_is_kept_for_five_seconds() {
    let mut scene = Scene::new(2, 1);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let moved = scene.one();
    // Another call finds node 2 full, although nothing is there yet, and node 1 still is.
    scene.by_vip(2, &invite("b"));
    assert_eq!(scene.one().status(), 503);
    scene.pass(LEASE - Duration::from_millis(1));
    follow(&mut scene, 1, "a", &moved, 1);
    assert_eq!(scene.one().at, server_of(2));
}

#[test]
fn who_comes_too_late_is_sent_on_or_refused() {
    let mut scene = Scene::new(3, 1);
    answered(&mut scene, 1, "first");
    answered(&mut scene, 3, "other");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let moved = scene.one();
    scene.pass(LEASE);
    answered(&mut scene, 2, "faster");
    scene.beacons();
    follow(&mut scene, 1, "a", &moved, 1);
    let refused = scene.one();
    assert_eq!((refused.status(), refused.from), (503, own(2)));
    let wait: u64 = refused.header(Name::RetryAfter).parse().expect("seconds");
    assert!((2..=10).contains(&wait));
    // Its ACK, too, may come to the node that refused.
    let uri = contacts(&moved).0;
    scene.deliver(
        2,
        own(2),
        switch(),
        request("ACK", "a", &uri, 2, "invahop1", "x").as_bytes(),
    );
    assert!(scene.take().is_empty());
}

#[test]
fn direct_mode_names_three_nodes() {
    let mut scene = Scene::with(5, 1, |settings| settings.mode = Mode::Direct);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let moved = scene.one();
    assert_eq!((moved.status(), moved.from), (302, vip()));
    assert_eq!(contacts(&moved).1, [1000, 700, 400]);
    let node = follow(&mut scene, 1, "a", &moved, 1);
    assert_eq!(scene.one().at, server_of(node));
    assert_eq!(scene.count(1, Count::Redirected), 1);
}

#[test]
fn who_does_not_follow_302_is_proxied() {
    let mut scene = Scene::with(2, 1, |settings| settings.overflow = Overflow::Proxy);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.ladder.clear();
    scene.by_vip(1, &invite("a"));
    let arrived = scene.one();
    assert_eq!((arrived.at, arrived.uri().as_str()), (server_of(2), CALLEE));
    assert_eq!(arrived.message.elements(Name::Via).count(), 3);
    let recorded: Vec<_> = arrived.message.elements(Name::RecordRoute).collect();
    // By their own addresses: the VIP is both nodes'.
    let [second, first] = ["<sip:192.0.2.12:5062;lr>", "<sip:192.0.2.11:5062;lr>"];
    assert_eq!(recorded, [second.as_bytes(), first.as_bytes()]);
    assert!(
        scene.reports.is_empty(),
        "its home is where it is steered to"
    );
    scene.by_vip(1, &invite("a"));
    assert_eq!(scene.one().message.bytes(), arrived.message.bytes());
    scene.answer(&arrived, 200);
    let ok = scene.one();
    assert_eq!((ok.status(), ok.from, ok.at), (200, vip(), switch()));
    // What follows goes the same way, to the second node's server and back.
    let routes = &format!("\r\nRoute: {first},{second}\r\nCall-ID");
    let ack = request("ACK", "a", CALLEE, 1, "acka", "callee").replacen("\r\nCall-ID", routes, 1);
    scene.by_vip(1, &ack);
    assert_eq!(scene.one().at, server_of(2));
    let bye = "BYE sip:alice@198.51.100.1:5060 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 127.0.0.2:5070;branch=z9hG4bKserver\r\nMax-Forwards: 70\r\n\
        Route: <sip:192.0.2.12:5062;lr>, <sip:192.0.2.11:5062;lr>\r\n\
        From: <sip:bob@192.0.2.100>;tag=callee\r\nTo: <sip:alice@198.51.100.1>;tag=caller\r\n\
        Call-ID: a\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n";
    scene.deliver(2, own(2), server_of(2), bye.as_bytes());
    let bye = scene.one();
    assert_eq!((bye.at, bye.from), (switch(), vip()));
    assert_eq!(scene.count(1, Count::Proxied), 1);
    assert_eq!(scene.node(1).gate().slots().taken(), 1, "only its own call");
}

#[test]
fn forged_tickets_promise_nothing() {
    let mut scene = Scene::new(2, 1);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let moved = scene.one();
    let (uri, _) = contacts(&moved);
    let ticket = uri.split("pm-hop=").nth(1).expect("a ticket").to_owned();
    // A ticket out of a Contact is none to relay by, nor is one for another call or one made up.
    for (call, ticket) in [
        ("a", ticket.as_str()),
        ("b", ticket.as_str()),
        ("b", "abcd"),
        ("b", ""),
    ] {
        let text = invite(call).replacen(
            "Content-Length",
            &format!("Pointsman-Relay: {ticket}\r\nContent-Length"),
            1,
        );
        scene.deliver(
            2,
            own(2),
            switch(),
            text.replace("inv", "forged").as_bytes(),
        );
        assert!(scene.take().is_empty());
    }
    assert_eq!(scene.count(2, Count::RelayForged), 4);
    // One in the Request-URI that does not count: taken if there is room, else refused, never sent on.
    scene.pass(LEASE);
    let spoilt = uri.replace(&ticket, &ticket[1..]);
    for (call, branch) in [("b", "b1"), ("c", "c1")] {
        let text = request("INVITE", call, &spoilt, 1, branch, "");
        scene.deliver(2, own(2), switch(), text.as_bytes());
        let arrived = scene.one();
        if call == "b" {
            assert_eq!((arrived.at, arrived.uri().as_str()), (server_of(2), CALLEE));
        } else {
            assert_eq!(arrived.status(), 503);
        }
    }
}

#[test]
fn nobody_else_with_a_redirect_server_means_503() {
    let mut scene = Scene::new(1, 1);
    answered(&mut scene, 1, "first");
    scene.by_vip(1, &invite("a"));
    let refused = scene.one();
    assert_eq!(
        (refused.status(), refused.from, refused.at),
        (503, vip(), switch())
    );
    scene.by_vip(1, &invite("a"));
    assert_eq!(scene.one().message.bytes(), refused.message.bytes());
    scene.by_vip(1, &ack_of_refusal("a"));
    assert!(scene.take().is_empty());
    // The call that the node has is not touched by any of it.
    scene.by_vip(1, &request("BYE", "first", CALLEE, 2, "bye", "callee"));
    assert_eq!(scene.one().at, server_of(1));
}

/// Every node says that it has room and has none: the worst that a map can tell.
#[test]
fn ten_thousand_calls_among_nodes_that_lie_never_loop() {
    let mut scene = Scene::new(6, 1);
    for node in 1..=6 {
        answered(&mut scene, node, &format!("first{node}"));
    }
    let lie = |_, report| sender::Report {
        admission: Admission::Idle,
        headroom: 1000,
        ..report
    };
    let mut most = 0;
    for number in 0..10_000_u32 {
        if number % 50 == 0 {
            scene.pass(Duration::from_millis(20));
            scene.say(lie);
        }
        let call = format!("c{number}");
        let home = 1 + number as usize % 6;
        scene.ladder.clear();
        scene.by_vip(home, &invite(&call));
        let end = scene.one();
        assert_eq!((end.status(), end.at), (503, switch()));
        let hops: Vec<&String> = scene
            .ladder
            .iter()
            .filter(|line| line.ends_with("INVITE"))
            .collect();
        let mut nodes: Vec<&str> = hops
            .iter()
            .filter_map(|line| line.split("-> ").nth(1))
            .collect();
        most = most.max(hops.len() - 1);
        assert!(hops.len() <= 4, "{:?}", scene.ladder);
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), hops.len(), "no node twice: {:?}", scene.ladder);
        let wait: u64 = end.header(Name::RetryAfter).parse().expect("seconds");
        assert!((2..=10).contains(&wait));
    }
    println!("10,000 calls among six nodes without room: at most {most} offers each, no loop");
    assert_eq!(most, 3);
}

/// The same, with a switch that follows every 302 of nodes in direct mode.
#[test]
fn direct_redirects_end_after_three() {
    let mut scene = Scene::with(6, 1, |settings| settings.mode = Mode::Direct);
    for node in 1..=6 {
        answered(&mut scene, node, &format!("first{node}"));
    }
    for number in 0..1_000_u32 {
        if number % 50 == 0 {
            scene.pass(Duration::from_millis(20));
            scene.say(|_, report| sender::Report {
                admission: Admission::Idle,
                headroom: 1000,
                ..report
            });
        }
        let call = format!("c{number}");
        let home = 1 + number as usize % 6;
        scene.by_vip(home, &invite(&call));
        let mut answer = scene.one();
        let mut redirects = 0;
        while answer.status() == 302 {
            redirects += 1;
            follow(&mut scene, home, &call, &answer, redirects);
            answer = scene.one();
        }
        assert_eq!((answer.status(), redirects), (503, 3));
    }
}

/// What ends before it is answered goes where the INVITE went, with the same Request-URI.
#[test]
fn a_call_that_was_redirected_can_be_cancelled() {
    let mut scene = Scene::new(2, 1);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let moved = scene.one();
    follow(&mut scene, 1, "a", &moved, 1);
    let (first, uri) = (scene.one(), contacts(&moved).0);
    let cancel = request("CANCEL", "a", &uri, 2, "invahop1", "");
    scene.deliver(2, own(2), switch(), cancel.as_bytes());
    let cancel = scene.one();
    assert_eq!((cancel.at, cancel.uri()), (first.at, first.uri()));
    assert_eq!(cancel.header(Name::Via), first.header(Name::Via));
    scene.answer(&first, 487);
    scene.take();
    let ack = request("ACK", "a", &uri, 2, "invahop1", "callee");
    scene.deliver(2, own(2), switch(), ack.as_bytes());
    let ack = scene.one();
    assert_eq!((ack.at, ack.uri()), (first.at, first.uri()));
}

#[test]
fn the_refusal_of_a_proxied_call_is_acknowledged_where_it_came_from() {
    let mut scene = Scene::with(2, 1, |settings| settings.overflow = Overflow::Proxy);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let arrived = scene.one();
    scene.answer(&arrived, 486);
    assert_eq!(scene.one().status(), 486);
    scene.by_vip(1, &ack_of_refusal("a"));
    let ack = scene.one();
    assert_eq!((ack.at, ack.uri()), (arrived.at, arrived.uri()));
    assert_eq!(ack.message.elements(Name::Via).count(), 3);
}

/// A node dies with a call that it was to answer: the INVITE's next copy goes to one that lives.
#[test]
fn what_was_handed_to_a_dead_node_is_handed_to_another() {
    let mut scene = Scene::new(3, 1);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let by = scene.one().from;
    let second = (2..=3).find(|node| own(*node) == by).expect("one of them");
    // Silence, for longer than the hold time; the third is heard.
    for _ in 0..4 {
        scene.pass(PERIOD);
        scene.say_but(second);
    }
    scene.by_vip(1, &invite("a"));
    let again = scene.one();
    assert_eq!((again.status(), again.from), (302, own(5 - second)));
}

/// A 302 that names an IPv4 address is no use to who has IPv6 only.
#[test]
fn a_caller_of_another_family_is_refused_and_not_left_without_an_answer() {
    let listeners = |node: usize| {
        let vip6 = "[2001:db8::100]:5060".parse().expect("an address");
        vec![vip(), own(node), vip6]
    };
    for mode in [Mode::Relay, Mode::Direct] {
        let mut scene = Scene::with(2, 1, |settings| {
            settings.mode = mode;
            let node = settings.node.into();
            settings.ways = Ways::new(listeners(node), own(node));
        });
        answered(&mut scene, 1, "first");
        scene.beacons();
        let caller: SocketAddr = "[2001:db8::1]:5060".parse().expect("an address");
        let text = invite("a").replace("UDP 198.51.100.1:5060", "UDP [2001:db8::1]:5060");
        let hop = Hop {
            way: Way::Datagram(2),
            address: caller,
        };
        let out = scene.receive(1, hop, text.as_bytes());
        let [Output::Send { to, bytes }] = &out[..] else {
            panic!("{out:?}");
        };
        let answer = Message::from_datagram(bytes.clone()).expect("SIP");
        assert_eq!((*to, answer.status()), (hop, Some(503)));
    }
}

#[test]
fn long_messages_that_are_kept_for_copies_have_an_end() {
    use super::super::fates::MOST_BYTES;
    const PADDING: usize = 60_000;
    // No other node: each call beyond the first is refused, and each refusal repeats the long Via.
    let mut scene = Scene::new(1, 1);
    answered(&mut scene, 1, "first");
    let calls = MOST_BYTES / PADDING + 20;
    for call in 0..calls {
        let branch = format!("branch=z9hG4bKinv{call};x={}", "y".repeat(PADDING));
        let text = invite(&call.to_string());
        let text = text.replace(&format!("branch=z9hG4bKinv{call}"), &branch);
        scene.by_vip(1, &text);
        assert_eq!(scene.one().status(), 503);
    }
    let forgotten = scene.count(1, Count::Forgotten);
    assert!((10..=30).contains(&forgotten), "{forgotten}");
    scene.by_vip(1, &ack_of_refusal(&(calls - 1).to_string()));
    assert_eq!(scene.count(1, Count::AckAbsorbed), 1, "the last is known");
}
