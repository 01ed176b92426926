//! Everything in the maps that is small, at one moment.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::choose::{Fleet, Liveness, judge, reference};
use lb_common::maps::{
    MAX_NODES, NO_NODE, Node, NodeCounts, NodeStatus, ReasonCounts, Settings, StatusPlane, Turnout,
    VipUse,
};
use lb_common::{Admission, Reason};

use crate::plan::is_candidate;
use crate::plane::{AccessError, Maps};

/// What the maps say. Counters are over all CPUs.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The moment, in jiffies.
    pub now: u64,
    /// The controller's settings.
    pub settings: Settings,
    /// The status plane.
    pub plane: StatusPlane,
    /// Which table steers.
    pub turnout: Turnout,
    /// Frames by reason.
    pub reasons: ReasonCounts,
    /// Nodes that are configured, or leaving.
    pub nodes: Vec<NodeReading>,
    /// VIPs, in the order of their counters.
    pub vips: Vec<VipReading>,
    /// Pins there are.
    pub pins: u64,
    /// Pins that fit.
    pub max_pins: u32,
}

/// What the maps say of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeReading {
    /// Its id.
    pub id: u16,
    /// What the controller says.
    pub node: Node,
    /// What its beacons say.
    pub status: NodeStatus,
    /// What it was sent.
    pub counts: NodeCounts,
}

/// What the maps say of a VIP.
#[derive(Clone, Copy, Debug)]
pub struct VipReading {
    /// Its address.
    pub address: SocketAddr,
    /// Frames for it.
    pub packets: u64,
}

/// How the status plane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneState {
    /// Beacons come.
    Heard,
    /// No node is to send any.
    Silent,
    /// None has ever come: every node counts as `Up`.
    NeverHeard,
    /// No node is heard any more: their staleness is ignored.
    Broken,
}

impl PlaneState {
    /// The word that people and programs read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Heard => "heard",
            Self::Silent => "silent",
            Self::NeverHeard => "never-heard",
            Self::Broken => "broken",
        }
    }
}

impl Reading {
    /// Reads the maps; `now` is the moment, in jiffies.
    ///
    /// # Errors
    /// [`AccessError`], naming the map.
    pub fn take(maps: &Maps, now: u64) -> Result<Self, AccessError> {
        let counts = maps.counts()?;
        let mut nodes = Vec::new();
        for id in NO_NODE + 1..MAX_NODES as u16 {
            let node = maps.node(id)?;
            let is_there = node.flags & (Node::CONFIGURED | Node::LEAVING) != 0;
            if is_there && !is_candidate(&node) {
                nodes.push(NodeReading {
                    id,
                    node,
                    status: maps.status(id)?,
                    counts: counts.nodes[usize::from(id)],
                });
            }
        }
        let mut vips = maps.vips()?;
        vips.retain(|vip| vip.purpose == VipUse::Sip as u8);
        vips.sort_by_key(|vip| vip.index);
        let vips = vips.into_iter().map(|vip| VipReading {
            address: SocketAddr::new(IpAddr::from(vip.address), u16::from_be(vip.port_be)),
            packets: counts.vips.get(vip.index as usize).copied().unwrap_or(0),
        });
        Ok(Self {
            now,
            settings: maps.settings()?,
            plane: maps.plane_status()?,
            turnout: maps.turnout()?,
            reasons: counts.reasons,
            nodes,
            vips: vips.collect(),
            pins: maps.pin_count(),
            max_pins: maps.max_pins(),
        })
    }

    /// Frames of one reason.
    pub fn packets(&self, reason: Reason) -> u64 {
        self.reasons.get(reason as usize).copied().unwrap_or(0)
    }

    /// Frames sent to nodes.
    pub fn sent(&self) -> u64 {
        self.nodes.iter().map(|node| node.counts.packets).sum()
    }

    /// A node's liveness, judged as the program would judge it now.
    pub fn liveness(&self, node: &NodeReading) -> Liveness {
        judge(&node.node, &node.status, &self.settings, reference(self).0)
    }

    /// How the status plane does.
    pub fn plane_state(&self) -> PlaneState {
        match (reference(self).1, self.plane.last_beacon) {
            _ if self.nodes.iter().all(|node| node.is_silent()) => PlaneState::Silent,
            (_, 0) => PlaneState::NeverHeard,
            (true, _) => PlaneState::Broken,
            (false, _) => PlaneState::Heard,
        }
    }

    /// Whether an old table still keeps its dialogs.
    pub fn is_changing(&self) -> bool {
        self.turnout.is_draining()
    }

    /// Whether this data plane steers, and not another LB's.
    pub fn is_active(&self) -> bool {
        self.turnout.is_active(self.plane.term_heard)
    }

    /// How long ago a moment was; `None` for never.
    pub fn age(&self, moment: u64) -> Option<Duration> {
        (moment != 0).then(|| self.span(self.now.saturating_sub(moment)))
    }

    /// How long a node that flaps must still wait before it is `Up`.
    pub fn held_down(&self, node: &NodeReading) -> Option<Duration> {
        let (flags, until) = (node.node.flags, node.node.blocked_until);
        let waits = flags & Node::JUDGED != 0 && self.now < until;
        waits.then(|| self.span(until - self.now))
    }

    /// How long a number of jiffies lasts.
    pub fn span(&self, jiffies: u64) -> Duration {
        Duration::from_nanos(jiffies.saturating_mul(self.settings.jiffy_ns))
    }
}

impl NodeReading {
    /// It sends no beacons.
    pub fn is_silent(&self) -> bool {
        self.node.flags & Node::SILENT != 0
    }

    /// What it says of itself; nothing if it has said nothing yet.
    pub fn admission(&self) -> Option<Admission> {
        if self.status.last_seen == 0 {
            return None;
        }
        Admission::from_index(self.status.admission)
    }

    /// Which life of the node its last beacon was of.
    pub fn epoch(&self) -> u32 {
        (self.status.stamp >> 32) as u32
    }

    /// The number of its last beacon.
    pub fn sequence(&self) -> u32 {
        self.status.stamp as u32
    }
}

/// For [`reference()`] alone; home slots are not part of a reading.
impl Fleet for Reading {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn plane(&self) -> StatusPlane {
        self.plane
    }

    fn node(&self, id: u16) -> Option<&Node> {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .map(|node| &node.node)
    }

    fn status(&self, id: u16) -> Option<&NodeStatus> {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .map(|node| &node.status)
    }

    fn home(&self, _generation: u32, _slot: u32) -> u16 {
        NO_NODE
    }

    fn started(&self, id: u16) -> u64 {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .map_or(0, |node| node.counts.started)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// At jiffy 100,000 of 4 ms: node 1 is well, 2 is stale and busy, 3 is down, 4 is silent.
    pub(in super::super) fn reading() -> Reading {
        let now = 100_000;
        let node = |id, seen: u64, admission, flags| NodeReading {
            id,
            node: Node {
                flags: Node::PLAIN | flags,
                ..Node::default()
            },
            status: NodeStatus {
                stamp: if seen == 0 { 0 } else { 7 << 32 | 1_234 },
                last_seen: seen,
                up_since: 1,
                ready: u8::from(seen != 0),
                capacity: 1_000,
                active: 40,
                headroom: 960,
                key_id: 1,
                admission: admission as u8,
                ..NodeStatus::default()
            },
            counts: NodeCounts {
                packets: u64::from(id) * 100,
                bytes: u64::from(id) * 60_000,
                started: u64::from(id) * 10,
                pinned: u64::from(id),
            },
        };
        let mut reasons = [0; lb_common::REASON_SLOTS];
        reasons[Reason::Home as usize] = 900;
        reasons[Reason::Pinned as usize] = 100;
        reasons[Reason::Fragment as usize] = 5;
        Reading {
            now,
            settings: Settings {
                hold: 75,
                down: 250,
                jiffy_ns: 4_000_000,
                node_end: 5,
                ..Settings::default()
            },
            plane: StatusPlane {
                last_beacon: now - 10,
                ..StatusPlane::default()
            },
            turnout: Turnout::default(),
            reasons,
            nodes: vec![
                node(1, now - 10, Admission::Free, 0),
                node(2, now - 100, Admission::Busy, 0),
                node(3, now - 300, Admission::Free, 0),
                node(4, 0, Admission::Idle, Node::SILENT),
            ],
            vips: vec![VipReading {
                address: "192.0.2.10:5060".parse().unwrap(),
                packets: 1_000,
            }],
            pins: 3,
            max_pins: 1_024,
        }
    }

    #[test]
    fn liveness_is_judged_as_the_program_does() {
        let reading = reading();
        let judged: Vec<_> = reading
            .nodes
            .iter()
            .map(|node| reading.liveness(node))
            .collect();
        assert_eq!(
            judged,
            [Liveness::Up, Liveness::Stale, Liveness::Down, Liveness::Up]
        );
        assert_eq!(reading.plane_state(), PlaneState::Heard);
        assert_eq!(reading.age(reading.now - 250), Some(Duration::from_secs(1)));
        assert_eq!(reading.age(0), None);
    }

    #[test]
    fn a_broken_status_plane_is_told_from_a_silent_one() {
        let mut reading = reading();
        reading.plane.last_beacon = reading.now - 76;
        assert_eq!(reading.plane_state(), PlaneState::Broken);
        reading.plane.last_beacon = 0;
        assert_eq!(reading.plane_state(), PlaneState::NeverHeard);
        reading.nodes.retain(NodeReading::is_silent);
        assert_eq!(reading.plane_state(), PlaneState::Silent);
    }
}
