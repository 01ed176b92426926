//! The cluster's protocols, without sockets, clocks, threads or global randomness.
//!
//! What this crate needs of the world is passed in (`now`, random numbers, the bytes received), and
//! what it wants of the world is handed out (bytes to send, the time of the next call). That is what
//! lets a test run a whole cluster for hours of its own time in milliseconds, and replay it by seed.
//!
//! - [`table`]: which node is home to a slot of the steering table.
//! - [`keys`]: the key file's contents.
//! - [`sealed`]: the form that several protocols' datagrams share.
//! - [`status`]: who is there, and who takes calls.
//! - [`admission`]: whether this node takes a call, and the slots that it holds for calls.
//! - [`offer`]: which other node is offered a call that this one does not take.
//! - [`pin_report`]: how the LBs learn that a call lives away from its home.
//! - [`call_state`]: how a controller that takes over learns which calls there are.
//! - [`call`]: by what name these know a call.
//! - [`failover`]: which controller is main, and how another takes over from it.

pub mod admission;
pub mod call;
pub mod call_state;
pub mod failover;
#[cfg(test)]
mod fixtures;
pub mod keys;
#[cfg(test)]
mod network;
pub mod offer;
pub mod pin_report;
mod random;
pub mod sealed;
pub mod status;
pub mod table;
