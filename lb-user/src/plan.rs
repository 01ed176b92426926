//! What the maps should hold: the configuration in the data plane's terms.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use lb_common::maps::{BeaconKey, MAX_NODES, Node, Settings, VipUse};
use lb_common::memory;
use lb_proto::keys::KeyRing;
use lb_proto::status::GOOD_BEACONS;
use lb_proto::table::{self, Share};

use crate::config::{Config, Pair};
use crate::plane::clock;

/// Addresses of this machine that answers to queries are taken on. More are answered too, but seen
/// by userspace alone.
const MAX_OWN: usize = 8;

/// An address that the program is to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The address and port.
    pub address: SocketAddr,
    /// What comes to it.
    pub purpose: VipUse,
}

/// A node as the program is to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedNode {
    /// Its id.
    pub id: u16,
    /// [`Node::CONFIGURED`], and [`Node::SILENT`] if it is so; those of [`CANDIDATE`].
    pub flags: u32,
}

impl PlannedNode {
    /// Whether it is nobody yet: its beacons are taken, so that it can be learnt, and nothing is
    /// sent to it.
    pub const fn is_candidate(&self) -> bool {
        self.flags == CANDIDATE.flags
    }
}

/// An id that a node may be learnt under: the program takes beacons of configured nodes only, and
/// this one is so, but never `Up`.
pub const CANDIDATE: Node = Node {
    destination_mac: [0; 6],
    source_mac: [0; 6],
    flags: Node::CONFIGURED | Node::JUDGED,
    ifindex: 0,
    port: 0,
    down_at: u64::MAX,
    blocked_until: 0,
};

/// Whether a node of `TRACKS` is a [`CANDIDATE`].
pub const fn is_candidate(node: &Node) -> bool {
    node.flags & Node::JUDGED != 0 && node.down_at == u64::MAX
}

/// What the maps should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The settings. `node_end` covers those that are there, no candidates.
    pub settings: Settings,
    /// The VIPs.
    pub services: Vec<Service>,
    /// The nodes.
    pub nodes: Vec<PlannedNode>,
    /// The steering table.
    pub table: Vec<u16>,
    /// `KEYS`: those that are valid.
    pub keys: Vec<(u8, BeaconKey)>,
}

impl Plan {
    /// The plan for a configuration. `own`: the addresses of this machine that queries are sent
    /// from.
    pub fn of(config: &Config, keys: &KeyRing, jiffy_ns: u64, own: &BTreeSet<IpAddr>) -> Self {
        let jiffies = |duration| clock::jiffies(duration, jiffy_ns);
        let named = config.nodes.iter().map(|node| PlannedNode {
            id: node.id,
            flags: Node::CONFIGURED | if node.is_silent { Node::SILENT } else { 0 },
        });
        let mut nodes: Vec<PlannedNode> = named.collect();
        let highest = nodes.iter().map(|node| u32::from(node.id)).max();
        if config.status.discovery.is_some() {
            let is_free = |id: &u16| config.nodes.iter().all(|node| node.id != *id);
            nodes.extend((1..MAX_NODES as u16).filter(is_free).map(|id| PlannedNode {
                id,
                flags: CANDIDATE.flags,
            }));
        }
        let shares: Vec<Share> = config
            .nodes
            .iter()
            .map(|node| Share {
                node: node.id,
                weight: node.weight,
            })
            .collect();
        Self {
            settings: Settings {
                call_secret: keys.call_secret(),
                hold: jiffies(config.status.timing.hold()),
                down: jiffies(config.status.timing.down()),
                epoch_shift: memory::epoch_shift(jiffy_ns),
                jiffy_ns,
                cluster: config.cluster,
                sample: config.event_sample,
                good_beacons: GOOD_BEACONS.into(),
                node_end: highest.map_or(0, |id| id + 1),
            },
            services: services(config, own),
            nodes,
            table: table::fill(&shares),
            keys: keys
                .beacons()
                .iter()
                .map(|beacon| {
                    (
                        beacon.id,
                        BeaconKey {
                            key: beacon.key,
                            valid: 1,
                        },
                    )
                })
                .collect(),
        }
    }
}

/// VIPs, the groups, and the machine's own addresses on the status port; of two uses of one address
/// and port the first counts.
pub fn services(config: &Config, own: &BTreeSet<IpAddr>) -> Vec<Service> {
    let sip = config.vips.iter().map(|vip| (*vip, VipUse::Sip));
    let status = &config.status;
    let has_status = !(status.groups.is_empty() && status.addresses.is_empty());
    let own = own.iter().filter(|_| has_status).take(MAX_OWN);
    let named = status.groups.iter().chain(&status.addresses).copied();
    let pair = config.pair.as_ref().and_then(Pair::own_address);
    let status = named
        .chain(pair)
        .chain(own.copied())
        .map(|address| (SocketAddr::new(address, config.status.port), VipUse::Status));
    let mut services: Vec<Service> = Vec::new();
    for (address, purpose) in sip.chain(status) {
        if services.iter().all(|service| service.address != address) {
            services.push(Service { address, purpose });
        }
    }
    services
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lb_common::maps::{MAX_VIPS, TABLE_SLOTS};

    use super::*;

    fn config(text: &str) -> Config {
        let rest = "cluster = 7\nkeys = \"k\"\n[[interface]]\nname = \"eth0\"\n";
        Config::parse(Path::new("test"), &format!("{rest}{text}")).expect("a good file")
    }

    fn keys() -> KeyRing {
        KeyRing::generate(std::array::from_fn(|i| i as u8 + 1))
    }

    const TWO_NODES: &str = "
        [status]
        groups = [\"239.255.77.1\", \"ff05::1\"]
        period_ms = 25
        [[vip]]
        address = \"192.0.2.10\"
        [[node]]
        id = 9
        address = \"192.0.2.19\"
        [[node]]
        id = 3
        address = \"192.0.2.13\"
        weight = 3
        silent = true
    ";

    #[test]
    fn settings_follow_the_configuration() {
        let own = BTreeSet::from(["192.0.2.2".parse().expect("an address")]);
        let plan = Plan::of(&config(TWO_NODES), &keys(), 4_000_000, &own);
        let settings = plan.settings;
        // 75 ms and 250 ms, in ticks of 4 ms, rounded up.
        assert_eq!(
            (settings.hold, settings.down, settings.epoch_shift),
            (19, 63, 14)
        );
        assert_eq!(
            (settings.cluster, settings.node_end, settings.good_beacons),
            (7, 10, 3)
        );
        assert_eq!(settings.call_secret, keys().call_secret());
        let planned: Vec<(u16, u32)> = plan
            .nodes
            .iter()
            .map(|node| (node.id, node.flags))
            .collect();
        assert_eq!(
            planned,
            [(3, Node::CONFIGURED | Node::SILENT), (9, Node::CONFIGURED)]
        );
        assert_eq!(plan.keys.len(), 1);
        let ports: Vec<String> = plan
            .services
            .iter()
            .map(|service| service.address.to_string())
            .collect();
        let expected = [
            "192.0.2.10:5060",
            "239.255.77.1:7700",
            "[ff05::1]:7700",
            "192.0.2.2:7700",
        ];
        assert_eq!(ports, expected);
    }

    #[test]
    fn the_table_follows_the_weights() {
        let plan = Plan::of(&config(TWO_NODES), &keys(), 4_000_000, &BTreeSet::new());
        assert_eq!(plan.table.len(), TABLE_SLOTS as usize);
        let of_three = plan.table.iter().filter(|home| **home == 3).count() as f64;
        let share = of_three / f64::from(TABLE_SLOTS);
        assert!((share - 0.75).abs() < 0.01, "{share}");
    }

    #[test]
    fn services_fit_the_counters_and_are_unlike() {
        let vips: String = (0..48)
            .map(|n| format!("[[vip]]\naddress = \"198.51.100.{n}\"\nport = 7700\n"))
            .collect();
        let text = TWO_NODES.replace("[[vip]]\n        address = \"192.0.2.10\"\n", &vips);
        let own: BTreeSet<IpAddr> = (0..100u8)
            .map(|n| IpAddr::from([198, 51, 100, n]))
            .collect();
        let services = services(&config(&text), &own);
        assert!(services.len() <= MAX_VIPS as usize);
        let is_sip = |service: &&Service| service.purpose == VipUse::Sip;
        assert_eq!(services.iter().filter(is_sip).count(), 48);
    }
}
