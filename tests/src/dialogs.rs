//! Calls that last: a switch that keeps thousands of dialogs, and SIP servers that know only their own.
//!
//! SIPp cannot say which node answered, nor be asked between two messages of a call; these can. The
//! switch repeats its requests as SIP's transactions do over UDP (RFC 3261 §17.1: T1 500 ms, given up after
//! 64 × T1), follows 302, and takes a BYE. A SIP server answers 481 to requests within dialogs that are
//! not its own: a call whose messages find another node is lost, and does not seem to go on.
//!
//! Whose header fields these are is read by own means, so that nothing here depends on the parser that is
//! under test.

mod bustle;
mod callees;
mod callers;
mod text;

pub use bustle::Bustle;
pub use callees::{Callees, Fate};
pub use callers::{Callers, Dialog, Phase};
