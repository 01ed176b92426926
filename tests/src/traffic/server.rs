//! SIPp as a node's SIP server.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{Host, Lab, Process, eventually};

const SCENARIO: &str = include_str!("../../scenarios/node.xml");

/// Starts SIPp on a node, answering calls that come for `listen`, and waits until it listens.
///
/// # Errors
/// SIPp is not installed, or ends at once.
pub fn start(lab: &Lab, node: &Host, name: &str, listen: SocketAddr) -> Result<Process> {
    let scenario = lab.directory().join("node.xml");
    fs::write(&scenario, SCENARIO).context("cannot write SIPp's scenario")?;
    let mut command = node.namespace.command("sipp");
    command.arg("-sf").arg(&scenario);
    command.args([
        "-i",
        &unbracketed(listen.ip()),
        "-bind_local",
        "-p",
        &listen.port().to_string(),
    ]);
    // No screen, no control port; buffers for bursts; read what is there before timers run.
    command.args([
        "-nostdin",
        "-f",
        "3600",
        "-cp",
        "0",
        "-buff_size",
        "4000000",
    ]);
    command.args([
        "-max_recv_loops",
        "5000",
        "-max_sched_loops",
        "5000",
        "-timer_resol",
        "1",
    ]);
    // A Call-ID whose call is over may come again.
    command.args(["-deadcall_wait", "0"]);
    // What belongs to calls it does not know is no reason to answer or to fail.
    command.args(["-default_behaviors", "none"]);
    let mut process = Process::start(lab, name, command)?;
    wait_for_listener(node, &mut process, listen)?;
    Ok(process)
}

/// Waits until somebody listens at `listen` in the node's namespace.
pub(super) fn wait_for_listener(
    node: &Host,
    process: &mut Process,
    listen: SocketAddr,
) -> Result<()> {
    let wanted = match listen {
        SocketAddr::V4(v4) => format!("{v4}"),
        SocketAddr::V6(v6) => format!("[{}]:{}", v6.ip(), v6.port()),
    };
    eventually(
        &format!("a server at {listen}"),
        Duration::from_secs(10),
        || {
            process.expect_running()?;
            let sockets = node.namespace.run("ss", "-H -u -l -n")?;
            Ok(sockets.split_whitespace().any(|word| word == wanted))
        },
    )
}

/// The address as SIPp wants it on its command line.
pub(super) fn unbracketed(address: IpAddr) -> String {
    address.to_string()
}
