//! The status plane: who is there, and who takes calls.
//!
//! ```text
//!   node                                      controller, other nodes
//!   ┌────────┐  beacon, every period ± jitter   ┌─────┐ accepted  ┌───────┐
//!   │ sender │ ───────────────────────────────► │ map │ ────────► │ judge │ ──► Up, Down
//!   │        │ ◄─────────────────────────────── └─────┘           └───────┘
//!   └────────┘  query: a beacon, please, now      │ ◄─────────────────┘ silence
//!   ┌───────────┐  probe: is my stamp new?        │
//!   │ challenge │ ──────────────────────────────► │
//!   └───────────┘ ◄───────────────────────────────┘ held: this one
//! ```
//! - [`sender`]: when a node's beacons go out, and what stamp they carry. [`peers`]: to whom, without
//!   multicast.
//! - [`query`]: the questions and answers that are no beacons.
//! - [`map`]: the availability map, made of the beacons that are genuine and new. [`members`]: whose.
//! - [`judge`]: confirms before it says `Down`, and makes those that flap wait ([`damping`]).
//! - [`challenge`]: how a node with a lost epoch gets one that is taken.
//! - [`stall`]: notices that this receiver itself did not run.
//!
//! Time is a [`Duration`] since an origin of the caller's choosing, on a monotonic clock: no clock of
//! the day ever decides about liveness.

pub mod challenge;
pub mod damping;
pub mod judge;
pub mod map;
pub mod members;
mod origin;
pub mod peers;
pub mod query;
pub mod sender;
#[cfg(test)]
mod simulation;
pub mod stall;

use std::time::Duration;

/// How often beacons come, and how long their absence is borne.
///
/// The same on every machine of a cluster: receivers go by their own configuration, not by what a
/// beacon says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From one beacon to the next.
    pub period: Duration,
    /// Periods of silence after which a node is `Stale`.
    pub hold_periods: u32,
    /// Periods of silence after which a node is `Down` without anybody's confirmation.
    pub down_periods: u32,
}

impl Timing {
    /// 100 ms, `Stale` after 3, `Down` after 10.
    pub const DEFAULT: Self = Self {
        period: Duration::from_millis(100),
        hold_periods: 3,
        down_periods: 10,
    };

    /// Silence past which a node is `Stale`.
    pub fn hold(&self) -> Duration {
        self.period.saturating_mul(self.hold_periods)
    }

    /// Silence past which a node is `Down`.
    pub fn down(&self) -> Duration {
        self.period.saturating_mul(self.down_periods)
    }
}

/// Good beacons in a row that bring a node back from `Down`.
pub const GOOD_BEACONS: u8 = 3;
