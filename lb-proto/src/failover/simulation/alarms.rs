//! A million periods without a false alarm.

use super::machine::Setting;
use super::world::{Note, World};
use crate::failover::controller::Event;
use crate::failover::fixtures::ms;
use crate::network::{FAIR, ROUGH};
use std::time::Duration;

/// At one datagram lost in a hundred and 20 ms of jitter, with keep-alives every 20 ms: nobody takes
/// over in a million periods.
#[test]
fn a_million_periods_without_a_takeover() {
    const RUNS: u64 = 8;
    const PERIODS: u64 = 1_000_000 / RUNS;
    let run = |seed| {
        let setting = Setting::new([1, 2, 3, 3, 3, 3, 5, 5][seed as usize]);
        let interval = setting.timing.interval();
        let mut world = World::new(setting, ROUGH, seed);
        let (main, _) = world.settle(ms(10_000));
        world.watcher.expect(Some(main));
        world.pass(interval * PERIODS as u32);
        assert_eq!(world.watcher.reigns_begun, 1, "seed {seed}");
        let standby = world.controller(1 - main).expect("all live");
        let counts = standby.view(world.local(1 - main)).counts;
        (counts.missed, counts.candidacies)
    };
    let next = std::sync::atomic::AtomicU64::new(0);
    let work = || {
        let mut found = (0, 0);
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if seed >= RUNS {
                return found;
            }
            let (missed, candidacies) = run(seed);
            found = (found.0 + missed, found.1 + candidacies);
        }
    };
    let (missed, candidacies) = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let own = work();
        let other = other.join().expect("it has said why");
        (own.0 + other.0, own.1 + other.1)
    });
    println!("1,000,000 periods: {missed} times missed, {candidacies} candidacies, 0 takeovers");
    assert_eq!(candidacies, 0);
}

/// The stand-by does not run for two seconds and less, over and over, and what comes meanwhile waits
/// in its socket, or is lost: nobody takes over.
#[test]
fn a_stalled_stand_by_takes_over_nothing() {
    for seed in 0..60 {
        let mut world = World::new(Setting::new(1 + seed as usize % 9), FAIR, seed);
        let (main, _) = world.settle(ms(10_000));
        world.takes_notes = true;
        world.watcher.expect(Some(main));
        for round in 0..8 {
            let long = if round == 0 {
                ms(2_000)
            } else {
                world.random_time(ms(2_000))
            };
            let wakes = world.now + long;
            world.freeze(1 - main, wakes);
            if round % 2 == 1 {
                world.run(wakes - Duration::from_nanos(1));
                world.forget_inbox(1 - main);
            }
            world.run(wakes + ms(200));
        }
        assert_eq!(world.watcher.reigns_begun, 1, "seed {seed}");
        // It does not even ask.
        let is_doubt = |note: &Note| {
            matches!(
                note,
                Note::Of(Event::Missed { .. } | Event::Candidate { .. })
            )
        };
        let doubts = world.notes.iter().filter(|(_, _, note)| is_doubt(note));
        assert_eq!(doubts.count(), 0, "seed {seed}");
    }
}
