//! Where frames for each node go: out of which port, to which link address.
//!
//! The kernel knows: its routing table names the port and the next hop, its neighbour table the link
//! address. Both are followed as they change, and asked again every so often for what the events may
//! have missed. Entries that are missing or old are refreshed by sending the node an empty datagram,
//! which makes the kernel resolve its address; asking netlink to do so would take a capability that
//! the daemon has dropped by then.
//!
//! **Fail static.** A link address that was right once stays in use when the kernel finds it no
//! longer: it may only have missed an answer, and whether the node lives is the status plane's to
//! say. A new address replaces it at once.

mod prober;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::maps::{MAX_PORTS, Node};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::config::{Config, NodeConfig};
use crate::netlink::{Change, Mac, Netlink, NetlinkError, Route, Watch};
use crate::plane::{AccessError, Maps};
use prober::Prober;

/// All nodes are looked at again this often, events or not.
const REFRESH: Duration = Duration::from_secs(10);
/// Nodes whose address is not known, or old, are asked this often.
const RETRY: Duration = Duration::from_secs(1);
/// Events that come together are dealt with together.
const SETTLE: Duration = Duration::from_millis(5);
/// Nodes' ways could not be found or written down.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// The kernel does not answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A map.
    #[error(transparent)]
    Maps(#[from] AccessError),
}

/// The way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// Out of this interface.
    ifindex: u32,
    /// From this link address.
    source_mac: Mac,
    /// To this one.
    destination_mac: Mac,
}

/// What was found out about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// The way there; not fresh when the kernel has not confirmed it for a while.
    Known { way: Way, is_fresh: bool },
    /// There is a route, but no link address for its next hop.
    Unresolved,
    /// There is no way.
    Missing(Obstacle),
}

/// Why there is no way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// No route to its address.
    NoRoute,
    /// The interface in its configuration does not exist.
    NoInterface,
    /// The route leads out of an interface that is no Ethernet.
    NotEthernet,
}

impl Obstacle {
    const fn describe(self) -> &'static str {
        match self {
            Self::NoRoute => "no route to its address",
            Self::NoInterface => "its interface does not exist",
            Self::NotEthernet => "the route leads out of an interface that is not an Ethernet",
        }
    }
}

/// What was found out in one go over all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Nodes without a link address.
    pub unreachable: Vec<u16>,
    /// Some address is missing or old: look again soon.
    pub is_unsettled: bool,
    /// Addresses of this machine that datagrams to nodes are sent from.
    pub own: BTreeSet<IpAddr>,
}

/// The addresses of this machine that datagrams to nodes are sent from.
///
/// # Errors
/// [`NetlinkError`].
pub fn own_addresses(nodes: &[NodeConfig]) -> Result<BTreeSet<IpAddr>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let mut own = BTreeSet::new();
    for node in nodes.iter().filter(|node| !node.address.is_unspecified()) {
        let link = match &node.interface {
            Some(name) => netlink.link_named(name)?,
            None => None,
        };
        let route = netlink.route(node.address, link.map(|link| link.index))?;
        own.extend(route.and_then(|route| route.source));
    }
    Ok(own)
}

/// Keeps the nodes of `TRACKS` and `PORTS` up to date. Nodes at the unspecified address are left as they
/// are: where they are is not known yet. The only writer of their link addresses.
pub struct Neighbours {
    netlink: Netlink,
    maps: Arc<Maps>,
    nodes: Vec<NodeConfig>,
    /// Interfaces with the program on them.
    attached: Vec<u32>,
    /// Those of them that are gone.
    lost: BTreeSet<u32>,
    /// What was said of a node last, so that it is said once.
    said: BTreeMap<u16, Finding>,
    /// Next hops: events about others are none of ours.
    next_hops: BTreeSet<IpAddr>,
    prober: Prober,
}

impl Neighbours {
    /// For the nodes of a configuration. `attached`: the interfaces that the program is on.
    ///
    /// # Errors
    /// [`NeighbourError`].
    pub fn new(
        maps: Arc<Maps>,
        config: &Config,
        attached: Vec<u32>,
    ) -> Result<Self, NeighbourError> {
        Ok(Self {
            netlink: Netlink::open()?,
            maps,
            nodes: config.nodes.clone(),
            attached,
            lost: BTreeSet::new(),
            said: BTreeMap::new(),
            next_hops: BTreeSet::new(),
            prober: Prober::default(),
        })
    }

    /// The nodes of another configuration. Those that have moved are unreachable until they are
    /// found at their new address.
    fn configure(&mut self, nodes: Vec<NodeConfig>) {
        for node in &nodes {
            let is_at = |known: &&NodeConfig| {
                // Of one that an earlier controller has learnt only the way is known, in the map.
                let address = if known.address.is_unspecified() {
                    node.address
                } else {
                    known.address
                };
                known.id == node.id
                    && (address, known.mac, &known.interface)
                        == (node.address, node.mac, &node.interface)
            };
            if !self.nodes.iter().any(|known| is_at(&known)) {
                self.said.remove(&node.id);
                if let Err(error) = self.forget(node.id) {
                    warn("cannot forget a node's link address", &error);
                }
            }
        }
        self.nodes = nodes;
    }

    fn forget(&self, id: u16) -> Result<(), AccessError> {
        let node = self.maps.node(id)?;
        self.maps.set_node(
            id,
            Node {
                flags: node.flags & !Node::REACHABLE,
                ..node
            },
        )
    }

    /// Looks all nodes up and writes down what has changed.
    ///
    /// # Errors
    /// [`NeighbourError`]; nodes before the one that failed are done.
    pub fn survey(&mut self) -> Result<Survey, NeighbourError> {
        let mut survey = Survey::default();
        self.miss_interfaces()?;
        self.next_hops.clear();
        for node in &self.nodes.clone() {
            if !node.address.is_unspecified() {
                self.visit(node, &mut survey)?;
            }
        }
        Ok(survey)
    }

    /// Says which interfaces have gone, and the program on them with them.
    fn miss_interfaces(&mut self) -> Result<(), NeighbourError> {
        for ifindex in &self.attached {
            if self.netlink.link_at(*ifindex)?.is_none() && self.lost.insert(*ifindex) {
                tracing::error!(
                    ifindex,
                    "an interface with the program on it is gone; restart the controller when it is \
                     back, which takes capabilities that it has dropped"
                );
            }
        }
        Ok(())
    }

    fn visit(&mut self, node: &NodeConfig, survey: &mut Survey) -> Result<(), NeighbourError> {
        let (finding, route) = self.find(node)?;
        if let Some(route) = route {
            self.next_hops.insert(route.next_hop);
            survey.own.extend(route.source);
        }
        let must_ask = match finding {
            Finding::Known { way, is_fresh } => {
                self.write(node.id, way)?;
                !is_fresh
            }
            Finding::Unresolved => true,
            Finding::Missing(_) => false,
        };
        if must_ask {
            survey.is_unsettled = true;
            self.prober.ask(node);
        }
        let is_reachable = self.maps.node(node.id)?.is_reachable();
        if !is_reachable {
            survey.unreachable.push(node.id);
        }
        self.say(node, finding, is_reachable);
        Ok(())
    }

    fn find(&mut self, node: &NodeConfig) -> Result<(Finding, Option<Route>), NeighbourError> {
        let mut out_of = None;
        if let Some(name) = &node.interface {
            let Some(link) = self.netlink.link_named(name)? else {
                return Ok((Finding::Missing(Obstacle::NoInterface), None));
            };
            out_of = Some(link.index);
        }
        let route = self.netlink.route(node.address, out_of)?;
        // With both said in the configuration, no route is needed.
        let Some(ifindex) = out_of.or(route.map(|route| route.ifindex)) else {
            return Ok((Finding::Missing(Obstacle::NoRoute), None));
        };
        let (ifindex, Some(source_mac)) = self.port(ifindex)? else {
            return Ok((Finding::Missing(Obstacle::NotEthernet), route));
        };
        if let Some(destination_mac) = node.mac {
            let way = Way {
                ifindex,
                source_mac,
                destination_mac,
            };
            return Ok((
                Finding::Known {
                    way,
                    is_fresh: true,
                },
                route,
            ));
        }
        let Some(route) = route else {
            return Ok((Finding::Missing(Obstacle::NoRoute), None));
        };
        let neighbour = self.netlink.neighbour(route.ifindex, route.next_hop)?;
        let finding = match neighbour.and_then(|known| Some((known.mac?, known.is_fresh))) {
            Some((destination_mac, is_fresh)) => Finding::Known {
                way: Way {
                    ifindex,
                    source_mac,
                    destination_mac,
                },
                is_fresh,
            },
            None => Finding::Unresolved,
        };
        Ok((finding, Some(route)))
    }

    /// The interface that frames leave by, and its link address. A VLAN's frames leave by the
    /// interface below it if they come in by that: they have their tag already.
    fn port(&mut self, ifindex: u32) -> Result<(u32, Option<Mac>), NeighbourError> {
        let Some(link) = self.netlink.link_at(ifindex)? else {
            return Ok((ifindex, None));
        };
        match link.lower {
            Some(lower) if !self.attached.contains(&ifindex) && self.attached.contains(&lower) => {
                Ok((lower, link.mac))
            }
            _ => Ok((ifindex, link.mac)),
        }
    }

    fn write(&self, id: u16, way: Way) -> Result<(), NeighbourError> {
        let node = self.maps.node(id)?;
        let Some(port) = self.place_of(way.ifindex)? else {
            tracing::error!(
                node = id,
                "cannot be sent to: all {MAX_PORTS} ports are taken by other interfaces"
            );
            return Ok(());
        };
        let updated = Node {
            destination_mac: way.destination_mac,
            source_mac: way.source_mac,
            ifindex: way.ifindex,
            port,
            flags: node.flags | Node::REACHABLE,
            ..node
        };
        if updated != node {
            self.maps.set_node(id, updated)?;
        }
        Ok(())
    }

    /// An interface's place in `PORTS`; given one if it has none.
    fn place_of(&self, ifindex: u32) -> Result<Option<u32>, NeighbourError> {
        let ports = self.maps.ports()?;
        if let Some((place, _)) = ports.iter().find(|(_, there)| *there == ifindex) {
            return Ok(Some(*place));
        }
        let is_free = |place: &u32| ports.iter().all(|(taken, _)| taken != place);
        let Some(place) = (0..MAX_PORTS).find(is_free) else {
            return Ok(None);
        };
        self.maps.set_port(place, ifindex)?;
        Ok(Some(place))
    }

    fn say(&mut self, node: &NodeConfig, finding: Finding, is_reachable: bool) {
        // Freshness comes and goes without anybody caring.
        let finding = match finding {
            Finding::Known { way, .. } => Finding::Known {
                way,
                is_fresh: true,
            },
            other => other,
        };
        if self.said.insert(node.id, finding) == Some(finding) {
            return;
        }
        let (id, address) = (node.id, node.address);
        match finding {
            Finding::Known { way, .. } => {
                let mac = show(way.destination_mac);
                tracing::info!(node = id, %address, mac, ifindex = way.ifindex, "way to the node");
            }
            Finding::Unresolved if is_reachable => {
                tracing::warn!(
                    node = id, %address,
                    "the kernel has lost the node's link address; the last one stays in use"
                );
            }
            Finding::Unresolved => {
                tracing::info!(node = id, %address, "asking for the node's link address");
            }
            Finding::Missing(obstacle) if is_reachable => {
                let why = obstacle.describe();
                tracing::warn!(node = id, %address, why, "the way to the node is gone; the last one stays in use");
            }
            Finding::Missing(obstacle) => {
                let why = obstacle.describe();
                tracing::error!(node = id, %address, why, "no way to the node");
            }
        }
    }

    fn concerns(&self, changes: &[Change]) -> bool {
        changes.iter().any(|change| match change {
            Change::Neighbour { address } => self.next_hops.contains(address),
            Change::Other => true,
        })
    }

    /// Follows changes until the future is dropped, which loses nothing: the next start looks at
    /// everything anew. `nodes` brings the nodes of another configuration; `own` is told the
    /// machine's own addresses when they change.
    pub async fn run(
        mut self,
        watch: Watch,
        mut nodes: watch::Receiver<Vec<NodeConfig>>,
        own: watch::Sender<BTreeSet<IpAddr>>,
    ) {
        let mut reloads = true;
        loop {
            let pause = match self.survey() {
                Ok(survey) => {
                    let is_unsettled = survey.is_unsettled || !survey.unreachable.is_empty();
                    own.send_if_modified(|known| {
                        let is_new = !survey.own.is_empty() && *known != survey.own;
                        if is_new {
                            *known = survey.own;
                        }
                        is_new
                    });
                    if is_unsettled { RETRY } else { REFRESH }
                }
                Err(error) => {
                    warn("cannot look up the ways to nodes", &error);
                    RETRY
                }
            };
            let next = Instant::now() + pause;
            loop {
                tokio::select! {
                    () = sleep_until(next) => break,
                    changed = nodes.changed(), if reloads => match changed {
                        Ok(()) => {
                            let nodes = nodes.borrow_and_update().clone();
                            self.configure(nodes);
                            break;
                        }
                        Err(_) => reloads = false,
                    },
                    changes = watch.changes() => match changes {
                        Ok(changes) if self.concerns(&changes) => {
                            tokio::time::sleep(SETTLE).await;
                            break;
                        }
                        Ok(_) => {}
                        Err(error) => {
                            warn("following neighbours by looking only", &error);
                            tokio::time::sleep(RETRY).await;
                            break;
                        }
                    },
                }
            }
        }
    }
}

fn warn(what: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, "{what}");
}

/// A link address as people write it.
pub fn show(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
