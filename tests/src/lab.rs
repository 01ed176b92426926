//! Labs: a switch, a load balancer and access nodes, each in a network namespace of its own.
//!
//! ```text
//!              switch            LB                     nodes
//!            10.77.0.1       10.77.0.10           10.77.0.11, .12 …
//!               │            VIP on its port        VIP on loopback
//!             eth0              eth0                     eth0
//!               │           XDP │                         │
//!   ────────────┴───────────────┴─────────────────────────┴──────── bridge, with real multicast
//! ```
//! The lab is one-armed with direct server return, unless it is asked for a second bridge: the LB
//! takes a frame in and sends it out of the same port, and the node answers the switch itself.
//!
//! A lab of a pair has a second LB at 10.77.0.9, the stand-by; then neither has the VIP until a
//! controller brings it ([`Lab::start_pair`]). Faults of the network are made on the bridges
//! ([`Cut`], [`Lab::unplug`], [`Lab::lose`], [`Lab::move_plug`]).
//!
//! Everything a lab makes bears the name `pm-<pid>-<number>-…` and lies in namespaces, so that labs
//! neither meet each other nor the machine's own network. It is taken away on drop and on Ctrl-C;
//! what a crash left behind goes when the next lab starts (`held.rs`).

mod bpffs;
mod command;
mod cut;
mod faults;
pub(crate) mod held;
mod host;
mod loss;
mod namespace;
mod pass;
mod process;
mod router;
mod sys;
mod topology;

pub use bpffs::Bpffs;
pub use cut::Cut;
pub use host::Host;
pub use loss::Lost;
pub use namespace::Namespace;
pub use pass::PassProgram;
pub use process::{Process, Signal, eventually, wait_until};
pub use router::Router;
pub use sys::{Scheduling, cpus, grow_receive_buffer, realtime_ns, run_on_cpu};
pub use topology::{Arms, CONTROLLERS, Lab, Plan};
