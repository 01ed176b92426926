//! SIP without IO: messages, transactions and dialogs (RFC 3261).
//!
//! Nothing here reads a clock, a socket or a random number: callers pass in bytes and `now`, and
//! carry out what they are told. The kernel's peek into a message is another matter, and lives in
//! `lb-common`.

pub mod dialog;
pub mod transaction;
