//! Does the file make sense? Every problem is found, not just the first.

mod pair;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use lb_common::maps::{DEFAULT_MAX_PINS, MAX_NODES, MAX_PORTS, MAX_VIPS};
use lb_proto::status::Timing;
use lb_proto::status::map::Discovery;
use toml::Spanned;

use super::file::{self, File};
use super::problem::Problem;
use super::{Config, DEFAULT_BPFFS, NodeConfig, PinLimits, SIP_PORT, STATUS_PORT, Status};
use crate::netlink::Mac;
use crate::plane::attach::Wanted;

/// Longest name of an interface: `IFNAMSIZ` less the terminator.
const MAX_INTERFACE_NAME: usize = 15;
/// Places of the counters that are kept for status addresses: groups and the controller's own.
const STATUS_ADDRESSES: usize = 16;

pub(super) fn check(file: File) -> Result<Config, Vec<Problem>> {
    let mut checker = Checker::default();
    let config = checker.config(file);
    if checker.problems.is_empty() {
        Ok(config)
    } else {
        Err(checker.problems)
    }
}

/// Collects problems. What is wrong is replaced by something harmless, so that the rest can be
/// checked too.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn config(&mut self, file: File) -> Config {
        let interfaces = self.interfaces(file.interfaces);
        let status = file.status.as_ref();
        let discovers = status.is_some_and(|status| status.get_ref().discover);
        let nodes = self.nodes(&file.nodes, discovers);
        let vips = self.vips(&file.vips, &file.nodes);
        let status = self.status(file.status, &nodes);
        let pair = self.pair(file.pair, &file.controllers, (&vips, &nodes, &status));
        Config {
            pair,
            cluster: self.number(Some(&file.cluster), 0, 0..=u32::MAX.into()) as u32,
            keys: file.keys,
            bpffs: self.bpffs(file.bpffs),
            status,
            interfaces,
            vips,
            nodes,
            pins: PinLimits {
                max: self.number(file.pins.max.as_ref(), DEFAULT_MAX_PINS.into(), 1..=1 << 24)
                    as u32,
                session: self.seconds(
                    file.pins.session_limit_s.as_ref(),
                    PinLimits::default().session,
                    64..=30 * 86_400,
                ),
            },
            drain: self.seconds(
                file.table.drain_s.as_ref(),
                Duration::from_secs(3600),
                0..=30 * 86_400,
            ),
            metrics: file.metrics.map(|metrics| metrics.listen),
            event_sample: self.number(file.events.sample.as_ref(), 0, 0..=u32::MAX.into()) as u32,
        }
    }

    fn bpffs(&mut self, path: Option<Spanned<PathBuf>>) -> PathBuf {
        let Some(path) = path else {
            return DEFAULT_BPFFS.into();
        };
        if !path.get_ref().is_absolute() {
            self.wrong(
                path.span(),
                "a relative path",
                "write it from the root: /sys/fs/bpf/…",
            );
        }
        // No file of a BPF file system may have a dot in its name.
        if path.get_ref().to_string_lossy().contains('.') {
            self.wrong(
                path.span(),
                "a dot in the path",
                "BPF file systems refuse dots in names",
            );
        }
        path.into_inner()
    }

    fn interfaces(&mut self, interfaces: Vec<file::Interface>) -> Vec<Wanted> {
        if interfaces.is_empty() {
            self.missing(
                "no [[interface]]",
                "name at least one for the program to be attached to: [[interface]], name = \"eth0\"",
            );
        }
        if interfaces.len() > MAX_PORTS as usize {
            self.missing(
                format!("more than {MAX_PORTS} interfaces"),
                "the map of ports is full",
            );
        }
        let mut seen = BTreeMap::new();
        for interface in &interfaces {
            self.interface_name(&interface.name);
            let name = interface.name.get_ref();
            if seen.insert(name.clone(), ()).is_some() {
                let what = format!("interface {name} is there twice");
                self.wrong(interface.name.span(), what, "name it once");
            }
        }
        interfaces
            .into_iter()
            .map(|interface| Wanted {
                name: interface.name.into_inner(),
                mode: interface.mode.into(),
            })
            .collect()
    }

    fn interface_name(&mut self, name: &Spanned<String>) {
        let text = name.get_ref();
        let is_name = (1..=MAX_INTERFACE_NAME).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'/')
            && text != "."
            && text != "..";
        if !is_name {
            self.wrong(
                name.span(),
                "not a name of an interface",
                "`ip link` lists those there are",
            );
        }
    }

    fn nodes(&mut self, nodes: &[file::Node], discovers: bool) -> Vec<NodeConfig> {
        if nodes.is_empty() && !discovers {
            let help = "name those who take calls: [[node]], id = 1, address = \"192.0.2.11\"; or \
                        let them be learnt from their beacons: [status], discover = true";
            self.missing("no [[node]]", help);
        }
        let mut ids = BTreeMap::new();
        let mut addresses: BTreeMap<IpAddr, i64> = BTreeMap::new();
        let mut checked = Vec::new();
        for node in nodes {
            let id = *node.id.get_ref();
            let last = i64::from(MAX_NODES) - 1;
            let id_checked = self.number(Some(&node.id), 1, 1..=last) as u16;
            if ids.insert(id, ()).is_some() {
                let what = format!("node id {id} is there twice");
                self.wrong(
                    node.id.span(),
                    what,
                    "give every node an id of its own, 1 to 255",
                );
            }
            let address = *node.address.get_ref();
            self.unicast(&node.address, "a node");
            if let Some(other) = addresses.insert(address, id) {
                let what = format!("{address} is the address of node {other} already");
                self.wrong(
                    node.address.span(),
                    what,
                    "give every node an address of its own",
                );
            }
            if let Some(interface) = &node.interface {
                self.interface_name(interface);
            }
            checked.push(NodeConfig {
                id: id_checked,
                address,
                weight: self.number(node.weight.as_ref(), 1, 0..=10_000) as u32,
                mac: node.mac.as_ref().and_then(|mac| self.mac(mac)),
                interface: node.interface.as_ref().map(|name| name.get_ref().clone()),
                is_silent: node.silent,
            });
        }
        if !checked.is_empty() && !discovers && checked.iter().all(|node| node.weight == 0) {
            self.missing("every node has weight 0", "somebody must be home to calls");
        }
        checked.sort_by_key(|node| node.id);
        checked
    }

    fn mac(&mut self, text: &Spanned<String>) -> Option<Mac> {
        let octets: Option<Vec<u8>> = text
            .get_ref()
            .split(':')
            .map(|octet| {
                u8::from_str_radix(octet, 16)
                    .ok()
                    .filter(|_| octet.len() == 2)
            })
            .collect();
        let mac: Option<Mac> = octets.and_then(|octets| octets.try_into().ok());
        match mac {
            Some(mac) if mac[0] & 1 == 0 && mac != [0; 6] => Some(mac),
            Some(_) => {
                self.wrong(
                    text.span(),
                    "not one station's address",
                    "a node has a unicast address",
                );
                None
            }
            None => {
                let help = "six pairs of hexadecimal digits: \"02:00:00:00:00:11\"";
                self.wrong(text.span(), "not a link address", help);
                None
            }
        }
    }

    fn vips(&mut self, vips: &[Spanned<file::Vip>], nodes: &[file::Node]) -> Vec<SocketAddr> {
        let limit = MAX_VIPS as usize - STATUS_ADDRESSES;
        if vips.is_empty() {
            let help =
                "name the addresses that the switch sends to: [[vip]], address = \"192.0.2.10\"";
            self.missing("no [[vip]]", help);
        }
        let mut checked: Vec<SocketAddr> = Vec::new();
        for (place, vip) in vips.iter().enumerate() {
            let (span, vip) = (vip.span(), vip.get_ref());
            let address = *vip.address.get_ref();
            self.unicast(&vip.address, "a VIP");
            if address.is_loopback() {
                let what = format!("{address} never leaves a machine");
                self.wrong(
                    vip.address.span(),
                    what,
                    "write an address that the switch can send to",
                );
            }
            if nodes.iter().any(|node| *node.address.get_ref() == address) {
                let what = format!("{address} is a node's address too");
                let help = "the VIP is what the switch sends to; a node has an address of its own \
                            by which it is found";
                self.wrong(vip.address.span(), what, help);
            }
            let port = self.number(vip.port.as_ref(), SIP_PORT.into(), 1..=65_535) as u16;
            let vip = SocketAddr::new(address, port);
            if checked.contains(&vip) {
                self.wrong(
                    span.clone(),
                    format!("VIP {vip} is there twice"),
                    "name it once",
                );
            }
            if place == limit {
                self.wrong(
                    span,
                    format!("more than {limit} VIPs"),
                    "the table of VIPs is full",
                );
            }
            checked.push(vip);
        }
        checked
    }

    fn status(&mut self, status: Option<Spanned<file::Status>>, nodes: &[NodeConfig]) -> Status {
        let default = Timing::DEFAULT;
        let Some(status) = status else {
            if nodes.iter().any(|node| !node.is_silent) {
                self.missing(
                    "no [status], but nodes that send beacons",
                    "say where they come: [status], groups = [\"239.255.77.1\"]; or mark the nodes \
                     as `silent = true`",
                );
            }
            return Status {
                groups: Vec::new(),
                addresses: Vec::new(),
                discovery: None,
                port: STATUS_PORT,
                timing: default,
            };
        };
        let (span, status) = (status.span(), status.into_inner());
        let mut groups: Vec<IpAddr> = Vec::new();
        for group in &status.groups {
            let address = *group.get_ref();
            if !address.is_multicast() {
                let help = "a group is in 224.0.0.0/4 or ff00::/8";
                self.wrong(
                    group.span(),
                    format!("{address} is no multicast address"),
                    help,
                );
            }
            if groups.contains(&address) {
                self.wrong(
                    group.span(),
                    format!("group {address} is there twice"),
                    "name it once",
                );
            }
            groups.push(address);
        }
        let addresses = self.status_addresses(&status.addresses);
        let is_unheard = groups.is_empty() && addresses.is_empty();
        if is_unheard || groups.len() > STATUS_ADDRESSES / 2 {
            let what = format!("between 1 and {} groups are needed", STATUS_ADDRESSES / 2);
            let help = "one for IPv4, or IPv6, or both; or, where nodes send to listed peers, this \
                        machine's own `addresses`";
            self.wrong(span, what, help);
        }
        let period = self.number(
            status.period_ms.as_ref(),
            default.period.as_millis() as i64,
            10..=10_000,
        );
        let hold = self.number(
            status.hold_periods.as_ref(),
            default.hold_periods.into(),
            1..=1_000,
        );
        let down = self.number(
            status.down_periods.as_ref(),
            default.down_periods.into(),
            1..=10_000,
        );
        if down <= hold {
            let what = format!("a node would be Down after {down} periods, but Stale after {hold}");
            let help = "down_periods must be greater than hold_periods";
            match status
                .down_periods
                .as_ref()
                .or(status.hold_periods.as_ref())
            {
                Some(value) => self.wrong(value.span(), what, help),
                None => self.missing(what, help),
            }
        }
        let timing = Timing {
            period: Duration::from_millis(period as u64),
            hold_periods: hold as u32,
            down_periods: down as u32,
        };
        let discovery = self.discovery(&status, timing);
        Status {
            groups,
            addresses,
            discovery,
            port: self.number(status.port.as_ref(), STATUS_PORT.into(), 1..=65_535) as u16,
            timing,
        }
    }

    fn discovery(&mut self, status: &file::Status, timing: Timing) -> Option<Discovery> {
        let (most, forget) = (&status.discover_max, &status.discover_forget_s);
        let default = Discovery::ANY;
        let limit = default.most as i64;
        let discovery = Discovery {
            most: self.number(most.as_ref(), limit, 1..=limit) as usize,
            forget_after: self.seconds(forget.as_ref(), default.forget_after, 60..=604_800),
        };
        let down = timing.down();
        if status.discover && discovery.forget_after < down {
            let what = format!("a node would be forgotten before it is Down, which takes {down:?}");
            let help = "discover_forget_s must be longer than down_periods";
            match forget {
                Some(value) => self.wrong(value.span(), what, help),
                None => self.missing(what, help),
            }
        }
        status.discover.then_some(discovery)
    }

    fn status_addresses(&mut self, listed: &[Spanned<IpAddr>]) -> Vec<IpAddr> {
        let limit = STATUS_ADDRESSES / 4;
        let mut addresses = Vec::new();
        for address in listed {
            self.unicast(address, "this machine");
            let ip = *address.get_ref();
            if addresses.contains(&ip) {
                let what = format!("address {ip} is there twice");
                self.wrong(address.span(), what, "name it once");
            }
            if addresses.len() == limit {
                let what = format!("more than {limit} addresses");
                self.wrong(address.span(), what, "one of each family is enough");
            }
            addresses.push(ip);
        }
        addresses
    }

    fn unicast(&mut self, address: &Spanned<IpAddr>, of: &str) {
        let ip = *address.get_ref();
        let kind = match ip {
            _ if ip.is_unspecified() => "stands for all addresses",
            _ if ip.is_multicast() => "is a group's",
            IpAddr::V4(v4) if v4.is_broadcast() => "is for everybody",
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "is an IPv4 address in disguise",
            _ => return,
        };
        let what = format!("{ip} cannot be the address of {of}: it {kind}");
        self.wrong(address.span(), what, "write one machine's address");
    }

    fn seconds(
        &mut self,
        value: Option<&Spanned<i64>>,
        default: Duration,
        range: RangeInclusive<i64>,
    ) -> Duration {
        Duration::from_secs(self.number(value, default.as_secs() as i64, range) as u64)
    }

    /// The value if it is there and in range, else the default.
    fn number(
        &mut self,
        value: Option<&Spanned<i64>>,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> i64 {
        let Some(value) = value else { return default };
        let number = *value.get_ref();
        if range.contains(&number) {
            return number;
        }
        let (least, most) = (range.start(), range.end());
        self.wrong(
            value.span(),
            format!("{number} is out of range"),
            format!("anything from {least} to {most}"),
        );
        default
    }

    fn wrong(&mut self, at: Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem::at(at, what, help));
    }

    fn missing(&mut self, what: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem::missing(what, help));
    }
}
