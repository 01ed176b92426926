//! BIRD on LBs' machines and on a router, each with the configuration that operators are given, and with the
//! lab's addresses.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::{Lab, Namespace, Process, Router, wait_until};

const BALANCER: &str = include_str!("../../docs/bird/lb.conf");
const ROUTER: &str = include_str!("../../docs/bird/router.conf");
/// How long BIRD may take to answer at its socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts BIRD on an LB's machine: it announces what VIPs are on the loopback.
///
/// # Errors
/// BIRD is not installed, or does not like the configuration.
pub fn start_bird(lab: &Lab, router: &Router, controller: u16) -> Result<Process> {
    let own = lab.balancer(controller);
    let vips = [lab.vip_v4().ip(), lab.vip_v6().ip()];
    let text = with_definitions(
        BALANCER,
        &[
            ("OWN4", own.v4.to_string()),
            ("OWN6", own.v6.to_string()),
            ("ROUTER4", router.host.v4.to_string()),
            ("ROUTER6", router.host.v6.to_string()),
            ("VIPS4", prefixes(vips[0])),
            ("VIPS6", prefixes(vips[1])),
        ],
    )?;
    start(lab, &own.namespace, &format!("bird-{controller}"), &text)
}

/// Starts BIRD on the router: it follows what the LBs announce.
///
/// # Errors
/// As [`start_bird`].
pub fn start_bird_on_router(lab: &Lab, router: &Router) -> Result<Process> {
    let [first, second] = [lab.balancer(1), lab.balancer(2)];
    let text = with_definitions(
        ROUTER,
        &[
            ("OWN4", router.host.v4.to_string()),
            ("OWN6", router.host.v6.to_string()),
            ("FIRST4", first.v4.to_string()),
            ("FIRST6", first.v6.to_string()),
            ("SECOND4", second.v4.to_string()),
            ("SECOND6", second.v6.to_string()),
            ("VIPS4", prefixes(lab.vip_v4().ip())),
            ("VIPS6", prefixes(lab.vip_v6().ip())),
        ],
    )?;
    start(lab, &router.host.namespace, "bird-router", &text)
}

fn prefixes(vip: IpAddr) -> String {
    let len = if vip.is_ipv4() { 32 } else { 128 };
    format!("[ {vip}/{len} ]")
}

/// The text with other values behind `define NAME =`. Each must be there, and there must be no others.
fn with_definitions(text: &str, values: &[(&str, String)]) -> Result<String> {
    let (mut lines, mut replaced) = (Vec::new(), 0);
    for line in text.lines() {
        let Some((name, _)) = line
            .strip_prefix("define ")
            .and_then(|rest| rest.split_once(" ="))
        else {
            lines.push(line.to_owned());
            continue;
        };
        let Some((_, value)) = values.iter().find(|(own, _)| *own == name) else {
            bail!("{name} is defined, but not known here");
        };
        lines.push(format!("define {name} = {value};"));
        replaced += 1;
    }
    if replaced != values.len() {
        bail!("{replaced} definitions for {} values", values.len());
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

fn start(lab: &Lab, namespace: &Namespace, name: &str, text: &str) -> Result<Process> {
    let file = lab.directory().join(format!("{name}.conf"));
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let socket = lab.directory().join(format!("{name}.ctl"));
    let mut command = namespace.command("bird");
    // In the foreground, as a child that can be killed.
    command
        .arg("-f")
        .arg("-c")
        .arg(&file)
        .arg("-s")
        .arg(&socket);
    command
        .arg("-P")
        .arg(lab.directory().join(format!("{name}.pid")));
    let mut process = Process::start(lab, name, command)?;
    let asked = format!("-s {} show status", socket.display());
    wait_until("BIRD to answer", PATIENCE, || {
        process.expect_running()?;
        Ok(namespace.run("birdc", &asked).ok())
    })?;
    Ok(process)
}
