//! What must hold of a fleet, whatever befalls it.

use super::fleet::{Fleet, PERIOD, RIGHT_DAY};
use crate::keys::NumberedKey;
use crate::network::{CALM, FAIR, FOUL};
use crate::offer::hops::DeadEnd;
use lb_common::Reason;
use lb_common::choose::Liveness;
use lb_common::siphash::SipKey;
use std::time::Duration;

impl Fleet {
    fn pass(&mut self, time: Duration) {
        self.run(self.now + time);
    }

    /// What one machine thinks of another.
    fn view(&self, of: u16, by: u16) -> Option<(Liveness, u32)> {
        let machine = &self.machines[usize::from(by) - 1];
        let row = machine
            .life
            .as_ref()?
            .map
            .row(machine.local(self.now), of)?;
        row.last.map(|(beacon, _)| (row.liveness, beacon.epoch))
    }

    /// Everybody's map says of everybody what is so.
    fn check_maps(&self) {
        let seed = self.seed;
        for by in self.ids().filter(|id| self.is_alive(*id)) {
            for of in self.ids() {
                let life = self.machines[usize::from(of) - 1].life.as_ref();
                let view = self.view(of, by);
                let Some(life) = life else {
                    let is_gone = view.is_none_or(|(liveness, _)| liveness == Liveness::Down);
                    assert!(
                        is_gone,
                        "seed {seed}: {by} sees {of}, which is dead: {view:?}"
                    );
                    continue;
                };
                let (epoch, _) = life.sender.next_stamp();
                assert_eq!(
                    view,
                    Some((Liveness::Up, epoch)),
                    "seed {seed}: {of} by {by}"
                );
            }
        }
    }

    /// One thing happens to somebody.
    fn befall(&mut self) {
        let id = 1 + self.random.below(self.machines.len() as u64) as u16;
        match self.random.below(10) {
            0 | 1 if self.is_alive(id) => self.kill(id),
            0 | 1 => self.boot(id),
            2 => {
                // A reboot with the disk lost, and the clock too.
                self.kill(id);
                self.machine(id).disk = None;
                self.machine(id).day = Duration::ZERO;
                self.boot(id);
            }
            3 | 4 => {
                let long = Duration::from_millis(100 + self.random.below(3000));
                self.stall(id, self.now + long);
            }
            5 => {
                let wrong = Duration::from_secs(self.random.below(2_000_000_000));
                let is_wrong = self.random.below(2) == 0;
                self.machine(id).day = if is_wrong { wrong } else { RIGHT_DAY };
            }
            6 => {
                for id in self.ids() {
                    let side = self.random.below(2) as u8;
                    self.machine(id).side = side;
                }
            }
            7 => self.heal(),
            8 => {
                self.weather = if self.random.below(2) == 0 {
                    FOUL
                } else {
                    FAIR
                }
            }
            _ => self.replay(200),
        }
    }

    fn heal(&mut self) {
        for id in self.ids() {
            self.machine(id).side = 0;
        }
    }

    /// Misfortunes one after another while calls come, then peace.
    fn suffer(&mut self, misfortunes: u32, peace: Duration) {
        for _ in 0..misfortunes {
            let span = Duration::from_millis(50 + self.random.below(700));
            let nodes = self.machines.len() as u64;
            self.offer_calls(nodes + 2, self.now + span);
            self.befall();
            self.pass(span);
        }
        self.heal();
        self.weather = FAIR;
        self.pass(peace);
    }
}

/// Loss, duplicates, overtaking, partitions, stalls, clocks that jump, reboots with and without an
/// epoch, an attacker who plays back what he heard: at every step, no call goes round, no slot is sold
/// twice, who is known to have room is found, and no beacon of an earlier life is taken. Afterwards
/// all maps agree with what is so.
#[test]
fn a_fleet_survives_whatever_befalls_it() {
    let (mut redirected, mut refused, mut raised) = (0, 0, 0);
    for seed in 0..30 {
        let machines = 3 + (seed % 8) as u16;
        let mut fleet = Fleet::new(machines, 6, FAIR, seed);
        fleet.calls.is_direct = seed % 3 == 0;
        fleet.calls.drops_one_in = [0, 4][(seed % 6 / 3) as usize];
        fleet.pass(PERIOD * 10);
        fleet.suffer(60, Duration::from_secs(20));
        fleet.check_maps();
        redirected += fleet.calls.redirected;
        refused += fleet.calls.refused.values().sum::<u64>();
        raised += fleet.raised;
    }
    // It was no idyll.
    let shown = format!("{redirected} redirected, {refused} refused, {raised} epochs raised");
    assert!(
        redirected > 1000 && refused > 1000 && raised > 24,
        "{shown}"
    );
}

#[test]
fn two_hundred_nodes_converge_after_a_partition() {
    let mut fleet = Fleet::new(200, 4, FAIR, 1);
    fleet.pass(PERIOD * 5);
    for id in fleet.ids() {
        fleet.machine(id).side = u8::from(id > 120);
    }
    fleet.kill(7);
    fleet.offer_calls(2000, fleet.now + PERIOD * 12);
    fleet.pass(PERIOD * 12);
    fleet.heal();
    fleet.pass(PERIOD * 6);
    fleet.check_maps();
    assert!(fleet.calls.redirected > 100, "{}", fleet.calls.redirected);
}

/// Nobody who is there is `Down` for anybody because a receiver stalled, or for one in a hundred lost.
#[test]
fn stalls_bring_nobody_down() {
    for seed in 0..6 {
        let mut fleet = Fleet::new(5, 4, FAIR, seed);
        fleet.pass(PERIOD * 10);
        for round in 0..200u64 {
            let id = 1 + (round % 5) as u16;
            let long = Duration::from_millis(50 + fleet.random.below(800));
            fleet.stall(id, fleet.now + long);
            for _ in 0..20 {
                fleet.pass(PERIOD / 2);
                for by in fleet.ids() {
                    for of in fleet.ids().filter(|of| *of != id && *of != by) {
                        let view = fleet.view(of, by);
                        let is_down = view.is_none_or(|(liveness, _)| liveness == Liveness::Down);
                        assert!(
                            !is_down,
                            "seed {seed}, round {round}: {of} by {by}: {view:?}"
                        );
                    }
                }
            }
        }
    }
}

/// A node that lost its epoch, with a clock of 1970, is taken again within two periods by everybody;
/// what it sent in its old life never is, which [`Fleet::run`] looks after.
#[test]
fn a_lost_epoch_is_accepted_again_within_two_periods() {
    for seed in 0..30 {
        // The clock says 1970, and a little more with each life: it is of no help.
        let mut fleet = Fleet::new(5, 4, CALM, seed);
        fleet.pass(PERIOD * 20);
        let victim = 1 + (seed % 5) as u16;
        for _ in 0..3 {
            fleet.kill(victim);
            fleet.machine(victim).disk = None;
            fleet.machine(victim).day = Duration::ZERO;
            fleet.pass(PERIOD * 5);
            fleet.boot(victim);
            fleet.replay(500);
            fleet.pass(PERIOD * 2);
            let epoch = fleet.machine(victim).disk;
            for by in fleet.ids() {
                let seen = fleet.view(victim, by).map(|(_, epoch)| epoch);
                assert_eq!(seen, epoch, "seed {seed}: {victim} by {by}");
            }
            fleet.replay(500);
            fleet.pass(PERIOD * 20);
            fleet.check_maps();
        }
        assert!(fleet.raised >= 3, "seed {seed}: {} were lost", fleet.raised);
    }
}

/// Append everywhere, move to the top everywhere, remove everywhere, each machine when it pleases: no
/// beacon is refused for its key.
#[test]
fn keys_change_without_a_miss() {
    for seed in 0..10 {
        let mut fleet = Fleet::new(6, 20, FAIR, seed);
        fleet.pass(PERIOD * 10);
        for generation in 2..6u8 {
            let fresh = NumberedKey {
                id: generation,
                key: SipKey {
                    k0: generation.into(),
                    k1: seed,
                },
            };
            let steps: [fn(&mut Vec<NumberedKey>, NumberedKey); 3] = [
                |keys, fresh| keys.push(fresh),
                |keys, _| keys.rotate_right(1),
                |keys, _| keys.truncate(1),
            ];
            for step in steps {
                for id in fleet.ids() {
                    let wait = Duration::from_millis(fleet.random.below(200));
                    fleet.offer_calls(20, fleet.now + PERIOD);
                    fleet.pass(wait);
                    let machine = fleet.machine(id);
                    step(&mut machine.keys, fresh);
                    let keys = machine.keys.clone();
                    let life = machine.life.as_mut().expect("all live");
                    life.sender.set_key(keys[0]);
                    life.map.set_keys(keys);
                }
                fleet.pass(PERIOD);
            }
        }
        fleet.check_maps();
        let words: Vec<&str> = fleet.refused.keys().copied().collect();
        assert_eq!(words, [Reason::BeaconReplayed.name()], "seed {seed}");
        assert_eq!(
            fleet.calls.refused.get(&DeadEnd::Ticket),
            None,
            "seed {seed}"
        );
    }
}

/// All are full: each call ends by a 503 after three redirects at most, and when one has room again it
/// is found.
#[test]
fn when_all_are_busy_every_call_ends() {
    for (seed, is_direct) in [(1, false), (2, true)] {
        let mut fleet = Fleet::new(8, 1, CALM, seed);
        fleet.calls.is_direct = is_direct;
        fleet.pass(PERIOD * 10);
        fleet.offer_calls(10_000, fleet.now + Duration::from_secs(5));
        fleet.pass(Duration::from_secs(6));
        let calls = &fleet.calls;
        let ended = calls.accepted + calls.refused.values().sum::<u64>();
        assert_eq!(ended, 10_000, "seed {seed}: {:?}", calls.refused);
        assert!(calls.accepted >= 8 * 2, "{}", calls.accepted);
        fleet.pass(Duration::from_secs(4));
        let before = fleet.calls.accepted;
        for _ in 0..8 {
            fleet.offer_calls(1, fleet.now + PERIOD);
            fleet.pass(PERIOD * 2);
        }
        assert_eq!(fleet.calls.accepted - before, 8, "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    let history = |seed| {
        let mut fleet = Fleet::new(5, 3, FAIR, seed);
        fleet.suffer(20, PERIOD);
        (fleet.calls.accepted, fleet.calls.refused, fleet.refused)
    };
    assert_eq!(history(3), history(3));
    assert_ne!(history(3), history(4));
}
