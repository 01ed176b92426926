//! A cold stand-by takes over: all calls are ended, on both sides, and new ones are served at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::dialogs::{Fate, Phase};

use crate::lab::lab;
use crate::scene::{PATIENCE, Scene};

const CALLS: usize = 1_000;
const RINGING: usize = 60;
const ROOM: u32 = 150;

#[test]
fn a_cold_takeover_ends_all_calls_properly() -> Result<()> {
    let lab = lab()?;
    let pair = Pair {
        mode: "cold",
        ..Pair::default()
    };
    let mut scene = Scene::start(&lab, pair, CALLS, ROOM)?;
    for number in 0..RINGING {
        scene.callers.call(format!("ring-{number}@switch"));
    }
    scene
        .callers
        .run_until("calls to ring", PATIENCE, |switch| {
            Ok(switch.calls()[CALLS..].iter().all(|call| call.has_rung))
        })?;
    scene.service.controller(1).kill()?;
    let begin = Instant::now();
    let ended = |phase| matches!(phase, Phase::HungUp | Phase::Refused(480));
    scene
        .callers
        .run_until("all calls to be ended", PATIENCE, |switch| {
            Ok(switch.calls().iter().all(|call| ended(call.phase)))
        })?;
    println!(
        "{CALLS} calls and {RINGING} that rang were ended {:?} after the loss",
        begin.elapsed()
    );
    ensure!(scene.callers.count(Phase::HungUp) == CALLS);
    ensure!(scene.callers.count(Phase::Refused(480)) == RINGING);
    let Scene {
        callers, callees, ..
    } = &mut scene;
    callers.run_until("SIP servers to be told", PATIENCE, |_| {
        Ok(
            callees.count_all(Fate::Ended) == CALLS
                && callees.count_all(Fate::Cancelled) == RINGING,
        )
    })?;
    let report = scene.service.wait_for_role(2, "main")?;
    println!("{}", report["last_switch"]);
    // There is nothing.
    scene.expect_list(2)?;
    ensure!(scene.service.cluster(2)?["rebuild"]["calls"] == 0);
    // New calls live in it.
    scene.callers.establish("after", 300, 50)?;
    scene.expect_list(2)?;
    let all = scene.callers.calls().len();
    for number in CALLS + RINGING..all {
        scene.callers.hang_up(number);
    }
    scene
        .callers
        .run_until("BYEs to be answered", PATIENCE, |switch| {
            Ok(switch.open_requests() == 0)
        })?;
    ensure!(scene.callers.count(Phase::Over) == 300);
    Ok(())
}

/// From the takeover on: none has to wait, and none is refused. One that began before its node was reset is
/// ended like the others.
#[test]
fn new_calls_are_served_at_once_by_a_cold_stand_by() -> Result<()> {
    let lab = lab()?;
    let pair = Pair {
        mode: "cold",
        ..Pair::default()
    };
    let mut scene = Scene::start(&lab, pair, CALLS, 100_000)?;
    lab.unplug(&lab.lb)?;
    let begin = Instant::now();
    let mut called = 0;
    scene
        .callers
        .run_until("new calls to be answered", PATIENCE, |switch| {
            let due = (begin.elapsed().as_millis() / 5) as usize;
            while called < due.min(400) {
                switch.call(format!("new-{called}@switch"));
                called += 1;
            }
            let is_ended = |call: &pointsman_tests::dialogs::Dialog| call.phase == Phase::HungUp;
            let is_over = switch.calls()[..CALLS].iter().all(is_ended);
            Ok(called == 400 && switch.open_requests() == 0 && is_over)
        })?;
    let new = &scene.callers.calls()[CALLS..];
    let first = new.iter().filter_map(|call| call.answered).min();
    let first = first.map(|at| at - begin);
    let saved = new.iter().filter(|call| call.repeats > 0).count();
    // Its INVITE may have been at the SIP server just then.
    let is_reset = |phase| matches!(phase, Phase::HungUp | Phase::Refused(480));
    let ended = new.iter().filter(|call| is_reset(call.phase));
    let ended: Vec<_> = ended.collect();
    let last = ended.iter().map(|call| call.begun - begin).max();
    println!(
        "first new call answered after {first:?}; {saved} saved by retransmission; {} came before their \
         node's reset, the last after {last:?}",
        ended.len()
    );
    let up = new.iter().filter(|call| call.phase == Phase::Up).count();
    ensure!(up + ended.len() == new.len(), "a new call was not served");
    ensure!(last < Some(Duration::from_secs(2)), "{last:?}");
    scene.expect_list(2)
}
