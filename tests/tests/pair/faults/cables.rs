//! The main's cable is pulled, and its port on the switch is another.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::lab::{Lab, eventually};

use super::begin::begin;
use super::watch::{Watch, expect_a_call};
use crate::service::lab;

const PATIENCE: Duration = Duration::from_secs(5);
const TAKEN_OVER: Duration = Duration::from_millis(400);
/// From the new main steering until the switch knows where the VIP is.
const ANNOUNCED: Duration = Duration::from_millis(20);

#[test]
fn a_main_without_a_cable_is_replaced_and_calls_find_the_new_one() -> Result<()> {
    let lab = lab()?;
    let service = begin(&lab, Pair::default())?;
    let watch = Watch::start(&service)?;
    ensure!(
        watch.wait_until_well(PATIENCE)? == 1,
        "the first is the main"
    );
    expect_a_call(&lab, "before", PATIENCE)?;
    ensure!(
        neighbours(&lab)?
            .iter()
            .all(|at| *at == lab.balancer(1).mac),
        "{:x?}",
        neighbours(&lab)?
    );

    // Pulled: the main has no majority and steps down; nobody can tell it of the other.
    watch.forget();
    let begin = Instant::now();
    lab.unplug(lab.balancer(1))?;
    let after = watch.expect([false, true], begin, PATIENCE)?;
    let known = known_at(&lab, 2, PATIENCE)?.saturating_duration_since(begin);
    eprintln!("unplugged: taken over after {after:?}, known to the switch after {known:?}");
    ensure!(
        after <= TAKEN_OVER || !watch.is_calm(),
        "taken over after {after:?}"
    );
    ensure!(
        known <= after + ANNOUNCED || !watch.is_calm(),
        "the switch knew {:?} later",
        known.saturating_sub(after)
    );
    expect_a_call(&lab, "unplugged", PATIENCE)?;
    watch.expect_one_at_most()?;
    lab.replug(lab.balancer(1))?;
    ensure!(
        watch.wait_until_well(PATIENCE)? == 2,
        "the other stays the main"
    );
    ensure!(
        watch.expect_one_at_most()?.answers[0] < 5,
        "the old main went on answering"
    );

    // The main's cable behind another bridge: nothing may come of it but a short pause.
    for name in ["aside", "back"] {
        watch.forget();
        lab.move_plug(lab.balancer(2))?;
        let found = expect_a_call(&lab, name, PATIENCE)?;
        eprintln!("moved {name}: calls find the main after {found:?}");
        let seen = watch.stay(Duration::from_secs(1))?;
        ensure!(
            seen.steers.iter().filter(|steers| **steers).count() == 1,
            "{seen:?}"
        );
        watch.wait_until_well(PATIENCE)?;
        watch.expect_one_at_most()?;
        expect_a_call(&lab, &format!("{name}-later"), PATIENCE)?;
    }
    Ok(())
}

/// The link addresses that the switch has for the VIPs it knows.
fn neighbours(lab: &Lab) -> Result<Vec<[u8; 6]>> {
    let mut found = Vec::new();
    for vip in [lab.vip_v4().ip(), lab.vip_v6().ip()] {
        let text = lab
            .switch
            .namespace
            .ip(&format!("neighbour show {vip} dev eth0"))?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "lladdr");
        let Some(mac) = words.nth(1) else { continue };
        let bytes: Vec<u8> = mac
            .split(':')
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        found.extend(<[u8; 6]>::try_from(bytes.as_slice()));
    }
    Ok(found)
}

/// When all VIPs that the switch knows were seen to be at a controller's.
fn known_at(lab: &Lab, controller: u16, limit: Duration) -> Result<Instant> {
    eventually("the switch to know", limit, || {
        let known = neighbours(lab)?;
        Ok(!known.is_empty() && known.iter().all(|at| *at == lab.balancer(controller).mac))
    })?;
    Ok(Instant::now())
}
