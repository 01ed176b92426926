//! Call state: what a controller that takes over learns from the nodes, and how.
//!
//! Nothing is copied between controllers while all is well. The nodes know their calls; the controller
//! that comes to reign asks them, piece by piece, and works with what it has while the rest comes.
//!
//! ```text
//!   controller                                                        access node
//!   ┌───────────┐  keys?                                             ┌───────────┐  Calls
//!   │ Collector │ ─────────────────────────────────────────────────► │ Responder │ ◄────── record
//!   │           │ ◄── call key, state, priority of all calls ─────── │           │         of calls
//!   │     │     │  records? a page, or of these calls                │  holds to │
//!   │ ┌───▼────┐│ ─────────────────────────────────────────────────► │  the rule:│
//!   │ │Database││ ◄── records, in parts ──────────────────────────── │  only the │
//!   │ └────────┘│  reset! (a cold stand-by)                          │  holder of│
//!   │           │ ─────────────────────────────────────────────────► │  my lease │
//!   └───────────┘ ◄── so many calls are left ─────────────────────── └───────────┘
//! ```
//! - [`wire`]: the messages, on links that are encrypted and know who is at their other end.
//! - [`record`]: one call.
//! - [`collector`]: the controller's side: whom to ask what, and when. [`database`]: what is known.
//! - [`responder`]: the node's side.
//!
//! The seed (document 2, Process Description) has the stand-by request the state of all calls or some,
//! in several messages, in order of priority, and create its resource while parts still arrive (hot),
//! or have the devices reset to a designated state and begin with that (cold).

mod codec;
pub mod collector;
pub mod database;
pub mod record;
pub mod responder;
#[cfg(test)]
mod tests;
pub mod wire;

use crate::call::Call;

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Its INVITE has no final response.
    Early,
    /// It was accepted.
    Confirmed,
    /// It was accepted, and one side holds the other.
    Held,
}

impl State {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 3] = [Self::Early, Self::Confirmed, Self::Held];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Confirmed => "confirmed",
            Self::Held => "held",
        }
    }

    /// Whether it was accepted.
    pub const fn is_answered(self) -> bool {
        !matches!(self, Self::Early)
    }

    fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }
}

/// How urgent a call is (RFC 3261 §20.26; what is unknown is normal).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// `non-urgent`.
    NonUrgent,
    /// `normal`.
    #[default]
    Normal,
    /// `urgent`.
    Urgent,
    /// `emergency`.
    Emergency,
}

impl Priority {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 4] = [Self::NonUrgent, Self::Normal, Self::Urgent, Self::Emergency];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NonUrgent => "non-urgent",
            Self::Normal => "normal",
            Self::Urgent => "urgent",
            Self::Emergency => "emergency",
        }
    }

    fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }
}

/// What is said of every call at first: enough for its pin, and to see later whether it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey {
    /// The call.
    pub call: Call,
    /// Where it is.
    pub state: State,
    /// How urgent it is.
    pub priority: Priority,
}

/// The state that a cold stand-by has the nodes reset their calls to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Designated {
    /// Idle: every call is ended properly, on both sides.
    Drop,
    /// The records are forgotten without a word to anybody; what the two sides say to each other still
    /// passes.
    Reinitialise,
}

impl Designated {
    /// Both, in the order of their numbers on the wire.
    pub const ALL: [Self; 2] = [Self::Drop, Self::Reinitialise];

    fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }
}

/// A place in the order of a node's pages: most urgent first, then oldest first. Only the node knows
/// what it means; the next page begins behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub [u64; 3]);
