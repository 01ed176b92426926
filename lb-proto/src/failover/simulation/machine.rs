//! One machine: its clock, its disk, its socket, and what runs on it.

use crate::failover::Term;
use crate::failover::Timing;
use crate::failover::controller::{Controller, Electors, Switchback};
use crate::failover::fixtures::ms;
use crate::failover::lease::Grant;
use crate::failover::wire::Bytes;
use crate::failover::witness::Witness;
use crate::random::Random;
use std::collections::VecDeque;
use std::time::Duration;

/// A clock that runs faster or slower than the world's: `rate` 65,536ths of a second a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    base: u64,
    rate: u64,
}

/// A second of the world, in a clock's rate.
const TRUE_RATE: u64 = 1 << 16;
/// Between the slowest and the fastest clock lies a factor of 9/8, all that leases allow for.
const DRIFT: u64 = TRUE_RATE / 17;

impl Clock {
    pub(super) fn new(random: &mut Random, drifts: bool) -> Self {
        let rate = match random.below(4) {
            _ if !drifts => TRUE_RATE,
            0 => TRUE_RATE - DRIFT,
            1 => TRUE_RATE + DRIFT,
            _ => TRUE_RATE - DRIFT + random.below(2 * DRIFT + 1),
        };
        Self {
            base: random.below(1 << 50),
            rate,
        }
    }

    pub(super) fn local(&self, world: Duration) -> Duration {
        let passed = (world.as_nanos() * u128::from(self.rate)) >> 16;
        Duration::from_nanos(self.base + passed as u64)
    }

    /// When the clock will show that, or a nanosecond later.
    pub(super) fn world(&self, local: Duration) -> Duration {
        let passed = (local.as_nanos() as u64).saturating_sub(self.base);
        let world = ((u128::from(passed) << 16) / u128::from(self.rate)) as u64;
        Duration::from_nanos(world + 1)
    }
}

pub(super) enum Machine {
    Controller(Box<Controller>),
    Witness(Box<Witness>),
}

/// What is on a disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) term: Term,
    pub(super) electors: Option<Electors>,
    pub(super) grant: Option<Grant>,
}

#[derive(Clone)]
pub(super) enum Written {
    Term(Term),
    Electors(u32, Electors),
    Grant(Grant),
}

pub(super) enum Inbox {
    Datagram(usize, Bytes),
    Persisted(Term),
    ElectorsKept(u32),
}

pub(super) struct Host {
    pub(super) clock: Clock,
    pub(super) machine: Option<Machine>,
    pub(super) disk: Disk,
    /// On its way to the disk, which writes one after the other.
    pub(super) writing: VecDeque<Written>,
    /// When the disk will have written all of it.
    pub(super) disk_busy_until: Duration,
    pub(super) epoch: u32,
    /// Until when it does not run, or did not when it has not run since.
    pub(super) frozen_until: Option<Duration>,
    pub(super) inbox: VecDeque<Inbox>,
    pub(super) wakes_at: Duration,
    /// A controller's data plane.
    pub(super) active: Option<Term>,
    /// The version of its configuration.
    pub(super) version: u64,
}

impl Host {
    /// Whether it has not run since it was frozen.
    pub(super) const fn is_frozen(&self) -> bool {
        self.frozen_until.is_some()
    }

    /// It runs again from now on.
    pub(super) fn thaw(&mut self, now: Duration) {
        self.frozen_until = self.frozen_until.map(|_| now);
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) controllers: usize,
    pub(super) nodes: usize,
    pub(super) timing: Timing,
    pub(super) switchback: Switchback,
    pub(super) drifts: bool,
    /// The longest that a disk takes to write.
    pub(super) disk: Duration,
}

impl Setting {
    /// Two controllers, keep-alives every 20 ms.
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            controllers: 2,
            nodes,
            timing: Timing::new(ms(20), 3, None).expect("within bounds"),
            switchback: Switchback::Stay,
            drifts: true,
            disk: ms(3),
        }
    }
}

impl Disk {
    pub(super) fn write(&mut self, written: Written) {
        match written {
            Written::Term(term) => self.term = term,
            Written::Electors(_, electors) => self.electors = Some(electors),
            Written::Grant(grant) => self.grant = Some(grant),
        }
    }
}
