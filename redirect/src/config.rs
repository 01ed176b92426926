//! `pointsman-redirect.toml`: what it may say, and what is wrong when it says something else.
//!
//! Unknown keys are refused, because a misspelt setting that is silently ignored is worse than a
//! daemon that does not start. Every error names file, line and column, and shows the line.

mod check;
#[cfg(test)]
mod tests;

use crate::server::{Mode, Overflow};
use lb_proto::admission::Limits;
use lb_proto::admission::pressure::{Share, Threshold};
use lb_proto::admission::rate::Rate;
use serde::Deserialize;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The cluster; beacons of others are none of our business.
    pub cluster: u32,
    /// This node's id.
    #[serde(deserialize_with = "check::node_id")]
    pub node: u16,
    /// The key file.
    pub keys: PathBuf,
    /// Where the boot epoch is kept.
    pub state_dir: PathBuf,
    #[serde(deserialize_with = "check::beacon")]
    pub beacon: Beacon,
    #[serde(deserialize_with = "check::sip")]
    pub sip: Sip,
    pub capacity: Capacity,
    #[serde(default)]
    pub lb: Lb,
    /// The controllers that this node is a witness for: which of them is the main.
    #[serde(
        default,
        rename = "controller",
        deserialize_with = "check::controllers"
    )]
    pub controllers: Vec<Controller>,
    #[serde(default)]
    pub admin: Admin,
    pub metrics: Option<Metrics>,
}

/// What it says to the others, and how it hears them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Beacon {
    /// One group, or one of each family. None only when there are peers.
    #[serde(default, deserialize_with = "check::groups")]
    pub groups: Vec<IpAddr>,
    /// Controllers and nodes that are sent beacons one by one, where multicast is not to be had.
    #[serde(default, deserialize_with = "check::peers")]
    pub peers: Vec<SocketAddr>,
    #[serde(deserialize_with = "check::port")]
    pub port: u16,
    /// Where the groups are joined and sent to.
    pub interface: String,
    #[serde(
        rename = "period_ms",
        default = "default_period",
        deserialize_with = "check::period"
    )]
    pub period: Duration,
    #[serde(default = "default_hold_periods", deserialize_with = "check::periods")]
    pub hold_periods: u32,
    #[serde(default = "default_down_periods", deserialize_with = "check::periods")]
    pub down_periods: u32,
    /// Addresses of this host to send from and to be asked at, at most one of each family; all when
    /// left out.
    #[serde(default, deserialize_with = "check::addresses")]
    pub addresses: Vec<IpAddr>,
}

/// The SIP server beside it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sip {
    #[serde(deserialize_with = "check::server")]
    pub server: SocketAddr,
    #[serde(
        rename = "probe_ms",
        default = "default_probe",
        deserialize_with = "check::probe_interval"
    )]
    pub probe_interval: Duration,
    /// Whether it is probed at all.
    #[serde(default = "default_true")]
    pub probe: bool,
    /// Where the redirect server takes requests, by UDP and by TCP; without one, there is none.
    #[serde(default, deserialize_with = "check::listeners")]
    pub listen: Vec<SocketAddr>,
    /// The node's own address, for other nodes and for those that are redirected here; the first of
    /// `listen` when left out.
    #[serde(default, deserialize_with = "check::own_address")]
    pub advertise: Option<SocketAddr>,
    #[serde(default)]
    pub mode: Mode,
    #[serde(default)]
    pub overflow: Overflow,
}

impl Sip {
    /// Where the redirect server is reached; `None` if there is none.
    pub(crate) fn redirect_address(&self) -> Option<SocketAddr> {
        let first = self.listen.first()?;
        Some(self.advertise.unwrap_or(*first))
    }
}

/// Whom it tells of calls that it takes away from their homes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lb {
    /// The controllers' status ports; those of the [`Controller`]s when left out.
    #[serde(default, deserialize_with = "check::lbs")]
    pub status: Vec<SocketAddr>,
}

/// A controller, as those of a pair have it in their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Controller {
    /// Its id, 1 to 15.
    pub id: u16,
    /// Where it is; at the status port.
    pub address: IpAddr,
}

/// What the node can bear.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capacity {
    #[serde(deserialize_with = "check::calls")]
    pub calls: u32,
    /// New calls in a second; as many as come when left out.
    #[serde(default, deserialize_with = "check::rate")]
    pub calls_per_second: Option<u32>,
    /// New calls at once; as many as in a second when left out.
    #[serde(default, deserialize_with = "check::rate")]
    pub burst: Option<u32>,
    /// CPU pressure in per cent at which no new calls are taken; 0: it is not looked at.
    #[serde(default = "default_cpu", deserialize_with = "check::percent")]
    pub cpu_pressure: u8,
    /// Memory pressure, likewise.
    #[serde(default = "default_memory", deserialize_with = "check::percent")]
    pub memory_pressure: u8,
}

impl Capacity {
    /// What the gate goes by.
    pub(crate) fn limits(&self) -> Limits {
        let threshold = |percent: u8| match percent {
            0 => Threshold::NEVER,
            // The hysteresis of the defaults: two thirds.
            percent => Threshold {
                high: Share::percent(percent),
                low: Share::percent(percent - percent / 3),
            },
        };
        Limits {
            calls: self.calls,
            rate: self.calls_per_second.map(|per_second| Rate {
                per_second,
                burst: self.burst.unwrap_or(per_second).max(1),
            }),
            cpu: threshold(self.cpu_pressure),
            memory: threshold(self.memory_pressure),
        }
    }
}

/// Where `status` asks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    pub socket: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/pointsman/redirect.sock"),
        }
    }
}

/// Where Prometheus asks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    pub listen: SocketAddr,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {path}; `--config` names another file")]
    Read { path: PathBuf, source: io::Error },
    /// `problem` names line and column, and shows the line.
    #[error("{path}: {problem}")]
    Content { path: PathBuf, problem: String },
}

impl Config {
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|error| ConfigError::Content {
            path: path.to_owned(),
            problem: error.to_string().trim_end().to_owned(),
        })
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let mut config: Self = toml::from_str(text)?;
        if config.lb.status.is_empty() {
            let status = |at: &Controller| SocketAddr::new(at.address, config.beacon.port);
            config.lb.status = config.controllers.iter().map(status).collect();
        }
        Ok(config)
    }
}

fn default_period() -> Duration {
    Duration::from_millis(100)
}

fn default_hold_periods() -> u32 {
    3
}

fn default_down_periods() -> u32 {
    10
}

fn default_probe() -> Duration {
    Duration::from_millis(500)
}

fn default_true() -> bool {
    true
}

fn default_cpu() -> u8 {
    60
}

fn default_memory() -> u8 {
    20
}
