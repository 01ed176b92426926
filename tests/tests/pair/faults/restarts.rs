//! Daemons that are killed, and started again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::pair::Service;
use pointsman_tests::record::Recorder;
use pointsman_tests::traffic::Stream;

use super::begin::begin;
use super::watch::{Watch, expect_a_call, other, place};
use crate::lab::lab;

const PATIENCE: Duration = Duration::from_secs(10);
const TAKEN_OVER: Duration = Duration::from_millis(400);
/// To start, to hear nobody for a silence and a lease (twice that, and an interval, if not preferred), and
/// to ask in vain for two leases.
const GIVEN_WAY: Duration = Duration::from_millis(2_000);
/// Calls a second while a lone controller is restarted.
const RATE: u32 = 500;

#[test]
fn daemons_are_killed_and_come_back() -> Result<()> {
    let lab = lab()?;
    let (mut service, watch) = begin(&lab, Pair::default())?;
    a_main_is_restarted_at_once(&mut service, &watch)?;
    a_main_is_restarted_alone(&mut service, &watch)?;
    nodes_are_killed(&mut service, &watch)?;
    a_lone_main_is_restarted(&mut service, &watch)
}

/// The stand-by takes over as if it had not come back; the restarted one finds the other's reign.
fn a_main_is_restarted_at_once(service: &mut Service<'_>, watch: &Watch) -> Result<()> {
    watch.forget();
    let begin = Instant::now();
    service.controller(1).kill()?;
    service.start_controller(1)?;
    let after = watch.expect([false, true], begin, PATIENCE)?;
    watch.wait_for_main(2, PATIENCE)?;
    let well = begin.elapsed();
    eprintln!(
        "a main restarted at once: the other is main after {after:?}, all is well after {well:?}"
    );
    watch.expect_in_time("taken over", after, TAKEN_OVER)?;
    watch.expect_hand_over()?;
    expect_a_call(service.daemons.lab(), "restarted", PATIENCE)?;
    Ok(())
}

/// A main is killed, its machine is cut off, and it is started again: its data plane went on, but the other
/// is main now. A daemon that is alive and gets no leases ends that.
fn a_main_is_restarted_alone(service: &mut Service<'_>, watch: &Watch) -> Result<()> {
    let lab = service.daemons.lab();
    let main = watch.wait_until_well(PATIENCE)?;
    let only = |id| [id == 1, id == 2];
    watch.forget();
    let mut cuts = Vec::new();
    for host in lab.nodes.iter().chain([lab.balancer(other(main))]) {
        cuts.push(lab.cut_one_way(host, lab.balancer(main))?);
    }
    service.controller(main).kill()?;
    watch.expect([true; 2], Instant::now(), PATIENCE)?;
    let begin = Instant::now();
    service.start_controller(main)?;
    let after = watch.expect(only(other(main)), begin, PATIENCE)?;
    eprintln!("a main restarted while it is cut off: it steers no more after {after:?}");
    watch.expect_in_time("given way", after, GIVEN_WAY)?;
    drop(cuts);
    watch.wait_for_main(other(main), PATIENCE)
}

/// Without one of four nothing happens, without three nobody can be main.
fn nodes_are_killed(service: &mut Service<'_>, watch: &Watch) -> Result<()> {
    let main = watch.wait_until_well(PATIENCE)?;
    let only = [main == 1, main == 2];
    watch.forget();
    service.redirects[0].kill()?;
    let seen = watch.stay(Duration::from_millis(500))?;
    ensure!(
        seen.changes.len() == 1 && seen.steers == only,
        "one node of four was killed: {seen:?}"
    );

    let begin = Instant::now();
    for node in [1, 2] {
        service.redirects[node].kill()?;
    }
    let after = watch.expect([false; 2], begin, PATIENCE)?;
    eprintln!("three of four nodes killed: the main stepped down after {after:?}");
    watch.expect_in_time("stepped down", after, Duration::from_millis(200))?;
    let seen = watch.stay(Duration::from_secs(1))?;
    ensure!(seen.steers == [false; 2], "{seen:?}");

    let begin = Instant::now();
    for node in [1, 2, 3] {
        service.redirects[usize::from(node) - 1] = service.daemons.start_redirect(node)?;
    }
    let main = watch.wait_until_well(PATIENCE)?;
    eprintln!(
        "the nodes back: controller {main} is main, and all is well, after {:?}",
        begin.elapsed()
    );
    watch.expect_one_at_most()?;
    expect_a_call(service.daemons.lab(), "nodes-back", PATIENCE)?;
    Ok(())
}

/// Nobody else is there: the data plane goes on while its daemon is away, and while the new one asks for
/// the reign.
fn a_lone_main_is_restarted(service: &mut Service<'_>, watch: &Watch) -> Result<()> {
    let lab = service.daemons.lab();
    let main = watch.wait_until_well(PATIENCE)?;
    watch.forget();
    service.controller(other(main)).kill()?;
    service.controllers[place(other(main))] = None;

    let recorder = Recorder::start(&lab.nodes)?;
    let calls = Stream::of_new_calls(lab, lab.vip_v4(), "lone", RATE)?;
    watch.stay(Duration::from_millis(500))?;
    let begin = Instant::now();
    service.controller(main).kill()?;
    watch.stay(Duration::from_millis(300))?;
    service.start_controller(main)?;
    service.wait_for_role(main, "main")?;
    eprintln!(
        "a lone main, killed and started: main again after {:?}",
        begin.elapsed()
    );
    watch.stay(Duration::from_millis(500))?;
    let sent = calls.finish()?;
    recorder.catch_up()?;
    let tapes = recorder.finish()?;
    let new_calls = tapes.iter().flat_map(|tape| &tape.sightings);
    let arrived = new_calls.filter(|sighting| sighting.is_new_call()).count() as u64;
    let dropped: u64 = tapes.iter().map(|tape| tape.dropped).sum();
    let seen = watch.look()?;
    eprintln!("calls sent: {sent}, arrived: {arrived}; {:?}", seen.changes);
    ensure!(dropped == 0, "the recording lacks {dropped} frames");
    ensure!(
        sent > 0 && arrived == sent,
        "of {sent} calls {arrived} reached a node: {:?}",
        seen.changes
    );
    Ok(())
}
