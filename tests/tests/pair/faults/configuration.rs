//! A stand-by with an older configuration: it gets the newer one, and keeps it; one that cannot get it does
//! not become main, and says so.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::lab::{Lab, Signal, eventually};
use pointsman_tests::pair::Service;

use super::begin::begin;
use super::watch::{Watch, expect_a_call};
use crate::lab::lab;

const PATIENCE: Duration = Duration::from_secs(10);
/// A VIP that only the newer configuration has.
const MORE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 101));

/// Writes a controller's file with another version, and with one more VIP or without.
fn write(service: &Service<'_>, controller: u16, version: u64, more: bool) -> Result<()> {
    let path = service.daemons.controller_file_of(controller);
    let text = fs::read_to_string(&path)?;
    let lines = text
        .lines()
        .map(|line| match line.starts_with("version = ") {
            true => format!("version = {version}"),
            false => line.to_owned(),
        });
    let mut text = lines.collect::<Vec<_>>().join("\n");
    if more && !text.contains(&MORE.to_string()) {
        text += &format!("\n\n[[vip]]\naddress = \"{MORE}\"\nport = 5060\n");
    }
    fs::File::create(&path)?.write_all(text.as_bytes())?;
    Ok(())
}

/// The VIPs in a controller's data plane.
fn has_more(service: &Service<'_>, controller: u16) -> Result<bool> {
    let stats = service.daemons.ask_of(controller, "stats")?;
    Ok(stats.to_string().contains(&MORE.to_string()))
}

#[test]
fn a_stand_by_gets_the_newer_configuration_or_does_not_reign() -> Result<()> {
    let lab = lab()?;
    let (mut service, watch) = begin(&lab, Pair::patient())?;
    ensure!(!has_more(&service, 1)?, "the VIP is there already");

    // The main is given a newer one; the stand-by gets it from there.
    write(&service, 1, 2, true)?;
    let begin = Instant::now();
    service.controller(1).signal(Signal::Reload)?;
    eventually("the stand-by to have version 2", PATIENCE, || {
        Ok(watch
            .cluster(2)
            .is_some_and(|report| report["configuration"] == 2))
    })
    .with_context(|| service.log(2))?;
    eprintln!(
        "the stand-by has the newer configuration after {:?}",
        begin.elapsed()
    );
    ensure!(has_more(&service, 1)?, "the main has not the new VIP");
    ensure!(has_more(&service, 2)?, "the stand-by has not the new VIP");
    let is_at = |controller| lab.balancer(controller).has_address("eth0", MORE);
    ensure!(is_at(1)?, "the new VIP is not on the main");
    ensure!(!is_at(2)?, "the new VIP is on the stand-by");

    // It keeps it, though its file is as old as before, and takes over with it.
    service.controller(2).kill()?;
    service.start_controller(2)?;
    watch.wait_until_well(PATIENCE)?;
    ensure!(
        watch
            .cluster(2)
            .is_some_and(|report| report["configuration"] == 2),
        "it is forgotten"
    );
    service.controller(1).kill()?;
    service.wait_for_role(2, "main")?;
    ensure!(is_at(2)?, "the new VIP is not on the new main");
    expect_a_call(&lab, "newer", PATIENCE)?;
    service.start_controller(1)?;
    watch.wait_for_main(2, PATIENCE)?;

    an_older_one_waits(&lab, &mut service, &watch)
}

/// What is newer is heard of, but cannot be had: links between the two do not come to be.
fn an_older_one_waits(lab: &Lab, service: &mut Service<'_>, watch: &Watch) -> Result<()> {
    let block = |how: &str| {
        let host = lab.balancer(1);
        let to = lab.balancer(2).v4;
        host.namespace.run(
            "ip",
            &format!("rule {how} to {to} ipproto tcp dport 7700 prohibit"),
        )
    };
    block("add")?;
    write(service, 2, 3, true)?;
    service.controller(2).signal(Signal::Reload)?;
    eventually("the stand-by to hear of version 3", PATIENCE, || {
        Ok(watch
            .cluster(1)
            .is_some_and(|report| report["newer"]["version"] == 3))
    })?;
    service.controller(2).kill()?;
    service.controllers[1] = None;
    eventually(
        "the stand-by to say why it does not reign",
        PATIENCE,
        || Ok(service.log(1).contains("its configuration is older")),
    )?;
    let seen = watch.stay(Duration::from_secs(1))?;
    let report = watch.cluster(1).context("it does not answer")?;
    ensure!(report["role"] != "main" && !seen.steers[0], "{report:#}");
    // An operator, who has read that, decides that its own is right.
    block("delete")?;
    write(service, 1, 4, true)?;
    service.controller(1).signal(Signal::Reload)?;
    service.wait_for_role(1, "main")?;
    expect_a_call(lab, "decided", PATIENCE)?;
    Ok(())
}
