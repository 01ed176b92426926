//! Senders, a lossy network, and one receiver's map and judge.

use crate::fixtures::KEY;
use crate::network::{FAIR, Weather};
use crate::random::Random;
use crate::status::judge::{Action, Judge};
use crate::status::map::{AvailabilityMap, Membership};
use crate::status::query::Query;
use crate::status::sender::tests::{identity, report};
use crate::status::sender::{BeaconBytes, Identity, Sender};
use crate::status::{GOOD_BEACONS, Timing};
use lb_common::choose::Liveness;
use lb_common::{Admission, Reason};
use std::collections::BTreeMap;
use std::time::Duration;

const PERIOD: Duration = Timing::DEFAULT.period;

enum Event {
    /// The node's sender has something due.
    Send(u16),
    /// Bytes come in at the receiver.
    Beacon(BeaconBytes),
    /// Bytes come in at the node.
    Query(u16, Vec<u8>),
}

struct Cluster {
    now: Duration,
    weather: Weather,
    random: Random,
    senders: BTreeMap<u16, Sender>,
    map: AvailabilityMap,
    judge: Judge,
    /// By time; the number tells equal times apart.
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    actions: Vec<(Duration, Action)>,
    refusals: BTreeMap<&'static str, u64>,
    accepted: u64,
}

impl Cluster {
    fn new(nodes: u16, weather: Weather, seed: u64) -> Self {
        let ids: Vec<u16> = (1..=nodes).collect();
        let mut map = AvailabilityMap::new(9, vec![KEY], Timing::DEFAULT, Membership::Configured);
        map.configure(&ids);
        let mut judge = Judge::new(Timing::DEFAULT, Duration::ZERO, seed);
        judge.configure(Duration::ZERO, &ids);
        let mut cluster = Self {
            now: Duration::ZERO,
            weather,
            random: Random::new(seed),
            senders: BTreeMap::new(),
            map,
            judge,
            events: BTreeMap::new(),
            count: 0,
            actions: Vec::new(),
            refusals: BTreeMap::new(),
            accepted: 0,
        };
        for id in ids {
            cluster.boot(id, 5);
        }
        cluster
    }

    fn boot(&mut self, node: u16, epoch: u32) {
        let seed = self.random.next();
        let identity = Identity {
            epoch,
            ..identity(node)
        };
        let sender = Sender::new(identity, PERIOD, 1, report(Admission::Free), self.now, seed);
        self.senders.insert(node, sender);
        let late = Duration::from_nanos(self.random.below(PERIOD.as_nanos() as u64));
        self.at(self.now + late, Event::Send(node));
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), event);
    }

    fn carry(&mut self, make: impl Fn() -> Event) {
        for delay in self.weather.delays(&mut self.random) {
            self.at(self.now + delay, make());
        }
    }

    fn run(&mut self, until: Duration) {
        loop {
            let next = self
                .events
                .first_key_value()
                .map_or(until, |(key, _)| key.0);
            let next = next.min(self.judge.next_timeout()).min(until);
            self.now = self.now.max(next);
            // All that has come in is taken in before anybody is judged.
            while let Some(entry) = self.events.first_entry()
                && entry.key().0 <= self.now
            {
                let event = entry.remove();
                self.handle(event);
            }
            while let Some(action) = self.judge.poll(self.now) {
                self.actions.push((self.now, action));
                if let Action::Ask { node, nonce } = action {
                    let query = Query {
                        cluster: 9,
                        node,
                        key_id: KEY.id,
                        nonce,
                    };
                    self.carry(|| Event::Query(node, query.write(KEY.key).to_vec()));
                }
            }
            if self.now >= until {
                return;
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Send(node) => {
                let Some(sender) = self.senders.get_mut(&node) else {
                    return;
                };
                let sent = sender.poll_transmit(now);
                let due = sender.next_timeout();
                if let Some((_, bytes)) = sent {
                    self.carry(|| Event::Beacon(bytes));
                }
                if let Some(due) = due {
                    self.at(due, Event::Send(node));
                }
            }
            Event::Beacon(bytes) => match self.map.receive(now, &bytes) {
                Ok(beacon) => {
                    self.accepted += 1;
                    self.judge.heard(now, beacon.node);
                }
                Err(reason) => *self.refusals.entry(reason.name()).or_default() += 1,
            },
            Event::Query(node, bytes) => {
                let query = Query::read(&bytes, &[KEY]).expect("nobody forges here");
                let answer = self
                    .senders
                    .get_mut(&node)
                    .and_then(|sender| sender.answer(now, &query));
                if let Some(bytes) = answer {
                    self.carry(|| Event::Beacon(bytes));
                }
            }
        }
    }

    fn downs(&self) -> Vec<(Duration, u16)> {
        let down = |(at, action): &(Duration, Action)| match action {
            Action::Down { node, .. } => Some((*at, *node)),
            _ => None,
        };
        self.actions.iter().filter_map(down).collect()
    }
}

#[test]
fn loss_duplicates_and_overtaking_bring_nobody_down() {
    for seed in 0..4 {
        let mut cluster = Cluster::new(8, FAIR, seed);
        cluster.run(PERIOD * 20_000);
        assert_eq!(cluster.downs(), [], "seed {seed}");
        let asked = cluster.actions.len();
        assert!(
            asked < 100,
            "seed {seed}: {asked} actions in 160,000 periods"
        );
        // Duplicates and what was overtaken are refused; nothing else is.
        let names: Vec<_> = cluster.refusals.keys().copied().collect();
        assert_eq!(names, [Reason::BeaconReplayed.name()]);
        let share = cluster.accepted as f64 / (8.0 * 20_000.0);
        assert!((0.98..1.01).contains(&share), "seed {seed}: {share}");
        assert!(
            cluster
                .map
                .rows(cluster.now)
                .all(|row| row.liveness != Liveness::Down)
        );
    }
}

#[test]
fn even_a_bad_network_is_survived_by_asking() {
    let weather = Weather {
        loss_permille: 200,
        ..FAIR
    };
    let mut cluster = Cluster::new(4, weather, 7);
    cluster.run(PERIOD * 5_000);
    let asked = cluster
        .actions
        .iter()
        .filter(|a| matches!(a.1, Action::Ask { .. }))
        .count();
    assert!(asked > 10, "the weather is not bad: {asked}");
    // One in five datagrams lost: a question and its answer both get through two times in three.
    assert!(
        cluster.downs().len() * 10 < asked,
        "{} of {asked}",
        cluster.downs().len()
    );
}

#[test]
fn a_death_is_seen_in_time_and_the_dead_come_back() {
    for seed in 0..50 {
        let mut cluster = Cluster::new(4, FAIR, seed);
        cluster.run(PERIOD * 50);
        cluster.senders.remove(&3);
        let death = cluster.now;
        cluster.run(death + PERIOD * 10);
        let downs = cluster.downs();
        assert!(matches!(downs[..], [(_, 3)]), "seed {seed}: {downs:?}");
        let took = downs[0].0 - death;
        // From the last beacon: the hold time, three questions, and perhaps the wait for a witness.
        assert!(
            took <= PERIOD * 3 + Duration::from_millis(60) + PERIOD,
            "seed {seed}: {took:?}"
        );
        cluster.run(death + PERIOD * 30);
        cluster.boot(3, 6);
        let birth = cluster.now;
        cluster.run(birth + PERIOD * 10);
        let up = cluster.actions.last().expect("actions");
        assert_eq!(up.1, Action::Up { node: 3 }, "seed {seed}");
        let took = up.0 - birth;
        assert!(
            took <= PERIOD * (u32::from(GOOD_BEACONS) + 3),
            "seed {seed}: {took:?}"
        );
        let row = cluster.map.row(cluster.now, 3).expect("a row");
        assert_eq!(row.liveness, Liveness::Up);
        assert_eq!(row.last.map(|(beacon, _)| beacon.epoch), Some(6));
    }
}

#[test]
fn a_pulled_cable_brings_nobody_down() {
    for seed in 0..50 {
        let mut cluster = Cluster::new(4, FAIR, seed);
        cluster.run(PERIOD * 20);
        cluster.weather.loss_permille = 1000;
        cluster.run(PERIOD * 100);
        assert_eq!(cluster.downs(), [], "seed {seed}");
        assert!(cluster.judge.is_plane_broken());
        assert!(
            cluster
                .map
                .rows(cluster.now)
                .all(|row| row.liveness != Liveness::Down)
        );
        cluster.weather = FAIR;
        cluster.run(PERIOD * 120);
        assert_eq!(cluster.downs(), [], "seed {seed}");
        assert!(!cluster.judge.is_plane_broken());
        let alarms: Vec<Action> = cluster
            .actions
            .iter()
            .map(|(_, action)| *action)
            .filter(|action| !matches!(action, Action::Ask { .. }))
            .collect();
        assert_eq!(
            alarms,
            [Action::PlaneBroken, Action::PlaneMended],
            "seed {seed}"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    let history = |seed| {
        let mut cluster = Cluster::new(
            4,
            Weather {
                loss_permille: 300,
                ..FAIR
            },
            seed,
        );
        cluster.run(PERIOD * 500);
        (cluster.actions, cluster.accepted)
    };
    assert_eq!(history(3), history(3));
    assert_ne!(history(3), history(4));
}
