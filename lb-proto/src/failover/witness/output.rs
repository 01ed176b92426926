//! What a node's machine hands out, and shows.

use crate::failover::lease::Grant;
use crate::failover::trust::Refusals;
use crate::failover::wire::{Bytes, Reason, Role, Verdict};
use crate::failover::{ControllerId, Term};
use std::time::Duration;

/// What the caller is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes to the controller's first address, status port.
    Send {
        /// To whom.
        to: ControllerId,
        /// The datagram.
        bytes: Bytes,
    },
    /// Keep this on the disk, synced, in place of what was there, in the order in which these come;
    /// then call [`persisted`](super::Witness::persisted) with its term.
    Persist(Grant),
    /// To be logged, counted or acted upon.
    Event(Event),
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// From now on this controller is obeyed, in this term, and nobody of a lower one.
    Accepted {
        /// Whom.
        controller: ControllerId,
        /// In which term.
        term: Term,
        /// What it asked for leases for; `None` when a keep-alive brought it.
        reason: Option<Reason>,
    },
    /// The main is missed: drop the links with it.
    Missed {
        /// Whom.
        controller: ControllerId,
        /// Its term.
        term: Term,
        /// Since when it has been silent.
        silence: Duration,
    },
    /// The main that was missed is heard again, in the same term.
    Heard {
        /// Whom.
        controller: ControllerId,
        /// Its term.
        term: Term,
    },
    /// The main has given up its lease.
    Released {
        /// Who.
        controller: ControllerId,
        /// Its term.
        term: Term,
    },
    /// The lease is over: nobody is obeyed.
    Expired {
        /// Whose.
        controller: ControllerId,
        /// Its term.
        term: Term,
    },
    /// A candidate was refused a lease.
    Refused {
        /// Who.
        controller: ControllerId,
        /// The term that it asked for.
        term: Term,
        /// Why.
        verdict: Verdict,
    },
    /// This machine did not run for this long.
    Stalled(Duration),
}

/// What a controller last said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub controller: ControllerId,
    /// How long ago.
    pub age: Duration,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The version of its configuration.
    pub configuration: u64,
}

/// What the machine holds, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who is obeyed, and in which term.
    pub accepted: Option<(Term, ControllerId)>,
    /// How long that lease runs, or the wait after a start.
    pub remaining: Duration,
    /// Whether that main is missed.
    pub is_missed: bool,
    /// The highest term that was ever granted.
    pub highest: Term,
    /// The controllers that were heard.
    pub controllers: Vec<Seen>,
    /// To whom the main's keep-alives are forwarded.
    pub relays: Vec<ControllerId>,
    /// What was refused.
    pub refusals: Refusals,
    /// Datagrams and events dropped because [`OUTPUTS`](super::OUTPUTS) waited.
    pub dropped: u64,
}
