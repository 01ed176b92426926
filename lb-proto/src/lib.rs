//! The cluster's protocols, without sockets, clocks, threads or global randomness.
//!
//! What this crate needs of the world is passed in (`now`, random numbers, the bytes received), and
//! what it wants of the world is handed out (bytes to send, the time of the next call). That is what
//! lets a test run a whole cluster for hours of its own time in milliseconds, and replay it by seed.
//!
//! - [`table`]: which node is home to a slot of the steering table.
//! - [`keys`]: the key file's contents.
//! - [`status`]: who is there, and who takes calls.

pub mod keys;
pub mod status;
pub mod table;
