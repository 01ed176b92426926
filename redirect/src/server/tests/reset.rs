//! All calls are ended, or forgotten.

use super::*;
use crate::server::record::{HANG_UP_AT_ONCE, NEXT_HANG_UP};
use lb_proto::call_state::Designated;
use std::collections::BTreeSet;

fn reset(scene: &mut Scene, node: usize, designated: Designated) {
    let (mut out, now) = (Vec::new(), scene.now);
    scene.node(node).reset(now, designated, &mut out);
    scene.carry(node, out);
}

fn drop_all(scene: &mut Scene) {
    reset(scene, 1, Designated::Drop);
}

/// A call that rings; its INVITE, as the SIP server has it.
fn ringing(scene: &mut Scene, call: &str) -> Arrived {
    scene.by_vip(1, &invite(call));
    let arrived = scene.one();
    scene.answer(&arrived, 180);
    assert_eq!(scene.one().status(), 180);
    arrived
}

/// What went where since the last time: `switch: 480`, `server: CANCEL`.
fn went(scene: &mut Scene) -> Vec<String> {
    let name = |it: &Arrived| {
        let whom = if it.at == switch() {
            "switch"
        } else {
            "server"
        };
        match it.method() {
            Some(method) => format!("{whom}: {}", method.as_str()),
            None => format!("{whom}: {}", it.status()),
        }
    };
    scene.take().iter().map(name).collect()
}

/// Somebody answers a request of the node's own.
fn reply(scene: &mut Scene, request: &Arrived, status: u16) {
    let bytes = ResponseBuilder::new(&request.message, status)
        .to_tag("any")
        .finish()
        .expect("an answer");
    scene.deliver(1, vip(), request.at, &bytes);
}

fn left(scene: &Scene) -> usize {
    scene.nodes[0].reset_left()
}

#[test]
fn an_answered_call_is_hung_up_on_both_sides() {
    let mut scene = Scene::new(1, 2);
    answered(&mut scene, 1, "a");
    answered(&mut scene, 1, "held");
    let sdp = |direction: &str| {
        format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
             m=audio 4000 RTP/AVP 0\r\na={direction}\r\n"
        )
    };
    let offer = sdp("sendonly");
    let headers = format!(
        "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{offer}",
        offer.len()
    );
    let hold = request("INVITE", "held", CALLEE, 2, "hold", "callee");
    scene.by_vip(1, &hold.replace("Content-Length: 0\r\n\r\n", &headers));
    let arrived = scene.one();
    let answer = sdp("recvonly");
    let ok = ResponseBuilder::new(&arrived.message, 200)
        .body("application/sdp", answer.as_bytes())
        .finish()
        .expect("an answer");
    scene.deliver(1, vip(), server_of(1), &ok);
    scene.take();
    assert_eq!(scene.node(1).dialogs().held, 1);
    drop_all(&mut scene);
    let byes = scene.take();
    let whom: BTreeSet<(String, SocketAddr)> = byes
        .iter()
        .map(|bye| {
            assert_eq!(bye.method(), Some(Method::Bye));
            (bye.header(Name::CallId), bye.at)
        })
        .collect();
    let both = |call: &str| [(call.to_owned(), switch()), (call.to_owned(), server_of(1))];
    assert_eq!(
        whom,
        [both("a"), both("held")].concat().into_iter().collect()
    );
    assert_eq!((byes.len(), left(&scene)), (4, 0));
    assert_eq!(scene.count(1, Count::ResetEnded), 2);
    assert_eq!(scene.nodes[0].calls.len(), 0);
    for bye in &byes {
        reply(&mut scene, bye, 200);
    }
    scene.pass(Duration::from_secs(60));
    assert!(scene.take().is_empty(), "all has been said");
}

#[test]
fn a_call_that_rings_is_refused_on_one_side_and_cancelled_on_the_other() {
    let mut scene = Scene::new(1, 1);
    let invited = ringing(&mut scene, "a");
    drop_all(&mut scene);
    let said = scene.take();
    let [refusal, cancel] = &said[..] else {
        panic!("{said:#?}");
    };
    assert_eq!(
        (refusal.status(), refusal.at, refusal.from),
        (480, switch(), vip())
    );
    let vias: Vec<String> = refusal
        .message
        .elements(Name::Via)
        .map(|via| String::from_utf8_lossy(via).into_owned())
        .collect();
    assert_eq!(vias.len(), 1);
    assert!(vias[0].contains("branch=z9hG4bKinva"), "{vias:?}");
    assert_eq!(refusal.header(Name::CSeq), "1 INVITE");
    assert!(refusal.header(Name::To).contains(";tag="));

    assert_eq!(
        (cancel.method(), cancel.at),
        (Some(Method::Cancel), server_of(1))
    );
    assert_eq!(cancel.uri(), invited.uri());
    let branch = |it: &Arrived| {
        let via = it.message.top_via().expect("a Via");
        via.written_branch().map(<[u8]>::to_vec)
    };
    assert_eq!(branch(cancel), branch(&invited));
    assert_eq!(cancel.header(Name::To), invited.header(Name::To));
    assert_eq!(
        scene.nodes[0].calls.len(),
        0,
        "its record and its slot are free"
    );
    assert_eq!((left(&scene), scene.node(1).gate().slots().taken()), (1, 0));

    // The caller does not hear it the first time, and has not given up.
    scene.pass(Duration::from_millis(500));
    assert_eq!(went(&mut scene), ["server: CANCEL", "switch: 480"]);
    scene.by_vip(1, &invite("a"));
    assert_eq!(went(&mut scene), ["switch: 480"]);
    scene.by_vip(1, &request("CANCEL", "a", CALLEE, 1, "inva", ""));
    assert_eq!(went(&mut scene), ["switch: 200"]);
    scene.by_vip(1, &ack_of_refusal("a"));
    reply(&mut scene, cancel, 200);
    assert!(scene.take().is_empty());

    // The callee's last word, twice, since its ACK was lost.
    for _ in 0..2 {
        scene.answer(&invited, 487);
        let ack = scene.one();
        assert_eq!((ack.method(), ack.at), (Some(Method::Ack), server_of(1)));
        assert_eq!(
            (branch(&ack), ack.header(Name::CSeq)),
            (branch(&invited), "1 ACK".to_owned())
        );
        assert!(ack.header(Name::To).ends_with("tag=callee"));
    }
    assert_eq!(left(&scene), 0);
    scene.pass(Duration::from_secs(120));
    assert!(scene.take().is_empty());
    assert_eq!(scene.nodes[0].next_timeout(scene.now), None);
}

#[test]
fn what_was_never_answered_is_not_cancelled_before_it_is() {
    let mut scene = Scene::new(1, 1);
    scene.by_vip(1, &invite("a"));
    let invited = scene.one();
    drop_all(&mut scene);
    assert_eq!(went(&mut scene), ["switch: 480"]);
    scene.by_vip(1, &ack_of_refusal("a"));
    scene.answer(&invited, 100);
    assert_eq!(went(&mut scene), ["server: CANCEL"]);
    scene.answer(&invited, 180);
    assert!(scene.take().is_empty(), "once, and the caller is not told");
    assert_eq!(left(&scene), 1);
    scene.answer(&invited, 487);
    assert_eq!(went(&mut scene), ["server: ACK"]);
    assert_eq!(left(&scene), 0);
}

#[test]
fn a_callee_that_says_nothing_is_not_waited_for() {
    let mut scene = Scene::new(1, 1);
    scene.by_vip(1, &invite("a"));
    scene.take();
    drop_all(&mut scene);
    scene.by_vip(1, &ack_of_refusal("a"));
    assert_eq!(left(&scene), 1);
    scene.pass(Duration::from_secs(32));
    assert_eq!(left(&scene), 0);
}

#[test]
fn a_callee_that_was_faster_is_acknowledged_and_hung_up_on() {
    let mut scene = Scene::new(1, 1);
    let invited = ringing(&mut scene, "a");
    drop_all(&mut scene);
    scene.by_vip(1, &ack_of_refusal("a"));
    assert_eq!(went(&mut scene), ["switch: 480", "server: CANCEL"]);
    scene.answer(&invited, 200);
    let said = scene.take();
    let [ack, bye] = &said[..] else {
        panic!("{said:#?}");
    };
    for (request, method, cseq) in [(ack, Method::Ack, "1 ACK"), (bye, Method::Bye, "2 BYE")] {
        assert_eq!((request.method(), request.at), (Some(method), server_of(1)));
        assert_eq!(request.header(Name::CSeq), cseq);
        assert_eq!(request.uri(), "sip:callee@192.0.2.100:5060");
        assert!(request.header(Name::From).ends_with("tag=caller"));
        assert!(request.header(Name::To).ends_with("tag=callee"));
        assert_eq!(
            request
                .message
                .header(Name::Route)
                .map(|it| it.raw.to_vec()),
            None
        );
    }
    scene.answer(&invited, 200);
    assert_eq!(went(&mut scene), ["server: ACK"], "a copy");
    scene.answer_with(
        &invited,
        200,
        &[(Name::To, "<sip:bob@192.0.2.100>;tag=other")],
    );
    reply(&mut scene, bye, 200);
    assert_eq!(left(&scene), 0);
    assert!(
        scene.take().iter().all(|it| it.at == server_of(1)),
        "the caller hears nothing of it"
    );
}

#[test]
fn a_call_of_the_sip_servers_own_that_rings() {
    let mut scene = Scene::new(1, 1);
    let out = request("INVITE", "own", "sip:alice@198.51.100.1", 1, "own", "");
    scene.deliver(1, own(1), server_of(1), out.as_bytes());
    let invited = scene.one();
    assert_eq!(invited.at, switch());
    let ringing = ResponseBuilder::new(&invited.message, 180)
        .to_tag("alice")
        .finish()
        .expect("an answer");
    scene.deliver(1, own(1), switch(), &ringing);
    assert_eq!(scene.one().status(), 180);
    drop_all(&mut scene);
    assert_eq!(went(&mut scene), ["server: 480", "switch: CANCEL"]);
    let ack = request("ACK", "own", "sip:alice@198.51.100.1", 1, "own", "any");
    scene.deliver(1, own(1), server_of(1), ack.as_bytes());
    scene.deliver(1, own(1), server_of(1), out.as_bytes());
    assert!(scene.take().is_empty(), "neither goes on");
    let cancelled = ResponseBuilder::new(&invited.message, 487)
        .to_tag("alice")
        .finish()
        .expect("an answer");
    scene.deliver(1, own(1), switch(), &cancelled);
    assert_eq!(went(&mut scene), ["switch: ACK"]);
    assert_eq!(left(&scene), 0);
}

#[test]
fn the_forks_of_a_call_end_together() {
    let mut scene = Scene::new(1, 1);
    let invited = ringing(&mut scene, "a");
    let other = ResponseBuilder::new(&invited.message, 183)
        .to_tag("other")
        .finish()
        .expect("an answer");
    scene.deliver(1, vip(), server_of(1), &other);
    assert_eq!(scene.one().status(), 183);
    assert_eq!(scene.node(1).dialogs().early, 2);
    drop_all(&mut scene);
    assert_eq!(went(&mut scene), ["switch: 480", "server: CANCEL"]);
    assert_eq!(scene.node(1).dialogs().early, 0);
    assert_eq!(scene.count(1, Count::ResetEnded), 1);

    // One was accepted while the other rings.
    let mut scene = Scene::new(1, 1);
    let invited = ringing(&mut scene, "b");
    scene.deliver(1, vip(), server_of(1), &{
        ResponseBuilder::new(&invited.message, 183)
            .to_tag("other")
            .finish()
            .expect("an answer")
    });
    scene.answer(&invited, 200);
    scene.take();
    drop_all(&mut scene);
    assert_eq!(went(&mut scene), ["switch: BYE", "server: BYE"]);
    assert_eq!(scene.count(1, Count::ResetUntold), 0);
    assert_eq!(scene.nodes[0].calls.len(), 0);
}

#[test]
fn an_attempt_that_comes_meanwhile_is_none_of_those_that_are_ended() {
    let mut scene = Scene::new(1, 1_000);
    // Enough others that ring, so that the first of them waits for its turn.
    let old = ringing(&mut scene, "again");
    for call in 0..HANG_UP_AT_ONCE {
        ringing(&mut scene, &format!("c{call}"));
    }
    drop_all(&mut scene);
    scene.take();
    // Somebody else calls with the same Call-ID, as a spiral or a copy of the call would.
    let other = invite("again")
        .replace("tag=caller", "tag=other")
        .replace("invagain", "other");
    scene.by_vip(1, &other);
    let invited = scene.one();
    scene.answer(&invited, 180);
    scene.take();
    scene.pass(NEXT_HANG_UP);
    assert!(
        scene.take().is_empty(),
        "the first INVITE is not known any more"
    );
    assert_eq!(
        scene.count(1, Count::ResetUntold),
        0,
        "the call has another dialog"
    );
    scene.answer(&invited, 200);
    assert_eq!(scene.one().status(), 200);
    assert_eq!(scene.node(1).dialogs().confirmed, 1);
    scene.answer(&old, 486);
    assert_eq!(scene.one().status(), 486);
}

#[test]
fn an_answer_that_waits_for_its_report_comes_before_the_end() {
    let (mut scene, arrived) = calls::away(true);
    scene.answer(&arrived, 200);
    assert!(scene.take().is_empty(), "it waits");
    reset(&mut scene, 2, Designated::Drop);
    assert_eq!(
        went(&mut scene),
        ["switch: 200", "switch: BYE", "server: BYE"]
    );
}

#[test]
fn many_are_ended_some_at_a_time_and_new_ones_are_none_of_them() {
    const CALLS: usize = 1_000;
    let mut scene = Scene::new(1, CALLS as u32);
    for call in 0..CALLS {
        if call % 2 == 0 {
            answered(&mut scene, 1, &format!("c{call}"));
        } else {
            ringing(&mut scene, &format!("c{call}"));
        }
    }
    drop_all(&mut scene);
    assert_eq!(
        left(&scene),
        CALLS - HANG_UP_AT_ONCE / 2,
        "half of them wait for their 487"
    );
    assert_eq!(scene.take().len(), 2 * HANG_UP_AT_ONCE);
    // The node was full, and takes as many new calls at once.
    for call in 0..10 {
        answered(&mut scene, 1, &format!("new{call}"));
    }
    let mut rounds = 1;
    let mut whom = BTreeSet::new();
    while scene.nodes[0].reset_left() > scene.nodes[0].cut_offs.open() {
        scene.pass(NEXT_HANG_UP);
        rounds += 1;
        for it in scene.take() {
            whom.insert((it.header(Name::CallId), it.at));
        }
    }
    assert_eq!(rounds, CALLS / HANG_UP_AT_ONCE);
    assert_eq!(scene.count(1, Count::ResetEnded), CALLS as u64);
    assert!(whom.iter().all(|(call, _)| call.starts_with('c')));
    assert_eq!(scene.count(1, Count::AskFailed), 0);
    assert_eq!(scene.nodes[0].calls.len(), 10, "those that came meanwhile");
    scene.pass(Duration::from_secs(40));
    assert_eq!((left(&scene), scene.nodes[0].calls.len()), (0, 10));
}

#[test]
fn what_cannot_be_ended_is_forgotten() {
    let contact = "Contact: <sip:alice@198.51.100.1:5060>\r\n";
    let mut scene = Scene::new(1, 10);
    scene.by_vip(1, &invite("mute").replace(contact, ""));
    let arrived = scene.one();
    scene.answer(&arrived, 200);
    scene.take();
    drop_all(&mut scene);
    assert_eq!(scene.nodes[0].calls.len(), 0);
    assert_eq!(scene.count(1, Count::ResetUntold), 1);
    assert!(scene.take().is_empty());
    assert_eq!(left(&scene), 0);
}

#[test]
fn forgotten_calls_go_on_without_a_record() {
    let mut scene = Scene::new(1, 2);
    answered(&mut scene, 1, "a");
    let invited = ringing(&mut scene, "b");
    reset(&mut scene, 1, Designated::Reinitialise);
    assert!(scene.take().is_empty(), "nobody is told");
    assert_eq!((left(&scene), scene.nodes[0].calls.len()), (0, 0));
    assert_eq!(scene.node(1).gate().slots().taken(), 0);
    assert_eq!(scene.count(1, Count::ResetForgotten), 2);
    scene.by_vip(1, &request("BYE", "a", CALLEE, 2, "bye", "callee"));
    let bye = scene.one();
    assert_eq!((bye.method(), bye.at), (Some(Method::Bye), server_of(1)));
    scene.answer(&bye, 200);
    assert_eq!(scene.one().status(), 200);
    scene.answer(&invited, 200);
    assert_eq!(scene.one().status(), 200);
    scene.by_vip(1, &request("ACK", "b", CALLEE, 1, "ackb", "callee"));
    assert_eq!(scene.one().at, server_of(1));
    answered(&mut scene, 1, "c");
    answered(&mut scene, 1, "d");
}
