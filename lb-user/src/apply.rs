//! Makes the maps hold what the [plan](crate::plan) says, under traffic.
//!
//! The order is such that every packet meets something whole: what is new is there before it is
//! steered to, and what is old goes last. When the steering table changes, the new one is filled
//! where nobody looks, and one store flips to it; the old one keeps its dialogs for the drain
//! period, and so do the nodes that are in it alone.

use std::collections::BTreeMap;

use lb_common::Address;
use lb_common::maps::{
    BeaconKey, MAX_KEYS, MAX_NODES, MAX_VIPS, NO_NODE, Node, TABLE_SLOTS, Turnout, Vip,
};

use crate::plan::{CANDIDATE, Plan, Service, is_candidate};
use crate::plane::{AccessError, Maps};

/// What applying a plan did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What became of the steering table.
    pub table: TableChange,
    /// Nodes that were not there before.
    pub added: Vec<u16>,
    /// Nodes that are not there any more, or only for the dialogs they have.
    pub removed: Vec<u16>,
}

/// What became of the steering table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableChange {
    /// It is as it was.
    #[default]
    Same,
    /// There was none.
    First,
    /// It was replaced, and the old one keeps its dialogs until [`finish_drain`].
    Flipped {
        /// The change before this one was not finished: dialogs from before that one have lost
        /// their table.
        cut_short: bool,
    },
}

/// Applies a plan.
///
/// # Errors
/// [`AccessError`]; what was written until then stays.
pub fn apply(maps: &Maps, plan: &Plan) -> Result<Applied, AccessError> {
    apply_keys(maps, plan)?;
    apply_services(maps, &plan.services)?;
    let mut applied = Applied::default();
    let mut last = plan.settings.node_end;
    for id in ids() {
        let node = maps.node(id)?;
        let was_candidate = is_candidate(&node);
        let was_there = node.flags & Node::CONFIGURED != 0 && !was_candidate;
        let is_leaving = node.flags & Node::LEAVING != 0;
        let planned = plan.nodes.iter().find(|planned| planned.id == id);
        match planned.filter(|planned| !planned.is_candidate()) {
            Some(planned) => {
                let node = if was_candidate { Node::default() } else { node };
                let kept = node.flags & (Node::REACHABLE | Node::JUDGED);
                maps.set_node(
                    id,
                    Node {
                        flags: kept | planned.flags,
                        ..node
                    },
                )?;
                if !was_there || is_leaving {
                    applied.added.push(id);
                }
            }
            // It keeps the calls it has until the old table has drained.
            None if was_there => {
                let flags = node.flags | Node::LEAVING;
                maps.set_node(id, Node { flags, ..node })?;
                last = last.max(u32::from(id) + 1);
                if !is_leaving {
                    applied.removed.push(id);
                }
            }
            None => {
                let vacant = planned.map_or_else(Node::default, |_| CANDIDATE);
                if node != vacant {
                    maps.set_node(id, vacant)?;
                }
            }
        }
    }
    maps.set_settings(lb_common::maps::Settings {
        node_end: last,
        ..plan.settings
    })?;
    applied.table = apply_table(maps, &plan.table)?;
    if !is_draining(maps)? {
        remove_leaving(maps, plan)?;
    }
    Ok(applied)
}

/// Ends the drain: the old table is consulted no more, and nodes that were in it alone are gone.
///
/// # Errors
/// [`AccessError`].
pub fn finish_drain(maps: &Maps, plan: &Plan) -> Result<(), AccessError> {
    let turnout = maps.turnout()?;
    let word = turnout.word & !Turnout::DRAINING;
    maps.set_turnout(Turnout { word, ..turnout })?;
    remove_leaving(maps, plan)
}

/// Whether an old table still keeps its dialogs.
///
/// # Errors
/// [`AccessError`].
pub fn is_draining(maps: &Maps) -> Result<bool, AccessError> {
    Ok(maps.turnout()?.is_draining())
}

fn remove_leaving(maps: &Maps, plan: &Plan) -> Result<(), AccessError> {
    for id in ids() {
        if maps.node(id)?.flags & Node::LEAVING != 0 {
            let planned = plan.nodes.iter().find(|planned| planned.id == id);
            let left = planned.filter(|planned| planned.is_candidate());
            maps.set_node(id, left.map_or_else(Node::default, |_| CANDIDATE))?;
        }
    }
    maps.set_settings(plan.settings)
}

fn ids() -> impl Iterator<Item = u16> {
    NO_NODE + 1..MAX_NODES as u16
}

fn apply_keys(maps: &Maps, plan: &Plan) -> Result<(), AccessError> {
    for id in 0..MAX_KEYS {
        let id = id as u8;
        let wanted = plan.keys.iter().find(|(planned, _)| *planned == id);
        let wanted = wanted.map_or_else(BeaconKey::default, |(_, key)| *key);
        if maps.key(id)? != wanted {
            maps.set_key(id, wanted)?;
        }
    }
    Ok(())
}

fn apply_table(maps: &Maps, wanted: &[u16]) -> Result<TableChange, AccessError> {
    let turnout = maps.turnout()?;
    let word = turnout.word;
    let generation = (word & 1) as u32;
    let current = maps.table(generation);
    debug_assert_eq!(current.len(), TABLE_SLOTS as usize);
    if current == wanted {
        return Ok(TableChange::Same);
    }
    if current.iter().all(|home| *home == NO_NODE) {
        maps.set_table(generation, wanted);
        return Ok(TableChange::First);
    }
    let cut_short = word & Turnout::DRAINING != 0;
    if cut_short {
        // The table about to be overwritten must not be consulted meanwhile.
        maps.set_turnout(Turnout {
            word: word & !Turnout::DRAINING,
            ..turnout
        })?;
    }
    maps.set_table(generation ^ 1, wanted);
    maps.set_turnout(Turnout {
        word: word ^ 1 | Turnout::DRAINING,
        ..turnout
    })?;
    Ok(TableChange::Flipped { cut_short })
}

/// Makes the service addresses those of the plan. An address that stays keeps its counter.
///
/// # Errors
/// [`AccessError`].
pub fn apply_services(maps: &Maps, services: &[Service]) -> Result<(), AccessError> {
    let key = |vip: &Vip| (vip.address.octets(), vip.port_be);
    let present: BTreeMap<_, Vip> = maps.vips()?.iter().map(|vip| (key(vip), *vip)).collect();
    let mut wanted: Vec<Vip> = services.iter().map(entry).collect();
    let mut used: Vec<u32> = Vec::new();
    for vip in &mut wanted {
        vip.index = present
            .get(&key(vip))
            .map_or(MAX_VIPS, |present| present.index);
        used.push(vip.index);
    }
    for vip in &mut wanted {
        if vip.index >= MAX_VIPS {
            let Some(free) = (0..MAX_VIPS).find(|index| !used.contains(index)) else {
                continue;
            };
            maps.clear_vip_count(free)?;
            vip.index = free;
            used.push(free);
        }
        if present.get(&key(vip)) != Some(vip) {
            maps.insert_vip(*vip)?;
        }
    }
    for old in present.values() {
        if !wanted.iter().any(|vip| key(vip) == key(old)) {
            maps.remove_vip(old.address, old.port_be)?;
        }
    }
    Ok(())
}

fn entry(service: &Service) -> Vip {
    Vip {
        address: Address::from(service.address.ip()),
        port_be: service.address.port().to_be(),
        purpose: service.purpose as u8,
        reserved: 0,
        index: MAX_VIPS,
    }
}
