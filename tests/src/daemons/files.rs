//! The daemons' configuration files in a lab.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_common::siphash::SipKey;

use crate::lab::{Arms, Lab};

/// The lab's cluster.
pub const CLUSTER: u32 = 77;
/// The group that beacons go to, IPv4.
pub const GROUP_V4: &str = "239.255.77.1";
/// The group that beacons go to, IPv6.
pub const GROUP_V6: &str = "ff05::4d:1";
/// The id of the key that beacons are under.
pub const BEACON_KEY_ID: u8 = 1;

/// Fixed, so that the same Call-IDs find the same homes in every run.
const CALL_SECRET: [u8; 16] = *b"lab: call secret";
const BEACON_KEY: [u8; 16] = *b"lab: beacon key ";

/// The secret of the call key.
pub fn call_secret() -> SipKey {
    SipKey::from_bytes(CALL_SECRET)
}

/// All nodes of a lab share one machine, with the switch and with whatever else runs there: its pressure
/// says nothing of a node.
const NO_PRESSURE: &str = "cpu_pressure = 0\nmemory_pressure = 0\n";

/// The key of the beacons.
pub fn beacon_key() -> SipKey {
    SipKey::from_bytes(BEACON_KEY)
}

/// What a lab's daemons are told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between two beacons.
    pub period: Duration,
    /// Periods without a beacon after which a node is `Stale`.
    pub hold_periods: u32,
    /// Periods without a beacon after which the kernel says `Down`.
    pub down_periods: u32,
    /// The UDP port of the status plane.
    pub status_port: u16,
    /// Whether redirect servers ask their SIP server how it is.
    pub probe: bool,
    /// Calls that a node says it can take.
    pub capacity: u32,
    /// Groups that beacons go to.
    pub groups: Vec<&'static str>,
    /// Nodes that are not configured.
    pub left_out: Vec<u16>,
    /// Whether calls go through the redirect servers, and how these behave. `None`: they only say how
    /// their SIP servers are.
    pub redirecting: Option<Redirecting>,
    /// Whether the controller is told that nodes send no beacons: it then steers by Call-ID alone, and
    /// what a node cannot take is left to its redirect server.
    pub silent: bool,
    /// How main and stand-by share the lab of a pair. `None`: a controller alone is active for good.
    pub pair: Option<Pair>,
}

/// How main and stand-by behave.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Time between two keep-alives.
    pub keepalive: Duration,
    /// Keep-alives that must be missed before the stand-by asks.
    pub misses: u32,
    /// `hot` or `cold`.
    pub mode: &'static str,
    /// After a cold takeover: `idle` or `reinitialise`.
    pub designated_state: &'static str,
    /// `stay` or `resume`.
    pub switchback: &'static str,
    /// How VIPs move: `address`, `announce` or `none`.
    pub vip: &'static str,
    /// The interface that they come to.
    pub vip_interface: &'static str,
    /// The version of the shared part of the configuration, by controller.
    pub versions: [u64; 2],
}

impl Default for Pair {
    /// The fastest keep-alives that are worth while.
    fn default() -> Self {
        Self {
            keepalive: Duration::from_millis(20),
            misses: 3,
            mode: "hot",
            designated_state: "idle",
            switchback: "stay",
            vip: "address",
            vip_interface: "eth0",
            versions: [1, 1],
        }
    }
}

impl Pair {
    /// For tests that are not about detection: no stall of a shared machine lasts as long.
    pub fn patient() -> Self {
        Self {
            misses: 10,
            ..Self::default()
        }
    }
}

/// How redirect servers behave.
#[derive(Clone, Debug)]
pub struct Redirecting {
    /// `relay` or `direct`.
    pub mode: &'static str,
    /// `redirect` or `proxy`.
    pub overflow: &'static str,
    /// Nodes whose capacity is another than [`Settings::capacity`].
    pub capacities: Vec<(u16, u32)>,
}

impl Default for Redirecting {
    fn default() -> Self {
        Self {
            mode: "relay",
            overflow: "redirect",
            capacities: Vec::new(),
        }
    }
}

impl Default for Settings {
    /// The fastest beacons that are worth while: 20 ms, and 60 ms until a silent node is `Stale`.
    fn default() -> Self {
        Self {
            period: Duration::from_millis(20),
            hold_periods: 3,
            down_periods: 10,
            status_port: 7700,
            probe: false,
            capacity: 100_000,
            groups: vec![GROUP_V4],
            left_out: Vec::new(),
            redirecting: None,
            silent: false,
            pair: None,
        }
    }
}

impl Settings {
    /// For tests that are not about detection: half a second of silence, which no stall of a shared
    /// machine reaches, is needed before a node counts as `Stale`.
    pub fn patient() -> Self {
        Self {
            hold_periods: 25,
            down_periods: 100,
            ..Self::default()
        }
    }

    /// Time without a beacon after which a node is `Stale`.
    pub fn hold(&self) -> Duration {
        self.period * self.hold_periods
    }
}

/// Where a node's SIP server is.
pub(super) fn sip_server(lab: &Lab, settings: &Settings, node: u16) -> SocketAddr {
    if settings.redirecting.is_some() {
        SocketAddr::new(lab.node(node).v4.into(), 5070)
    } else {
        lab.vip_v4()
    }
}

/// A node's redirect server's own address, beside the VIP.
pub(super) fn redirect_server(lab: &Lab, node: u16) -> SocketAddr {
    SocketAddr::new(lab.node(node).v4.into(), 5062)
}

pub(super) fn controller_file(lab: &Lab, controller: u16) -> PathBuf {
    let name = match controller {
        1 => "pointsman.toml".to_owned(),
        _ => format!("pointsman-{controller}.toml"),
    };
    lab.directory().join(name)
}

pub(super) fn redirect_file(lab: &Lab, node: u16) -> PathBuf {
    lab.directory().join(format!("redirect-{node}.toml"))
}

pub(super) fn write(lab: &Lab, settings: &Settings) -> Result<()> {
    let keys = lab.directory().join("keys");
    let text = format!(
        "call {}\nbeacon {BEACON_KEY_ID} {}\n",
        hexadecimal(&CALL_SECRET),
        hexadecimal(&BEACON_KEY)
    );
    write_file(&keys, &text)?;
    fs::set_permissions(&keys, Permissions::from_mode(0o600))?;
    for id in lab.controllers() {
        let text = controller(lab, settings, &keys, *id)?;
        write_file(&controller_file(lab, *id), &text)?;
    }
    for node in lab.node_ids() {
        write_file(
            &redirect_file(lab, node),
            &redirect(lab, settings, &keys, node)?,
        )?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn controller(lab: &Lab, settings: &Settings, keys: &Path, id: u16) -> Result<String> {
    let mut text = format!(
        "cluster = {CLUSTER}\nkeys = \"{keys}\"\nbpffs = \"{bpffs}\"\n\n\
         [status]\ngroups = {groups:?}\nport = {port}\nperiod_ms = {period}\n\
         hold_periods = {hold}\ndown_periods = {down}\n",
        keys = keys.display(),
        bpffs = lab.bpffs_of(id).display(),
        groups = settings.groups,
        port = settings.status_port,
        period = settings.period.as_millis(),
        hold = settings.hold_periods,
        down = settings.down_periods,
    );
    for port in lab.lb_ports() {
        write!(
            text,
            "\n[[interface]]\nname = \"{port}\"\nmode = \"native\"\n"
        )?;
    }
    for vip in [lab.vip_v4(), lab.vip_v6()] {
        write!(
            text,
            "\n[[vip]]\naddress = \"{}\"\nport = {}\n",
            vip.ip(),
            vip.port()
        )?;
    }
    for node in lab
        .node_ids()
        .filter(|node| !settings.left_out.contains(node))
    {
        let address = lab.node(node).v4;
        write!(text, "\n[[node]]\nid = {node}\naddress = \"{address}\"\n")?;
        if settings.silent {
            text.push_str("silent = true\n");
        }
        if lab.arms() == Arms::Two {
            writeln!(text, "interface = \"{}\"", lab.lb_port_to_nodes())?;
        }
    }
    text.push_str("\n[metrics]\nlisten = \"127.0.0.1:9464\"\n");
    if let Some(pair) = &settings.pair {
        text.push_str(&pair_section(lab, pair, id)?);
        text.push_str(&controllers(lab)?);
    }
    Ok(text)
}

fn pair_section(lab: &Lab, pair: &Pair, id: u16) -> Result<String> {
    let directory = lab.directory().join(format!("controller-{id}"));
    fs::create_dir_all(&directory)?;
    let version = pair.versions.get(usize::from(id) - 1).copied();
    Ok(format!(
        "\n[pair]\nid = {id}\nstate_dir = \"{state}\"\nkeepalive_ms = {keepalive}\n\
         misses = {misses}\nmode = \"{mode}\"\n{designated}\
         switchback = \"{switchback}\"\nvip = \"{vip}\"\nvip_interface = \"{interface}\"\n\
         version = {version}\nadmin = \"{state}/controller.sock\"\n",
        state = directory.display(),
        keepalive = pair.keepalive.as_millis(),
        misses = pair.misses,
        mode = pair.mode,
        designated = match pair.mode {
            "cold" => format!("designated_state = \"{}\"\n", pair.designated_state),
            _ => String::new(),
        },
        switchback = pair.switchback,
        vip = pair.vip,
        interface = pair.vip_interface,
        version = version.context("a version for each controller")?,
    ))
}

/// Whom controllers and nodes take for a controller.
fn controllers(lab: &Lab) -> Result<String> {
    let mut text = String::new();
    for id in lab.controllers() {
        let address = lab.balancer(*id).v4;
        write!(
            text,
            "\n[[controller]]\nid = {id}\naddress = \"{address}\"\n"
        )?;
    }
    Ok(text)
}

fn redirect(lab: &Lab, settings: &Settings, keys: &Path, node: u16) -> Result<String> {
    let directory = lab.directory().join(format!("redirect-{node}"));
    fs::create_dir_all(&directory)?;
    let server = sip_server(lab, settings, node);
    let (redirecting, capacity) = match &settings.redirecting {
        None => (String::new(), settings.capacity),
        Some(how) => {
            let own = redirect_server(lab, node);
            let status: Vec<String> = lab
                .controllers()
                .iter()
                .map(|id| format!("{}:{}", lab.balancer(*id).v4, settings.status_port))
                .collect();
            let listen = format!(
                "listen = [\"{}\", \"{}\", \"{own}\"]\nadvertise = \"{own}\"\nmode = \"{}\"\n\
                 overflow = \"{}\"\n\n[lb]\nstatus = {status:?}\n",
                lab.vip_v4(),
                lab.vip_v6(),
                how.mode,
                how.overflow,
            );
            let own = how.capacities.iter().find(|(id, _)| *id == node);
            (listen, own.map_or(settings.capacity, |(_, calls)| *calls))
        }
    };
    let controllers = match &settings.pair {
        Some(_) => {
            keep_first_lease(&directory)?;
            controllers(lab)?
        }
        None => String::new(),
    };
    Ok(format!(
        "cluster = {CLUSTER}\nnode = {node}\nkeys = \"{keys}\"\nstate_dir = \"{state}\"\n\n\
         [beacon]\ngroups = {groups:?}\nport = {port}\ninterface = \"eth0\"\n\
         period_ms = {period}\nhold_periods = {hold}\ndown_periods = {down}\n\n\
         [sip]\nserver = \"{server}\"\nprobe_ms = 200\n{probe}{redirecting}\n\
         [capacity]\ncalls = {capacity}\n{NO_PRESSURE}\n\
         [admin]\nsocket = \"{state}/redirect.sock\"\n{controllers}",
        keys = keys.display(),
        state = directory.display(),
        groups = settings.groups,
        port = settings.status_port,
        period = settings.period.as_millis(),
        hold = settings.hold_periods,
        down = settings.down_periods,
        probe = if settings.probe {
            ""
        } else {
            "probe = false\n"
        },
    ))
}

/// A node that has kept no lease waits out the longest there is before it grants one: five seconds at the
/// start of each lab. It is told that it granted one of the shortest, long ago, in a term below all others.
fn keep_first_lease(directory: &Path) -> Result<()> {
    let path = directory.join("lease");
    if path.exists() {
        return Ok(());
    }
    write_file(&path, "0 1 100\n")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
