//! What a controller hands out.

use super::Stage;
use crate::failover::wire::{Bytes, Reason};
use crate::failover::{ControllerId, NodeId, Party, Term};
use std::time::Duration;

/// What the caller is to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes to its first address, status port.
    Send {
        /// To whom.
        to: Party,
        /// The datagram.
        bytes: Bytes,
    },
    /// Keep this term on the disk, synced, in the order in which these come; then call
    /// [`persisted`](super::Controller::persisted) with it. Until then nobody is asked for leases.
    Persist {
        /// The term.
        term: Term,
    },
    /// Keep on the disk, synced, whose leases count: [`electors`](super::Controller::electors), in the order
    /// in which these come; then call [`electors_kept`](super::Controller::electors_kept). Until then nobody
    /// is told that the present nodes count.
    KeepElectors,
    /// This controller is main: activate the data plane, claim the addresses, rebuild call state.
    Activate {
        /// In which term.
        term: Term,
        /// Why.
        reason: Reason,
        /// How long it took.
        steps: Steps,
    },
    /// The reign goes on under a higher term: tell the data plane and the links.
    Raise {
        /// The new term.
        term: Term,
    },
    /// This controller is not main any longer: passivate the data plane, give up the addresses. To be
    /// done before anything that follows is sent.
    Deactivate {
        /// Why.
        why: Deactivation,
    },
    /// Somebody has a newer configuration: fetch it.
    FetchConfig {
        /// Who.
        from: ControllerId,
        /// Which.
        version: u64,
    },
    /// To be logged and counted.
    Event(Event),
}

/// The steps of a takeover, and how long each took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// From the last sign of life of the old main until it was missed.
    pub silence: Duration,
    /// From then until nobody had answered.
    pub query: Duration,
    /// From then, or from the command, until more than half of the nodes had granted.
    pub leases: Duration,
}

impl Steps {
    /// All of them.
    pub fn total(&self) -> Duration {
        self.silence + self.query + self.leases
    }
}

/// Why a reign ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deactivation {
    /// Not more than half of the nodes confirmed the lease in time.
    LostMajority,
    /// Another reigns in a higher term.
    HigherTerm {
        /// Who.
        by: ControllerId,
        /// In which.
        term: Term,
    },
    /// It was yielded.
    Yielded {
        /// To whom.
        to: ControllerId,
    },
}

impl Deactivation {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostMajority => "lost-majority",
            Self::HigherTerm { .. } => "higher-term",
            Self::Yielded { .. } => "yielded",
        }
    }
}

/// Why a candidacy ended without a reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// A main was heard after all.
    MainHeard,
    /// More than half of the nodes hear the main.
    NodesHearMain,
    /// The term was not above all others.
    Overtaken,
    /// Not enough nodes granted in time.
    OutOfTime,
    /// Other nodes decide than when it began.
    NodesChanged,
}

impl GaveUp {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MainHeard => "main-heard",
            Self::NodesHearMain => "nodes-hear-main",
            Self::Overtaken => "overtaken",
            Self::OutOfTime => "out-of-time",
            Self::NodesChanged => "nodes-changed",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A main is followed, or the same in another term.
    Following {
        /// Which.
        main: ControllerId,
        /// Its term.
        term: Term,
    },
    /// The designated number of keep-alives is missing: the main is asked.
    Missed {
        /// Which.
        main: ControllerId,
        /// For how long it has been silent.
        silence: Duration,
    },
    /// The main that was missed is heard.
    Answered {
        /// Which.
        main: ControllerId,
        /// After having been missed for this long.
        after: Duration,
    },
    /// The main says that it is none any longer.
    Ceased {
        /// Which.
        main: ControllerId,
    },
    /// The nodes are asked for leases.
    Candidate {
        /// Of which term.
        term: Term,
        /// Why.
        reason: Reason,
    },
    /// A node granted its lease.
    Granted {
        /// Which.
        node: NodeId,
        /// How long after the candidacy began.
        after: Duration,
    },
    /// The candidacy is over.
    GaveUp {
        /// Of which term.
        term: Term,
        /// Why.
        why: GaveUp,
        /// How long after it began.
        after: Duration,
    },
    /// Nobody reigns, and this controller may not: its configuration is older than another's.
    OlderConfiguration {
        /// One's own.
        own: u64,
        /// The other.
        newer: u64,
        /// Whose.
        of: ControllerId,
    },
    /// This controller did not run for this long.
    Stalled(Duration),
    /// The main is asked to yield.
    Asked {
        /// Which.
        main: ControllerId,
        /// To whom.
        successor: ControllerId,
    },
    /// It did not.
    AskFailed {
        /// Which.
        main: ControllerId,
        /// To whom.
        successor: ControllerId,
    },
    /// Somebody asked this main to yield, and it does not.
    AskRefused {
        /// Who.
        by: ControllerId,
        /// To whom.
        successor: ControllerId,
        /// Why.
        why: super::RequestError,
    },
    /// Somebody's configuration has the version of one's own, and other contents.
    DifferentConfiguration {
        /// Whose.
        of: ControllerId,
        /// Of both.
        version: u64,
    },
    /// The nodes are others than before, and this is whose leases count.
    NodesChange(Stage),
    /// Who was to take over did not in time.
    YieldFailed {
        /// Who.
        to: ControllerId,
    },
}
