//! Takeovers on request, switchback, configurations of different age.

use super::machine::Setting;
use super::world::{Note, World, controller_id};
use crate::failover::Term;
use crate::failover::controller::{Deactivation, Event, RequestError, Switchback};
use crate::failover::fixtures::ms;
use crate::failover::wire::{Reason, Report, Status};
use crate::network::{CALM, FAIR, FOUL};
use std::time::Duration;

fn at_peace(setting: Setting, seed: u64) -> (World, usize) {
    let mut world = World::new(setting, FAIR, seed);
    let (main, _) = world.settle(ms(10_000));
    world.pass(ms(200));
    world.takes_notes = true;
    (world, main)
}

impl World {
    fn when(&self, wanted: impl Fn(&Note) -> bool) -> Option<Duration> {
        let mut notes = self.notes.iter();
        notes
            .find(|(_, _, note)| wanted(note))
            .map(|(at, _, _)| *at)
    }
}

/// On request, of the main or of the stand-by, the stand-by is main within an interval or two, and the
/// data plane of the old one is passive before that of the new one is active, which the invariants
/// look at.
#[test]
fn failover_on_request() {
    let mut breaks = Vec::new();
    for seed in 0..200 {
        let (mut world, main) = at_peace(Setting::new(1 + seed as usize % 9), seed);
        let target = 1 - main;
        let asked = if seed % 2 == 0 { main } else { target };
        let result = world.with_controller(asked, |controller, now| {
            controller.fail_over(now, controller_id(target))
        });
        assert_eq!(result, Some(Ok(())));
        world.pass(ms(300));
        assert_eq!(world.reigning(), Some(target), "seed {seed}");
        let ended =
            world.when(|note| matches!(note, Note::Deactivated(Deactivation::Yielded { .. })));
        let began = world.when(|note| matches!(note, Note::Activated(_, Reason::Command, _)));
        let (ended, began) = (ended.expect("it yielded"), began.expect("it took over"));
        breaks.push(began - ended);
        // And back.
        let result = world.with_controller(target, |controller, now| controller.resume(now));
        let expected = if main == 0 {
            Ok(())
        } else {
            Err(RequestError::AlreadyMain)
        };
        assert_eq!(result, Some(expected));
        let (after, _) = world.settle(ms(1_000));
        assert_eq!(after, 0, "seed {seed}");
    }
    breaks.sort_unstable();
    let (median, most) = (breaks[100], breaks[199]);
    println!("on request, nobody reigns for {median:?} (median), {most:?} at most");
    assert!(most < ms(160), "{most:?}");
}

/// Whatever is lost on the way, somebody reigns in the end.
#[test]
fn failover_on_request_in_foul_weather() {
    for seed in 0..300 {
        let (mut world, main) = at_peace(Setting::new(3), seed);
        world.weather = FOUL;
        world.with_controller(main, |controller, now| {
            let _ = controller.fail_over(now, controller_id(1 - main));
        });
        world.pass(ms(300));
        world.weather = FAIR;
        world.settle(ms(5_000));
    }
}

/// Who was to take over dies with the wish: the old main is main again, soon.
#[test]
fn a_successor_that_is_dead_does_not_leave_it_vacant() {
    for seed in 0..50 {
        let (mut world, main) = at_peace(Setting::new(5), seed);
        let result = world.with_controller(main, |controller, now| {
            controller.fail_over(now, controller_id(1 - main))
        });
        assert_eq!(result, Some(Ok(())));
        world.kill(1 - main);
        world.pass(ms(100 * 2 + 300));
        assert_eq!(world.reigning(), Some(main), "seed {seed}");
        let failed = world.when(|note| matches!(note, Note::Of(Event::YieldFailed { .. })));
        assert!(failed.is_some(), "seed {seed}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let (mut world, main) = at_peace(Setting::new(3), 1);
    let own = controller_id(main);
    let nobody = controller_id(7);
    for (host, to, error) in [
        (main, own, RequestError::AlreadyMain),
        (main, nobody, RequestError::Unknown),
        (1 - main, own, RequestError::AlreadyMain),
        (1 - main, nobody, RequestError::Unknown),
    ] {
        let result = world.with_controller(host, |controller, now| controller.fail_over(now, to));
        assert_eq!(result, Some(Err(error)), "of {host} to {to}");
    }
    world.kill(1 - main);
    world.pass(ms(300));
    let other = controller_id(1 - main);
    let result = world.with_controller(main, |controller, now| controller.fail_over(now, other));
    assert_eq!(result, Some(Err(RequestError::Silent)));
    assert_eq!(world.reigning(), Some(main));
}

impl World {
    fn fares(&mut self, host: usize, status: Status) {
        let report = Report {
            status,
            ..Report::default()
        };
        self.with_controller(host, |controller, now| controller.set_report(now, report));
        self.poke(host);
    }
}

/// A main whose machine no switch reaches gives the reign to a stand-by that can serve, and to no other;
/// if that one becomes unfit as well while the first is not, back again. An operator cannot have an
/// unfit one.
#[test]
fn who_cannot_serve_hands_over() {
    for seed in 0..50 {
        let (mut world, main) = at_peace(Setting::new(1 + seed as usize % 9), seed);
        let other = 1 - main;
        world.fares(main, Status::Serving);
        world.fares(other, Status::Unfit);
        world.pass(ms(100));
        let result = world.with_controller(main, |controller, now| {
            controller.fail_over(now, controller_id(other))
        });
        assert_eq!(result, Some(Err(RequestError::Unfit)), "seed {seed}");
        world.watcher.expect(Some(main));
        world.fares(main, Status::Unfit);
        world.pass(ms(500));
        world.watcher.expect(None);
        world.fares(other, Status::StandBy);
        world.pass(ms(500));
        assert_eq!(world.reigning(), Some(other), "seed {seed}");
        let began = world.when(|note| matches!(note, Note::Activated(_, Reason::Unfit, _)));
        assert!(began.is_some(), "seed {seed}");
        // The first serves again, and then the other cannot.
        world.fares(main, Status::StandBy);
        world.pass(ms(100));
        world.fares(other, Status::Unfit);
        world.pass(ms(500));
        assert_eq!(world.reigning(), Some(main), "seed {seed}");
    }
}

/// The preferred one comes back: with `resume` it is main again once it has been well for a second,
/// with `stay` it is the stand-by.
#[test]
fn switchback() {
    for (switchback, expected) in [(Switchback::Resume, 0), (Switchback::Stay, 1)] {
        for seed in 0..30 {
            let setting = Setting {
                switchback,
                ..Setting::new(5)
            };
            let (mut world, main) = at_peace(setting, seed);
            assert_eq!(main, 0, "seed {seed}: the preferred one is first");
            world.kill(0);
            world.pass(ms(400));
            assert_eq!(world.reigning(), Some(1), "seed {seed}");
            world.boot(0);
            world.watcher.expect(Some(1));
            // A second by the fastest clock.
            world.pass(ms(930));
            world.watcher.expect(None);
            world.pass(ms(400));
            assert_eq!(world.reigning(), Some(expected), "seed {seed}");
            world.settle(ms(1_000));
        }
    }
}

/// A stand-by with an older configuration than the main had takes over nothing, says so, and has the
/// newer one fetched; once it has it, or is forced to, it does.
#[test]
fn an_older_configuration_does_not_reign() {
    for (seed, is_forced) in [(1, false), (2, true)] {
        let (mut world, main) = at_peace(Setting::new(3), seed);
        world.weather = CALM;
        world.hosts[main].version = 2;
        world.reconfigure(main);
        world.pass(ms(100));
        let target = 1 - main;
        let fetched = world.when(|note| matches!(note, Note::Fetch(2)));
        assert!(fetched.is_some());
        let result = world.with_controller(main, |controller, now| {
            controller.fail_over(now, controller_id(target))
        });
        assert_eq!(result, Some(Err(RequestError::OlderConfiguration)));
        world.kill(main);
        world.pass(ms(1_000));
        assert_eq!(world.reigning(), None);
        let said = world.when(|note| {
            matches!(
                note,
                Note::Of(Event::OlderConfiguration {
                    own: 1,
                    newer: 2,
                    ..
                })
            )
        });
        assert!(said.is_some());
        if is_forced {
            let mut config = world.config(target);
            config.force = true;
            world.with_controller(target, |controller, now| controller.configure(now, config));
        } else {
            world.hosts[target].version = 2;
            world.reconfigure(target);
        }
        world.pass(ms(400));
        assert_eq!(world.reigning(), Some(target));
    }
}

/// A term that somebody made up is outbid by the main, and by nobody else.
#[test]
fn an_invented_term_is_outbid() {
    for seed in 0..50 {
        let (mut world, main) = at_peace(Setting::new(1 + seed as usize % 9), seed);
        let invented = Term(1_000);
        for host in [1 - main, main] {
            world.with_controller(host, |controller, now| controller.outbid(now, invented));
        }
        world.watcher.expect(Some(main));
        world.pass(ms(300));
        let raised = world.with_controller(main, |controller, now| controller.reigns(now));
        assert_eq!(raised, Some(Some(invented.next())), "seed {seed}");
        world.settle(ms(1_000));
    }
}
