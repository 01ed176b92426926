//! Mains that are half dead, restarts in mid-takeover, and how fast a loss is noticed.

use super::machine::Setting;
use super::world::{Note, World, controller_id};
use crate::failover::Timing;
use crate::failover::controller::Event;
use crate::failover::fixtures::ms;
use crate::failover::wire::Reason;
use crate::failover::witness;
use crate::network::{CALM, FAIR, ROUGH, Weather};
use std::time::Duration;

const HEALED: Duration = ms(5_000);

fn at_peace(setting: Setting, weather: Weather, seed: u64) -> (World, usize) {
    let mut world = World::new(setting, weather, seed);
    let (main, _) = world.settle(ms(20_000));
    world.takes_notes = true;
    (world, main)
}

/// A main that is frozen while all others go on, and then wakes: before it does anything else, it
/// knows that it is main no longer, and it is the stand-by from then on. Briefly frozen, it stays main.
#[test]
fn a_frozen_main_wakes_as_the_stand_by() {
    for seed in 0..400 {
        let (mut world, main) = at_peace(Setting::new(1 + seed as usize % 9), CALM, seed);
        let long = ms(1 + seed * 5);
        let wakes = world.now + long;
        world.freeze(main, wakes);
        world.run(wakes + ms(30));
        let mut own = world.notes.iter().filter(|(_, host, _)| *host == main);
        let first = own.next().map(|(at, _, note)| (*at, *note));
        // The slowest clock's longest silence, and the fastest one's shortest lease.
        if long > ms(250) {
            assert_eq!(
                world.reigning(),
                Some(1 - main),
                "seed {seed}: frozen for {long:?}"
            );
            let (at, note) = first.expect("something has happened to it");
            assert!(at >= wakes, "seed {seed}");
            let is_over = matches!(note, Note::Deactivated(_));
            assert!(is_over, "seed {seed}: first of all {note:?}");
        } else if long < ms(50) {
            assert_eq!(
                world.reigning(),
                Some(main),
                "seed {seed}: frozen for {long:?}"
            );
        }
        let before = world.watcher.reigns_begun;
        let (after, _) = world.settle(HEALED);
        if long > ms(250) {
            assert_eq!(after, 1 - main, "seed {seed}");
            assert_eq!(world.watcher.reigns_begun, before, "seed {seed}");
        }
    }
}

/// The main dies, and while the stand-by takes over, at every moment, another machine is restarted,
/// with its disk or without.
#[test]
fn restarts_in_mid_takeover() {
    for moment in 0..60 {
        for victim in [0, 1, 2, 3, 6] {
            for is_wiped in [false, true] {
                let seed = moment * 100 + victim as u64 * 2 + u64::from(is_wiped);
                let (mut world, main) = at_peace(Setting::new(5), FAIR, seed);
                world.kill(main);
                let dead = world.now;
                // Nothing but silence happens before.
                world.run(dead + ms(50));
                let end = world.now + ms(400);
                for _ in 0..moment * 6 {
                    world.step(end);
                }
                if world.is_alive(victim) {
                    world.kill(victim);
                }
                if is_wiped {
                    world.wipe(victim);
                }
                let time = world.random_time(ms(60));
                world.pass(time);
                world.boot(victim);
                let time = world.random_time(ms(200));
                world.pass(time);
                for host in 0..world.hosts.len() {
                    if !world.is_alive(host) {
                        world.boot(host);
                    }
                }
                world.settle(HEALED);
            }
        }
    }
}

/// Times of many takeovers, sorted.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn show(&mut self, what: &str) -> Duration {
        self.0.sort_unstable();
        let at = |share: usize| self.0[(self.0.len() - 1) * share / 100];
        let (count, most) = (self.0.len(), at(100));
        println!(
            "{what}: median {:?}, 99 % {:?}, at most {most:?} (of {count})",
            at(50),
            at(99)
        );
        most
    }
}

/// From the main's death, at any moment between two keep-alives.
#[derive(Default)]
struct Takeovers {
    /// Until the stand-by had decided.
    decided: Times,
    /// Until it held the leases.
    reigned: Times,
    /// Until each node had noticed by itself.
    nodes: Times,
}

/// With clocks that drift. The steps that are told add up to what is seen from outside.
fn takeovers(interval: u64, weather: Weather, seeds: u64) -> Takeovers {
    let mut takeovers = Takeovers::default();
    for seed in 0..seeds {
        let setting = Setting {
            timing: Timing::new(ms(interval), 3, None).expect("within bounds"),
            ..Setting::new(1 + seed as usize % 9)
        };
        let (mut world, main) = at_peace(setting, weather, seed);
        let time = world.random_time(ms(interval * 3));
        world.pass(ms(interval * 10) + time);
        let (_, before) = world.settled().expect("at peace");
        world.notes.clear();
        world.kill(main);
        let dead = world.now;
        world.pass(ms(interval * 20));
        let mut noticed = 0;
        for (at, host, note) in &world.notes {
            match note {
                Note::Of(Event::Candidate { .. }) => takeovers.decided.0.push(*at - dead),
                Note::Activated(term, Reason::Loss, steps) => {
                    assert_eq!((*host, *term), (1 - main, before.next()), "seed {seed}");
                    takeovers.reigned.0.push(*at - dead);
                    // It is told by a clock that is off by a seventeenth, and from when the last
                    // keep-alive came, be it before the death or after.
                    let seen = *at - dead;
                    let (told, last) = (steps.total(), ms(interval) + weather.delay);
                    assert!(
                        told <= (seen + last) * 18 / 17,
                        "seed {seed}: {steps:?}, {seen:?}"
                    );
                    assert!(
                        told + weather.delay >= seen * 16 / 17,
                        "seed {seed}: {steps:?}, {seen:?}"
                    );
                }
                Note::OfNode(witness::Event::Missed { controller, .. })
                    if *controller == controller_id(main) =>
                {
                    noticed += 1;
                    takeovers.nodes.0.push(*at - dead);
                }
                _ => {}
            }
        }
        assert!(noticed >= world.setting.nodes, "seed {seed}");
        assert_eq!(takeovers.reigned.0.len() as u64, seed + 1, "seed {seed}");
    }
    takeovers
}

/// The decision is within misses × interval + 100 ms of the death, and so is the reign.
#[test]
fn a_loss_is_noticed_in_time() {
    for (name, weather) in [("fair", FAIR), ("rough", ROUGH)] {
        let Takeovers {
            mut decided,
            mut reigned,
            mut nodes,
        } = takeovers(20, weather, 1_000);
        let limit = ms(3 * 20 + 100);
        let most = decided.show(&format!("20 ms, {name} weather, decided"));
        assert!(most <= limit, "{most:?}");
        let most = reigned.show(&format!("20 ms, {name} weather, reigns"));
        // The decision is what is promised; leases run on while the weather delays the last renewal.
        assert!(most <= limit + weather.delay, "{most:?}");
        nodes.show(&format!("20 ms, {name} weather, nodes notice"));
    }
    let mut slow = takeovers(100, FAIR, 200);
    slow.decided.show("100 ms, fair weather, decided");
    slow.reigned.show("100 ms, fair weather, reigns");
    slow.nodes.show("100 ms, fair weather, nodes notice");
}
