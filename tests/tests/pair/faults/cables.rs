//! The main's cable is pulled, and its port on the switch is another.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::lab::{Lab, eventually, realtime_ns};
use pointsman_tests::record::PacketSocket;

use super::begin::begin;
use super::watch::{expect_a_call, other};
use crate::lab::lab;

const PATIENCE: Duration = Duration::from_secs(5);
const TAKEN_OVER: Duration = Duration::from_millis(400);
/// From the new main steering until the switch has been told where the VIP is.
const ANNOUNCED: Duration = Duration::from_millis(20);

#[test]
fn a_main_without_a_cable_is_replaced_and_calls_find_the_new_one() -> Result<()> {
    let lab = lab()?;
    let (_service, watch) = begin(&lab, Pair::default())?;
    expect_a_call(&lab, "before", PATIENCE)?;
    ensure!(is_known_at(&lab, 1)?, "{:x?}", neighbours(&lab)?);

    // Pulled: the main has no majority and steps down; nobody can tell it of the other.
    watch.forget();
    let mut link = PacketSocket::open(&lab.switch.namespace, "eth0")?;
    let (begin, begin_ns) = (Instant::now(), realtime_ns());
    lab.unplug(lab.balancer(1))?;
    let after = watch.expect([false, true], begin, PATIENCE)?;
    eventually("the switch to know", PATIENCE, || is_known_at(&lab, 2))?;
    let told = told_at(&mut link, &lab, 2)?.context("the switch was not told")?;
    let told = Duration::from_nanos(told.saturating_sub(begin_ns));
    eprintln!("unplugged: taken over after {after:?}, told to the switch after {told:?}");
    watch.expect_in_time("taken over", after, TAKEN_OVER)?;
    watch.expect_in_time("told to the switch", told, after + ANNOUNCED)?;
    expect_a_call(&lab, "unplugged", PATIENCE)?;
    watch.expect_one_at_most()?;
    lab.replug(lab.balancer(1))?;
    watch.wait_for_main(2, PATIENCE)?;
    ensure!(
        watch.expect_one_at_most()?.answers[0]
            .iter()
            .all(|count| *count < 5),
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

    // Its own port down, by its administrator.
    let main = watch.wait_until_well(PATIENCE)?;
    let host = lab.balancer(main);
    watch.forget();
    let begin = Instant::now();
    lab.set_ports_down(host)?;
    let after = watch.expect([main == 2, main == 1], begin, PATIENCE)?;
    eprintln!("port down: taken over after {after:?}");
    watch.expect_in_time("taken over", after, TAKEN_OVER)?;
    expect_a_call(&lab, "down", PATIENCE)?;
    watch.expect_one_at_most()?;
    lab.set_ports_up(host)?;
    host.namespace
        .ip(&format!("address replace {}/64 dev eth0 nodad", host.v6))?;
    watch.wait_for_main(other(main), PATIENCE)?;
    expect_a_call(&lab, "up", PATIENCE)?;
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

/// Whether all VIPs that the switch knows are at a controller's.
fn is_known_at(lab: &Lab, controller: u16) -> Result<bool> {
    let (known, mac) = (neighbours(lab)?, lab.balancer(controller).mac);
    Ok(!known.is_empty() && known.iter().all(|at| *at == mac))
}

/// When the switch was told first, by ARP, that a VIP is at a controller's.
fn told_at(link: &mut PacketSocket, lab: &Lab, controller: u16) -> Result<Option<u64>> {
    let (mac, vip) = (lab.balancer(controller).mac, lab.vip_v4().ip());
    let IpAddr::V4(vip) = vip else {
        anyhow::bail!("{vip} is no IPv4 address")
    };
    let mut told = None;
    let mut show = |frame: &[u8], time_ns| {
        let is_told = frame.get(6..12) == Some(&mac)
            && frame.get(12..14) == Some(&[8, 6])
            && frame.get(28..32) == Some(&vip.octets());
        if is_told {
            told.get_or_insert(time_ns);
        }
    };
    while link.receive(|frame| show(frame.bytes, frame.time_ns))? > 0 {}
    Ok(told)
}
