//! What a load balancer is told of the calls.

use super::*;
use lb_proto::call_state::collector::{self, Collector, Pace};
use lb_proto::call_state::database::{Filter, Standing};
use lb_proto::call_state::responder::{self, Responder};
use lb_proto::call_state::{Designated, Place, Priority, State};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};

fn call(scene: &Scene, call_id: &str) -> Call {
    Call::of(scene.nodes[0].secret, call_id.as_bytes())
}

/// A node with an answered call `a`, one that rings, `b`, an emergency that is answered, `c`, and one
/// with two forks, `d`.
fn four() -> Scene {
    let mut scene = Scene::new(1, 10);
    answered(&mut scene, 1, "a");
    scene.pass(Duration::from_secs(10));
    scene.by_vip(1, &invite("b"));
    scene.take();
    scene.pass(Duration::from_secs(5));
    let urgent = invite("c").replace("Contact:", "Priority: emergency\r\nContact:");
    scene.by_vip(1, &urgent);
    let arrived = scene.one();
    scene.answer(&arrived, 200);
    scene.by_vip(1, &invite("d"));
    let arrived = scene.take().pop().expect("an INVITE");
    scene.answer(&arrived, 180);
    let other = ResponseBuilder::new(&arrived.message, 183)
        .to_tag("other")
        .finish()
        .expect("an answer");
    scene.deliver(1, vip(), server_of(1), &other);
    scene.pass(Duration::from_secs(1));
    scene.take();
    scene
}

#[test]
fn a_record_says_what_is_known_of_a_call() {
    let scene = four();
    let node = &scene.nodes[0];
    let (records, next) = node.call_records(scene.now, None, 10);
    assert_eq!(next, None);
    let ids: Vec<&[u8]> = records.iter().map(|record| record.call_id).collect();
    assert_eq!(
        ids,
        [b"c", b"a", b"b", b"d"],
        "the emergency, then the longest"
    );
    let [c, a, b, d] = &records[..] else {
        panic!("{records:#?}");
    };
    assert_eq!(a.call, call(&scene, "a"));
    assert_eq!((a.state, a.priority), (State::Confirmed, Priority::Normal));
    assert_eq!(a.caller.address, b"\"Alice\" <sip:alice@198.51.100.1>");
    assert_eq!(a.caller.tag, Some(&b"caller"[..]));
    assert_eq!(a.callee.address, b"<sip:bob@192.0.2.100>");
    assert_eq!(a.callee.tag, Some(&b"callee"[..]));
    assert_eq!((a.caller.cseq, a.callee.cseq), (Some(1), None));
    assert_eq!(
        (a.age, a.answered),
        (Duration::from_secs(16), Some(Duration::from_secs(16)))
    );
    assert_eq!((a.session, a.away, a.outgoing), (None, false, false));
    assert_eq!((a.node, a.dialogs, a.cut), (1, 1, false));
    assert_eq!(
        (b.state, b.answered, b.callee.tag),
        (State::Early, None, None)
    );
    assert_eq!(
        (c.priority, c.age),
        (Priority::Emergency, Duration::from_secs(1))
    );
    assert_eq!(
        (d.state, d.dialogs),
        (State::Early, 2),
        "two forks are one call"
    );
}

#[test]
fn each_call_is_on_one_page_and_all_are_among_the_keys() {
    let scene = four();
    let node = &scene.nodes[0];
    let (all, _) = node.call_records(scene.now, None, 10);
    for limit in 1..6 {
        let (mut walked, mut after): (Vec<_>, Option<Place>) = (Vec::new(), None);
        loop {
            let (records, next) = node.call_records(scene.now, after, limit);
            assert!(records.len() <= limit);
            walked.extend(records);
            assert!(next.is_none() || next > after, "places grow");
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(walked, all);
    }
    let (keys, _) = node.call_keys(None, 10);
    let keys: BTreeMap<Call, _> = keys.into_iter().map(|key| (key.call, key)).collect();
    assert_eq!(keys.len(), 4);
    for record in &all {
        let key = keys[&record.call];
        assert_eq!((key.state, key.priority), (record.state, record.priority));
    }
    let some = [call(&scene, "d"), call(&scene, "none"), call(&scene, "a")];
    let records = node.call_records_of(scene.now, &some);
    assert_eq!(records, [all[3], all[1]]);
    let odd = Some(Place([77, 0, 0]));
    assert_eq!(
        node.call_records(scene.now, odd, 10).0.len(),
        4,
        "no place: from the first"
    );
}

#[test]
fn a_call_stands_for_the_fork_that_was_accepted() {
    let mut scene = Scene::new(1, 1);
    scene.by_vip(1, &invite("a"));
    let arrived = scene.one();
    for (tag, status) in [("one", 180), ("two", 180), ("two", 200)] {
        let bytes = ResponseBuilder::new(&arrived.message, status)
            .to_tag(tag)
            .header(Name::Contact, "<sip:two@192.0.2.100>")
            .finish()
            .expect("an answer");
        scene.deliver(1, vip(), server_of(1), &bytes);
    }
    let node = &scene.nodes[0];
    let (records, _) = node.call_records(scene.now, None, 1);
    assert_eq!(records.len(), 1);
    assert_eq!(
        (records[0].state, records[0].callee.tag),
        (State::Confirmed, Some(&b"two"[..]))
    );
    assert_eq!(records[0].dialogs, 2, "until the other is given up");
    scene.pass(Policy::DEFAULT.give_up);
    let node = &scene.nodes[0];
    let (mut after, mut count) = (None, 0);
    loop {
        let (records, next) = node.call_records(scene.now, after, 1);
        count += records.len();
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((count, node.call_keys(None, 10).0.len()), (1, 1));
}

#[test]
fn a_call_that_another_node_has_forwarded_is_told_by_that_node() {
    let mut scene = Scene::with(2, 1, |settings| settings.overflow = Overflow::Proxy);
    answered(&mut scene, 1, "first");
    scene.beacons();
    scene.by_vip(1, &invite("a"));
    let arrived = scene.one();
    assert_eq!(arrived.at, server_of(2));
    let keys = |node: usize| {
        let (keys, _) = scene.nodes[node - 1].call_keys(None, 10);
        keys.iter().map(|key| key.call).collect::<Vec<Call>>()
    };
    assert!(keys(1).contains(&call(&scene, "a")));
    assert_eq!(keys(2), []);
    let (records, _) = scene.nodes[1].call_records(scene.now, None, 10);
    assert_eq!(records, []);
}

/// What the first node's calls are as a controller is told, some at a time, and whether that is all.
struct Walk {
    told: BTreeSet<Call>,
    after: Option<Call>,
    is_whole: bool,
}

impl Walk {
    fn go_on(&mut self, scene: &Scene, most: usize) {
        let (keys, next) = scene.nodes[0].call_keys(self.after, most);
        assert!(keys.len() <= most, "more than may be looked at");
        assert!(next.is_none() || next > self.after, "it goes forward");
        self.told.extend(keys.iter().map(|key| key.call));
        (self.after, self.is_whole) = (next, next.is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_call_that_lives_throughout_is_told_whatever_begins_and_ends(
        first in 1..40_usize,
        most in 1..8_usize,
        between in vec(vec(option::of(any::<Index>()), 0..5), 0..30),
    ) {
        let mut scene = Scene::new(1, 10_000);
        let names: Vec<String> = (0..first).map(|call| format!("first{call}")).collect();
        names.iter().for_each(|name| answered(&mut scene, 1, name));
        let (mut living, mut throughout) = (names.clone(), names);
        let mut walk = Walk {
            told: BTreeSet::new(),
            after: None,
            is_whole: false,
        };
        let mut between = between.into_iter().enumerate();
        loop {
            walk.go_on(&scene, most);
            if walk.is_whole {
                break;
            }
            let (turn, changes) = between.next().unwrap_or_default();
            for (number, change) in changes.into_iter().enumerate() {
                match change {
                    Some(which) if !living.is_empty() => {
                        let name = living.swap_remove(which.index(living.len()));
                        hung_up(&mut scene, &name);
                        throughout.retain(|other| *other != name);
                    }
                    Some(_) | None => {
                        let name = format!("later{turn}-{number}");
                        answered(&mut scene, 1, &name);
                        living.push(name);
                    }
                }
            }
        }
        let missing = throughout.iter().find(|name| !walk.told.contains(&call(&scene, name)));
        prop_assert_eq!(missing, None);
        prop_assert_eq!(scene.nodes[0].calls.len(), living.len());
    }
}

/// The caller of an answered call on node 1 hangs up.
fn hung_up(scene: &mut Scene, call: &str) {
    let branch = format!("bye{call}");
    let bye = request("BYE", call, CALLEE, 2, &branch, "callee");
    scene.by_vip(1, &bye);
    let arrived = scene.one();
    scene.answer(&arrived, 200);
    assert_eq!(scene.one().status(), 200);
}

/// A controller of term 5 asks the first node, without a network in between.
fn rebuild(scene: &mut Scene, mode: collector::Mode) -> (Collector, Vec<collector::Output>) {
    let settings = collector::Settings {
        cluster: CLUSTER,
        controller: 1,
        capacity: 100,
        pace: Pace::DEFAULT,
    };
    let mut collector = Collector::new(settings, [1], 1);
    let mut responder = Responder::new(CLUSTER, 1);
    responder.accepted(5, 1);
    let (mut said, mut out) = (Vec::new(), Vec::new());
    collector.begin(scene.now, 5, mode, &mut out);
    collector.linked(scene.now, 1, &mut out);
    for _ in 0..60 {
        while !out.is_empty() {
            for output in std::mem::take(&mut out) {
                let collector::Output::Request { message, .. } = output else {
                    said.push(output);
                    continue;
                };
                let (mut sent, now) = (Vec::new(), scene.now);
                let mut calls = scene.nodes[0].calls_at(now, &mut sent);
                assert!(responder.message(1, &message, &mut calls));
                loop {
                    while let Some(responder::Output::Send { message, .. }) = responder.poll() {
                        let taken = collector.message(now, 1, &message, &mut out);
                        taken.expect("a message");
                    }
                    if !responder.has_more() {
                        break;
                    }
                    responder.go_on(&calls, 3);
                }
                scene.carry(1, sent);
            }
        }
        scene.pass(Duration::from_millis(100));
        collector.on_timeout(scene.now, &mut out);
    }
    (collector, said)
}

#[test]
fn a_controller_rebuilds_what_the_node_has() {
    let mut scene = four();
    let (collector, said) = rebuild(&mut scene, collector::Mode::Hot);
    let database = collector.database();
    let page = database.page(scene.now, Filter::default(), None, 10);
    let mut known: Vec<(&[u8], Standing)> = page
        .calls
        .iter()
        .map(|view| (view.record.expect("it has come").call_id, view.standing))
        .collect();
    known.sort_by_key(|(call_id, _)| *call_id);
    let [confirmed, early] = [State::Confirmed, State::Early].map(Standing::Known);
    let truth: [(&[u8], Standing); 4] = [
        (b"a", confirmed),
        (b"b", early),
        (b"c", confirmed),
        (b"d", early),
    ];
    assert_eq!(known, truth);
    let confirmed = |wanted: bool| {
        let pins = said.iter().filter(|output| match output {
            collector::Output::Pin { confirmed, .. } => *confirmed == wanted,
            _ => false,
        });
        pins.count()
    };
    // Those that ring are said again with each refresh.
    assert!(confirmed(true) == 2 && confirmed(false) >= 2);
}

#[test]
fn a_cold_controller_has_the_calls_ended_and_knows_of_new_ones() {
    let mut scene = four();
    let mode = collector::Mode::Cold(Designated::Drop);
    let (collector, _) = rebuild(&mut scene, mode);
    assert!(collector.database().is_empty());
    let methods: Vec<Option<Method>> = scene.take().iter().map(Arrived::method).collect();
    let count = |method| methods.iter().filter(|it| **it == Some(method)).count();
    assert!(count(Method::Bye) >= 4 && count(Method::Cancel) >= 1);
    assert_eq!(scene.nodes[0].calls.len(), 0);
}
