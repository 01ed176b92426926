//! One of two controllers: stands by, takes over, steps down (seed document 2).
//!
//! ```text
//!   status port ──► PairTask ──► lb_proto::failover ──► activate ──► data plane, VIPs, rebuild
//!                      ▲  ▲                        └──► deactivate ► data plane, VIPs
//!        admin socket ─┘  └─ links ◄──► nodes: lb_proto::call_state
//! ```
//! - `task`: everything that happens to the machines, in order.
//! - `links`: the connections to nodes, while this controller is the main.
//! - `rebuild`: call state from the nodes: its database, and pins.
//! - `carry`: the shared part of the configuration, from the controller that has the newer one.
//! - `ports`: whether the switch reaches this machine.
//! - `ask`: what may be asked at the admin socket. [`report`]: the answers.
//!
//! **What a start does.** A controller that finds a data plane at work, because the one before it was killed,
//! leaves it at work: it ends when another LB is seen to be the main, or is taken up when this one becomes
//! it. On a machine that has just booted the data plane is passive from the start.

mod ask;
mod carry;
mod commands;
mod electors;
mod links;
mod numbers;
mod ports;
mod rebuild;
pub mod report;
mod setup;
mod task;
mod term;

pub(crate) use ask::Asker;
pub use commands::{CallArguments, FailoverArguments, calls, cluster, fail_over, resume};
pub(crate) use numbers::render;
pub(crate) use ports::Ports;
pub use report::ClusterReport;
pub use task::Control;
pub(crate) use task::{PairTask, Wires};
