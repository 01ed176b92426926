//! Kamailio as a node's SIP server.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::server::wait_for_listener;
use crate::lab::{Host, Lab, Process};

/// Answers every call at once, and keeps no state.
const ANSWERING: &str = include_str!("../../scenarios/kamailio.cfg");
/// A registrar and stateful proxy.
const REGISTRAR: &str = include_str!("../../scenarios/registrar.cfg");

/// Starts Kamailio on a node, answering calls that come for `listen`, and waits until it listens.
///
/// # Errors
/// Kamailio is not installed, or ends at once.
pub fn start(lab: &Lab, node: &Host, name: &str, listen: SocketAddr) -> Result<Process> {
    let configuration = ANSWERING.replace("@LISTEN@", &listen.to_string());
    start_with(lab, node, name, listen, &configuration, &[])
}

/// Starts Kamailio as a registrar and stateful proxy at `listen`, which knows `service` to be one of
/// its own names, and waits until it listens.
///
/// # Errors
/// Kamailio is not installed, or ends at once.
pub fn start_registrar(
    lab: &Lab,
    node: &Host,
    name: &str,
    listen: SocketAddr,
    service: &str,
) -> Result<Process> {
    let configuration = REGISTRAR.replace("@LISTEN@", &listen.to_string());
    let configuration = configuration.replace("@SERVICE@", service);
    start_with(lab, node, name, listen, &configuration, &[])
}

/// The same with any configuration, which has it listen at `listen`, and with more arguments.
pub(crate) fn start_with(
    lab: &Lab,
    node: &Host,
    name: &str,
    listen: SocketAddr,
    configuration: &str,
    arguments: &[&str],
) -> Result<Process> {
    let directory = lab.directory().join(format!("{name}-run"));
    fs::create_dir_all(&directory).context("cannot make Kamailio's directory")?;
    let file = directory.join("kamailio.cfg");
    fs::write(&file, configuration).context("cannot write Kamailio's configuration")?;
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
    command.arg("-f").arg(&file).args(arguments);
    let mut process = Process::start(lab, name, command)?;
    wait_for_listener(node, &mut process, listen)?;
    Ok(process)
}
