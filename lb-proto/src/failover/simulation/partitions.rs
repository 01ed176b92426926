//! Every two-colouring of five nodes, one-way cuts, links that flap.

use super::machine::Setting;
use super::world::World;
use crate::failover::fixtures::ms;
use crate::network::{CALM, Cuts, FAIR};
use std::time::Duration;

const NODES: usize = 5;
const HEALED: Duration = ms(5_000);

impl World {
    /// A settled cluster of five nodes, and who is main.
    fn at_peace(seed: u64) -> (Self, usize) {
        let mut world = Self::new(Setting::new(NODES), FAIR, seed);
        let (main, _) = world.settle(ms(10_000));
        (world, main)
    }

    /// Who reigns.
    pub(super) fn reigning(&self) -> Option<usize> {
        self.controllers().find(|host| {
            let controller = self.controller(*host);
            controller.is_some_and(|controller| controller.reigns(self.local(*host)).is_some())
        })
    }
}

/// The two controllers and the five nodes on two sides, in every way: whoever is with three nodes is
/// main, the old one without a moment's break if it is there; on the other side there is none. Healed,
/// there is one within five seconds.
#[test]
fn every_two_colouring() {
    for sides in 0..1 << (NODES + 2) {
        let (mut world, main) = World::at_peace(u64::from(sides));
        let other = 1 - main;
        let side_of = |host: usize| sides >> host & 1;
        let nodes_with = |host| {
            let side = side_of(host);
            world.nodes().filter(|node| side_of(*node) == side).count()
        };
        let expected = if nodes_with(main) > NODES / 2 {
            Some(main)
        } else {
            Some(other).filter(|other| nodes_with(*other) > NODES / 2)
        };
        world.cuts = Cuts::sides(NODES + 2, sides);
        world.watcher.expect(if expected == Some(main) {
            expected
        } else {
            None
        });
        world.pass(ms(1_000));
        assert_eq!(
            world.reigning(),
            expected,
            "colouring {sides:07b}, main {main}"
        );
        world.watcher.expect(None);
        world.cuts = Cuts::default();
        world.settle(HEALED);
    }
}

/// One or two links that carry nothing in one direction: the main stays the main, since there are
/// other ways to hear it, and other nodes.
#[test]
fn one_way_cuts_are_no_loss() {
    let hosts = NODES + 2;
    let links: Vec<(usize, usize)> = (0..hosts)
        .flat_map(|from| (0..hosts).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .collect();
    for (first, one) in links.iter().enumerate() {
        for two in &links[first..] {
            let (mut world, main) = World::at_peace(first as u64);
            world.cuts.set(one.0, one.1, true);
            world.cuts.set(two.0, two.1, true);
            world.watcher.expect(Some(main));
            world.pass(ms(400));
            world.watcher.expect(None);
            world.cuts = Cuts::default();
            let (after, _) = world.settle(HEALED);
            assert_eq!(after, main, "{one:?} and {two:?} are cut");
        }
    }
}

/// A main that nobody hears, and one that hears nobody, is none for long: the other is.
#[test]
fn a_main_that_is_deaf_or_dumb_is_replaced() {
    for is_deaf in [false, true] {
        for seed in 0..50 {
            let (mut world, main) = World::at_peace(seed);
            for other in 0..world.hosts.len() {
                let (from, to) = if is_deaf {
                    (other, main)
                } else {
                    (main, other)
                };
                world.cuts.set(from, to, true);
            }
            world.pass(ms(500));
            assert_eq!(
                world.reigning(),
                Some(1 - main),
                "seed {seed}, deaf: {is_deaf}"
            );
            world.cuts = Cuts::default();
            let (after, _) = world.settle(HEALED);
            assert_eq!(after, 1 - main, "seed {seed}: the old one is the stand-by");
        }
    }
}

/// Any cuts at all: nothing but what must never be.
#[test]
fn any_cuts() {
    for seed in 0..300 {
        let (mut world, _) = World::at_peace(seed);
        for _ in 0..4 {
            world.cuts = Cuts::default();
            for _ in 0..world.random.below(30) {
                let from = world.random.below(7) as usize;
                let to = world.random.below(7) as usize;
                world.cuts.set(from, to, true);
            }
            let time = world.random_time(ms(400));
            world.pass(time);
        }
        world.cuts = Cuts::default();
        world.settle(HEALED);
    }
}

/// The main's cable, or everybody's to one controller, is loose: on and off, faster and slower.
#[test]
fn links_that_flap() {
    for period in [3, 7, 20, 45, 60, 80, 110, 150, 250, 600] {
        for seed in 0..6 {
            let (mut world, main) = World::at_peace(seed);
            world.weather = CALM;
            let mut is_cut = false;
            for _ in 0..3_000 / period {
                is_cut = !is_cut;
                for other in 0..world.hosts.len() {
                    world.cuts.set(main, other, is_cut);
                    world.cuts.set(other, main, is_cut && seed % 2 == 0);
                }
                world.pass(ms(period));
            }
            world.cuts = Cuts::default();
            world.settle(HEALED);
        }
    }
}
