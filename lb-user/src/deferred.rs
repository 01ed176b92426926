//! Datagrams that the program leaves to userspace: steered here, and sent on to their node.
//!
//! ```text
//!  XDP_PASS ─► network stack (reassembles) ─► socket on the VIP ─► steer ─► frame ─► AF_PACKET ─► node
//! ```
//! Long headers, odd forms, fragments, datagrams without a Call-ID: nothing valid is lost because the
//! program does not read it, and nothing goes to another node than the rest of its call, because the
//! choice is the program's own code over the program's own maps.
//!
//! - [`Deferred`] is the task, [`Counters`] what it counts.
//! - [`steer`](mod@steer) chooses the node; [`steer_by_maps`] does so over the maps, for `explain` too.
//! - [`frame`] builds what the node receives.
//!
//! The VIP must be an address of this machine for the network stack to hand anything over (a /32 or
//! /128 on the port or on `lo`); the sockets open also before it is. While no controller runs,
//! deferred datagrams are the one thing that is not served.

pub mod counters;
pub mod frame;
pub mod steer;

mod checksum;
mod message;
mod origin;
#[cfg(test)]
mod parity;
mod sockets;
mod system;
mod task;
mod view;
mod waiting;

pub(crate) use checksum::Sum;
pub use counters::{Counters, Loss};
pub use origin::admit;
pub(crate) use sockets::FrameSocket;
pub use sockets::OpenError;
pub use task::Deferred;
pub use view::steer_by_maps;
