//! `pointsman-redirect.toml`: what it may say, and what is wrong when it says something else.
//!
//! Unknown keys are refused, because a misspelt setting that is silently ignored is worse than a
//! daemon that does not start. Every error names file, line and column, and shows the line.

use crate::server::{Mode, Overflow};
use lb_proto::admission::Limits;
use lb_proto::admission::pressure::{Share, Threshold};
use lb_proto::admission::rate::Rate;
use lb_proto::failover::ControllerId;
use lb_proto::pin_report::{LbError, MOST_LBS};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Addresses that the redirect server listens at, at most.
const MAX_LISTENERS: usize = 16;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The cluster; beacons of others are none of our business.
    pub cluster: u32,
    /// This node's id.
    #[serde(deserialize_with = "node_id")]
    pub node: u16,
    /// The key file.
    pub keys: PathBuf,
    /// Where the boot epoch is kept.
    pub state_dir: PathBuf,
    #[serde(deserialize_with = "beacon")]
    pub beacon: Beacon,
    #[serde(deserialize_with = "sip")]
    pub sip: Sip,
    pub capacity: Capacity,
    #[serde(default)]
    pub lb: Lb,
    /// The controllers that this node is a witness for: which of them is the main.
    #[serde(default, rename = "controller", deserialize_with = "controllers")]
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
    #[serde(default, deserialize_with = "groups")]
    pub groups: Vec<IpAddr>,
    /// Controllers and nodes that are sent beacons one by one, where multicast is not to be had.
    #[serde(default, deserialize_with = "peers")]
    pub peers: Vec<SocketAddr>,
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// Where the groups are joined and sent to.
    pub interface: String,
    #[serde(
        rename = "period_ms",
        default = "default_period",
        deserialize_with = "period"
    )]
    pub period: Duration,
    #[serde(default = "default_hold_periods", deserialize_with = "periods")]
    pub hold_periods: u32,
    #[serde(default = "default_down_periods", deserialize_with = "periods")]
    pub down_periods: u32,
    /// Addresses of this host to send from and to be asked at, at most one of each family; all when
    /// left out.
    #[serde(default, deserialize_with = "addresses")]
    pub addresses: Vec<IpAddr>,
}

/// The SIP server beside it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sip {
    #[serde(deserialize_with = "server")]
    pub server: SocketAddr,
    #[serde(
        rename = "probe_ms",
        default = "default_probe",
        deserialize_with = "probe_interval"
    )]
    pub probe_interval: Duration,
    /// Whether it is probed at all.
    #[serde(default = "default_true")]
    pub probe: bool,
    /// Where the redirect server takes requests, by UDP and by TCP; without one, there is none.
    #[serde(default, deserialize_with = "listeners")]
    pub listen: Vec<SocketAddr>,
    /// The node's own address, for other nodes and for those that are redirected here; the first of
    /// `listen` when left out.
    #[serde(default, deserialize_with = "own_address")]
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
    #[serde(default, deserialize_with = "lbs")]
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
    #[serde(deserialize_with = "calls")]
    pub calls: u32,
    /// New calls in a second; as many as come when left out.
    #[serde(default, deserialize_with = "rate")]
    pub calls_per_second: Option<u32>,
    /// New calls at once; as many as in a second when left out.
    #[serde(default, deserialize_with = "rate")]
    pub burst: Option<u32>,
    /// CPU pressure in per cent at which no new calls are taken; 0: it is not looked at.
    #[serde(default = "default_cpu", deserialize_with = "percent")]
    pub cpu_pressure: u8,
    /// Memory pressure, likewise.
    #[serde(default = "default_memory", deserialize_with = "percent")]
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

/// The section, checked for settings that contradict one another.
fn beacon<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Beacon, D::Error> {
    let beacon = Beacon::deserialize(deserializer)?;
    if beacon.down_periods < beacon.hold_periods {
        return Err(D::Error::custom(format!(
            "hold_periods = {} must not be above down_periods = {}: a node is Stale before it is Down",
            beacon.hold_periods, beacon.down_periods
        )));
    }
    if beacon.groups.is_empty() && beacon.peers.is_empty() {
        return Err(D::Error::custom(
            "nobody would hear a beacon: give `groups`, or `peers`",
        ));
    }
    let has_group = |is_v4| {
        let peers = beacon.peers.iter().map(SocketAddr::ip);
        let mut heard = beacon.groups.iter().copied().chain(peers);
        heard.any(|address| address.is_ipv4() == is_v4)
    };
    match beacon
        .addresses
        .iter()
        .find(|address| !has_group(address.is_ipv4()))
    {
        Some(address) => Err(D::Error::custom(format!(
            "addresses: {address} is of a family that no group or peer is of"
        ))),
        None => Ok(beacon),
    }
}

/// The section, checked for settings that contradict one another.
fn sip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sip, D::Error> {
    let sip = Sip::deserialize(deserializer)?;
    let Some(address) = sip.redirect_address() else {
        return match sip.advertise {
            Some(_) => Err(D::Error::custom(
                "advertise says where the redirect server is, but there is none without listen",
            )),
            None => Ok(sip),
        };
    };
    let server = sip.server;
    if sip.listen.contains(&server) {
        return Err(D::Error::custom(format!(
            "{server} cannot be the SIP server's address and one of listen"
        )));
    }
    if !(sip.listen.iter()).any(|listener| listener.is_ipv4() == server.is_ipv4()) {
        return Err(D::Error::custom(format!(
            "listen: no address is of the family of the SIP server, {server}"
        )));
    }
    if sip.advertise.is_none() && sip.listen.len() > 1 {
        return Err(D::Error::custom(
            "advertise: say which of the addresses in listen is this node's own, not the VIP: other \
             nodes and redirected callers are sent there",
        ));
    }
    if address.ip().is_unspecified() {
        return Err(D::Error::custom(format!(
            "advertise: say by which address others reach this node; {address} is none"
        )));
    }
    Ok(sip)
}

fn default_true() -> bool {
    true
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

/// A whole number within bounds, or what it should have been.
fn within<'de, D: Deserializer<'de>>(
    deserializer: D,
    bounds: std::ops::RangeInclusive<i64>,
    what: &str,
) -> Result<i64, D::Error> {
    let number = i64::deserialize(deserializer)?;
    if bounds.contains(&number) {
        return Ok(number);
    }
    let (least, most) = (bounds.start(), bounds.end());
    Err(D::Error::custom(format!(
        "{number} is no {what}: give {least} to {most}"
    )))
}

fn node_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    within(deserializer, 1..=255, "node id").map(|number| number as u16)
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    within(deserializer, 1..=65_535, "port").map(|number| number as u16)
}

fn calls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 1..=i64::from(u32::MAX), "number of calls").map(|number| number as u32)
}

fn periods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 2..=1000, "number of periods").map(|number| number as u32)
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let number = within(deserializer, 1..=1_000_000, "number of calls")?;
    Ok(Some(number as u32))
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    within(deserializer, 0..=100, "pressure in per cent").map(|number| number as u8)
}

fn listeners<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let listeners = Vec::<SocketAddr>::deserialize(deserializer)?;
    if listeners.len() > MAX_LISTENERS {
        return Err(D::Error::custom(format!(
            "give {MAX_LISTENERS} addresses at most"
        )));
    }
    match listeners
        .iter()
        .find(|address| address.ip().is_multicast() || address.port() == 0)
    {
        Some(address) => Err(D::Error::custom(format!(
            "{address} is no address to listen at: give one of this host, and a port"
        ))),
        None => Ok(listeners),
    }
}

fn own_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    server(deserializer).map(Some)
}

fn default_cpu() -> u8 {
    60
}

fn default_memory() -> u8 {
    20
}

fn period<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let ms = within(deserializer, 10..=10_000, "beacon period in milliseconds")?;
    Ok(Duration::from_millis(ms as u64))
}

fn probe_interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let ms = within(deserializer, 20..=60_000, "probe interval in milliseconds")?;
    Ok(Duration::from_millis(ms as u64))
}

fn server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let server = SocketAddr::deserialize(deserializer)?;
    if server.ip().is_unspecified() || server.ip().is_multicast() || server.port() == 0 {
        return Err(D::Error::custom(format!(
            "{server} is no server's address: give one that it can be reached at, and its port"
        )));
    }
    Ok(server)
}

fn groups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let groups = one_of_each_family(deserializer)?;
    match groups.iter().find(|group| !group.is_multicast()) {
        _ if groups.is_empty() => Err(D::Error::custom(
            "give at least one group, such as \"239.255.77.1\"",
        )),
        Some(address) => Err(D::Error::custom(format!(
            "{address} is no multicast group: those are in 224.0.0.0/4 and ff00::/8"
        ))),
        None => Ok(groups),
    }
}

fn peers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let listed = Vec::<SocketAddr>::deserialize(deserializer)?;
    lb_proto::status::peers::check(&listed).map_err(D::Error::custom)
}

fn lbs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let lbs = peers(deserializer)?;
    if lbs.len() > MOST_LBS {
        let count = lbs.len();
        return Err(D::Error::custom(LbError::TooMany(count)));
    }
    Ok(lbs)
}

fn controllers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Controller>, D::Error> {
    let controllers = Vec::<Controller>::deserialize(deserializer)?;
    if controllers.len() == 1 || controllers.len() > MOST_LBS {
        return Err(D::Error::custom(format!(
            "give both controllers of the pair; a controller that is alone needs no witness \
             (at most {MOST_LBS} can be given)"
        )));
    }
    for (place, Controller { id, address }) in controllers.iter().enumerate() {
        if ControllerId::new((*id).try_into().unwrap_or(0)).is_none() {
            let most = ControllerId::MAX;
            let what = format!("{id} is no controller's id: give 1 to {most}");
            return Err(D::Error::custom(what));
        }
        if address.is_unspecified() || address.is_multicast() {
            let what = format!("{address} is not the address of one machine");
            return Err(D::Error::custom(what));
        }
        let others = controllers.iter().take(place);
        if others
            .clone()
            .any(|other| other.id == *id || other.address == *address)
        {
            let what = format!("controller {id} at {address}: id or address are there already");
            return Err(D::Error::custom(what));
        }
    }
    Ok(controllers)
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let addresses = one_of_each_family(deserializer)?;
    match addresses
        .iter()
        .find(|address| address.is_multicast() || address.is_unspecified())
    {
        Some(address) => Err(D::Error::custom(format!(
            "{address} is no address of a host"
        ))),
        None => Ok(addresses),
    }
}

fn one_of_each_family<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let addresses = Vec::<IpAddr>::deserialize(deserializer)?;
    for is_v4 in [true, false] {
        if addresses
            .iter()
            .filter(|address| address.is_ipv4() == is_v4)
            .count()
            > 1
        {
            let family = if is_v4 { "IPv4" } else { "IPv6" };
            return Err(D::Error::custom(format!(
                "give one {family} address at most"
            )));
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../pointsman-redirect.toml");

    #[test]
    fn the_example_is_right_and_says_the_defaults() {
        let config = Config::parse(EXAMPLE).expect("the example");
        assert_eq!((config.cluster, config.node), (1, 1));
        let least = "cluster = 1\nnode = 1\nkeys = \"k\"\nstate_dir = \"s\"\n\
            beacon = { groups = [\"239.255.77.1\"], port = 7700, interface = \"eth0\" }\n\
            sip = { server = \"192.0.2.11:5060\" }\ncapacity = { calls = 1000 }\n";
        let least = Config::parse(least).expect("the least there can be");
        assert_eq!(config.beacon.period, least.beacon.period);
        assert_eq!(config.beacon.hold_periods, least.beacon.hold_periods);
        assert_eq!(config.beacon.down_periods, least.beacon.down_periods);
        assert_eq!(config.sip.probe_interval, least.sip.probe_interval);
        assert_eq!(config.sip.probe, least.sip.probe);
        assert_eq!(config.admin.socket, least.admin.socket);
        assert!(least.beacon.addresses.is_empty() && least.metrics.is_none());
    }

    /// Each wrong line is pointed at, by number and with the reason.
    #[test]
    fn errors_point_at_the_line() {
        let cases = [
            ("node = 1", "node = 0", "0 is no node id: give 1 to 255"),
            ("node = 1", "node = 256", "256 is no node id"),
            ("node = 1", "node = \"one\"", "invalid type"),
            ("port = 7700", "port = 0", "0 is no port"),
            ("port = 7700", "prot = 7700", "unknown field `prot`"),
            (
                "period_ms = 100",
                "period_ms = 5",
                "5 is no beacon period in milliseconds",
            ),
            (
                "hold_periods = 3",
                "hold_periods = 1",
                "1 is no number of periods",
            ),
            (
                "groups = [",
                "groups = [\"10.0.0.1\"] #",
                "10.0.0.1 is no multicast group",
            ),
            ("groups = [", "groups = [] #", "give at least one group"),
            (
                "period_ms = 100",
                "peers = [\"239.255.77.1:7700\"]",
                "is not the address of one machine",
            ),
            (
                "groups = [",
                "groups = [\"239.0.0.1\", \"239.0.0.2\"] #",
                "one IPv4 address at most",
            ),
            ("groups = [", "groups = [\"lan\"] #", "invalid IP address"),
            (
                "server = ",
                "server = \"0.0.0.0:5060\" #",
                "no server's address",
            ),
            (
                "server = ",
                "server = \"192.0.2.11\" #",
                "invalid socket address",
            ),
            ("probe_ms = 500", "probe_ms = 1", "1 is no probe interval"),
            ("calls = 1000", "calls = -1", "-1 is no number of calls"),
            (
                "# calls_per_second = 200",
                "calls_per_second = 0",
                "0 is no number of calls",
            ),
            (
                "cpu_pressure = 60",
                "cpu_pressure = 101",
                "101 is no pressure in per cent",
            ),
            (
                "mode = \"relay\"",
                "mode = \"mesh\"",
                "unknown variant `mesh`",
            ),
            (
                "# listen = [",
                "listen = [\"224.0.0.1:5060\"] #",
                "no address to listen at",
            ),
            ("cluster = 1", "cluster = 1\ncluster = 2", "duplicate key"),
            ("cluster = 1", "cluster =", "TOML parse error"),
        ];
        for (right, wrong, problem) in cases {
            assert!(EXAMPLE.contains(right), "{right}");
            let at = EXAMPLE.find(right).expect("asserted above");
            let line = EXAMPLE[..at].matches('\n').count() + 1 + wrong.matches('\n').count();
            let error = Config::parse(&EXAMPLE.replacen(right, wrong, 1)).expect_err(wrong);
            let error = error.to_string();
            assert!(error.contains(problem), "{wrong}: {error}");
            assert!(
                error.contains(&format!("line {line}, ")),
                "{wrong}, line {line}: {error}"
            );
        }
    }

    #[test]
    fn missing_and_contradicting_settings_are_named() {
        let without = EXAMPLE.replacen("cluster = 1", "", 1);
        let error = Config::parse(&without).expect_err("no cluster").to_string();
        assert!(error.contains("missing field `cluster`"), "{error}");
        let contrary = EXAMPLE.replacen("hold_periods = 3", "hold_periods = 11", 1);
        let error = Config::parse(&contrary).expect_err("contrary").to_string();
        assert!(
            error.contains("hold_periods = 11") && error.contains("line "),
            "{error}"
        );
        let unheard = EXAMPLE.replacen("groups = [", "# groups = [", 1);
        let error = Config::parse(&unheard).expect_err("nobody").to_string();
        assert!(error.contains("nobody would hear"), "{error}");
        let peers = "peers = [\"192.0.2.1:7700\"] # groups = [";
        let listed = EXAMPLE.replacen("groups = [", peers, 1);
        let config = Config::parse(&listed).expect("peers are heard");
        assert_eq!(
            (config.beacon.groups.len(), config.beacon.peers.len()),
            (0, 1)
        );
        let stranger = EXAMPLE.replacen("# addresses = [", "addresses = [\"fd00::1\"] #", 1);
        let error = Config::parse(&stranger)
            .expect_err("no IPv6 group")
            .to_string();
        assert!(
            error.contains("fd00::1 is of a family that no group or peer is of"),
            "{error}"
        );
        let listeners = [
            ("192.0.2.11:5060", "cannot be the SIP server's address"),
            (
                "[::1]:5062",
                "no address is of the family of the SIP server",
            ),
            (
                "0.0.0.0:5062",
                "say by which address others reach this node",
            ),
            (
                "192.0.2.100:5060\", \"192.0.2.11:5062",
                "which of the addresses in listen is this node's own",
            ),
        ];
        for (listener, problem) in listeners {
            let listen = format!("listen = [\"{listener}\"] #");
            let contrary = EXAMPLE.replacen("# listen = [", &listen, 1);
            let error = Config::parse(&contrary).expect_err(listener).to_string();
            assert!(
                error.contains(problem) && error.contains("line "),
                "{error}"
            );
        }
    }

    #[test]
    fn files_are_named() {
        let path = std::env::temp_dir().join(format!("pm-{}-config.toml", std::process::id()));
        let error = Config::read(&path).expect_err("no file").to_string();
        assert!(error.contains("config.toml"), "{error}");
        fs::write(&path, "cluster = true\n").expect("a temporary directory");
        let error = Config::read(&path).expect_err("no number").to_string();
        fs::remove_file(&path).expect("own file");
        assert!(
            error.contains("config.toml: TOML parse error at line 1"),
            "{error}"
        );
    }
}
