//! The cluster as the maps show it at one moment, for the chooser.
//!
//! Read as far as the chooser asks: nearly always one node, of 256.

use std::cell::OnceCell;
use std::net::SocketAddr;

use lb_common::choose::Fleet;
use lb_common::maps::{Counts, MAX_NODES, NO_NODE, Node, NodeStatus, Pin, Settings, StatusPlane};

use super::steer::{Records, Steering, steer};
use crate::plane::maps::Insertion;
use crate::plane::{AccessError, Maps};

/// Steers one datagram over the program's own maps, at the moment `now` (in jiffies): nowhere while another
/// LB steers.
///
/// # Errors
/// [`AccessError`] when a map cannot be read or written.
pub fn steer_by_maps(
    maps: &Maps,
    now: u64,
    client: SocketAddr,
    payload: &[u8],
) -> Result<Steering, AccessError> {
    let view = View::open(maps, now)?;
    let turnout = maps.turnout()?;
    if !turnout.is_active(view.plane.term_heard) {
        return Ok(Steering::PASSIVE);
    }
    steer(&view, maps, turnout, client, payload)
}

struct View<'a> {
    maps: &'a Maps,
    settings: Settings,
    plane: StatusPlane,
    now: u64,
    nodes: Vec<OnceCell<Option<(Node, NodeStatus)>>>,
    counts: OnceCell<Option<Counts>>,
}

impl<'a> View<'a> {
    fn open(maps: &'a Maps, now: u64) -> Result<Self, AccessError> {
        Ok(Self {
            maps,
            settings: maps.settings()?,
            plane: maps.plane_status()?,
            now,
            nodes: vec![OnceCell::new(); MAX_NODES as usize],
            counts: OnceCell::new(),
        })
    }

    /// A node that cannot be read is as good as none.
    fn known(&self, id: u16) -> Option<&(Node, NodeStatus)> {
        let read = || Some((self.maps.node(id).ok()?, self.maps.status(id).ok()?));
        self.nodes.get(usize::from(id))?.get_or_init(read).as_ref()
    }
}

impl Fleet for View<'_> {
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
        self.known(id).map(|(node, _)| node)
    }

    fn status(&self, id: u16) -> Option<&NodeStatus> {
        self.known(id).map(|(_, status)| status)
    }

    fn home(&self, generation: u32, slot: u32) -> u16 {
        self.maps.home(generation, slot).unwrap_or(NO_NODE)
    }

    fn started(&self, id: u16) -> u64 {
        let counts = self.counts.get_or_init(|| self.maps.counts().ok());
        let node = counts
            .as_ref()
            .and_then(|counts| counts.nodes.get(usize::from(id)));
        node.map_or(0, |node| node.started)
    }
}

impl Records for Maps {
    type Error = AccessError;

    fn pin(&self, key: u64) -> Result<Option<Pin>, AccessError> {
        if self.pin_hint(key) == 0 {
            Ok(None)
        } else {
            self.pin(key)
        }
    }

    fn insert_pin(&self, key: u64, pin: Pin) -> Result<bool, AccessError> {
        Ok(self.insert_pin(key, pin)? == Insertion::Made)
    }

    fn update_pin(&self, key: u64, pin: Pin) -> Result<(), AccessError> {
        // A pin that has expired meanwhile stays expired.
        self.update_pin(key, pin).map(drop)
    }

    fn memory(&self, index: u32) -> Result<u64, AccessError> {
        self.memory_word(index)
    }

    fn set_memory(&self, index: u32, word: u64) -> Result<(), AccessError> {
        self.set_memory_word(index, word)
    }
}
