//! The availability map: everybody's status with its age, made of the beacons that are genuine and
//! new.
//!
//! It refuses what the kernel program refuses, in the same order and for the same [`Reason`]s, and
//! judges ages by the same rules: `Stale` after the hold time, `Down` after ten periods by default,
//! and back from `Down` only after [`GOOD_BEACONS`] in a row. When every node looks stale at once, the
//! status plane is broken, not the nodes: ages are then counted to the last beacon that came.
//!
//! What it does not do is doubt: confirming before a node is `Down` is the [judge](super::judge)'s.

use super::{GOOD_BEACONS, Timing};
use crate::keys::NumberedKey;
use lb_common::beacon::{Beacon, BeaconError, is_authentic};
use lb_common::choose::Liveness;
use lb_common::maps::{MAX_NODES, NO_NODE};
use lb_common::{Admission, Reason};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whose beacons are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Those of the nodes named by [`AvailabilityMap::configure`], as a controller does.
    Configured,
    /// Those of any node of the cluster, as a node does, which is told of no others.
    Learnt,
}

/// One node's status.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The last beacon; `None` for a configured node that was never heard.
    last: Option<Heard>,
    /// Beacons accepted.
    beacons: u64,
}

#[derive(Clone, Debug)]
struct Heard {
    beacon: Beacon,
    at: Duration,
    /// When the present run of beacons began.
    up_since: Duration,
    /// Good beacons in this run, up to 255.
    run: u8,
    /// Good beacons that the run needs.
    needed: u8,
}

impl Heard {
    fn is_ready(&self) -> bool {
        self.run >= self.needed
    }
}

/// One line of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The node.
    pub node: u16,
    /// Whether it is there.
    pub liveness: Liveness,
    /// What it said last, and how long ago; `None` when it was never heard.
    pub last: Option<(Beacon, Duration)>,
    /// How long beacons have been coming without a gap; zero when never heard.
    pub up_for: Duration,
    /// Beacons accepted.
    pub beacons: u64,
}

impl Row {
    /// What the node said last about calls.
    pub fn admission(&self) -> Option<Admission> {
        self.last.map(|(beacon, _)| beacon.admission)
    }
}

/// What is known of all nodes.
#[derive(Debug)]
pub struct AvailabilityMap {
    cluster: u32,
    keys: Vec<NumberedKey>,
    timing: Timing,
    membership: Membership,
    nodes: BTreeMap<u16, Entry>,
    last_beacon: Option<Duration>,
}

impl AvailabilityMap {
    /// An empty map. Beacons under any of `keys` are genuine.
    pub fn new(
        cluster: u32,
        keys: Vec<NumberedKey>,
        timing: Timing,
        membership: Membership,
    ) -> Self {
        Self {
            cluster,
            keys,
            timing,
            membership,
            nodes: BTreeMap::new(),
            last_beacon: None,
        }
    }

    /// Makes `nodes` the configured ones; others are forgotten.
    pub fn configure(&mut self, nodes: &[u16]) {
        self.nodes.retain(|node, _| nodes.contains(node));
        for node in nodes {
            self.nodes.entry(*node).or_insert(Entry {
                last: None,
                beacons: 0,
            });
        }
    }

    /// Changes the keys that are good.
    pub fn set_keys(&mut self, keys: Vec<NumberedKey>) {
        self.keys = keys;
    }

    /// Takes in what came to the status port at `now`.
    ///
    /// # Errors
    /// The [`Reason`] of the refusal, for a counter: the same that the kernel program gives.
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) -> Result<Beacon, Reason> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let beacon = match Beacon::read(bytes, 0, len) {
            Ok(beacon) if beacon.cluster == self.cluster => beacon,
            Ok(_) | Err(BeaconError::Foreign) => return Err(Reason::ForeignStatus),
            Err(BeaconError::Malformed) => return Err(Reason::BeaconMalformed),
        };
        let key = self.keys.iter().find(|key| key.id == beacon.key_id);
        let key = key.ok_or(Reason::BeaconUnknownKey)?;
        if !is_authentic(bytes, 0, key.key) {
            return Err(Reason::BeaconForged);
        }
        self.accept(now, beacon)?;
        Ok(beacon)
    }

    fn accept(&mut self, now: Duration, beacon: Beacon) -> Result<(), Reason> {
        let entry = match self.membership {
            Membership::Configured => self.nodes.get_mut(&beacon.node),
            Membership::Learnt if beacon.node == NO_NODE || beacon.node >= MAX_NODES as u16 => None,
            Membership::Learnt => Some(self.nodes.entry(beacon.node).or_insert(Entry {
                last: None,
                beacons: 0,
            })),
        };
        let entry = entry.ok_or(Reason::BeaconUnknownNode)?;
        let stamp = entry.last.as_ref().map_or(0, |heard| heard.beacon.stamp());
        if beacon.stamp() <= stamp {
            let is_old = beacon.epoch < (stamp >> 32) as u32;
            return Err(if is_old {
                Reason::BeaconOldEpoch
            } else {
                Reason::BeaconReplayed
            });
        }
        let (hold, down) = (self.timing.hold(), self.timing.down());
        entry.last = Some(match entry.last.take() {
            None => Heard {
                beacon,
                at: now,
                up_since: now,
                run: 1,
                needed: 1,
            },
            Some(heard) if now.saturating_sub(heard.at) > hold => {
                let was_down = now.saturating_sub(heard.at) > down || !heard.is_ready();
                let needed = if was_down { GOOD_BEACONS } else { 1 };
                Heard {
                    beacon,
                    at: now,
                    up_since: now,
                    run: 1,
                    needed,
                }
            }
            Some(heard) => Heard {
                beacon,
                at: now,
                run: heard.run.saturating_add(1),
                ..heard
            },
        });
        entry.beacons += 1;
        self.last_beacon = Some(now);
        Ok(())
    }

    /// Whether every node looks stale at once: then no age says anything about a node.
    pub fn is_plane_broken(&self, now: Duration) -> bool {
        self.last_beacon
            .is_none_or(|last| now.saturating_sub(last) > self.timing.hold())
    }

    /// How long ago the last beacon of anybody came.
    pub fn silence(&self, now: Duration) -> Option<Duration> {
        self.last_beacon.map(|last| now.saturating_sub(last))
    }

    /// One node's line; `None` when there is no such node.
    pub fn row(&self, now: Duration, node: u16) -> Option<Row> {
        self.nodes
            .get(&node)
            .map(|entry| self.describe(now, node, entry))
    }

    /// All lines, by node.
    pub fn rows(&self, now: Duration) -> impl Iterator<Item = Row> {
        self.nodes
            .iter()
            .map(move |(node, entry)| self.describe(now, *node, entry))
    }

    fn describe(&self, now: Duration, node: u16, entry: &Entry) -> Row {
        let heard = entry.last.as_ref();
        Row {
            node,
            liveness: self.liveness(now, heard),
            last: heard.map(|heard| (heard.beacon, now.saturating_sub(heard.at))),
            up_for: heard.map_or(Duration::ZERO, |heard| {
                heard.at.saturating_sub(heard.up_since)
            }),
            beacons: entry.beacons,
        }
    }

    fn liveness(&self, now: Duration, heard: Option<&Heard>) -> Liveness {
        let Some(last_beacon) = self.last_beacon else {
            // No beacon of anybody, ever: nothing speaks against this node.
            return Liveness::Up;
        };
        let Some(heard) = heard else {
            return Liveness::Down;
        };
        let reference = if self.is_plane_broken(now) {
            last_beacon
        } else {
            now
        };
        let silence = reference.saturating_sub(heard.at);
        if silence > self.timing.down() || !heard.is_ready() {
            Liveness::Down
        } else if silence > self.timing.hold() {
            Liveness::Stale
        } else {
            Liveness::Up
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::sender::tests::{KEY, identity, report};
    use crate::status::sender::{BeaconBytes, Sender};
    use lb_common::siphash::SipKey;
    use proptest::prelude::*;

    const OTHER_KEY: NumberedKey = NumberedKey {
        id: 2,
        key: SipKey { k0: 5, k1: 6 },
    };
    const PERIOD: Duration = Timing::DEFAULT.period;

    fn map(membership: Membership) -> AvailabilityMap {
        AvailabilityMap::new(9, vec![KEY, OTHER_KEY], Timing::DEFAULT, membership)
    }

    fn beacon(node: u16, epoch: u32, sequence: u32) -> Beacon {
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
            (
                &bytes(7, 5, 11).map(|byte| byte.wrapping_add(0)),
                Reason::Beacon,
            ),
            (&beacon(7, 5, 12).write(OTHER_KEY.key), Reason::BeaconForged),
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
            key_id: 2,
            ..beacon(7, 6, 0)
        };
        assert_eq!(map.receive(now, &reborn.write(OTHER_KEY.key)), Ok(reborn));
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
            map.receive(now, &later.write(OTHER_KEY.key)),
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
}
