//! What the demo is told.

use std::path::PathBuf;
use std::time::Duration;

/// Shows Pointsman at work: real calls through it, and things that go wrong meanwhile.
///
/// Everything happens in network namespaces that the demo makes and takes away: nothing of it
/// touches this machine's own network. It needs root, SIPp and Kamailio.
///
/// Exit code: 0 when every promise was kept, 1 when one was broken, 2 when it could not run.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "cargo xtask demo", max_term_width = 100)]
pub struct Args {
    /// Calls through the load balancer
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1_000..=2_000_000))]
    pub calls: u32,
    /// A shorter run: 6,000 calls, unless --calls says otherwise, and a short baseline
    #[arg(long)]
    pub quick: bool,
    /// The highest rate that is tried, in calls a second
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(50..=10_000))]
    pub max_rate: u32,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Keep the programs' logs and configuration files in this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub logs: Option<PathBuf>,
}

impl Args {
    /// Calls through the load balancer.
    pub(super) fn calls(&self) -> u32 {
        const USUAL: u32 = 30_000;
        const QUICK: u32 = 6_000;
        if self.quick && self.calls == USUAL {
            QUICK
        } else {
            self.calls
        }
    }

    /// Length of the baseline at each rate that is tried.
    pub(super) fn baseline_length(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 4 })
    }
}
