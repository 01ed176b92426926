//! The thin edges between the daemons and the operating system.
//!
//! - [`keys`]: reads the key file, if nobody else can.

pub mod keys;
