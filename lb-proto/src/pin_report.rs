//! Pin reports: a node tells the LBs that a call lives with it, away from the call's home.
//!
//! A call that was redirected or relayed is with a node that the steering table does not name. Its
//! SIP server may put the VIP in its Contact, and then the rest of the dialog comes by the LB, which
//! would send it home. So the node says where the call is *before* it lets an answer out that can draw
//! a request within the dialog, and holds that answer until every LB has it, or 50 ms have passed.
//!
//! ```text
//!   node                                  each LB's controller
//!     │ INVITE taken, not at home
//!     ├── report (epoch 5, 17), call k ────► genuine, new, from the node: pin k → node
//!     │   every 10 ms until answered         (the hint first, then the pin)
//!     ◄── answer (5, 17), call k: pinned ──┤ after the pin is in the map
//!     │ all have answered: 2xx goes out
//! ```
//! - [`wire`]: the two messages.
//! - [`Reporter`]: the node's side. [`Receiver`]: the controller's.
//!
//! What a report can do is bounded by what it says: one call, to the node that signed it and that it
//! came from. Nobody without a key can make one, and one that was caught cannot be played back: a
//! stamp counts once, an earlier life's never, and one made long before the last beacon not either.

mod receiver;
mod reporter;
pub mod wire;

pub use receiver::{Known, REPORTS_PER_SECOND, Receiver, Refusal, Taken};
pub use reporter::{Full, GIVE_UP, LbError, MOST_LBS, MOST_OPEN, Outcome, RETRY, Reporter, Signer};

/// Sequence numbers that a receiver remembers of each node, behind the highest. A report that is
/// overtaken by more than these is refused; a reporter keeps within it.
const WINDOW: u32 = 1024;

#[cfg(test)]
mod tests;
