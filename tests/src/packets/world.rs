//! The maps that frames meet.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::maps::{
    Node, NodeStatus, Pin, Settings, StatusPlane, TABLE_SLOTS, Turnout, Vip, VipUse, slot_of,
};
use lb_common::siphash::siphash13;
use lb_common::{Address, Admission, Reason, memory};
use lb_user::plane::clock::Clock;
use lb_user::plane::{LoadOptions, Plane};

use super::build::{VIP_V4, VIP_V6};
use super::fixture::{self, NodeState, Way};
use super::{INGRESS, action};
use crate::daemons::call_secret;

/// Nodes of every world; their ids are 1 up.
pub const NODES: u16 = 4;
/// Pins that fit. Few, so that they can be filled.
const MAX_PINS: u32 = 16;
/// Past this age of its last beacon a node is `Stale`: so long that no stall of the machine
/// interferes.
const HOLD: Duration = Duration::from_secs(3600);
/// Past this age it is `Down`.
const DOWN: Duration = Duration::from_secs(7200);
const MINUTE: Duration = Duration::from_secs(60);
/// The place in `PORTS` of a port that is there, and an interface that is not the ingress.
const KNOWN_PORT: u32 = 3;
const OTHER_INTERFACE: u32 = 9_999;

/// A loaded program and its maps.
pub struct World {
    /// The data plane.
    pub plane: Plane,
    /// Tells its time.
    pub clock: Clock,
}

impl World {
    /// Loads the program and configures two VIPs and no node.
    ///
    /// # Errors
    /// The kernel refuses something; mostly: not root.
    pub fn load() -> Result<Self> {
        let plane = Plane::load(&LoadOptions { max_pins: MAX_PINS })?;
        let clock = Clock::measure(&plane)?;
        let maps = plane.maps();
        maps.set_settings(Settings {
            call_secret: call_secret(),
            hold: clock.jiffies(HOLD),
            down: clock.jiffies(DOWN),
            epoch_shift: memory::epoch_shift(clock.jiffy_ns()),
            jiffy_ns: clock.jiffy_ns(),
            cluster: 1,
            sample: 1,
            good_beacons: 3,
            node_end: u32::from(NODES) + 1,
        })?;
        maps.set_port(KNOWN_PORT, INGRESS)?;
        let world = Self { plane, clock };
        world.add_vip(VIP_V4, VipUse::Sip, 0)?;
        world.add_vip(VIP_V6, VipUse::Sip, 1)?;
        Ok(world)
    }

    /// Has the program read what comes to this address and port, for this purpose; counted under `index`.
    ///
    /// # Errors
    /// No address, or the kernel refuses it.
    pub fn add_vip(&self, address: &str, purpose: VipUse, index: u32) -> Result<()> {
        let address: SocketAddr = address.parse()?;
        Ok(self.plane.maps().insert_vip(Vip {
            address: Address::from(address.ip()),
            port_be: address.port().to_be(),
            purpose: purpose as u8,
            reserved: 0,
            index,
        })?)
    }

    /// Has the program meet a frame: the reason that it gives, which fits what it does, and the frame that
    /// comes out.
    ///
    /// # Errors
    /// The kernel refuses something, or the program does what its reason does not say.
    pub fn meet(&self, frame: &[u8]) -> Result<(Reason, Vec<u8>)> {
        let run = self.plane.test_run(frame, INGRESS)?;
        let event = self.plane.maps().next_event().context("no event")?;
        let reason = Reason::from_index(event.reason).context("no such reason")?;
        ensure!(
            run.action == action(reason.outcome()),
            "{reason:?}: {run:?}"
        );
        Ok((reason, run.frame))
    }

    /// Brings the maps into the state that a case starts from; the call's key tells from where on
    /// the table is as the case says.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn set(&self, world: &fixture::World, call_id: &str) -> Result<()> {
        let maps = self.plane.maps();
        let key = siphash13(call_secret(), call_id.as_bytes());
        maps.set_table(0, &table(&world.table, key));
        let draining = match &world.old_table {
            Some(old) => {
                maps.set_table(1, &table(old, key));
                Turnout::DRAINING
            }
            None => 0,
        };
        maps.set_turnout(Turnout {
            word: draining,
            term: 0,
        })?;
        let pins: Vec<_> = maps.pins().collect::<Result<_, _>>()?;
        for (key, _) in pins {
            maps.remove_pin(key)?;
        }
        for id in 1..=NODES {
            let usual = NodeState::default();
            self.set_node(id, world.nodes.get(&id).unwrap_or(&usual))?;
        }
        // The last beacon of all is the last of any node.
        let heard = (1..=NODES).map(|id| Ok(maps.status(id)?.last_seen));
        let last_beacon = heard.collect::<Result<Vec<_>>>()?.into_iter().max();
        maps.set_plane_status(StatusPlane {
            last_beacon: last_beacon.unwrap_or(0),
            ..StatusPlane::default()
        })?;
        let pin = |node| Pin {
            node,
            created: self.clock.now(),
            last_seen: self.clock.now(),
            ..Pin::default()
        };
        if let Some(node) = world.pinned {
            maps.insert_pin(key, pin(node))?;
        }
        if world.pins_full {
            for other in 0..MAX_PINS {
                maps.insert_pin(key.wrapping_add(1 + u64::from(other)), pin(1))?;
            }
        }
        Ok(())
    }

    /// Says of a node what a case says, and that its beacons went on until now, if it is heard now.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn set_node(&self, id: u16, state: &NodeState) -> Result<()> {
        let maps = self.plane.maps();
        let now = self.clock.now();
        let last_seen = now.saturating_sub(self.clock.jiffies(MINUTE * state.silent_min as u32));
        let flag = |set: bool, flag| if set { flag } else { 0 };
        let (ifindex, port) = match state.way {
            Way::SamePort => (INGRESS, 0),
            Way::OtherPort => (OTHER_INTERFACE, KNOWN_PORT),
            Way::UnknownPort => (OTHER_INTERFACE, KNOWN_PORT + 1),
        };
        let node = Node {
            destination_mac: destination_mac(id),
            source_mac: SOURCE_MAC,
            flags: flag(!state.leaving, Node::CONFIGURED)
                | flag(state.leaving, Node::LEAVING)
                | flag(!state.unreachable, Node::REACHABLE)
                | flag(state.silent, Node::SILENT)
                | flag(state.confirmed_down, Node::JUDGED),
            ifindex,
            port,
            down_at: if state.confirmed_down { now } else { 0 },
            blocked_until: 0,
        };
        let node = if state.absent { Node::default() } else { node };
        let admission = (0..=3)
            .filter_map(Admission::from_index)
            .find(|admission| admission.name() == state.admission)
            .with_context(|| format!("no such admission: {}", state.admission))?;
        let heard = NodeStatus {
            stamp: 1 << 32,
            last_seen,
            up_since: last_seen,
            started_before: maps.counts()?.nodes[usize::from(id)].started,
            beacons: 1,
            headroom: state.headroom,
            capacity: state.headroom,
            admission: admission as u8,
            run: 1,
            needed: 1,
            ready: 1,
            ..NodeStatus::default()
        };
        let status = if state.never_heard || state.silent {
            NodeStatus::default()
        } else {
            heard
        };
        maps.set_node(id, node)?;
        maps.set_status(id, status)?;
        Ok(())
    }
}

/// The link address of the LB's port.
pub const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

/// The link address of a node.
pub const fn destination_mac(id: u16) -> [u8; 6] {
    [2, 0, 0, 0, 1, id as u8]
}

/// A table whose slots from the key's on are these nodes, over and over.
fn table(nodes: &[u16], key: u64) -> Vec<u16> {
    let home = slot_of(key);
    let node = |slot| {
        let distance = (slot + TABLE_SLOTS - home) % TABLE_SLOTS;
        nodes[distance as usize % nodes.len()]
    };
    (0..TABLE_SLOTS).map(node).collect()
}
