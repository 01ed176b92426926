//! Rebuilds, from the first request to the last record, whatever happens meanwhile.

use super::record::Truth;
use super::scene::{Ask, Scene, TERM};
use crate::call::Call;
use crate::call_state::collector::{Mode, Output, Pace};
use crate::call_state::database::Completeness;
use crate::call_state::{Designated, Priority, State};
use crate::random::Random;
use std::collections::BTreeMap;
use std::time::Duration;

const SEED: u64 = 11;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn ten_thousand_calls_on_fifty_nodes_within_a_second() {
    let mut scene = Scene::new(50, Pace::DEFAULT, SEED);
    scene.fill(|_| 200, &mut Random::new(SEED));
    scene.begin(Mode::Hot);
    scene.link_all();
    scene.pass(millis(1_000));
    let (nodes, unreachable, calls, took) = scene.complete().expect("it is complete");
    assert_eq!((nodes, unreachable, calls), (50, 0, 10_000));
    assert!(took <= millis(1_000), "{took:?}");
    scene.is_exact(1..=50);
    // The pins are known long before the records.
    let pins = scene.said.iter().filter_map(|(at, output)| match output {
        Output::Pin { .. } => Some(*at - Duration::from_secs(100)),
        _ => None,
    });
    let pins: Vec<Duration> = pins.collect();
    assert_eq!(pins.len(), 10_000);
    assert!(pins.iter().all(|at| *at <= millis(40)), "keys come first");
    let keys: Vec<&Output> = scene
        .said
        .iter()
        .map(|(_, output)| output)
        .filter(|output| matches!(output, Output::KeysComplete { .. }))
        .collect();
    let took = pins.into_iter().max().unwrap_or_default();
    assert_eq!(keys, [&Output::KeysComplete { nodes: 50, took }]);
}

/// How a node may be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// It is in nobody's configuration.
    Absent,
    /// There is no link to it.
    NoLink,
    /// There is a link, and nothing comes over it.
    Silent,
    /// It falls silent when it has told half of its keys.
    AfterSomeKeys,
    /// It falls silent amid its records.
    AmidRecords,
}

/// When each of 50 nodes is complete of which the last three are dead.
fn with_dead(death: Death) -> BTreeMap<u16, Duration> {
    let count = if death == Death::Absent { 47 } else { 50 };
    let mut scene = Scene::new(count, Pace::DEFAULT, SEED);
    // The dead have most: they would come first.
    let calls_of = |node: u16| {
        if node > 47 {
            20_000
        } else {
            500 + u64::from(node)
        }
    };
    scene.fill(calls_of, &mut Random::new(SEED));
    for node in 48..=count {
        let node = scene.node(node);
        match death {
            Death::Absent | Death::NoLink => {}
            Death::Silent => node.is_alive = false,
            Death::AfterSomeKeys => node.dies_after = Some(3),
            Death::AmidRecords => node.dies_after = Some(12),
        }
    }
    scene.begin(Mode::Hot);
    let from = scene.now;
    for node in 1..=count {
        if node <= 47 || death != Death::NoLink {
            scene.link(node);
        }
    }
    scene.pass(millis(5_000));
    let (nodes, unreachable, _, took) = scene.complete().expect("it is complete");
    assert_eq!((nodes, unreachable), (47, usize::from(count) - 47));
    scene.is_exact(1..=47);
    scene.look();
    let completions = scene.completions(from);
    assert_eq!(
        completions.values().max(),
        Some(&took),
        "the dead are not waited for"
    );
    completions
}

#[test]
fn dead_nodes_delay_the_others_by_nothing() {
    let without = with_dead(Death::Absent);
    assert_eq!(without.len(), 47);
    for death in [
        Death::NoLink,
        Death::Silent,
        Death::AfterSomeKeys,
        Death::AmidRecords,
    ] {
        assert_eq!(with_dead(death), without, "{death:?}");
    }
}

#[test]
fn a_silent_node_gives_its_place_to_others() {
    // The longer is not borne: by then the node is asked anew.
    for lend_after in [Pace::DEFAULT.lend_after, Duration::from_secs(3)] {
        let pace = Pace {
            most_at_once: 1,
            lend_after,
            ..Pace::DEFAULT
        };
        let mut scene = Scene::new(3, pace, SEED);
        scene.fill(|node| u64::from(node) * 10, &mut Random::new(SEED));
        // Its greeting and its keys, and then nothing: it is the largest, and the first to be asked.
        scene.node(3).dies_after = Some(2);
        scene.begin(Mode::Hot);
        let from = scene.now;
        scene.link_all();
        scene.pass(millis(2_000));
        scene.is_exact(1..=2);
        let completions = scene.completions(from);
        let longest = pace.apart + lend_after.min(pace.patience) + millis(4 * 20);
        assert!(completions[&1] <= longest, "{completions:?}");
        let database = scene.collector.database();
        assert_eq!(database.completeness(3), Some(Completeness::Unreachable));
    }
}

#[test]
fn the_most_urgent_first_then_the_largest_then_in_each_the_longest() {
    let pace = Pace {
        most_at_once: 1,
        page: 5,
        ..Pace::DEFAULT
    };
    let mut scene = Scene::new(4, pace, SEED);
    let started = |age: u64| scene.now - Duration::from_secs(age);
    let normal = |age: u64| Truth {
        state: State::Confirmed,
        priority: Priority::Normal,
        started: started(age),
    };
    let emergency = Truth {
        priority: Priority::Emergency,
        ..normal(1)
    };
    let mut fixed = Vec::new();
    for (node, calls) in [(1, 12), (2, 30), (3, 20), (4, 3)] {
        for call in 0..calls {
            fixed.push((
                node,
                Call::from_key(node as u64 * 100 + call),
                normal(call + 2),
            ));
        }
    }
    fixed.push((4, Call::from_key(999), emergency));
    for (node, call, truth) in fixed {
        scene.fix(node, call, truth);
    }
    scene.begin(Mode::Hot);
    scene.link_all();
    let mut first = BTreeMap::new();
    for _ in 0..3_000 {
        scene.pass(millis(1));
        let page = scene
            .collector
            .database()
            .page(scene.now, Default::default(), None, usize::MAX);
        for view in page.calls.iter().filter(|view| view.record.is_some()) {
            let age = view.record.map(|record| record.age.as_secs());
            let count = first.len();
            first
                .entry(view.call)
                .or_insert((count, view.node, view.priority, age));
        }
    }
    scene.is_exact(1..=4);
    let asked: Vec<u16> = scene
        .asked
        .iter()
        .filter(|(_, _, ask)| *ask == Ask::Records)
        .map(|(_, node, _)| *node)
        .collect();
    // By turns, since nobody is asked twice within 100 ms: the fourth has the emergency; the second is
    // the largest of those that may be asked, until it is larger no more.
    assert_eq!(asked[..3], [4, 2, 3], "{asked:?}");
    // Within a node: the emergency first, then from the longest to the shortest, by pages.
    let mut order: Vec<_> = first.values().filter(|(_, node, ..)| *node == 2).collect();
    order.sort();
    let ages: Vec<u64> = order.iter().filter_map(|(.., age)| *age).collect();
    for (earlier, later) in ages.chunks(5).zip(ages.chunks(5).skip(1)) {
        assert!(earlier.iter().min() >= later.iter().max(), "{ages:?}");
    }
    let emergency = &first[&Call::from_key(999)];
    assert!(emergency.0 < 5, "in the first page of all");
}

#[test]
fn a_lost_node_is_unknown_and_never_ended() {
    let mut scene = Scene::new(3, Pace::DEFAULT, SEED);
    scene.fill(|_| 100, &mut Random::new(SEED));
    scene.begin(Mode::Hot);
    scene.link_all();
    scene.pass(millis(1_000));
    scene.is_exact(1..=3);
    scene.lose(2);
    let summary = |scene: &Scene| {
        let mut nodes = scene.collector.database().nodes();
        nodes.find(|its| its.node == 2).expect("a node")
    };
    let lost = summary(&scene);
    assert_eq!(lost.completeness, Completeness::Unreachable);
    assert_eq!((lost.calls, lost.unknown), (100, 100));
    assert_eq!((lost.early, lost.confirmed, lost.held), (0, 0, 0));
    scene.pass(Duration::from_secs(60));
    assert_eq!(summary(&scene), lost);
    scene.is_exact([1, 3]);
    // A call of its ends meanwhile, and one begins.
    let (gone, truth) = {
        let (call, truth) = scene.nodes[&2]
            .record
            .calls
            .first_key_value()
            .expect("a call");
        (*call, *truth)
    };
    scene.fixed.remove(&(2, gone));
    scene.node(2).record.remove(gone);
    scene.put(2, Call::from_key(1), truth);
    scene.said.clear();
    scene.link(2);
    let back = summary(&scene);
    assert_eq!(back.completeness, Completeness::Rebuilding);
    assert_eq!(back.unknown, 100, "until it has spoken of them");
    let from = scene.now;
    scene.pass(millis(1_000));
    scene.is_exact(1..=3);
    let ended: Vec<&Output> = scene
        .said
        .iter()
        .map(|(_, output)| output)
        .filter(|output| matches!(output, Output::Ended { .. }))
        .collect();
    assert_eq!(
        ended,
        [&Output::Ended {
            call: gone,
            node: 2
        }]
    );
    assert!(
        scene.completions(from)[&2] <= millis(200),
        "only what is new is asked for"
    );
    assert_eq!(scene.complete(), None, "that is said once in a reign");
}

#[test]
fn what_changes_is_found_out_within_a_refresh() {
    let mut scene = Scene::new(2, Pace::DEFAULT, SEED);
    scene.fill(|_| 50, &mut Random::new(SEED));
    let ringing = Truth {
        state: State::Early,
        priority: Priority::Normal,
        started: scene.now,
    };
    let call = Call::from_key(1);
    scene.put(1, call, ringing);
    scene.begin(Mode::Hot);
    scene.link_all();
    scene.pass(millis(1_000));
    scene.is_exact(1..=2);
    for state in [State::Confirmed, State::Held, State::Confirmed] {
        scene.said.clear();
        scene.put(1, call, Truth { state, ..ringing });
        scene.pass(millis(5_600));
        scene.is_exact(1..=2);
        let pinned = scene.said.iter().any(|(_, output)| {
            *output
                == Output::Pin {
                    call,
                    node: 1,
                    confirmed: true,
                }
        });
        // It is said that it was answered; that one holds the other is nothing to a pin.
        let is_first = scene.said.iter().any(|(_, output)| {
            matches!(
                output,
                Output::Pin {
                    confirmed: true,
                    ..
                }
            )
        });
        assert_eq!(pinned, is_first);
        assert_eq!(
            pinned,
            state == State::Confirmed && scene.now < Duration::from_secs(107)
        );
    }
    scene.node(1).record.remove(call);
    scene.pass(millis(5_600));
    scene.is_exact(1..=2);
    let mut found = scene.collector.database().find(scene.now, call);
    assert_eq!(found.next(), None);
}

#[test]
fn a_cold_stand_by_resets_and_begins_with_nothing() {
    for designated in Designated::ALL {
        let mut scene = Scene::new(3, Pace::DEFAULT, SEED);
        let mut random = Random::new(SEED);
        let truth = scene.some_truth(&mut random);
        for node in 1..=3 {
            (0..20).for_each(|call| scene.put(node, Call::from_key(call), truth));
        }
        scene.begin(Mode::Cold(designated));
        scene.link_all();
        scene.pass(millis(500));
        let (nodes, unreachable, calls, _) = scene.complete().expect("it is complete");
        assert_eq!((nodes, unreachable, calls), (3, 0, 0));
        assert!(scene.asked.iter().all(|(_, _, ask)| *ask == Ask::Reset));
        assert!(scene.collector.database().is_empty());
        // The link is lost amid it: what was begun is not begun again, and new calls stay.
        scene.lose(2);
        scene.link(2);
        for node in 1..=3 {
            let new = Call::from_key(100 + u64::from(node));
            scene.put(node, new, truth);
            let record = &mut scene.node(node).record;
            (0..20).for_each(|call| record.remove(Call::from_key(call)));
            record.left = 0;
        }
        scene.pass(millis(12_000));
        scene.is_exact(1..=3);
        assert_eq!(scene.collector.database().len(), 3);
        for node in scene.nodes.values() {
            assert_eq!(node.record.resets, [designated]);
        }
    }
}

#[test]
fn who_refuses_at_first_is_asked_again() {
    let mut scene = Scene::new(2, Pace::DEFAULT, SEED);
    scene.fill(|_| 10, &mut Random::new(SEED));
    // It has granted another controller a lower term, and hears of the new main a little later.
    scene.node(2).responder =
        crate::call_state::responder::Responder::new(super::scene::CLUSTER, 2);
    scene.node(2).responder.accepted(TERM - 1, 2);
    scene.grant_at(scene.now + millis(150), 2);
    scene.begin(Mode::Hot);
    scene.link_all();
    let from = scene.now;
    // The old controller's link is closed when the lease goes to the new one.
    scene.pass(millis(149));
    let refused = Output::Refused {
        node: 2,
        term: TERM - 1,
    };
    assert!(scene.said.iter().any(|(_, output)| *output == refused));
    scene.pass(millis(2));
    let close = scene.node(2).responder.poll();
    assert!(matches!(
        close,
        Some(crate::call_state::responder::Output::Close { controller: 2 })
    ));
    scene.pass(millis(1_000));
    scene.is_exact(1..=2);
    let took = scene.completions(from)[&2];
    assert!(took <= millis(500), "{took:?}");
    assert!(
        !scene
            .said
            .iter()
            .any(|(_, output)| matches!(output, Output::Unreachable { .. }))
    );
}

/// One rebuild with all that can happen, and what must hold at every moment of it.
fn storm(seed: u64) {
    let mut random = Random::new(seed);
    let pace = Pace {
        page: 1 + random.below(30) as u16,
        most_at_once: 1 + random.below(4) as usize,
        ..Pace::DEFAULT
    };
    let count = 1 + random.below(6) as u16;
    let mut scene = Scene::new(count, pace, seed);
    scene.repeated = random.below(200);
    scene.slowest = millis(2 + random.below(120));
    scene.portion = 1 + random.below(30) as usize;
    scene.is_watched = true;
    let most = random.below(80);
    let sizes: Vec<u64> = (0..=count).map(|_| random.below(most + 1)).collect();
    scene.fill(|node| sizes[usize::from(node)], &mut random);
    for node in 1..=count {
        if random.below(4) == 0 {
            let mut late =
                crate::call_state::responder::Responder::new(super::scene::CLUSTER, node);
            late.accepted(TERM - 1, 2);
            late.missed();
            while late.poll().is_some() {}
            scene.node(node).responder = late;
            scene.grant_at(scene.now + millis(random.below(600)), node);
        }
        if random.below(3) == 0 {
            scene.node(node).dies_after = Some(random.below(12) as usize);
        }
    }
    scene.begin(Mode::Hot);
    for node in 1..=count {
        let at = scene.now + millis(random.below(400));
        scene.link_at(at, node);
        for _ in 0..random.below(4) {
            let lost = at + millis(random.below(2_000));
            scene.lose_at(lost, node);
            scene.link_at(lost + millis(random.below(1_500)), node);
        }
    }
    // Calls begin, change and end.
    let mut moving: Vec<(u16, Call)> = Vec::new();
    for _ in 0..60 {
        scene.pass(millis(random.below(80)));
        let truth = scene.some_truth(&mut random);
        match random.below(3) {
            0 => {
                let place = (
                    1 + random.below(count.into()) as u16,
                    Call::from_key(random.next()),
                );
                scene.put(place.0, place.1, truth);
                moving.push(place);
            }
            1 if !moving.is_empty() => {
                let at = random.below(moving.len() as u64) as usize;
                let (node, call) = moving.swap_remove(at);
                scene.node(node).record.remove(call);
            }
            _ if !moving.is_empty() => {
                let (node, call) = moving[random.below(moving.len() as u64) as usize];
                let before = scene.nodes[&node].record.calls[&call];
                let state = truth.state;
                scene.put(node, call, Truth { state, ..before });
            }
            _ => {}
        }
    }
    // The dead come back, over the links that they have or over new ones, and all is found out.
    for node in 1..=count {
        let it = scene.node(node);
        (it.is_alive, it.dies_after) = (true, None);
        if random.below(2) == 0 {
            scene.lose(node);
        }
    }
    scene.pass(millis(3_000));
    for node in 1..=count {
        if !scene.node(node).is_linked {
            scene.link(node);
        }
    }
    scene.pass(Duration::from_secs(20));
    scene.is_exact(1..=count);
    assert!(scene.complete().is_some(), "seed {seed}");
}

#[test]
fn whatever_happens_it_is_true_at_all_times_and_whole_in_the_end() {
    for seed in 0..400 {
        storm(seed);
    }
}
