//! What goes through, and how it looks behind.

use super::*;

#[test]
fn a_call_from_invite_to_bye() {
    let mut scene = Scene::new(1, 10);
    scene.by_vip(1, &invite("a"));
    let arrived = scene.one();
    assert_eq!((arrived.at, arrived.from), (server_of(1), own(1)));
    assert_eq!(arrived.uri(), CALLEE);
    assert_eq!(arrived.header(Name::MaxForwards), "69");
    assert_eq!(
        arrived.header(Name::RecordRoute),
        "<sip:192.0.2.100:5060;lr>"
    );
    let vias: Vec<String> = arrived
        .message
        .elements(Name::Via)
        .map(|via| String::from_utf8_lossy(via).into_owned())
        .collect();
    assert!(
        vias[0].starts_with("SIP/2.0/UDP 192.0.2.11:5062;branch=z9hG4bKpm"),
        "{vias:?}"
    );
    assert!(vias[1].contains("received=198.51.100.1") && vias[1].contains("rport=5060"));

    scene.answer(&arrived, 180);
    let ringing = scene.one();
    assert_eq!(
        (ringing.status(), ringing.at, ringing.from),
        (180, switch(), vip())
    );
    assert_eq!(ringing.message.elements(Name::Via).count(), 1);
    assert_eq!(scene.node(1).dialogs().early, 1);
    scene.answer(&arrived, 200);
    assert_eq!(scene.one().status(), 200);
    assert_eq!(scene.node(1).dialogs().confirmed, 1);
    assert_eq!(scene.node(1).gate().slots().taken(), 1);

    // The switch's request names us in Route, which goes no further.
    let route = "\r\nRoute: <sip:192.0.2.100:5060;lr>\r\nCall-ID";
    let bye = request(
        "BYE",
        "a",
        "sip:callee@192.0.2.100:5060",
        2,
        "bye",
        "callee",
    );
    scene.by_vip(1, &bye.replacen("\r\nCall-ID", route, 1));
    let arrived = scene.one();
    assert_eq!(arrived.at, server_of(1));
    assert_eq!(arrived.header(Name::Route), "");
    assert_eq!(arrived.header(Name::RecordRoute), "");
    scene.answer(&arrived, 200);
    assert_eq!(scene.one().status(), 200);
    assert_eq!(scene.node(1).gate().slots().taken(), 0);
    assert_eq!(scene.nodes[0].calls.len(), 0);
}

#[test]
fn copies_cancel_and_the_ack_of_a_refusal_keep_the_branch() {
    let mut scene = Scene::new(1, 1);
    scene.by_vip(1, &invite("a"));
    let first = scene.one();
    scene.by_vip(1, &invite("a"));
    let again = scene.one();
    assert_eq!(again.header(Name::Via), first.header(Name::Via));
    assert_eq!(again.message.bytes(), first.message.bytes());
    scene.by_vip(1, &request("CANCEL", "a", CALLEE, 1, "inva", ""));
    let cancel = scene.one();
    assert_eq!(cancel.method(), Some(Method::Cancel));
    assert_eq!(cancel.header(Name::Via), first.header(Name::Via));
    scene.answer(&cancel, 200);
    assert_eq!(scene.one().status(), 200);
    scene.answer(&first, 487);
    assert_eq!(scene.one().status(), 487);
    scene.by_vip(1, &ack_of_refusal("a"));
    let ack = scene.one();
    assert_eq!(ack.header(Name::Via), first.header(Name::Via));
    assert_eq!(ack.at, server_of(1));
    assert_eq!(
        scene.node(1).gate().slots().taken(),
        0,
        "the slot is free again"
    );
    // A late copy of the INVITE still goes where the first went, and takes no slot for good.
    scene.by_vip(1, &invite("a"));
    assert_eq!(scene.one().at, server_of(1));
    assert_eq!(scene.node(1).gate().slots().taken(), 0);
    assert_eq!(scene.nodes[0].calls.len(), 0);
}

#[test]
fn requests_within_a_call_go_both_ways() {
    let mut scene = Scene::new(1, 10);
    answered(&mut scene, 1, "a");
    let hold = request("INVITE", "a", CALLEE, 2, "hold", "callee");
    let body = "v=0\r\no=- 1 2 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
                m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n";
    let with_body = |text: &str| {
        text.replacen(
            "Content-Length: 0\r\n\r\n",
            &format!(
                "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            1,
        )
    };
    scene.by_vip(1, &with_body(&hold));
    let arrived = scene.one();
    assert_eq!(arrived.message.body(), body.as_bytes());
    scene.answer(&arrived, 200);
    assert_eq!(scene.one().status(), 200);
    // The SIP server hangs up: by way of us, to the switch's Contact.
    let bye = "BYE sip:alice@198.51.100.1:5060 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKserver\r\n\
        Max-Forwards: 70\r\nRoute: <sip:192.0.2.100:5060;lr>\r\n\
        From: <sip:bob@192.0.2.100>;tag=callee\r\n\
        To: \"Alice\" <sip:alice@198.51.100.1>;tag=caller\r\n\
        Call-ID: a\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n";
    scene.deliver(1, vip(), server_of(1), bye.as_bytes());
    let arrived = scene.one();
    assert_eq!((arrived.at, arrived.from), (switch(), vip()));
    assert_eq!(arrived.header(Name::Route), "");
    let ok = ResponseBuilder::new(&arrived.message, 200)
        .finish()
        .expect("an answer");
    scene.deliver(1, vip(), switch(), &ok);
    let ok = scene.one();
    assert_eq!((ok.status(), ok.at), (200, server_of(1)));
    assert_eq!(scene.node(1).dialogs().ended, 1);
    assert_eq!(scene.node(1).gate().slots().taken(), 0);
}

#[test]
fn a_name_is_reached_where_the_call_came_from() {
    let mut scene = Scene::new(1, 10);
    answered(&mut scene, 1, "a");
    let bye = |call: &str| {
        format!(
            "BYE sip:alice@pbx.example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\n\
             From: <sip:bob@192.0.2.100>;tag=callee\r\n\
             To: <sip:alice@198.51.100.1>;tag=caller\r\n\
             Call-ID: {call}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        )
    };
    scene.deliver(1, vip(), server_of(1), bye("a").as_bytes());
    assert_eq!(scene.one().at, switch());
    scene.deliver(1, vip(), server_of(1), bye("unknown").as_bytes());
    let refused = scene.one();
    assert_eq!((refused.status(), refused.at), (502, server_of(1)));
    assert_eq!(scene.count(1, Count::Unresolved), 1);
}

#[test]
fn responses_to_nothing_are_dropped() {
    let mut scene = Scene::new(1, 10);
    scene.by_vip(1, &invite("a"));
    let arrived = scene.one();
    let ok = ResponseBuilder::new(&arrived.message, 200)
        .to_tag("x")
        .finish();
    let ok = String::from_utf8(ok.expect("an answer").to_vec()).expect("text");
    let forgeries = [
        ok.replace("Call-ID: a", "Call-ID: b"),
        ok.replace("branch=z9hG4bKinva", "branch=z9hG4bKother"),
        ok.replace("u0;rport", "u1;rport"),
        ok.replace("u0;rport", "t1;rport"),
        ok.replace("z9hG4bKpm", "z9hG4bKxx"),
        ok.replace("198.51.100.1:5060;branch", "203.0.113.9:5060;branch"),
        // To somebody else, or to another port.
        ok.replace("received=198.51.100.1", "received=203.0.113.9"),
        ok.replace("rport=5060", "rport=53"),
    ];
    for forged in forgeries {
        assert_ne!(forged, ok);
        scene.deliver(1, vip(), server_of(1), forged.as_bytes());
        assert!(scene.take().is_empty(), "{forged}");
    }
    assert_eq!(scene.count(1, Count::Foreign), 8);
    scene.deliver(1, vip(), server_of(1), ok.as_bytes());
    assert_eq!(scene.one().status(), 200);
}

#[test]
fn what_breaks_the_rules_is_answered_or_dropped() {
    let mut scene = Scene::new(1, 10);
    let wrong = [
        (
            invite("a").replace("Max-Forwards: 70", "Max-Forwards: 0"),
            483,
        ),
        (
            invite("a").replace("sip:bob@192.0.2.100:5060", "nosuch:bob"),
            416,
        ),
        (invite("a").replace("CSeq: 1 INVITE", "CSeq: 1 BYE"), 400),
        (invite("a").replace("Call-ID: a\r\n", ""), 400),
    ];
    for (text, status) in wrong {
        scene.by_vip(1, &text);
        let answer = scene.one();
        assert_eq!((answer.status(), answer.at), (status, switch()), "{text}");
    }
    scene.by_vip(
        1,
        &ack_of_refusal("a").replace("Max-Forwards: 70", "Max-Forwards: 0"),
    );
    scene.by_vip(1, "\r\n\r\n");
    scene.by_vip(1, "no SIP at all\r\n\r\n");
    assert!(scene.take().is_empty());
    let counted = [Count::Rejected, Count::Invalid, Count::KeepAlive];
    assert_eq!(counted.map(|count| scene.count(1, count)), [4, 2, 1]);
}

#[test]
fn other_requests_go_through_without_a_slot() {
    let mut scene = Scene::new(1, 1);
    answered(&mut scene, 1, "a");
    for (method, call) in [
        ("OPTIONS", "o"),
        ("REGISTER", "r"),
        ("MESSAGE", "m"),
        ("BYE", "unknown"),
    ] {
        let tag = if method == "BYE" { "lost" } else { "" };
        scene.by_vip(1, &request(method, call, CALLEE, 1, call, tag));
        let arrived = scene.one();
        assert_eq!(arrived.at, server_of(1), "{method}");
        assert_eq!(arrived.header(Name::RecordRoute), "", "{method}");
    }
}

#[test]
fn calls_of_the_sip_server_go_out_and_are_counted() {
    let mut scene = Scene::new(1, 2);
    let invite = "INVITE sip:carol@203.0.113.5 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKout\r\nMax-Forwards: 70\r\n\
        Route: <sip:192.0.2.11:5062;lr>, <sip:203.0.113.1:5080;lr>\r\n\
        From: <sip:bob@192.0.2.100>;tag=b\r\nTo: <sip:carol@203.0.113.5>\r\n\
        Call-ID: out\r\nCSeq: 1 INVITE\r\nContact: <sip:bob@127.0.0.1:5070>\r\n\
        Content-Length: 0\r\n\r\n";
    scene.deliver(1, own(1), server_of(1), invite.as_bytes());
    let arrived = scene.one();
    assert_eq!(arrived.at, "203.0.113.1:5080".parse().expect("an address"));
    assert_eq!(arrived.header(Name::Route), "<sip:203.0.113.1:5080;lr>");
    assert_eq!(
        arrived.header(Name::RecordRoute),
        "<sip:192.0.2.11:5062;lr>"
    );
    assert_eq!(scene.node(1).gate().slots().taken(), 1);
    let busy = ResponseBuilder::new(&arrived.message, 486)
        .to_tag("c")
        .finish();
    scene.deliver(1, own(1), arrived.at, &busy.expect("an answer"));
    assert_eq!(scene.one().at, server_of(1));
    assert_eq!(scene.node(1).gate().slots().taken(), 0);
}

/// A switch on a stream closes its connection and opens another: what the SIP server asks within the
/// call goes to the new one.
#[test]
fn a_switch_that_connects_again_is_found() {
    let mut scene = Scene::new(1, 10);
    let by_stream = |scene: &mut Scene, stream, from: SocketAddr, text: String| {
        let hop = Hop {
            way: Way::Stream(stream),
            address: from,
        };
        let text = text.replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        let out = scene.receive(1, hop, text.as_bytes());
        scene.carry(1, out);
    };
    let way_of_info = |scene: &mut Scene, cseq: u32| {
        let text = format!(
            "INFO sip:alice@198.51.100.1:5060;transport=tcp SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKinfo{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:bob@192.0.2.100>;tag=callee\r\nTo: <sip:alice@198.51.100.1>;tag=caller\r\n\
             Call-ID: a\r\nCSeq: {cseq} INFO\r\nContent-Length: 0\r\n\r\n"
        );
        let hop = Hop {
            way: Way::Datagram(1),
            address: server_of(1),
        };
        let out = scene.receive(1, hop, text.as_bytes());
        let [Output::Send { to, .. }] = &out[..] else {
            panic!("{out:?}");
        };
        to.way
    };
    by_stream(&mut scene, 7, switch(), invite("a"));
    let arrived = scene.one();
    scene.answer(&arrived, 200);
    scene.one();
    let in_call = |method, cseq| request(method, "a", CALLEE, cseq, method, "callee");
    by_stream(&mut scene, 7, switch(), in_call("ACK", 1));
    assert_eq!(way_of_info(&mut scene, 1), Way::Stream(7));
    // From elsewhere anybody could come.
    let stranger = "203.0.113.9:5060".parse().expect("an address");
    by_stream(&mut scene, 9, stranger, in_call("INFO", 2));
    assert_eq!(way_of_info(&mut scene, 2), Way::Stream(7));
    by_stream(&mut scene, 8, switch(), in_call("INFO", 3));
    assert_eq!(way_of_info(&mut scene, 3), Way::Stream(8));
}
