//! The baseline: the highest rate at which this machine carries calls without a load balancer.
//!
//! The switch calls one node's own address, with the same scenarios and the same recorders. Whatever
//! fails there is the machine's doing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{args::Args, screen};
use crate::lab::Lab;
use crate::record::Recorder;
use crate::traffic::{CallLoad, CallStats, Switch, start_sipp_server};

/// How long the switch talks before it hangs up.
pub(super) const TALK: Duration = Duration::from_millis(50);

/// Rates to try, in thousandths of the highest.
const STEPS: [u32; 7] = [1000, 750, 500, 350, 250, 150, 75];

/// Retransmissions up to this share of the calls are clean: the machine hiccuped, it did not choke.
const CLEAN_PER_MILLE: u32 = 1;

/// What the machine carries by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Baseline {
    /// In calls a second.
    pub(super) rate: u32,
    /// What SIPp counted at that rate.
    pub(super) stats: CallStats,
}

/// Finds it.
pub(super) fn measure(lab: &Lab, args: &Args) -> Result<Baseline> {
    screen::step("Baseline: the switch calls one node, nothing in between");
    let node = lab.node(1);
    let target = SocketAddr::new(node.v4.into(), 5060);
    let _server = start_sipp_server(lab, node, "baseline-server", target)?;
    for step in STEPS {
        let rate = (args.max_rate * step / 1000).max(10);
        let calls = rate * args.baseline_seconds();
        let recorder = Recorder::start(std::iter::once(&lab.switch).chain(&lab.nodes))?;
        let load = CallLoad {
            target,
            calls,
            rate,
            talk: TALK,
        };
        let mut switch = Switch::start(lab, &format!("baseline-{rate}"), &load)?;
        let stats = switch.wait(Duration::from_secs(90))?;
        drop(recorder);
        let is_clean = stats.failed == 0 && stats.retransmissions * 1000 <= calls * CLEAN_PER_MILLE;
        screen::line(format_args!(
            "{} calls at {}/s: {} failed, {} retransmissions{}",
            screen::count(calls),
            screen::count(rate),
            screen::count(stats.failed),
            screen::count(stats.retransmissions),
            if is_clean {
                ""
            } else {
                ": too fast for this machine"
            },
        ));
        if is_clean {
            return Ok(Baseline { rate, stats });
        }
    }
    bail!(
        "this machine does not even carry {} calls a second between two of its own processes; is it busy with something else?",
        args.max_rate * STEPS[STEPS.len() - 1] / 1000
    )
}
