//! `pointsman-redirect`: the access node's daemon.
//!
//! It stands beside a node's SIP server and says, for all to hear, whether calls can come: an
//! authenticated beacon every 100 ms, for as long as the SIP server answers OPTIONS. It listens to the
//! other nodes' beacons and keeps a map of who is there.
//!
//! With `[sip] listen` it is also a redirect server: calls come by way of it, and those that the node
//! cannot bear are offered to the nodes in the map. Without, calls go straight to the SIP server; this
//! daemon is not in their way then, and its end ends no call.
//!
//! ```text
//!  SIP server ◄── OPTIONS ── health ──► gate ──► sender ──► beacons ──► group
//!      ▲                                 ▲         ▲                      │
//!      │                                 │         └── queries            │
//!      └── calls ── redirect server ─────┘      availability map ◄────────┘
//!                          └── offers to other nodes ◄──┘ └──► status, metrics
//! ```

mod admin;
mod cli;
mod clock;
mod config;
mod daemon;
mod health;
mod node;
mod numbers;
mod options;
mod overview;
mod pressure;
mod prober;
mod redirecting;
mod report;
mod server;
mod sip;
mod sockets;
mod streams;
mod table;
mod witness;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Arguments::parse().carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pointsman-redirect: {error:#}");
            ExitCode::FAILURE
        }
    }
}
