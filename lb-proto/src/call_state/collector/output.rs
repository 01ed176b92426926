//! What a rebuild wants done, and what it has to say.

use crate::call::Call;
use std::time::Duration;

/// What is to be done, and what has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to a node. If that fails, its link is lost.
    Request {
        /// The node.
        node: u16,
        /// The message.
        message: Vec<u8>,
    },
    /// The call lives with the node: where that is not its home, it needs a pin. Said of every call,
    /// again when it is answered, and of one that rings with every refresh.
    Pin {
        /// The call.
        call: Call,
        /// Where it lives.
        node: u16,
        /// It was answered.
        confirmed: bool,
    },
    /// The node has the call no more.
    Ended {
        /// The call.
        call: Call,
        /// Where it lived.
        node: u16,
    },
    /// Every node has told its keys, or is unreachable: all pins are known that can be. Said once in a
    /// reign, and in a cold one when every node has begun its reset.
    KeysComplete {
        /// Nodes that have told them.
        nodes: usize,
        /// Since the rebuild began.
        took: Duration,
    },
    /// All calls of a node are known.
    NodeComplete {
        /// The node.
        node: u16,
        /// How many there are.
        calls: usize,
        /// Since the rebuild began, or since the node was heard again.
        took: Duration,
    },
    /// A node does not answer. Its calls are unknown from now on.
    Unreachable {
        /// The node.
        node: u16,
    },
    /// A node does not grant that this controller asks: it has accepted this term.
    Refused {
        /// The node.
        node: u16,
        /// The highest term that it has accepted.
        term: u64,
    },
    /// Every node is complete or unreachable. Said once in a reign.
    Complete {
        /// Nodes whose calls are known.
        nodes: usize,
        /// Nodes that do not answer.
        unreachable: usize,
        /// Calls that are known.
        calls: usize,
        /// Until the last of those nodes was complete.
        took: Duration,
    },
}

/// What went wrong, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests.
    pub asked: u64,
    /// Requests that were not answered in time.
    pub missed: u64,
    /// Parts that came twice, or in answer to what is not asked any more.
    pub stale: u64,
    /// Messages that are none, or that no node sends.
    pub malformed: u64,
    /// Requests that nodes refused.
    pub refused: u64,
}
