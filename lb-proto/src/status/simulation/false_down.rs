//! A million periods of twelve pairs, at one datagram lost in a hundred: nobody is said to be `Down`.
//!
//! Four nodes that all hear each other. The real map and the real judge of each receiver, but neither
//! MACs, which are tested elsewhere, nor a queue of events: nothing here takes longer than a period.

use crate::fixtures::KEY;
use crate::random::Random;
use crate::status::Timing;
use crate::status::judge::{Action, Judge};
use crate::status::map::tests::beacon;
use crate::status::map::{AvailabilityMap, Membership};
use lb_common::beacon::Beacon;
use lb_common::choose::Liveness;
use std::time::Duration;

const PERIOD: Duration = Timing::DEFAULT.period;
const NODES: u16 = 4;

struct Receiver {
    own: u16,
    map: AvailabilityMap,
    judge: Judge,
    asked: u32,
    downs: u32,
}

impl Receiver {
    fn new(own: u16, seed: u64) -> Self {
        let mut map = AvailabilityMap::new(9, vec![KEY], Timing::DEFAULT, Membership::Configured);
        let mut judge = Judge::new(Timing::DEFAULT, Duration::ZERO, seed);
        let others: Vec<u16> = (1..=NODES).filter(|node| *node != own).collect();
        map.configure(&others);
        judge.configure(Duration::ZERO, &others);
        Self {
            own,
            map,
            judge,
            asked: 0,
            downs: 0,
        }
    }

    fn hear(&mut self, now: Duration, beacon: Beacon) {
        if self.map.accept(now, beacon, None).is_ok() {
            self.judge.heard(now, beacon.node);
        }
    }

    /// Judges at every moment until `now` at which something is due. Questions and answers are lost
    /// like all else; an answer that is not comes at once.
    fn judge(
        &mut self,
        now: Duration,
        loss_percent: u64,
        stamps: &mut [Beacon],
        random: &mut Random,
    ) {
        loop {
            let due = self.judge.next_timeout();
            if due > now {
                return;
            }
            while let Some(action) = self.judge.poll(due) {
                match action {
                    Action::Ask { node, .. } => {
                        self.asked += 1;
                        let is_lost =
                            random.below(100) < loss_percent || random.below(100) < loss_percent;
                        let beacon = &mut stamps[usize::from(node) - 1];
                        beacon.sequence += 1;
                        if !is_lost {
                            self.hear(due, *beacon);
                        }
                    }
                    Action::Down { .. } => self.downs += 1,
                    Action::Up { .. } | Action::PlaneBroken | Action::PlaneMended => {}
                    Action::Stalled(gap) => panic!("judged too seldom: {gap:?}"),
                }
            }
        }
    }
}

/// Runs, and returns how often somebody was asked and condemned.
fn run(seed: u64, periods: u32, loss_percent: u64) -> (u32, u32) {
    let mut random = Random::new(seed);
    let mut receivers: Vec<Receiver> = (1..=NODES).map(|own| Receiver::new(own, seed)).collect();
    let mut beacons: Vec<Beacon> = (1..=NODES).map(|node| beacon(node, 5, 0)).collect();
    // Each sender has a phase, so that the four do not speak in the same order always.
    let jitter = PERIOD.as_nanos() as u64 / 10;
    for period in 1..=periods {
        for node in 1..=NODES {
            let place = usize::from(node) - 1;
            beacons[place].sequence += 1;
            let phase = PERIOD / 5 * u32::from(node);
            let at = PERIOD * period + phase + Duration::from_nanos(random.below(2 * jitter));
            for receiver in receivers.iter_mut().filter(|receiver| receiver.own != node) {
                receiver.judge(at, loss_percent, &mut beacons, &mut random);
                if random.below(100) >= loss_percent {
                    let beacon = beacons[place];
                    receiver.hear(at, beacon);
                }
            }
        }
        if period % 1000 == 0 && loss_percent <= 1 {
            let now = PERIOD * (period + 1);
            for receiver in &receivers {
                let is_down = |node| {
                    receiver
                        .map
                        .row(now, node)
                        .is_some_and(|row| row.liveness == Liveness::Down)
                };
                let down = (1..=NODES).find(|node| is_down(*node));
                assert_eq!(
                    down, None,
                    "seed {seed}, period {period}, at {}",
                    receiver.own
                );
            }
        }
    }
    let sum = |count: fn(&Receiver) -> u32| receivers.iter().map(count).sum();
    (
        sum(|receiver| receiver.asked),
        sum(|receiver| receiver.downs),
    )
}

#[test]
fn nobody_is_falsely_down_in_a_million_periods() {
    let seed = 1;
    let (asked, downs) = run(seed, 1_000_000, 1);
    assert_eq!(downs, 0, "seed {seed}");
    // Two in a row are lost 1,200 times, and about half of these gaps are longer than three periods.
    assert!(
        (300..1200).contains(&asked),
        "seed {seed}: asked {asked} times"
    );
}

/// The loop above can tell: when half of all is lost, some are condemned.
#[test]
fn when_half_is_lost_many_are_asked_and_some_condemned() {
    let (asked, downs) = run(2, 5_000, 50);
    assert!(
        asked > 1000 && downs > 10,
        "{asked} asked, {downs} condemned"
    );
}
