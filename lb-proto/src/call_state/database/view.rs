//! What somebody sees who looks into the database, and how he asks.

use crate::call::Call;
use crate::call_state::record::CallRecord;
use crate::call_state::{Priority, State};

/// How far a node's calls are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Completeness {
    /// They are being asked for.
    #[default]
    Rebuilding,
    /// All of them, but for changes of the last seconds.
    Ok,
    /// The node does not answer: its calls are unknown, and not ended.
    Unreachable,
}

impl Completeness {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rebuilding => "rebuilding",
            Self::Ok => "ok",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What is known of where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Its node has said so, over the link that it has now.
    Known(State),
    /// It was there when its node was last heard. It may be, still.
    Unknown,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Known(State::Early),
        Self::Known(State::Confirmed),
        Self::Known(State::Held),
        Self::Unknown,
    ];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Known(state) => state.name(),
            Self::Unknown => "unknown",
        }
    }
}

/// Which calls somebody wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this node.
    pub node: Option<u16>,
    /// Those of which this is known.
    pub standing: Option<Standing>,
}

/// A place among all calls: behind this call of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// The node.
    pub node: u16,
    /// The call.
    pub call: Call,
}

/// A call, as somebody sees it who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// The call.
    pub call: Call,
    /// Its node.
    pub node: u16,
    /// Where it is.
    pub standing: Standing,
    /// How urgent it is.
    pub priority: Priority,
    /// Its record, with its times as they are now; `None` while only its key has come. Its state is the
    /// last that was heard of.
    pub record: Option<CallRecord<'a>>,
}

/// Some calls.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// By node and call key.
    pub calls: Vec<View<'a>>,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<Cursor>,
}

/// A node's calls in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The node.
    pub node: u16,
    /// How far its calls are known.
    pub completeness: Completeness,
    /// All of its calls.
    pub calls: usize,
    /// Those that are known to be early.
    pub early: usize,
    /// Those that are known to be confirmed, and not held.
    pub confirmed: usize,
    /// Those that are known to be held.
    pub held: usize,
    /// Those of which nothing is known now.
    pub unknown: usize,
    /// Those whose record has not come, or has changed since.
    pub awaited: usize,
}
