//! Kamailio as a node's SIP server.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::server::wait_for_listener;
use crate::lab::{Host, Lab, Process};

const CONFIGURATION: &str = include_str!("../../scenarios/kamailio.cfg");

/// Starts Kamailio on a node, answering calls that come for `listen`, and waits until it listens.
///
/// # Errors
/// Kamailio is not installed, or ends at once.
pub fn start(lab: &Lab, node: &Host, name: &str, listen: SocketAddr) -> Result<Process> {
    let directory = lab.directory().join(format!("{name}-run"));
    fs::create_dir_all(&directory).context("cannot make Kamailio's directory")?;
    let file = directory.join("kamailio.cfg");
    fs::write(
        &file,
        CONFIGURATION.replace("@LISTEN@", &listen.to_string()),
    )
    .context("cannot write Kamailio's configuration")?;
    // Kamailio is several processes. In a process namespace of their own they all go when the
    // first goes, and that goes with `unshare`.
    let mut command = node.namespace.command("unshare");
    command.args([
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "kamailio",
        "-DD",
        "-E",
    ]);
    command
        .args(["-m", "64", "-M", "8", "-Y"])
        .arg(&directory)
        .arg("-w")
        .arg(&directory);
    command.arg("-f").arg(&file);
    let mut process = Process::start(lab, name, command)?;
    wait_for_listener(node, &mut process, listen)?;
    Ok(process)
}
