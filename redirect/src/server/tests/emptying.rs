//! A node that is being emptied.

use super::offers::follow;
use super::*;
use lb_proto::admission::slots::LEASE;

fn drain(scene: &mut Scene, node: usize, deadline: Option<Duration>) {
    let (mut out, now) = (Vec::new(), scene.now);
    scene.node(node).drain(now, deadline, &mut out);
    scene.carry(node, out);
}

fn bye(call: &str) -> String {
    request("BYE", call, CALLEE, 2, &format!("bye{call}"), "callee")
}

#[test]
fn old_calls_stay_and_new_ones_go_elsewhere() {
    let mut scene = Scene::new(2, 10);
    answered(&mut scene, 1, "old");
    drain(&mut scene, 1, None);
    scene.beacons();
    assert_eq!(scene.node(1).draining(), (true, false));
    let now = scene.now;
    let says = scene.node(1).status(now).expect("it speaks");
    assert_eq!((says.admission, says.active), (Admission::Draining, 1));

    scene.by_vip(1, &invite("new"));
    let moved = scene.one();
    assert_eq!((moved.status(), moved.from), (302, own(2)));
    let again = request("INVITE", "old", CALLEE, 2, "again", "callee");
    scene.by_vip(1, &again);
    assert_eq!(scene.one().at, server_of(1), "old calls go on as ever");

    scene.by_vip(1, &bye("old"));
    let arrived = scene.one();
    scene.answer(&arrived, 200);
    assert_eq!(scene.one().status(), 200);
    assert_eq!(scene.drained, [1], "said once, when the last has gone");
    assert_eq!(scene.node(1).draining(), (true, true));
    scene.pass(Duration::from_secs(600));
    assert_eq!(scene.drained, [1]);

    scene.node(1).undrain();
    assert_eq!(scene.node(1).draining(), (false, false));
    answered(&mut scene, 1, "newer");
}

#[test]
fn an_empty_node_is_drained_at_once() {
    let mut scene = Scene::new(1, 10);
    drain(&mut scene, 1, None);
    assert_eq!(scene.drained, [1]);
    drain(&mut scene, 1, None);
    assert_eq!(scene.drained, [1], "asked again, not said again");
}

#[test]
fn what_is_left_at_the_deadline_is_hung_up_on_both_sides() {
    let deadline = Duration::from_secs(180);
    let mut scene = Scene::new(1, 10);
    for call in ["a", "b", "c"] {
        answered(&mut scene, 1, call);
    }
    scene.by_vip(1, &invite("ringing"));
    let ringing = scene.one();
    scene.answer(&ringing, 180);
    scene.take();
    drain(&mut scene, 1, Some(deadline));
    scene.pass(Duration::from_secs(100));
    // Whoever hangs up in time is left in peace.
    scene.by_vip(1, &bye("a"));
    let arrived = scene.one();
    scene.answer(&arrived, 200);
    scene.take();
    scene.pass(Duration::from_secs(79));
    assert!(scene.take().is_empty());
    scene.answer(&ringing, 180);
    scene.take();

    scene.pass(Duration::from_secs(1));
    let byes = scene.take();
    assert!(byes.iter().all(|bye| bye.method() == Some(Method::Bye)));
    let mut whom: Vec<(String, SocketAddr)> = byes
        .iter()
        .map(|bye| (bye.header(Name::CallId), bye.at))
        .collect();
    whom.sort();
    let both = |call: &str| [(call.to_owned(), server_of(1)), (call.to_owned(), switch())];
    assert_eq!(whom, [both("b"), both("c")].concat());
    assert!(scene.drained.is_empty(), "one still rings");
    for bye in &byes {
        let ok = ResponseBuilder::new(&bye.message, 200)
            .finish()
            .expect("an answer");
        scene.deliver(1, vip(), bye.at, &ok);
    }
    // It is answered after all, and hung up like the others.
    scene.answer(&ringing, 200);
    assert_eq!(scene.one().status(), 200);
    scene.pass(Duration::from_millis(100));
    let byes = scene.take();
    assert_eq!(byes.len(), 2);
    assert_eq!(scene.drained, [1]);
}

/// All that hear a BYE answer it; whom it went to.
fn answer_byes(scene: &mut Scene) -> Vec<(String, SocketAddr)> {
    let byes = scene.take();
    for bye in &byes {
        assert_eq!(bye.method(), Some(Method::Bye));
        let ok = ResponseBuilder::new(&bye.message, 200)
            .finish()
            .expect("an answer");
        scene.deliver(1, vip(), bye.at, &ok);
    }
    byes.iter()
        .map(|bye| (bye.header(Name::CallId), bye.at))
        .collect()
}

#[test]
fn no_bye_is_lost_when_more_calls_are_left_than_can_be_hung_up_at_once() {
    const CALLS: usize = 4_500;
    let mut scene = Scene::new(1, CALLS as u32);
    for call in 0..CALLS {
        answered(&mut scene, 1, &format!("c{call}"));
    }
    drain(&mut scene, 1, Some(Duration::from_secs(1)));
    let mut whom = std::collections::BTreeSet::new();
    scene.pass(Duration::from_secs(1));
    for _ in 0..100 {
        whom.extend(answer_byes(&mut scene));
        scene.pass(Duration::from_millis(100));
    }
    assert_eq!(whom.len(), 2 * CALLS, "each side of each call was told");
    assert_eq!(scene.count(1, Count::AskFailed), 0);
    assert_eq!(scene.drained, [1]);
}

#[test]
fn calls_that_cannot_be_hung_up_keep_nothing_from_the_others() {
    let mut scene = Scene::new(1, 1_000);
    let contact = "Contact: <sip:alice@198.51.100.1:5060>\r\n";
    for call in 0..450 {
        // Nobody knows where a BYE to this caller would go.
        let invite = invite(&format!("mute{call}")).replace(contact, "");
        scene.by_vip(1, &invite);
        let arrived = scene.one();
        scene.answer(&arrived, 200);
        assert_eq!(scene.one().status(), 200);
    }
    answered(&mut scene, 1, "last");
    drain(&mut scene, 1, Some(Duration::from_secs(1)));
    scene.pass(Duration::from_secs(1));
    let whom = answer_byes(&mut scene);
    let last = |at| ("last".to_owned(), at);
    assert_eq!(whom, [last(switch()), last(server_of(1))]);
    assert!(scene.drained.is_empty(), "the others are left to end");
}

/// Two nodes of which the second is being emptied after it promised the call `a` a slot; its 302.
fn promised() -> (Scene, Arrived) {
    let mut scene = Scene::new(2, 1);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let moved = scene.one();
    assert_eq!((moved.status(), moved.from), (302, own(2)));
    drain(&mut scene, 2, Some(Duration::from_secs(60)));
    assert!(scene.drained.is_empty(), "the call may still come");
    (scene, moved)
}

#[test]
fn a_node_is_not_drained_while_a_promised_call_may_come() {
    let (mut scene, _) = promised();
    scene.pass(LEASE - Duration::from_millis(1));
    assert!(scene.drained.is_empty());
    // Whatever looks at the slots first, it is said.
    let now = scene.now + Duration::from_millis(1);
    scene.node(2).status(now);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.drained, [2], "it has not come");
    scene.pass(Duration::from_secs(120));
    assert_eq!(scene.drained, [2]);
}

#[test]
fn a_call_that_comes_to_a_drained_node_is_waited_for() {
    let mut scene = Scene::new(1, 10);
    drain(&mut scene, 1, Some(Duration::from_secs(60)));
    assert_eq!(scene.drained, [1]);
    scene.pass(Duration::from_secs(90));
    // The SIP server itself calls.
    let out = request("INVITE", "own", "sip:alice@198.51.100.1", 1, "own", "");
    scene.deliver(1, own(1), server_of(1), out.as_bytes());
    let arrived = scene.one();
    assert_eq!(arrived.at, switch());
    assert_eq!(scene.node(1).draining(), (true, false));
    let ok = ResponseBuilder::new(&arrived.message, 200)
        .to_tag("callee")
        .header(Name::Contact, "<sip:alice@198.51.100.1>")
        .finish()
        .expect("an answer");
    scene.deliver(1, own(1), switch(), &ok);
    assert_eq!(scene.one().status(), 200);
    scene.pass(Duration::from_millis(100));
    assert_eq!(scene.take().len(), 2, "it is hung up, being too late");
    assert_eq!(scene.drained, [1, 1]);
    assert_eq!(scene.node(1).draining(), (true, true));
}

#[test]
fn a_promised_call_that_comes_is_waited_for() {
    let (mut scene, moved) = promised();
    assert_eq!(follow(&mut scene, 1, "a", &moved, 1), 2);
    let arrived = scene.one();
    assert_eq!(arrived.at, server_of(2));
    scene.answer(&arrived, 486);
    scene.take();
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.drained, [2]);
}
