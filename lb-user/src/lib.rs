//! The controller of the data plane.
//!
//! [`plane`] is all that touches the kernel's BPF side, and the only module that writes maps.
//! Everything else is built on it.

pub mod config;
pub mod deferred;
pub mod explain;
pub mod netlink;
pub mod plane;
