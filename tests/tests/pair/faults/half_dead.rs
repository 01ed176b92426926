//! A machine that stands still: its program in the kernel goes on, its daemon does not, and then does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::lab::{Signal, eventually};

use super::begin::begin;
use super::watch::expect_a_call;
use crate::lab::lab;

const PATIENCE: Duration = Duration::from_secs(5);
/// From the last keep-alive until nobody else steers: silence (60 ms), query (20 ms), and what is left of
/// the nodes' leases (113 ms), and some time for the scheduler.
const TAKEN_OVER: Duration = Duration::from_millis(400);

#[test]
fn a_main_that_stands_still_is_replaced_and_a_stand_by_that_stood_still_replaces_nobody()
-> Result<()> {
    let lab = lab()?;
    let (mut service, watch) = begin(&lab, Pair::default())?;

    // The stand-by's own two seconds.
    watch.forget();
    let candidacies = watch.count(2, "candidacies")?;
    let stalls = watch.count(2, "stalls")?;
    service.controller(2).signal(Signal::Stop)?;
    watch.stay(Duration::from_secs(2))?;
    service.controller(2).signal(Signal::Continue)?;
    let seen = watch.stay(Duration::from_secs(1))?;
    ensure!(
        seen.steers == [true, false] && seen.changes.len() == 1,
        "{seen:?}"
    );
    ensure!(
        watch.count(2, "candidacies")? == candidacies,
        "it would be the main"
    );
    ensure!(watch.count(2, "stalls")? > stalls, "no stall was seen");

    // The main's daemon.
    watch.forget();
    let begin = Instant::now();
    service.controller(1).signal(Signal::Stop)?;
    let after = watch.expect([false, true], begin, PATIENCE)?;
    eprintln!("taken over from a main that stands still after {after:?}");
    watch.expect_in_time("taken over", after, TAKEN_OVER)?;
    expect_a_call(&lab, "still", PATIENCE)?;
    watch.expect_hand_over()?;
    // Its addresses are still there, but nobody hears of them.
    watch.forget();
    let (vip, old) = (lab.vip_v4().ip(), lab.balancer(1));
    ensure!(old.has_address("eth0", vip)?, "the VIP is gone");
    let passive = service.daemons.reason_of(1, "passive")?;
    let seen = watch.stay(Duration::from_millis(500))?;
    ensure!(
        seen.answers[0] == [0; 2],
        "the one that stands still answers for the VIP: {seen:?}"
    );
    ensure!(
        seen.answers[1].iter().all(|count| *count > 5),
        "the main does not: {seen:?}"
    );
    let now = service.daemons.reason_of(1, "passive")?;
    ensure!(
        now > passive,
        "no question for the VIP was dropped: {passive}, {now}"
    );
    let superseded = service.daemons.reason_of(1, "superseded")?;
    ensure!(superseded > 0, "the program has not heard the later term");

    // It goes on.
    service.controller(1).signal(Signal::Continue)?;
    watch.wait_until_well(PATIENCE)?;
    eventually("the old main to give its VIPs back", PATIENCE, || {
        Ok(!old.has_address("eth0", vip)?)
    })?;
    let seen = watch.expect_one_at_most()?;
    ensure!(seen.steers == [false, true], "{seen:?}");
    ensure!(
        seen.changes.len() == 1,
        "it steered again for a while: {:?}",
        seen.changes
    );
    ensure!(
        seen.answers[0] == [0; 2],
        "it answered for the VIP: {seen:?}"
    );
    let log = service.log(1);
    ensure!(log.contains("not the main any more"), "{log}");
    Ok(())
}
