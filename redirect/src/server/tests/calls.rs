//! The record of calls: answers that wait for a report, and calls that nobody ended.

use super::*;
use lb_sip::dialog::End;

const SILENCE: Duration = Policy::DEFAULT.silence;

/// A call from node 1, which is full, that reaches node 2's SIP server.
pub(super) fn away(has_reporter: bool) -> (Scene, Arrived) {
    let mut scene = Scene::with(2, 1, |settings| settings.has_reporter = has_reporter);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let moved = scene.one();
    offers::follow(&mut scene, 1, "a", &moved, 1);
    let arrived = scene.one();
    (scene, arrived)
}

fn call(scene: &Scene, call_id: &str) -> Call {
    Call::of(scene.nodes[0].secret, call_id.as_bytes())
}

/// What refused the first attempt did not pass here, or was lost: the second is the same call.
#[test]
fn a_call_that_begins_again_is_there() {
    let mut scene = Scene::new(1, 10);
    scene.by_vip(1, &invite("a"));
    let arrived = scene.one();
    scene.answer(&arrived, 180);
    assert_eq!(scene.one().status(), 180);
    let again = invite("a").replace("CSeq: 1 ", "CSeq: 2 ");
    scene.by_vip(1, &again.replace("z9hG4bKinva", "z9hG4bKagain"));
    let arrived = scene.one();
    let (keys, _) = scene.nodes[0].call_keys(None, 10);
    assert_eq!(keys.len(), 1, "a load balancer is told of it");
    assert_eq!(scene.node(1).gate().slots().taken(), 1);
    scene.answer(&arrived, 486);
    assert_eq!(scene.one().status(), 486);
    assert_eq!(scene.nodes[0].calls.len(), 0);
    assert_eq!(scene.node(1).gate().slots().taken(), 0);
}

#[test]
fn answers_wait_until_the_load_balancers_know() {
    let (mut scene, arrived) = away(true);
    let call = call(&scene, "a");
    assert_eq!(scene.reports, [(2, call)]);
    scene.answer(&arrived, 100);
    assert_eq!(scene.one().status(), 100, "draws no request");
    scene.answer(&arrived, 180);
    scene.answer(&arrived, 200);
    assert!(scene.take().is_empty());
    let mut out = Vec::new();
    scene.node(2).reported(call, &mut out);
    scene.carry(2, out);
    let statuses: Vec<u16> = scene.take().iter().map(Arrived::status).collect();
    assert_eq!(statuses, [180, 200], "in their order");
    // A copy of the answer waits no more.
    scene.answer(&arrived, 200);
    assert_eq!(scene.one().status(), 200);
    assert_eq!(scene.count(2, Count::Held), 2);
    assert_eq!(scene.count(2, Count::Unreported), 0);
    let (calls, _) = scene.node(2).page(START, None, 10);
    assert!(calls[0].away && calls[0].state == "confirmed");
}

#[test]
fn answers_wait_50_ms_at_most() {
    let (mut scene, arrived) = away(true);
    scene.answer(&arrived, 200);
    scene.pass(Duration::from_millis(49));
    assert!(scene.take().is_empty());
    scene.pass(Duration::from_millis(1));
    assert_eq!(scene.one().status(), 200);
    assert_eq!(scene.count(2, Count::Unreported), 1);
    // The report's outcome comes too late, and finds nothing to release.
    let (mut out, call) = (Vec::new(), call(&scene, "a"));
    scene.node(2).reported(call, &mut out);
    assert_eq!(out, []);
}

#[test]
fn nothing_waits_at_home_or_without_a_reporter() {
    let (mut scene, arrived) = away(false);
    scene.answer(&arrived, 200);
    assert_eq!(scene.one().status(), 200);
    assert!(scene.reports.is_empty());
    let mut scene = Scene::with(1, 1, |settings| settings.has_reporter = true);
    answered(&mut scene, 1, "home");
    assert!(scene.reports.is_empty());
}

/// The OPTIONS by which a node asks both sides of a silent call.
fn questions(scene: &mut Scene) -> Vec<Arrived> {
    scene.pass(SILENCE);
    let mut asked = scene.take();
    asked.retain(|arrived| arrived.method() == Some(Method::Options));
    asked
}

/// A side answers a question of ours.
fn reply(scene: &mut Scene, question: &Arrived, status: u16) {
    let bytes = ResponseBuilder::new(&question.message, status)
        .finish()
        .expect("an answer");
    scene.deliver(1, vip(), question.at, &bytes);
}

#[test]
fn a_lost_bye_is_noticed_by_asking() {
    let mut scene = Scene::new(1, 1);
    answered(&mut scene, 1, "a");
    let asked = questions(&mut scene);
    let sides: Vec<SocketAddr> = asked.iter().map(|question| question.at).collect();
    assert!(
        sides.contains(&switch()) && sides.contains(&server_of(1)),
        "{sides:?}"
    );
    for question in &asked {
        assert_eq!(question.header(Name::CallId), "a");
        let to = question.header(Name::To);
        let tag = if question.at == switch() {
            "caller"
        } else {
            "callee"
        };
        assert!(to.ends_with(&format!("tag={tag}")), "{to}");
        reply(&mut scene, question, 200);
    }
    assert_eq!(scene.node(1).gate().slots().taken(), 1, "both are there");
    // The next time the switch knows of no such call: its BYE was lost.
    for question in questions(&mut scene) {
        let status = if question.at == switch() { 481 } else { 200 };
        reply(&mut scene, &question, status);
    }
    assert_eq!(scene.node(1).gate().slots().taken(), 0);
    assert_eq!(scene.nodes[0].calls.len(), 0);
    assert_eq!(scene.node(1).dialogs().ended, 1);
    let (call, caller, callee) = (&b"a"[..], &b"caller"[..], &b"callee"[..]);
    let record = scene.nodes[0].dialogs.find(call, caller, callee);
    let ended = record.and_then(|(id, _)| scene.nodes[0].dialogs.get(id)?.end());
    assert_eq!(ended, Some(End::Gone));
}

#[test]
fn a_side_that_never_answers_ends_the_call() {
    let mut scene = Scene::new(1, 1);
    answered(&mut scene, 1, "a");
    // Two questions of 32 s each, and 30 s between.
    scene.pass(SILENCE + Duration::from_secs(32 + 30 + 32 + 1));
    assert_eq!(scene.node(1).gate().slots().taken(), 0);
    assert!(scene.count(1, Count::Asked) >= 4);
}

#[test]
fn an_invite_that_nobody_answers_frees_its_slot() {
    let mut scene = Scene::new(1, 1);
    scene.by_vip(1, &invite("a"));
    assert_eq!(scene.one().at, server_of(1));
    assert_eq!(scene.node(1).gate().slots().taken(), 1);
    scene.pass(Policy::DEFAULT.early);
    assert_eq!(scene.node(1).gate().slots().taken(), 0);
    assert_eq!(scene.nodes[0].calls.len(), 0);
}
