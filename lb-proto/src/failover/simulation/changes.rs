//! Nodes that are added and removed, several at a time.

use super::machine::Setting;
use super::seeds::seeds;
use super::world::{Note, World, controller_id};
use crate::failover::controller::{Controller, Electors, LONGEST_WAIT, Stage};
use crate::failover::fixtures::ms;
use crate::network::{CALM, Cuts, FAIR, FOUL, ROUGH};
use std::time::Duration;

/// Lives that are tried.
const SEEDS: u64 = 3_000;

impl World {
    /// A newer version comes to a controller's file, which names these nodes.
    fn rename(&mut self, host: usize, nodes: Vec<usize>) {
        let newest = self.hosts.iter().map(|host| host.version).max();
        let version = newest.unwrap_or(1) + 1;
        self.named.insert(version, nodes);
        if self.is_alive(host) {
            self.take_version(host, version);
        } else {
            self.hosts[host].version = version;
        }
    }

    /// A controller that does not run takes nothing.
    fn take_version(&mut self, host: usize, version: u64) {
        if self.is_alive(host) && !self.hosts[host].is_frozen() {
            self.hosts[host].version = version;
            self.reconfigure(host);
        }
    }

    /// Lets time pass, and has newer configurations fetched that controllers ask for.
    fn pass_and_fetch(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.pass(ms(5).min(end - self.now));
            for (_, host, note) in std::mem::take(&mut self.notes) {
                if let Note::Fetch(version) = note
                    && version > self.hosts[host].version
                {
                    self.take_version(host, version);
                }
            }
        }
    }

    fn stage(&self, host: usize) -> Stage {
        let view = |controller: &Controller| controller.view(self.local(host)).nodes_change;
        self.controller(host).map_or(Stage::Settled, view)
    }

    /// All controllers are at this stage.
    #[track_caller]
    fn expect_stage(&self, stage: Stage) {
        for host in self.controllers() {
            assert_eq!(self.stage(host), stage, "seed {}, host {host}", self.seed);
        }
    }

    /// Some of the nodes, one at least.
    fn some_nodes(&mut self) -> Vec<usize> {
        let all: Vec<usize> = self.nodes().collect();
        let chosen = 1 + self.random.below((1 << all.len()) - 1);
        let is_chosen = |place: &usize| chosen >> place & 1 != 0;
        (0..all.len())
            .filter(is_chosen)
            .map(|place| all[place])
            .collect()
    }

    /// A controller is killed and starts again, with another file if so.
    fn restart_with(&mut self, host: usize, nodes: Option<Vec<usize>>) {
        self.kill(host);
        if let Some(nodes) = nodes {
            self.rename(host, nodes);
        }
        self.boot(host);
    }

    fn misfortune(&mut self) {
        let controller = self.random.below(self.setting.controllers as u64) as usize;
        let any = self.random.below(self.hosts.len() as u64) as usize;
        let lease = self.setting.timing.lease();
        match self.random.below(15) {
            0..=3 => {
                let nodes = self.some_nodes();
                self.rename(controller, nodes);
            }
            4 => {
                let long = self.random_time(lease * 3);
                self.freeze(controller, self.now + long);
            }
            5 | 6 => {
                let sides = self.random.next() as u32;
                self.cuts = Cuts::sides(self.hosts.len(), sides);
            }
            7 => {
                for _ in 0..1 + self.random.below(6) {
                    let from = self.random.below(self.hosts.len() as u64) as usize;
                    self.cuts.set(from, any, true);
                }
            }
            8 => self.cuts = Cuts::default(),
            9 => self.weather = [CALM, FAIR, ROUGH, FOUL][self.random.below(4) as usize],
            10 | 11 => {
                let is_edited = self.random.below(2) == 0;
                let nodes = is_edited.then(|| self.some_nodes());
                self.restart_with(controller, nodes);
            }
            12 => {
                for host in self.controllers() {
                    self.kill(host);
                }
                for host in self.controllers() {
                    self.boot(host);
                }
            }
            _ => {
                let node = self.setting.controllers as u64;
                let nodes = self.hosts.len() as u64 - node;
                let node = (node + self.random.below(nodes)) as usize;
                self.kill(node);
                self.boot(node);
            }
        }
    }
}

fn world(controllers: usize, nodes: usize, seed: u64) -> World {
    let setting = Setting {
        controllers,
        ..Setting::new(nodes)
    };
    let mut world = World::new(setting, FAIR, seed);
    world.takes_notes = true;
    world
}

/// Whatever sets of nodes follow each other, on whichever controller, and whatever happens meanwhile:
/// never two mains, which the invariants look at; and one in the end.
#[test]
fn never_two_mains_whatever_nodes_change() {
    let mut changes = 0;
    let seeds = seeds(SEEDS);
    for seed in seeds.clone() {
        // One in eight has three controllers.
        let controllers = 2 + usize::from(seed.is_multiple_of(8));
        let mut world = world(controllers, 2 + seed as usize % 7, seed);
        // Slow at times, so that a machine dies with something unwritten.
        world.setting.disk = ms([3, 30][seed as usize / 8 % 2]);
        world.settle(ms(10_000));
        for _ in 0..4 + world.random.below(8) {
            world.misfortune();
            let span = world.random_time(world.setting.timing.lease() * 2);
            world.pass_and_fetch(span);
        }
        changes += world.named.len();
        world.heal();
        world.pass_and_fetch(ms(1_000));
        world.settle(ms(5_000));
        // The last word of it may be on its way, or be lost and said again.
        world.pass(ms(100));
        world.expect_stage(Stage::Settled);
    }
    // Nodes did change, about twice in a life.
    let lives = seeds.end - seeds.start;
    assert!(lives == 1 || changes as u64 > lives * 2, "{changes}");
}

/// Five nodes are added to three before one of them runs: the main stays the main by the three that
/// there are. When they run, all eight decide; and when but two of them are left, those.
#[test]
fn a_main_outlives_a_change_of_most_of_its_nodes() {
    for seed in 0..100 {
        let (mut world, main, nodes) = joining(seed);
        world.rename(main, nodes.clone());
        world.pass_and_fetch(ms(500));
        let other = 1 - main;
        for host in [main, other] {
            assert_eq!(world.hosts[host].version, 2, "seed {seed}");
            assert_eq!(world.stage(host), Stage::Joining, "seed {seed}");
        }
        for node in &nodes[3..] {
            world.boot(*node);
        }
        // Nodes without a disk grant nothing for the longest lease.
        world.pass_and_fetch(ms(1_000));
        for host in world.controllers() {
            assert_eq!(world.stage(host), Stage::Settled, "seed {seed}");
            assert_eq!(world.hosts[host].version, 2, "seed {seed}");
        }
        world.rename(other, nodes[6..].to_vec());
        world.pass_and_fetch(ms(500));
        for host in world.controllers() {
            assert_eq!(world.stage(host), Stage::Settled, "seed {seed}");
            assert_eq!(world.hosts[host].version, 3, "seed {seed}");
        }
        for node in &nodes[..6] {
            world.kill(*node);
        }
        world.pass_and_fetch(ms(500));
        assert_eq!(world.reigning(), Some(main), "seed {seed}");
    }
}

/// A main by the first three of so many nodes; those are all that the configuration names.
fn by_three(nodes: usize, seed: u64) -> (World, usize, Vec<usize>) {
    let mut world = world(2, nodes, seed);
    let nodes: Vec<usize> = world.nodes().collect();
    world.named.insert(1, nodes[..3].to_vec());
    for host in world.controllers() {
        world.reconfigure(host);
    }
    let (main, _) = world.settle(ms(10_000));
    (world, main, nodes)
}

/// Five of eight nodes, which do not run, and a main by the three others.
fn joining(seed: u64) -> (World, usize, Vec<usize>) {
    let (mut world, main, nodes) = by_three(8, seed);
    world.pass_and_fetch(ms(200));
    for node in &nodes[3..] {
        world.kill(*node);
    }
    world.watcher.expect(Some(main));
    (world, main, nodes)
}

/// However long nodes are waited for, from the moment at which they have granted the other controller has
/// its minute.
#[test]
fn a_long_wait_for_nodes_does_not_shorten_that_for_the_other_controller() {
    let (mut world, main, nodes) = joining(1);
    world.weather = CALM;
    world.rename(main, nodes.clone());
    world.pass_and_fetch(LONGEST_WAIT * 2);
    assert_eq!(world.stage(main), Stage::Joining);
    world.freeze(1 - main, world.now + ms(2_000));
    for node in &nodes[3..] {
        world.boot(*node);
    }
    world.pass_and_fetch(ms(1_500));
    assert_eq!(world.stage(main), Stage::Both);
    world.pass_and_fetch(ms(1_500));
    assert_eq!(world.stage(main), Stage::Settled);
}

/// A stand-by that starts with the newer file, or starts again while nodes are waited for, makes nobody
/// believe that they have granted.
#[test]
fn a_stand_by_that_starts_deposes_nobody() {
    for seed in 0..50 {
        let (mut world, main, nodes) = joining(seed);
        let other = 1 - main;
        world.kill(other);
        world.named.insert(2, nodes.clone());
        world.hosts[other].version = 2;
        world.boot(other);
        world.pass_and_fetch(ms(500));
        assert_eq!(world.hosts[main].version, 2, "seed {seed}");
        assert_eq!(world.stage(main), Stage::Joining, "seed {seed}");
        world.kill(other);
        world.boot(other);
        world.pass_and_fetch(ms(500));
        assert_eq!(world.stage(main), Stage::Joining, "seed {seed}");
        for node in &nodes[3..] {
            world.boot(*node);
        }
        world.pass_and_fetch(ms(1_000));
        world.expect_stage(Stage::Settled);
    }
}

/// More than half of the nodes burn, and the operator names others: nobody can be main by those before, so
/// after a minute the present ones decide.
#[test]
fn nodes_that_are_gone_are_not_waited_for_for_ever() {
    let (mut world, main, nodes) = by_three(5, 1);
    world.kill(nodes[1]);
    world.kill(nodes[2]);
    world.pass(ms(500));
    assert_eq!(world.reigning(), None);
    world.rename(main, vec![nodes[0], nodes[3], nodes[4]]);
    world.pass_and_fetch(LONGEST_WAIT / 2);
    assert_eq!(world.reigning(), None);
    world.pass_and_fetch(LONGEST_WAIT);
    assert!(world.reigning().is_some());
    world.expect_stage(Stage::Settled);
}

/// While the other controller is dead, the nodes before are needed as well, for a minute.
#[test]
fn the_dead_are_waited_for_a_minute() {
    let mut world = world(2, 4, 1);
    let nodes: Vec<usize> = world.nodes().collect();
    world.weather = CALM;
    let (main, _) = world.settle(ms(10_000));
    world.kill(1 - main);
    world.watcher.expect(Some(main));
    world.rename(main, nodes[..2].to_vec());
    world.pass(ms(200));
    assert_eq!(world.stage(main), Stage::Both);
    // Both of the two, and one more of the four.
    world.kill(nodes[3]);
    world.pass(LONGEST_WAIT / 2);
    assert_eq!(world.stage(main), Stage::Both);
    world.pass(LONGEST_WAIT);
    assert_eq!(world.stage(main), Stage::Settled);
    world.kill(nodes[2]);
    world.pass(ms(500));
    let id = controller_id(main);
    let obeys = |host: &usize| {
        let witness = world.witness(*host).expect("alive");
        witness
            .accepted(world.local(*host))
            .map(|(_, holder)| holder)
            == Some(id)
    };
    assert!(nodes[..2].iter().all(obeys));
}

/// A controller that is heard, and does not take the newer configuration, is waited for as long as it lives.
#[test]
fn the_living_are_waited_for() {
    let mut world = world(2, 4, 1);
    let nodes: Vec<usize> = world.nodes().collect();
    world.weather = CALM;
    let (main, _) = world.settle(ms(10_000));
    world.watcher.expect(Some(main));
    world.rename(main, nodes[..2].to_vec());
    world.pass(LONGEST_WAIT * 2);
    assert_eq!(world.stage(main), Stage::Both);
    world.kill(1 - main);
    world.pass(LONGEST_WAIT * 2);
    assert_eq!(world.stage(main), Stage::Settled);
}

/// Both controllers' files name other nodes at once: each asks those before until it hears of the other.
#[test]
fn a_stand_by_that_knows_first_waits_for_the_main() {
    let mut world = world(2, 6, 1);
    let nodes: Vec<usize> = world.nodes().collect();
    let (main, _) = world.settle(ms(10_000));
    world.pass_and_fetch(ms(200));
    let other = 1 - main;
    world.watcher.expect(Some(main));
    world.rename(other, nodes[..2].to_vec());
    assert_eq!(world.stage(other), Stage::Joining);
    let version = world.hosts[other].version;
    world.take_version(main, version);
    world.pass_and_fetch(ms(300));
    world.expect_stage(Stage::Settled);
}

/// That the present nodes count is told when it is on the disk: until then the other controller goes by
/// those before. Else one that dies there would start again by those alone, and the other by the present.
#[test]
fn nobody_is_told_what_is_not_on_the_disk() {
    let mut world = world(2, 6, 1);
    let nodes: Vec<usize> = world.nodes().collect();
    world.weather = CALM;
    let (main, _) = world.settle(ms(10_000));
    world.pass_and_fetch(ms(200));
    world.watcher.expect(Some(main));
    let prompt = std::mem::replace(&mut world.setting.disk, LONGEST_WAIT * 1_000);
    world.rename(main, nodes[..2].to_vec());
    world.setting.disk = prompt;
    world.pass_and_fetch(ms(1_000));
    assert_eq!(world.stage(main), Stage::Both);
    assert_eq!(world.stage(1 - main), Stage::Joining);
    // It dies, and starts again where the disk says that it was.
    world.restart_with(main, None);
    world.watcher.expect(None);
    world.settle(ms(5_000));
    world.pass_and_fetch(ms(500));
    world.expect_stage(Stage::Settled);
}

/// A file that is edited while its controller does not run is a change of the nodes like any other.
#[test]
fn a_start_knows_the_nodes_before() {
    let (mut world, main, nodes) = joining(2);
    world.restart_with(1 - main, Some(nodes.clone()));
    world.pass_and_fetch(ms(500));
    world.expect_stage(Stage::Joining);
    world.restart_with(1 - main, None);
    assert_eq!(world.stage(1 - main), Stage::Joining);
}

/// Both controllers die while both sets of nodes are needed, and most of those before are gone when they start
/// again: each has it on the disk that the present ones have granted, so they leave those before.
#[test]
fn controllers_that_start_again_leave_nodes_that_are_gone() {
    let mut world = world(2, 6, 1);
    let nodes: Vec<usize> = world.nodes().collect();
    world.settle(ms(10_000));
    let all = world.config(0).members.nodes;
    world.named.insert(2, nodes[..2].to_vec());
    for host in world.controllers() {
        world.kill(host);
        world.hosts[host].version = 2;
        world.hosts[host].disk.electors = Some(Electors {
            former: vec![all.clone()],
            present: world.config(host).members.nodes,
            is_joining: false,
        });
    }
    for node in &nodes[2..] {
        world.kill(*node);
    }
    for host in world.controllers() {
        world.boot(host);
        assert_eq!(world.stage(host), Stage::Both, "host {host}");
    }
    world.settle(ms(5_000));
    world.expect_stage(Stage::Settled);
}
