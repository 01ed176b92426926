//! Cases and properties of the availability map.

use super::*;
use crate::fixtures::{KEY, KEYS};
use crate::random::Random;
use crate::status::sender::tests::{identity, report};
use crate::status::sender::{BeaconBytes, Sender};
use lb_common::siphash::SipKey;
use proptest::prelude::*;

const PERIOD: Duration = Timing::DEFAULT.period;

fn map(membership: Membership) -> AvailabilityMap {
    AvailabilityMap::new(9, KEYS.to_vec(), Timing::DEFAULT, membership)
}

pub(crate) fn beacon(node: u16, epoch: u32, sequence: u32) -> Beacon {
    let identity = crate::status::sender::Identity {
        epoch,
        ..identity(node)
    };
    let mut sender = Sender::new(
        identity,
        PERIOD,
        1,
        report(Admission::Free),
        Duration::ZERO,
        0,
    );
    let (_, bytes) = sender.poll_transmit(Duration::ZERO).expect("due");
    Beacon {
        sequence,
        ..Beacon::read(&bytes[..], 0, 112).expect("a beacon")
    }
}

fn bytes(node: u16, epoch: u32, sequence: u32) -> BeaconBytes {
    beacon(node, epoch, sequence).write(KEY.key)
}

#[test]
fn every_refusal_has_its_reason() {
    let mut map = map(Membership::Configured);
    map.configure(&[7, 8]);
    let now = Duration::ZERO;
    let good = beacon(7, 5, 10);
    assert_eq!(map.receive(now, &good.write(KEY.key)), Ok(good));
    let foreign = Beacon { cluster: 8, ..good };
    let unknown_key = Beacon { key_id: 3, ..good };
    let unknown_node = Beacon { node: 9, ..good };
    let mut malformed = bytes(7, 5, 11);
    malformed[5] = 4;
    let cases: [(&[u8], Reason); 9] = [
        (b"INVITE sip:a@b SIP/2.0\r\n", Reason::ForeignStatus),
        (&foreign.write(KEY.key), Reason::ForeignStatus),
        (&malformed, Reason::BeaconMalformed),
        (&bytes(7, 5, 11)[..111], Reason::BeaconMalformed),
        (&unknown_key.write(KEY.key), Reason::BeaconUnknownKey),
        (&bytes(7, 5, 11), Reason::Beacon),
        (&beacon(7, 5, 12).write(KEYS[1].key), Reason::BeaconForged),
        (&unknown_node.write(KEY.key), Reason::BeaconUnknownNode),
        (&bytes(7, 4, 99), Reason::BeaconOldEpoch),
    ];
    for (bytes, reason) in cases {
        let got = map
            .receive(now, bytes)
            .map_or_else(|reason| reason, |_| Reason::Beacon);
        assert_eq!(got, reason);
    }
    for sequence in [0, 10, 11] {
        assert_eq!(
            map.receive(now, &bytes(7, 5, sequence)),
            Err(Reason::BeaconReplayed)
        );
    }
    // A higher epoch begins anew, under any good key.
    let reborn = Beacon {
        key_id: KEYS[1].id,
        ..beacon(7, 6, 0)
    };
    assert_eq!(map.receive(now, &reborn.write(KEYS[1].key)), Ok(reborn));
    assert_eq!(
        map.receive(now, &bytes(7, 5, 12)),
        Err(Reason::BeaconOldEpoch)
    );
    map.set_keys(vec![KEY]);
    let later = Beacon {
        sequence: 1,
        ..reborn
    };
    assert_eq!(
        map.receive(now, &later.write(KEYS[1].key)),
        Err(Reason::BeaconUnknownKey)
    );
}

#[test]
fn learnt_members_are_real_node_ids() {
    let mut map = map(Membership::Learnt);
    let now = Duration::ZERO;
    for (node, is_taken) in [
        (0, false),
        (1, true),
        (255, true),
        (256, false),
        (65_535, false),
    ] {
        assert_eq!(
            map.receive(now, &bytes(node, 5, 0)).is_ok(),
            is_taken,
            "{node}"
        );
    }
    assert_eq!(
        map.rows(now).map(|row| row.node).collect::<Vec<_>>(),
        [1, 255]
    );
}

fn liveness(map: &AvailabilityMap, now: Duration, node: u16) -> Liveness {
    map.row(now, node).expect("a node").liveness
}

#[test]
fn a_silent_node_turns_stale_then_down_and_comes_back_after_three() {
    let mut map = map(Membership::Learnt);
    let tick = Duration::from_millis(1);
    map.receive(Duration::ZERO, &bytes(2, 5, 0)).expect("good");
    for period in 0..12 {
        map.receive(PERIOD * period, &bytes(1, 5, period))
            .expect("good");
    }
    assert_eq!(liveness(&map, PERIOD * 3, 2), Liveness::Up);
    assert_eq!(liveness(&map, PERIOD * 3 + tick, 2), Liveness::Stale);
    assert_eq!(liveness(&map, PERIOD * 10, 2), Liveness::Stale);
    assert_eq!(liveness(&map, PERIOD * 10 + tick, 2), Liveness::Down);
    let back = PERIOD * 12;
    for (good, expected) in [(1, Liveness::Down), (2, Liveness::Down), (3, Liveness::Up)] {
        map.receive(back, &bytes(2, 5, good)).expect("good");
        assert_eq!(liveness(&map, back, 2), expected, "after {good}");
    }
    // From Stale, one is enough.
    let stale = back + PERIOD * 4;
    map.receive(stale, &bytes(1, 5, 100)).expect("good");
    assert_eq!(liveness(&map, stale, 2), Liveness::Stale);
    map.receive(stale, &bytes(2, 5, 4)).expect("good");
    assert_eq!(liveness(&map, stale, 2), Liveness::Up);
}

#[test]
fn a_run_that_breaks_off_starts_over() {
    let mut map = map(Membership::Learnt);
    map.receive(Duration::ZERO, &bytes(2, 5, 0)).expect("good");
    let back = PERIOD * 20;
    map.receive(back, &bytes(2, 5, 1)).expect("good");
    map.receive(back + PERIOD, &bytes(2, 5, 2)).expect("good");
    let again = back + PERIOD * 5;
    map.receive(again, &bytes(2, 5, 3)).expect("good");
    assert_eq!(liveness(&map, again, 2), Liveness::Down);
}

#[test]
fn when_all_are_silent_none_is_to_blame() {
    let mut map = map(Membership::Configured);
    map.configure(&[1, 2, 3]);
    assert_eq!(
        liveness(&map, PERIOD, 1),
        Liveness::Up,
        "nobody was ever heard"
    );
    assert!(map.is_plane_broken(PERIOD));
    map.receive(PERIOD, &bytes(1, 5, 0)).expect("good");
    map.receive(PERIOD * 2, &bytes(2, 5, 0)).expect("good");
    assert_eq!(
        liveness(&map, PERIOD * 2, 3),
        Liveness::Down,
        "others are heard"
    );
    let much_later = PERIOD * 1000;
    assert!(map.is_plane_broken(much_later));
    assert_eq!(map.silence(much_later), Some(PERIOD * 998));
    assert_eq!(liveness(&map, much_later, 1), Liveness::Up);
    assert_eq!(liveness(&map, much_later, 2), Liveness::Up);
    assert_eq!(liveness(&map, much_later, 3), Liveness::Down);
    map.receive(much_later, &bytes(1, 5, 1)).expect("good");
    assert_eq!(liveness(&map, much_later, 2), Liveness::Down);
}

#[test]
fn a_changed_configuration_forgets_and_keeps() {
    let mut map = map(Membership::Configured);
    map.configure(&[1, 2]);
    map.receive(PERIOD, &bytes(1, 5, 0)).expect("good");
    map.configure(&[1, 3]);
    let rows: Vec<Row> = map.rows(PERIOD * 2).collect();
    assert_eq!(rows.iter().map(|row| row.node).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(rows[0].admission(), Some(Admission::Free));
    assert_eq!(rows[0].last.map(|(_, age)| age), Some(PERIOD));
    assert_eq!((rows[0].beacons, rows[1].beacons), (1, 0));
    assert_eq!(rows[1].last, None);
}

#[test]
fn beacons_come_from_addresses_of_their_node() {
    let ip = |last| IpAddr::from([192, 0, 2, last]);
    let mut map = map(Membership::Configured);
    map.configure_at(BTreeMap::from([(1, vec![ip(1)]), (2, Vec::new())]));
    let now = Duration::ZERO;
    let strange = map.receive_from(now, ip(9), &bytes(1, 5, 0));
    assert_eq!(strange, Err(Refusal::Origin));
    assert_eq!(map.stamp(1), None, "nothing of it is kept");
    assert!(map.receive_from(now, ip(1), &bytes(1, 5, 0)).is_ok());
    let replayed = map.receive_from(now, ip(1), &bytes(1, 5, 0));
    assert_eq!(replayed, Err(Refusal::Program(Reason::BeaconReplayed)));
    let named = Beacon {
        address_v4: ip(2).into(),
        ..beacon(2, 5, 0)
    };
    let named = named.write(KEY.key);
    assert_eq!(map.receive_from(now, ip(1), &named), Err(Refusal::Origin));
    assert!(map.receive_from(now, ip(2), &named).is_ok());
}

#[test]
fn learnt_members_are_bounded_and_age() {
    let mut map = map(Membership::Learnt);
    map.configure(&[1]);
    map.set_discovery(Some(Discovery {
        most: 2,
        forget_after: PERIOD * 50,
    }));
    let address = IpAddr::from([192, 0, 2, 1]);
    let full = |map: &mut AvailabilityMap, now, node| {
        let beacon = Beacon {
            address_v4: address.into(),
            ..beacon(node, 5, 0)
        };
        map.receive_from(now, address, &beacon.write(KEY.key)).err()
    };
    for node in [2, 3, 1] {
        assert_eq!(full(&mut map, PERIOD, node), None, "{node}");
    }
    assert_eq!(full(&mut map, PERIOD, 4), Some(Refusal::Full));
    for period in 2..60 {
        map.receive(PERIOD * period, &bytes(3, 5, period))
            .expect("good");
    }
    assert_eq!(full(&mut map, PERIOD * 50, 4), Some(Refusal::Full));
    // 2 was silent for so long that it makes room; 1 is configured, and stays.
    assert_eq!(full(&mut map, PERIOD * 60, 4), None);
    let rows: Vec<u16> = map.rows(PERIOD * 60).map(|row| row.node).collect();
    assert_eq!(rows, [1, 3, 4]);
    // Its old life cannot be played back.
    map.receive(PERIOD * 112, &bytes(3, 5, 112)).expect("good");
    assert_eq!(map.forget_silent(PERIOD * 112), [4]);
    let replayed = map.receive(PERIOD * 112, &bytes(2, 5, 0));
    assert_eq!(replayed, Err(Reason::BeaconReplayed));
    assert!(map.receive(PERIOD * 112, &bytes(2, 5, 1)).is_ok());
    // While nobody is heard, nobody is forgotten; and who is no longer to be learnt is.
    assert_eq!(map.forget_silent(PERIOD * 1000), []);
    map.set_discovery(None);
    assert_eq!(
        map.rows(PERIOD).map(|row| row.node).collect::<Vec<_>>(),
        [1]
    );
}

#[test]
fn stamps_outlive_a_receiver_that_hands_them_on() {
    let mut map = map(Membership::Learnt);
    map.resume_stamp(7, beacon(7, 5, 10).stamp());
    map.resume_stamp(7, beacon(7, 4, 10).stamp());
    map.resume_stamp(256, 1);
    assert_eq!((map.stamp(7), map.stamp(256)), (Some(5 << 32 | 10), None));
    assert_eq!(
        map.receive(PERIOD, &bytes(7, 5, 10)),
        Err(Reason::BeaconReplayed)
    );
    assert_eq!(
        map.receive(PERIOD, &bytes(7, 4, 99)),
        Err(Reason::BeaconOldEpoch)
    );
    assert!(map.receive(PERIOD, &bytes(7, 5, 11)).is_ok());
}

/// A thousand periods of a witness, and node 2 as told: heard in the periods for which `is_heard`.
fn witness(map: &mut AvailabilityMap, from: u32, to: u32, is_heard: impl Fn(u32) -> bool) {
    for period in from..to {
        map.receive(PERIOD * period, &bytes(1, 5, period))
            .expect("good");
        if is_heard(period) {
            map.receive(PERIOD * period, &bytes(2, 5, period))
                .expect("good");
        }
    }
}

#[test]
fn who_flaps_waits_longer() {
    let mut map = map(Membership::Learnt);
    let mut waits = Vec::new();
    let mut period = 1;
    for _ in 0..7 {
        witness(&mut map, period, period + 5, |_| true);
        witness(&mut map, period + 5, period + 20, |_| false);
        let back = period + 20;
        period = back;
        while period == back || liveness(&map, PERIOD * (period - 1), 2) != Liveness::Up {
            witness(&mut map, period, period + 1, |_| true);
            period += 1;
        }
        waits.push(period - 1 - back);
    }
    // In periods of 100 ms: three good beacons, then a second, two, four …
    assert_eq!(waits, [2, 10, 20, 40, 80, 160, 320]);
    witness(&mut map, period, period + 6000, |_| true);
    let fall = period + 6000;
    witness(&mut map, fall, fall + 20, |_| false);
    witness(&mut map, fall + 20, fall + 23, |_| true);
    assert_eq!(
        liveness(&map, PERIOD * (fall + 22), 2),
        Liveness::Up,
        "forgiven"
    );
}

#[test]
fn a_broken_plane_is_nobodys_fall() {
    let mut map = map(Membership::Learnt);
    let mut period = 1;
    for _ in 0..5 {
        witness(&mut map, period, period + 10, |_| true);
        period += 100;
        witness(&mut map, period, period + 3, |_| true);
        for node in [1, 2] {
            assert_eq!(liveness(&map, PERIOD * (period + 2), node), Liveness::Up);
        }
        period += 3;
    }
}

#[test]
fn what_a_stalled_receiver_missed_is_not_held_against_others() {
    for gap in [2, 5, 20, 500] {
        let mut map = map(Membership::Learnt);
        witness(&mut map, 1, 11, |_| true);
        let (last, woke) = (PERIOD * 10, PERIOD * (10 + gap));
        map.stalled(last, woke);
        for node in [1, 2] {
            assert_eq!(liveness(&map, woke, node), Liveness::Up, "{gap}");
        }
        assert!(!map.is_plane_broken(woke));
        // One was in the socket still, the other comes with its next beacon.
        map.receive(woke, &bytes(1, 5, 10 + gap)).expect("good");
        let soon = woke + PERIOD / 2;
        map.receive(soon, &bytes(2, 5, 11 + gap)).expect("good");
        for node in [1, 2] {
            let later = woke + PERIOD;
            assert_eq!(liveness(&map, later, node), Liveness::Up, "{gap}");
        }
    }
    // Who has died meanwhile is found out a period later.
    let mut map = map(Membership::Learnt);
    witness(&mut map, 1, 11, |_| true);
    map.stalled(PERIOD * 10, PERIOD * 15);
    map.stalled(PERIOD * 15 + PERIOD / 2, PERIOD * 20);
    map.receive(PERIOD * 20, &bytes(1, 5, 20)).expect("good");
    assert_eq!(liveness(&map, PERIOD * 20, 2), Liveness::Up);
    assert_eq!(liveness(&map, PERIOD * 21, 2), Liveness::Down);
}

/// 100,000 beacons that are not genuine, not new or not from where they should be, each of a kind:
/// none is taken, and each is refused for its reason.
#[test]
fn of_a_hundred_thousand_beacons_none_is_taken() {
    let mut random = Random::new(23);
    let mut map = map(Membership::Configured);
    map.configure(&[7]);
    let ip = |last| IpAddr::from([192, 0, 2, last]);
    let at = |epoch, sequence| Beacon {
        address_v4: ip(7).into(),
        ..beacon(7, epoch, sequence)
    };
    let held = at(1000, 50_000);
    map.receive_from(PERIOD, ip(7), &held.write(KEY.key))
        .expect("good");
    let next = at(1000, 50_001);
    for round in 0..100_000u32 {
        let some = |random: &mut Random, below: u32| random.below(below.into()) as u32;
        let mut from = ip(7);
        let program = Refusal::Program;
        let (bytes, refusal) = match round % 8 {
            0 => {
                let mut bytes = next.write(KEY.key);
                let bit = some(&mut random, 112 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                (bytes, None)
            }
            1 => {
                let (k0, k1) = (random.next(), random.next());
                let wrong = next.write(SipKey { k0, k1 });
                (wrong, Some(program(Reason::BeaconForged)))
            }
            2 => {
                let key_id = 10 + some(&mut random, 246) as u8;
                let unknown = Beacon { key_id, ..next };
                let reason = Reason::BeaconUnknownKey;
                (unknown.write(KEY.key), Some(program(reason)))
            }
            3 => {
                let old = at(some(&mut random, 1000), random.next() as u32);
                (old.write(KEY.key), Some(program(Reason::BeaconOldEpoch)))
            }
            // Played back, doubled, or overtaken.
            4 => {
                let late = at(1000, some(&mut random, 50_001));
                (late.write(KEY.key), Some(program(Reason::BeaconReplayed)))
            }
            5 => {
                from = ip(8 + some(&mut random, 200) as u8);
                (next.write(KEY.key), Some(Refusal::Origin))
            }
            6 => {
                let node = 8 + some(&mut random, 1000) as u16;
                let stranger = Beacon { node, ..next };
                let reason = Reason::BeaconUnknownNode;
                (stranger.write(KEY.key), Some(program(reason)))
            }
            _ => {
                let cluster = 10 + some(&mut random, u32::MAX - 10);
                let foreign = Beacon { cluster, ..next };
                (foreign.write(KEY.key), Some(program(Reason::ForeignStatus)))
            }
        };
        let got = map.receive_from(PERIOD * 2, from, &bytes);
        assert!(got.is_err(), "round {round}");
        if let Some(refusal) = refusal {
            assert_eq!(got, Err(refusal), "round {round}");
        }
        assert_eq!(map.stamp(7), Some(held.stamp()), "round {round}");
    }
    let genuine = map.receive_from(PERIOD * 2, ip(7), &next.write(KEY.key));
    assert_eq!(genuine, Ok(next));
}

proptest! {
    /// Played in any order, with any repetition: what is accepted only grows.
    #[test]
    fn accepted_stamps_only_grow(
        stamps in proptest::collection::vec((1u16..4, 1u32..4, 0u32..6), 1..100)
    ) {
        let mut map = map(Membership::Learnt);
        let mut last = BTreeMap::new();
        for (node, epoch, sequence) in stamps {
            let bytes = bytes(node, epoch, sequence);
            let before = last.get(&node).copied().unwrap_or((0, 0));
            let expected = if (epoch, sequence) > before {
                last.insert(node, (epoch, sequence));
                None
            } else if epoch < before.0 {
                Some(Reason::BeaconOldEpoch)
            } else {
                Some(Reason::BeaconReplayed)
            };
            prop_assert_eq!(map.receive(PERIOD, &bytes).err(), expected);
        }
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut map = map(Membership::Learnt);
        prop_assert!(map.receive(PERIOD, &bytes).is_err());
        prop_assert_eq!(map.rows(PERIOD).count(), 0);
    }
}
