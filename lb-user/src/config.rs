//! `pointsman.toml`: what the operator wants.
//!
//! Everything is checked when the file is read, what one field says against what others say too, so
//! that the rest of the program need not doubt. What can only be known on the machine (is there an
//! interface of this name? may the key file be read?) is asked where it is needed.

mod check;
mod file;
pub mod pair;
mod problem;
pub mod shared;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_common::maps::DEFAULT_MAX_PINS;
use lb_proto::status::Timing;
use lb_proto::status::map::Discovery;

use crate::netlink::Mac;
use crate::plane::attach::Wanted;

pub use pair::Pair;
pub use problem::{ConfigError, Problem};

/// Where the configuration is looked for unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/pointsman/pointsman.toml";
/// Where things are pinned unless told otherwise.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/pointsman";
/// The port of SIP (RFC 3261 §18.1).
const SIP_PORT: u16 = 5060;
/// The status plane's port unless told otherwise.
const STATUS_PORT: u16 = 7700;

/// A configuration without contradictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster's number: beacons of others are ignored.
    pub cluster: u32,
    /// The key file.
    pub keys: PathBuf,
    /// The directory of pins.
    pub bpffs: PathBuf,
    /// The status plane.
    pub status: Status,
    /// Interfaces to attach to. At least one.
    pub interfaces: Vec<Wanted>,
    /// Service addresses. At least one.
    pub vips: Vec<SocketAddr>,
    /// Access nodes, by id. At least one has a weight, unless nodes are learnt.
    pub nodes: Vec<NodeConfig>,
    /// What there is to know when there are two controllers.
    pub pair: Option<Pair>,
    /// Calls away from home.
    pub pins: PinLimits,
    /// How long the old table keeps its dialogs after the node set has changed.
    pub drain: Duration,
    /// Where Prometheus asks.
    pub metrics: Option<SocketAddr>,
    /// One event in this many frames goes to the ring; 0 for none.
    pub event_sample: u32,
}

/// Where nodes' beacons come, and how their absence is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The groups that nodes multicast to. Empty when every node is silent, or has this machine's
    /// `addresses` in its list of peers.
    pub groups: Vec<IpAddr>,
    /// Addresses of this machine that nodes send beacons and pin reports to, besides those that
    /// datagrams to the nodes go out from.
    pub addresses: Vec<IpAddr>,
    /// How nodes that are not in the configuration are learnt from their beacons; `None`: not at all.
    pub discovery: Option<Discovery>,
    /// The UDP port, of the groups and of queries.
    pub port: u16,
    /// Period, hold time and the rest.
    pub timing: Timing,
}

/// An access node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its id, 1 to 255.
    pub id: u16,
    /// Where it is reached. Leads to its link address only: calls keep the VIP as their destination,
    /// so an IPv4 address serves for IPv6 calls too.
    pub address: IpAddr,
    /// Its part of the calls, in proportion to the others'; 0 for none (but those that live there).
    pub weight: u32,
    /// Its link address, if the neighbour table is not to be asked.
    pub mac: Option<Mac>,
    /// The interface that leads there, if the routing table is not to be asked.
    pub interface: Option<String>,
    /// It sends no beacons and counts as `Up` and `Free`.
    pub is_silent: bool,
}

/// How many calls may live away from home, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinLimits {
    /// Pins in the map. Chosen when the maps are made.
    pub max: u32,
    /// How long an answered call's pin outlives its last packet.
    pub session: Duration,
}

impl Default for PinLimits {
    fn default() -> Self {
        Self {
            max: DEFAULT_MAX_PINS,
            session: Duration::from_secs(4 * 3600),
        }
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem found, each with its place in the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Checks the text of a configuration file. `path` is for the messages.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |problems| ConfigError::wrong(path, text, problems);
        let file = file::parse(text).map_err(|problem| wrong(vec![problem]))?;
        check::check(file).map_err(wrong)
    }

    /// The nodes that send beacons.
    pub fn speaking_nodes(&self) -> impl Iterator<Item = &NodeConfig> {
        self.nodes.iter().filter(|node| !node.is_silent)
    }
}

#[cfg(test)]
mod tests;
