//! What a machine carries by itself: the yardstick of every test under load.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{CallLoad, CallStats, Switch, start_sipp_server};
use crate::lab::Lab;

/// Retransmissions up to this share of the calls are clean: the machine hiccuped, it did not choke.
const CLEAN_PER_MILLE: u32 = 1;

/// A run of calls from the switch straight to node 1.
#[derive(Clone, Copy, Debug)]
pub struct BaselineRun {
    /// In calls a second.
    pub rate: u32,
    /// What SIPp counted.
    pub stats: CallStats,
}

impl BaselineRun {
    /// Whether the machine carries this rate with room to spare.
    pub fn is_clean(&self) -> bool {
        let Self { stats, .. } = self;
        stats.failed == 0 && stats.retransmissions * 1000 <= stats.started * CLEAN_PER_MILLE
    }
}

/// Calls node 1's own address with nothing in between, each call lasting `talk`.
///
/// # Errors
/// SIPp is not installed, or does not come to its end.
pub fn measure(lab: &Lab, rate: u32, length: Duration, talk: Duration) -> Result<BaselineRun> {
    let node = lab.node(1);
    let target = SocketAddr::new(node.v4.into(), 5060);
    let _server = start_sipp_server(lab, node, "baseline-server", target)?;
    let calls = (f64::from(rate) * length.as_secs_f64()) as u32;
    let load = CallLoad {
        target,
        calls,
        rate,
        talk,
    };
    let mut switch = Switch::start(lab, &format!("baseline-{rate}"), &load)?;
    let stats = switch.wait(length + Duration::from_secs(60))?;
    Ok(BaselineRun { rate, stats })
}

/// The first of `rates` that the machine carries cleanly.
///
/// # Errors
/// None is.
pub fn clean_rate(lab: &Lab, rates: &[u32], length: Duration) -> Result<u32> {
    for rate in rates {
        if measure(lab, *rate, length, Duration::from_millis(50))?.is_clean() {
            return Ok(*rate);
        }
    }
    bail!("this machine carries none of {rates:?} calls a second between two of its own processes")
}
