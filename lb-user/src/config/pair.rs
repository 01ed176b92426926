//! `[pair]`: this controller is one of two, of which one is the main and the other stands by.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Where the term and the shared configuration are kept unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/pointsman";
/// Where the CLI asks unless told otherwise.
pub const DEFAULT_ADMIN: &str = "/run/pointsman/controller.sock";

/// What one controller of a pair goes by. The addresses are the same in both files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// This one's id.
    pub id: u16,
    /// Where both are reached, by id; at the status port, by UDP and by TCP.
    pub controllers: BTreeMap<u16, IpAddr>,
    /// The directory in which the term is kept.
    pub state_dir: PathBuf,
    /// Time between two keep-alives of the main.
    pub keep_alive: Duration,
    /// Keep-alives missed before the main is asked, and then the nodes.
    pub misses: u32,
    /// What becomes of the calls that the main had.
    pub mode: Standby,
    /// What becomes of the main when it comes back.
    pub switchback: Switchback,
    /// How the VIPs come to the main.
    pub takeover: Takeover,
    /// The version of what both have to agree on: VIPs, nodes, table, pins.
    pub version: u64,
    /// Whether it takes over with an older version than the other has.
    pub serve_outdated: bool,
    /// The admin socket.
    pub admin: PathBuf,
}

/// What becomes of the calls when the stand-by takes over (seed document 2, figures 2 and 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standby {
    /// They go on: the nodes are asked for them.
    #[default]
    Hot,
    /// They do not: the nodes are reset to a designated state.
    Cold(Designated),
}

/// The state that a cold stand-by resets nodes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Designated {
    /// Every call is ended, on both sides.
    #[default]
    Idle,
    /// Calls are forgotten without a word to anybody.
    Reinitialise,
}

/// What becomes of the preferred controller, the one with the lower id, when it comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switchback {
    /// It stands by from now on.
    #[default]
    Stay,
    /// It becomes the main again when it has been well for a while.
    Resume,
}

/// How the VIPs come to the main.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// Their addresses are added to this interface, and announced by ARP and neighbour discovery.
    Address(String),
    /// Their addresses are added to this interface, a loopback or dummy, from which a routing daemon
    /// announces them.
    Announce(String),
    /// Others see to it.
    Nothing,
}

impl Pair {
    /// The other controllers.
    pub fn others(&self) -> impl Iterator<Item = (u16, IpAddr)> + '_ {
        let all = self.controllers.iter().map(|(id, at)| (*id, *at));
        all.filter(|(id, _)| *id != self.id)
    }

    /// Where this one is reached.
    pub fn own_address(&self) -> Option<IpAddr> {
        self.controllers.get(&self.id).copied()
    }
}
