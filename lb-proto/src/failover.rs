//! Which controller is main, and how another takes over from it (seed document 2).
//!
//! ```text
//!   main                       access nodes                        stand-by
//!   ┌────────────┐ keep-alive ┌─────────┐  keep-alive, relayed  ┌────────────┐
//!   │ controller │ ─────────► │ witness │ ────────────────────► │ controller │
//!   │            │ ◄───────── │         │ ◄──────────────────── │            │
//!   └────────────┘  ack       └─────────┘  lease request        └────────────┘
//!      │   ▲ └──────────────────────── keep-alive, answer ─────────────▲  │
//!      │   └────────────────────────── query, ask ─────────────────────┼──┘
//!      └────────────────────────────── yield ──────────────────────────┘
//! ```
//! Two cannot vote, so the nodes are the witnesses: a controller is main only while more than half of
//! the configured nodes have leased it the reign, and a node leases it to one at a time.
//! - [`wire`]: the control datagrams.
//! - [`trust`]: whose they are, whether they are new, and why not.
//! - [`lease`]: what one node has granted, and may grant.
//! - [`witness`]: the access node's machine.
//! - [`controller`]: the controllers' machine, one for all roles.
//!
//! `docs/failover.md` says why no two are main at once, and what an operator sees.
//!
//! Time is a [`Duration`] since an origin of the caller's choosing, on a monotonic clock. Between any
//! two machines, clocks may differ in rate by an eighth.

pub mod controller;
#[cfg(test)]
mod fixtures;
pub mod lease;
mod silence;
#[cfg(test)]
mod simulation;
pub mod trust;
pub mod wire;
pub mod witness;

use std::fmt;
use std::time::Duration;

/// The number of a reign: grows with every one, and fences off what was before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A controller's id, 1 to [`ControllerId::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControllerId(u8);

impl ControllerId {
    /// The highest id.
    pub const MAX: u8 = 15;

    /// The controller with this id; `None` for 0 and for what is above [`Self::MAX`].
    pub const fn new(id: u8) -> Option<Self> {
        match id {
            1..=Self::MAX => Some(Self(id)),
            _ => None,
        }
    }

    /// The id.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An access node's id, 1 to [`NodeId::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u16);

impl NodeId {
    /// The highest id.
    pub const MAX: u16 = 255;

    /// The node with this id; `None` for 0 and for what is above [`Self::MAX`].
    pub const fn new(id: u16) -> Option<Self> {
        match id {
            1..=Self::MAX => Some(Self(id)),
            _ => None,
        }
    }

    /// The id.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One machine that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A controller.
    Controller(ControllerId),
    /// An access node.
    Node(NodeId),
}

impl Party {
    /// Its id among its kind.
    pub const fn id(self) -> u16 {
        match self {
            Self::Controller(id) => id.get() as u16,
            Self::Node(id) => id.get(),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(id) => write!(f, "controller {id}"),
            Self::Node(id) => write!(f, "node {id}"),
        }
    }
}

/// No lease is longer. A node that has lost what it had granted waits for this long, and an eighth
/// more, before it grants again.
pub const LONGEST_LEASE: Duration = Duration::from_secs(5);

/// How often keep-alives come, how many may be missed, and how long the reign is leased.
///
/// Whole milliseconds, since they travel as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    interval_ms: u16,
    misses: u8,
    lease_ms: u16,
}

/// Why a timing cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Keep-alives too close, too far apart, or not in whole milliseconds.
    #[error("an interval of {0:?}; it is 10 to 1000 whole milliseconds")]
    Interval(Duration),
    /// None, or too many to wait for.
    #[error("{0} misses; it is 1 to 10")]
    Misses(u8),
    /// Over before the loss is noticed, or longer than [`LONGEST_LEASE`].
    #[error(
        "a lease of {lease:?}; it is whole milliseconds, at least an interval more than the misses \
         ({least:?}) and at most {LONGEST_LEASE:?}: have a shorter interval or fewer misses"
    )]
    Lease {
        /// The lease.
        lease: Duration,
        /// The shortest that will do.
        least: Duration,
    },
}

impl Timing {
    /// 100 ms, 3 misses, leases of 500 ms.
    pub const DEFAULT: Self = Self {
        interval_ms: 100,
        misses: 3,
        lease_ms: 500,
    };

    /// A timing; without a `lease`, two intervals more than the misses.
    ///
    /// # Errors
    /// [`TimingError`] for what is out of bounds.
    pub fn new(
        interval: Duration,
        misses: u8,
        lease: Option<Duration>,
    ) -> Result<Self, TimingError> {
        let interval_ms = whole_ms(interval).filter(|ms| (10..=1000).contains(ms));
        let interval_ms = interval_ms.ok_or(TimingError::Interval(interval))?;
        if !(1..=10).contains(&misses) {
            return Err(TimingError::Misses(misses));
        }
        let least = interval * (u32::from(misses) + 1);
        let lease = lease.unwrap_or(least + interval);
        let lease_ms = whole_ms(lease).filter(|_| least <= lease && lease <= LONGEST_LEASE);
        let lease_ms = lease_ms.ok_or(TimingError::Lease { lease, least })?;
        Ok(Self {
            interval_ms,
            misses,
            lease_ms,
        })
    }

    /// From one keep-alive to the next, before jitter.
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms as u64)
    }

    /// The designated number of missed keep-alives.
    pub const fn misses(&self) -> u8 {
        self.misses
    }

    /// How long a keep-alive that was acknowledged counts, from when it was sent.
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms as u64)
    }

    /// Silence past which a main is missed.
    pub const fn silence(&self) -> Duration {
        Duration::from_millis(self.interval_ms as u64 * self.misses as u64)
    }
}

fn whole_ms(time: Duration) -> Option<u16> {
    let ms = u16::try_from(time.as_millis()).ok()?;
    (Duration::from_millis(ms.into()) == time).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_within_bounds() {
        let ms = Duration::from_millis;
        assert_eq!(Timing::new(ms(100), 3, None), Ok(Timing::DEFAULT));
        let fast = Timing::new(ms(20), 3, None).expect("a good timing");
        assert_eq!((fast.silence(), fast.lease()), (ms(60), ms(100)));
        let slow = Timing::new(ms(1000), 3, None).expect("a good timing");
        assert_eq!(slow.lease(), LONGEST_LEASE);
        assert!(Timing::new(ms(1000), 4, None).is_err());
        assert!(Timing::new(ms(1000), 4, Some(ms(5000))).is_ok());
        assert!(Timing::new(ms(100), 3, Some(ms(399))).is_err());
        assert!(Timing::new(ms(9), 3, None).is_err());
        assert!(Timing::new(Duration::from_micros(10_500), 3, None).is_err());
        assert!(Timing::new(ms(100), 0, None).is_err());
    }

    #[test]
    fn ids_within_bounds() {
        assert_eq!(ControllerId::new(0), None);
        assert_eq!(ControllerId::new(16), None);
        assert_eq!(ControllerId::new(15).map(ControllerId::get), Some(15));
        assert_eq!(NodeId::new(0), None);
        assert_eq!(NodeId::new(256), None);
        assert_eq!(NodeId::new(255).map(NodeId::get), Some(255));
        assert_eq!(Term(u64::MAX).next(), Term(u64::MAX));
    }
}
