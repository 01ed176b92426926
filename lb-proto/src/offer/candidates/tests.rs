//! Cases and properties of the choice.

use super::*;
use crate::fixtures::KEY;
use crate::status::map::Membership;
use crate::status::sender::tests::identity;
use crate::status::{Timing, sender};
use lb_common::beacon::Beacon;
use proptest::prelude::*;
use std::collections::BTreeMap;

const HOLD: Duration = Duration::from_millis(300);
const MS: Duration = Duration::from_millis(1);
const NOW: Duration = Duration::from_secs(1);

fn beacon(node: u16, sequence: u32, admission: Admission, headroom: u32) -> Beacon {
    let mut sender = sender::Sender::new(
        identity(node),
        Timing::DEFAULT.period,
        1,
        sender::Report {
            headroom,
            ..sender::tests::report(admission)
        },
        Duration::ZERO,
        0,
    );
    let (_, bytes) = sender.poll_transmit(Duration::ZERO).expect("due");
    Beacon {
        sequence,
        ..Beacon::read(&bytes[..], 0, 112).expect("a beacon")
    }
}

fn map(nodes: &[(u16, Admission, u32)]) -> AvailabilityMap {
    let mut map = AvailabilityMap::new(9, vec![KEY], Timing::DEFAULT, Membership::Learnt);
    for (node, admission, headroom) in nodes {
        let bytes = beacon(*node, 0, *admission, *headroom).write(KEY.key);
        map.receive(NOW, &bytes).expect("good");
    }
    map
}

fn chooser(seed: u64) -> Chooser {
    Chooser::new(1, HOLD, seed)
}

#[test]
fn only_who_is_up_and_willing_is_chosen() {
    let mut map = map(&[
        (1, Admission::Free, 100),
        (2, Admission::Busy, 100),
        (3, Admission::Draining, 100),
        (4, Admission::Free, 0),
        (5, Admission::Free, 100),
        (6, Admission::Idle, 1),
    ]);
    let mut chooser = chooser(1);
    let mut visited = Visited::NONE;
    visited.add(5);
    for _ in 0..100 {
        assert_eq!(chooser.choose(NOW, &map, &visited), Some(6));
    }
    visited.add(6);
    assert_eq!(chooser.choose(NOW, &map, &visited), None);
    // 5 falls silent while the others are heard.
    let later = NOW + HOLD + MS;
    let bytes = beacon(2, 1, Admission::Busy, 0).write(KEY.key);
    map.receive(later, &bytes).expect("good");
    assert_eq!(chooser.choose(later, &map, &Visited::NONE), None);
}

#[test]
fn who_refused_is_not_asked_until_it_has_spoken() {
    let mut map = map(&[(2, Admission::Free, 100)]);
    let mut chooser = chooser(1);
    assert_eq!(chooser.choose(NOW, &map, &Visited::NONE), Some(2));
    chooser.refused(NOW, 2);
    assert_eq!(chooser.choose(NOW, &map, &Visited::NONE), None);
    let later = NOW + MS * 50;
    let bytes = beacon(2, 1, Admission::Free, 1).write(KEY.key);
    map.receive(later, &bytes).expect("good");
    chooser.heard(later, 2);
    assert_eq!(chooser.choose(later, &map, &Visited::NONE), Some(2));
}

#[test]
fn direct_mode_names_three_different_ones() {
    let map = map(&[
        (2, Admission::Free, 1000),
        (3, Admission::Free, 1),
        (4, Admission::Free, 10),
        (5, Admission::Free, 10),
    ]);
    let mut firsts = BTreeMap::new();
    for seed in 0..1000 {
        let chosen = chooser(seed).choose_three(NOW, &map, &Visited::NONE);
        let q: Vec<u16> = chosen.iter().map(|one| one.q_permille).collect();
        assert_eq!(q, Q_PERMILLE);
        let mut nodes: Vec<u16> = chosen.iter().map(|one| one.node).collect();
        *firsts.entry(nodes[0]).or_insert(0) += 1;
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), 3);
    }
    assert!(firsts[&2] > 950, "{firsts:?}");
    let alone = chooser(1).choose_three(NOW, &map, &{
        let mut visited = Visited::NONE;
        assert!([2, 4, 5].into_iter().all(|node| visited.add(node)));
        visited
    });
    let only = Alternative {
        node: 3,
        q_permille: 1000,
    };
    assert_eq!(alone, [only]);
}

#[test]
fn shares_follow_headroom_and_own_offers_even_them_out() {
    let map = map(&[
        (2, Admission::Free, 1000),
        (3, Admission::Free, 2000),
        (4, Admission::Free, 5000),
    ]);
    for seed in 0..20 {
        let mut chooser = chooser(seed);
        let mut counts = BTreeMap::new();
        for _ in 0..800 {
            let node = chooser.choose(NOW, &map, &Visited::NONE).expect("room");
            *counts.entry(node).or_insert(0u32) += 1;
        }
        // Chance alone would spread the first over some 100 ± 30.
        for (node, share) in [(2, 100), (3, 200), (4, 500)] {
            let count = counts[&node];
            assert!(count.abs_diff(share) <= 15, "seed {seed}: {counts:?}");
        }
    }
}

#[test]
fn what_was_said_long_ago_counts_half() {
    let candidate = |age| Candidate {
        node: 2,
        headroom: 10,
        age,
        offered: 4,
        lately: 0,
    };
    assert_eq!(candidate(Duration::ZERO).weight(HOLD), 6 * 1024);
    assert_eq!(candidate(HOLD / 2).weight(HOLD), 6 * 768);
    assert_eq!(candidate(HOLD).weight(HOLD), 6 * 512);
    assert_eq!(candidate(Duration::MAX).weight(HOLD), 6 * 512);
    assert_eq!(candidate(Duration::ZERO).weight(Duration::ZERO), 6 * 1024);
}

proptest! {
    /// One is found whenever there is one; it is one of them; and its room is used up only when
    /// everybody's is.
    #[test]
    fn an_available_node_is_found(
        nodes in proptest::collection::vec((1u32..=u32::MAX, 0u64..400, 0u32..=u32::MAX), 0..255),
        seed: u64,
    ) {
        let candidates: Vec<Candidate> = (1u16..)
            .zip(&nodes)
            .map(|(node, (headroom, age, offered))| Candidate {
                node,
                headroom: *headroom,
                age: MS * *age as u32,
                offered: *offered,
                lately: *offered / 2,
            })
            .collect();
        let drawn = draw(&candidates, HOLD, &mut Random::new(seed));
        prop_assert_eq!(drawn.is_some(), !candidates.is_empty());
        if let Some(drawn) = drawn {
            prop_assert!(candidates.contains(&drawn));
            let is_room = candidates.iter().any(|candidate| candidate.left() > 0);
            prop_assert_eq!(drawn.left() > 0, is_room);
        }
    }
}
