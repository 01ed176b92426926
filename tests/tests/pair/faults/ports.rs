//! Controllers whose keep-alives go by another way than calls: a main that the switch does not reach.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::lab::Lab;

use super::begin::begin;
use super::watch::expect_a_call;
use crate::lab::lab;

const PATIENCE: Duration = Duration::from_secs(5);
/// The interface that has the VIPs, and the far end of its cable.
const NEAR: &str = "vips";
const FAR: &str = "vips-far";

fn cable(lab: &Lab, controller: u16, state: &str) -> Result<()> {
    let namespace = &lab.balancer(controller).namespace;
    namespace.ip(&format!("link set {FAR} {state}"))?;
    Ok(())
}

fn metrics(lab: &Lab, controller: u16) -> Result<String> {
    lab.balancer(controller).namespace.inside(|| {
        let mut stream = TcpStream::connect("127.0.0.1:9464")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    })?
}

#[test]
fn a_main_that_the_switch_does_not_reach_hands_over() -> Result<()> {
    let lab = lab()?;
    for controller in [1, 2] {
        let namespace = &lab.balancer(controller).namespace;
        namespace.ip(&format!("link add {NEAR} type veth peer name {FAR}"))?;
        namespace.ip(&format!("link set {NEAR} up"))?;
        cable(&lab, controller, "up")?;
    }
    let pair = Pair {
        vip_interface: NEAR,
        ..Pair::patient()
    };
    let (service, watch) = begin(&lab, pair)?;
    watch.forget();

    let pulled = Instant::now();
    cable(&lab, 1, "down")?;
    let after = watch.expect([false, true], pulled, PATIENCE)?;
    eprintln!("handed over {after:?} after the carrier was lost");
    watch.expect_hand_over()?;
    watch.wait_for_main(2, PATIENCE)?;
    let report = service.cluster(2)?;
    ensure!(report["last_switch"]["reason"] == "unfit", "{report:#}");
    expect_a_call(&lab, "reached", PATIENCE)?;

    // Where neither is reached, nobody gives way.
    watch.forget();
    cable(&lab, 2, "down")?;
    let seen = watch.stay(Duration::from_secs(1))?;
    ensure!(
        seen.changes
            .iter()
            .all(|(_, steers)| *steers == [false, true]),
        "{seen:?}"
    );
    let report = service.cluster(1)?;
    ensure!(report["reached"] == false, "{report:#}");
    let page = metrics(&lab, 1)?;
    let unreached = "pointsman_pair_amiss{what=\"unreached\"} 1";
    ensure!(page.contains(unreached), "{page}");
    ensure!(report["others"][0]["status"] == "unfit", "{report:#}");

    // The first is reached again.
    let mended = Instant::now();
    cable(&lab, 1, "up")?;
    let after = watch.expect([true, false], mended, PATIENCE)?;
    eprintln!("handed back {after:?} after there was a carrier again");
    // The lab's switch is not on these cables: nobody tells it.
    lab.switch.namespace.ip("neigh flush dev eth0")?;
    expect_a_call(&lab, "again", PATIENCE)?;
    Ok(())
}
