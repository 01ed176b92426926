//! Control datagrams under a wrong key, as many as a machine can send: the main stays the main.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::{BEACON_KEY_ID, CLUSTER, Pair};

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
    let is_over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                let lie = usurper(sender, CLUSTER, key(BEACON_KEY_ID, WRONG), sent as usize);
                // What the network does not take is no flood.
                sent += u64::from(mouth.send_to(&lie, victim).is_ok());
            }
            sent
        });
        let stayed = watch.stay(LASTS);
        is_over.store(true, Ordering::Relaxed);
        stayed?;
        flood.join().ok().context("the flood has failed")
    })?;
    let seen = watch.look()?;
    let report = watch.cluster(1).context("it does not answer")?;
    eprintln!(
        "{sent} forgeries in {LASTS:?}; refused: {}",
        report["refused"]
    );
    ensure!(sent > AT_LEAST, "no flood");
    ensure!(
        seen.changes
            .iter()
            .all(|(_, steers)| *steers == [true, false]),
        "who steers has changed: {seen:?}"
    );
    ensure!(report["counts"]["reigns"] == 1, "{report:#}");
    Ok(())
}
