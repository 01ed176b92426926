//! SIPp as a node's SIP server.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::sipp;
use crate::lab::{Host, Lab, Process, eventually};

const SCENARIO: &str = include_str!("../../scenarios/node.xml");

/// Starts SIPp on a node, answering calls that come for `listen`, and waits until it listens.
///
/// # Errors
/// SIPp is not installed, or ends at once.
pub fn start(lab: &Lab, node: &Host, name: &str, listen: SocketAddr) -> Result<Process> {
    let scenario = lab.directory().join("node.xml");
    fs::write(&scenario, SCENARIO).context("cannot write SIPp's scenario")?;
    let mut command = sipp::command(node, &scenario, listen.ip());
    command.args(["-bind_local", "-p", &listen.port().to_string()]);
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
