//! Control datagrams under a wrong key, as many as a machine can send: the main stays the main.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::{BEACON_KEY_ID, CLUSTER, PATIENCE, Pair};
use pointsman_tests::lab::eventually;

use super::begin::begin;
use super::forgeries::{WRONG, controller, key, usurper};
use super::victims::PORT;
use crate::lab::lab;

const LASTS: Duration = Duration::from_secs(3);
/// Fewer would be no flood.
const AT_LEAST: u64 = 50_000;

#[test]
fn a_flood_of_forgeries_deposes_nobody() -> Result<()> {
    let lab = lab()?;
    let (_service, watch) = begin(&lab, Pair::patient())?;
    watch.forget();
    let mouth = lab
        .switch
        .namespace
        .inside(|| UdpSocket::bind((lab.switch.v4, 0)))??;
    let victim = (lab.balancer(1).v4, PORT);
    let sender = controller(2)?;
    let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let number = sent.load(Ordering::Relaxed) as usize;
                let lie = usurper(sender, CLUSTER, key(BEACON_KEY_ID, WRONG), number);
                // What the network does not take is no flood.
                let is_taken = mouth.send_to(&lie, victim).is_ok();
                sent.fetch_add(is_taken.into(), Ordering::Relaxed);
            }
        });
        let flooded = eventually("a flood", PATIENCE, || {
            let is_enough = sent.load(Ordering::Relaxed) >= AT_LEAST;
            Ok(is_enough && begin.elapsed() >= LASTS)
        });
        is_over.store(true, Ordering::Relaxed);
        flooded
    })?;
    let (sent, took) = (sent.into_inner(), begin.elapsed());
    // What the socket had no room for is nobody's to count.
    eventually("most of them to be refused", PATIENCE, || {
        let report = watch.cluster(1).context("it does not answer")?;
        let refused = report["refused"]["forged"].as_u64();
        Ok(refused.is_some_and(|refused| refused >= sent / 4))
    })?;
    let seen = watch.look()?;
    let report = watch.cluster(1).context("it does not answer")?;
    let refused = &report["refused"]["forged"];
    eprintln!("{sent} forgeries in {took:?}, {refused} refused");
    ensure!(
        seen.changes
            .iter()
            .all(|(_, steers)| *steers == [true, false]),
        "who steers has changed: {seen:?}"
    );
    ensure!(report["counts"]["reigns"] == 1, "{report:#}");
    Ok(())
}
