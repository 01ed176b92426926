//! How a rebuild is set: how, how fast, and how much of it.

use crate::call_state::Designated;
use std::time::Duration;

/// How fast nodes are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From one request to a node to the next, at least.
    pub apart: Duration,
    /// Silence after a request, or without a link, that makes a node unreachable.
    pub patience: Duration,
    /// From a request that was not answered to the next; twice as long after each further one.
    pub first_retry: Duration,
    /// The longest of these.
    pub longest_retry: Duration,
    /// Nodes that are sending records at a time.
    pub most_at_once: usize,
    /// Silence after which a node does not count among these any more.
    pub lend_after: Duration,
    /// Records asked for at a time.
    pub page: u16,
    /// How often keys are asked for when all is known.
    pub refresh: Duration,
}

impl Pace {
    /// 100 ms, 1 s, 200 ms, 5 s, 64 nodes, 100 ms, 1,000 records, 5 s.
    ///
    /// 64 pages of 1,000 records of 250 bytes are 16 MB on their way at a time.
    pub const DEFAULT: Self = Self {
        apart: Duration::from_millis(100),
        patience: Duration::from_secs(1),
        first_retry: Duration::from_millis(200),
        longest_retry: Duration::from_secs(5),
        most_at_once: 64,
        lend_after: Duration::from_millis(100),
        page: 1_000,
        refresh: Duration::from_secs(5),
    };
}

impl Default for Pace {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Calls that the database holds by default: at 250 bytes each, half a gigabyte.
pub const DEFAULT_CAPACITY: usize = 2_000_000;

/// What does not change while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The cluster.
    pub cluster: u32,
    /// The controller that asks.
    pub controller: u16,
    /// Calls in the database, at most.
    pub capacity: usize,
    /// How fast nodes are asked.
    pub pace: Pace,
}

/// How a controller takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Calls go on, and their state is asked for.
    Hot,
    /// Calls are reset, and the database begins without any.
    Cold(Designated),
}
