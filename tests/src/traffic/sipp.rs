//! SIPp, as either end.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use crate::lab::Host;

/// SIPp on a machine, playing a scenario from this address of it.
pub(super) fn command(host: &Host, scenario: &Path, address: IpAddr) -> Command {
    let mut command = host.namespace.command("sipp");
    command.arg("-sf").arg(scenario);
    // Without brackets, whatever the family.
    command.args(["-i", &address.to_string()]);
    // No screen, no control port.
    command.args(["-nostdin", "-f", "3600", "-cp", "0"]);
    // Buffers for bursts; what is there is read before timers run.
    command.args(["-buff_size", "4000000"]);
    command.args(["-max_recv_loops", "5000", "-max_sched_loops", "5000"]);
    command.args(["-timer_resol", "1"]);
    command
}
