//! The controller of the data plane.
//!
//! [`plane`] is all that touches the kernel's BPF side, and the only module that writes maps.
//! Everything else is built on it.

pub mod apply;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod deferred;
pub mod explain;
pub mod neighbours;
pub mod netlink;
pub mod observe;
pub mod pins;
pub mod plan;
pub mod plane;
pub mod status;
pub mod takeover;
pub mod turn;
