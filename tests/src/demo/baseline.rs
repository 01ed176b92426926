//! The baseline: the highest rate at which this machine carries calls without a load balancer.
//!
//! The switch calls one node's own address, with the same scenarios and the same recorders. Whatever
//! fails there is the machine's doing.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{args::Args, screen};
use crate::lab::Lab;
use crate::record::Recorder;
use crate::traffic::{BaselineRun, measure_baseline};

/// How long the switch talks before it hangs up.
pub(super) const TALK: Duration = Duration::from_millis(50);

/// Rates to try, in thousandths of the highest.
const STEPS: [u32; 7] = [1000, 750, 500, 350, 250, 150, 75];

/// Finds it.
pub(super) fn measure(lab: &Lab, args: &Args) -> Result<BaselineRun> {
    screen::step("Baseline: the switch calls one node, nothing in between");
    for step in STEPS {
        let rate = (args.max_rate * step / 1000).max(10);
        let recorder = Recorder::start(std::iter::once(&lab.switch).chain(&lab.nodes))?;
        let run = measure_baseline(lab, rate, args.baseline_length(), TALK)?;
        drop(recorder);
        screen::line(format_args!(
            "{} calls at {}/s: {} failed, {} retransmissions{}",
            screen::count(run.stats.started),
            screen::count(rate),
            screen::count(run.stats.failed),
            screen::count(run.stats.retransmissions),
            if run.is_clean() {
                ""
            } else {
                ": too fast for this machine"
            },
        ));
        if run.is_clean() {
            return Ok(run);
        }
    }
    bail!(
        "this machine does not even carry {} calls a second between two of its own processes; is \
         it busy with something else?",
        args.max_rate * STEPS[STEPS.len() - 1] / 1000
    )
}
