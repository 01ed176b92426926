//! What both sides of the kernel boundary agree on.
//!
//! The XDP program and the controller are compiled from this one source: how a frame is decoded
//! ([`packet`]), where its Call-ID stands ([`sip`]), what key that makes ([`siphash`]), which node it
//! goes to ([`choose`](mod@choose), [`memory`]), how a node's beacon and a main's keep-alive are verified
//! ([`beacon`], [`reign`]), what lies in the maps
//! ([`maps`]) and how every frame's fate is named ([`verdict`]). A differential test holds the two
//! compilations together.
//!
//! No standard library, no dependencies, no pointers: decoders read through a [`Window`].
#![no_std]

pub mod beacon;
pub mod choose;
pub mod maps;
pub mod memory;
pub mod packet;
pub mod reign;
mod shared;
pub mod sip;
pub mod siphash;
pub mod verdict;
mod window;

pub use beacon::Admission;
pub use packet::Address;
pub use shared::Shared;
pub use verdict::{Outcome, REASON_SLOTS, Reason};
pub use window::{BLOCK, Window, tail_of};
