//! The control datagrams, and how they are read, verified and written.
//!
//! ```text
//!  0  "PMC1"                       16  term                      u64
//!  4  version = 1          u8      24  epoch                     u32
//!  5  kind                 u8      28  sequence                  u32
//!  6  key id               u8      32  by kind                   64 bytes
//!  7  flags                u8      96  MAC: SipHash-2-4-128 of   16 bytes
//!  8  cluster              u32         bytes 0..96
//! 12  from                 u16
//! 14  to, 0 for anybody    u16
//! ```
//! [Sealed](crate::sealed); reserved bytes are zero when sent and ignored when read. Flags: 1, sent by
//! a controller (else by a node); 2, the sender reigns in `term`; 4, urgent. The kernel program reads
//! the first 32 bytes of keep-alives: one of another controller that reigns in a greater term makes
//! the data plane passive, be its own daemon dead or stopped.
//!
//! | kind | from → to | at 32 |
//! |---|---|---|
//! | 0 [`Body::KeepAlive`] | controller → nodes, controllers | wall u64, monotonic u64 (ms), calls u32, capacity u32, status u8, role u8, nodes alive u16, configuration u64, lease ms u16, interval ms u16, nonce u64, misses u8, joining u8, reserved 6, digest u64 |
//! | 1 [`Body::Ack`] | node → main | echo u64, missing u8 |
//! | 2 [`Body::Query`] | stand-by → main | nonce u64 |
//! | 3 [`Body::Answer`] | main → stand-by | as 0 |
//! | 4 [`Body::LeaseRequest`] | candidate → nodes | nonce u64, lease ms u16, reason u8 |
//! | 5 [`Body::LeaseAnswer`] | node → candidate, main | nonce u64, echo u64, verdict u8, holder u8, remaining ms u16, reserved u32, highest term u64 |
//! | 6 [`Body::Release`] | who gives up → nodes | |
//! | 7 [`Body::RelayRequest`] | stand-by → node | |
//! | 8 [`Body::Yield`] | main → its successor | reason u8 |
//! | 9 [`Body::Ask`] | controller → main | successor u8, reason u8 |

mod code;

use super::{ControllerId, Party, Term};
use crate::keys::NumberedKey;
use crate::sealed::{Form, SealError, seal};
use lb_common::reign;
use lb_common::siphash::SipKey;
use std::time::Duration;

/// Bytes of a control datagram.
pub const CONTROL_LEN: usize = reign::CONTROL_LEN as usize;
/// What a control datagram starts with.
pub const MAGIC: [u8; 4] = reign::MAGIC.to_be_bytes();

const FORM: Form = Form {
    magic: MAGIC,
    version: reign::VERSION,
};

/// The bytes of one.
pub type Bytes = [u8; CONTROL_LEN];

/// Epoch and sequence of its sender, as one number that only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Which life of the sender.
    pub epoch: u32,
    /// Grows with every datagram of a life, over all kinds.
    pub sequence: u32,
}

/// What all of them have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The key that it is authenticated with.
    pub key_id: u8,
    /// The cluster.
    pub cluster: u32,
    /// The sender.
    pub from: Party,
    /// The recipient's id; 0 for anybody.
    pub to: u16,
    /// Whether the sender is the main of `term`.
    pub reigns: bool,
    /// Sent on an event, beyond the regular ones.
    pub is_urgent: bool,
    /// The term that it is about.
    pub term: Term,
    /// Which one of the sender's.
    pub stamp: Stamp,
}

/// A whole control datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// What all have.
    pub header: Header,
    /// What its kind has.
    pub body: Body,
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// I am here. From the main it is the renewal of its leases, too.
    KeepAlive(KeepAlive),
    /// You hold this node's lease.
    Ack(Ack),
    /// Are you there?
    Query {
        /// Repeated in the answer.
        nonce: u64,
    },
    /// I am; with the query's nonce.
    Answer(KeepAlive),
    /// Lease me the reign.
    LeaseRequest(LeaseRequest),
    /// Yes, or no and why.
    LeaseAnswer(LeaseAnswer),
    /// I give up my lease of this term, and shall not use it again.
    Release,
    /// Forward the main's keep-alives to me for [`RELAY_FOR`].
    RelayRequest,
    /// I have released this term: take over.
    Yield {
        /// On whose wish.
        reason: Reason,
    },
    /// Please yield.
    Ask {
        /// To whom.
        successor: ControllerId,
        /// On whose wish.
        reason: Reason,
    },
}

/// How long a relay request is good for.
pub const RELAY_FOR: Duration = Duration::from_secs(2);

/// What a controller says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The time of day, in milliseconds since 1970; for people.
    pub wall_ms: u64,
    /// The sender's monotonic clock in milliseconds; for people.
    pub monotonic_ms: u64,
    /// What it knows of itself.
    pub report: Report,
    /// Its role.
    pub role: Role,
    /// The version of its configuration.
    pub configuration: u64,
    /// A digest of its contents; 0 when it has none. One version with two digests is an operator's mistake.
    pub digest: u64,
    /// Nobody may conclude that this configuration's nodes decide: those before do, or it has just started.
    pub is_joining: bool,
    /// How long its leases are.
    pub lease: Duration,
    /// From one keep-alive to the next.
    pub interval: Duration,
    /// How many may be missed.
    pub misses: u8,
    /// A query's; else 0.
    pub nonce: u64,
}

/// What a controller's daemon knows of its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls that it supports.
    pub calls: u32,
    /// Calls that its nodes can take.
    pub capacity: u32,
    /// How it fares.
    pub status: Status,
    /// Nodes that it knows to be alive.
    pub nodes_alive: u16,
}

/// How a controller fares.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Not ready.
    #[default]
    Starting = 0,
    /// All is well, and it is main.
    Serving = 1,
    /// It is main, but not all is well.
    Degraded = 2,
    /// It is about to yield.
    Yielding = 3,
    /// All is well, and it is not main.
    StandBy = 4,
    /// It cannot serve: no switch reaches its machine.
    Unfit = 5,
}

/// What a controller is at present. Role is state: all run the same binary.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a main, or waits for one.
    StandBy = 0,
    /// Asks the nodes for leases.
    Candidate = 1,
    /// Holds leases of more than half of the nodes.
    Main = 2,
}

/// Why a controller would be main.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The main is lost.
    Loss = 0,
    /// An operator's wish.
    Command = 1,
    /// Nobody has been main since it started.
    Start = 2,
    /// The preferred one is back.
    Switchback = 3,
    /// It is main, and goes on under a higher term.
    Raise = 4,
    /// The main cannot serve, and the other can.
    Unfit = 5,
}

/// A node's confirmation of a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The keep-alive's stamp.
    pub echo: Stamp,
    /// What the node misses of the main.
    pub missing: Missing,
}

/// What a node misses of the main that it accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// A link over which it can be asked for its calls.
    pub link: bool,
}

/// A candidate's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Repeated in the answer; one of each candidacy.
    pub nonce: u64,
    /// For how long.
    pub lease: Duration,
    /// Why.
    pub reason: Reason,
}

/// A node's answer to a lease request, and its refusal of a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseAnswer {
    /// The request's nonce; 0 to a keep-alive.
    pub nonce: u64,
    /// The stamp of what is answered.
    pub echo: Stamp,
    /// Granted, or why not.
    pub verdict: Verdict,
    /// Who holds the highest term that the node knows.
    pub holder: Option<ControllerId>,
    /// How long that lease, or the wait after a start, still runs.
    pub remaining: Duration,
    /// The highest term that the node has granted.
    pub highest: Term,
}

/// What a node says to the wish for a lease.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Granted.
    Granted = 0,
    /// The term is not above the highest, or has been given up.
    LowerTerm = 1,
    /// Another's lease runs, and the node hears that main.
    HearsMain = 2,
    /// Another's lease runs, though the node misses that main.
    LeaseRuns = 3,
    /// The node does not know what it had granted before it started, and waits.
    Starting = 4,
    /// Longer than any lease may be.
    TooLong = 5,
}

impl Datagram {
    /// Reads one and verifies it under one of `keys`. Whose and for whom it is, the machines look at.
    ///
    /// # Errors
    /// [`SealError`] for what is none, or not genuine.
    pub fn read(bytes: &[u8], keys: &[NumberedKey]) -> Result<Self, SealError> {
        FORM.read(bytes, keys, code::decode)
    }

    /// Writes it and its MAC. `key` must be the one that its key id names.
    pub fn write(&self, key: SipKey) -> Bytes {
        let mut bytes = code::encode(self);
        seal(&mut bytes, key);
        bytes
    }
}

impl Body {
    /// The word that people and programs read.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::KeepAlive(_) => "keep-alive",
            Self::Ack(_) => "ack",
            Self::Query { .. } => "query",
            Self::Answer(_) => "answer",
            Self::LeaseRequest(_) => "lease-request",
            Self::LeaseAnswer(_) => "lease-answer",
            Self::Release => "release",
            Self::RelayRequest => "relay-request",
            Self::Yield { .. } => "yield",
            Self::Ask { .. } => "ask",
        }
    }
}

impl Role {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StandBy => "stand-by",
            Self::Candidate => "candidate",
            Self::Main => "main",
        }
    }
}

impl Reason {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Command => "command",
            Self::Start => "start",
            Self::Switchback => "switchback",
            Self::Raise => "raise",
            Self::Unfit => "unfit",
        }
    }
}

impl Status {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Degraded => "degraded",
            Self::Yielding => "yielding",
            Self::StandBy => "stand-by",
            Self::Unfit => "unfit",
        }
    }
}

impl Verdict {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::LowerTerm => "lower-term",
            Self::HearsMain => "hears-main",
            Self::LeaseRuns => "lease-runs",
            Self::Starting => "starting",
            Self::TooLong => "too-long",
        }
    }
}

#[cfg(test)]
mod tests;
