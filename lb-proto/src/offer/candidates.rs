//! Who could take a call, and the choice among them.
//!
//! **Why not simply the best.** All nodes see the same map, as old as the last beacons. If each gave
//! its calls to whoever has the most headroom, all would give them to the same one until the next
//! beacon: a herd. Nor is the better of two drawn evenly enough: the best of n is then drawn by
//! 2 of n choosers and wins each time, which is twice its share.
//!
//! So two are drawn **in proportion to the headroom that is left**: each node gets the share of calls
//! that it has of the room, however many choose at once and however old the map is. Of the two, the
//! one wins that this node has offered less lately, for the headroom it has: that evens out what
//! chance would heap on one (the power of two choices, M. Mitzenmacher, 2001), and as it looks at
//! nothing that others see too, no herd comes of it.
//!
//! Headroom ages: what was said a hold time ago counts half.

use super::recent::Recent;
use super::ticket::Visited;
use crate::random::Random;
use crate::status::map::{AvailabilityMap, Row};
use lb_common::Admission;
use lb_common::choose::Liveness;
use std::time::Duration;

/// A node that could take a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: u16,
    /// Calls that it said it can take. At least 1.
    pub headroom: u32,
    /// How long ago it said so.
    pub age: Duration,
    /// Calls that it was offered by this node and cannot have counted then.
    pub offered: u32,
    /// Calls that it was offered by this node [lately](super::recent::LATELY).
    pub lately: u32,
}

impl Candidate {
    /// Calls that it should still be able to take.
    fn left(&self) -> u32 {
        self.headroom.saturating_sub(self.offered)
    }

    /// What is left, aged, in units of which a fresh call has 1024.
    fn weight(&self, hold: Duration) -> u64 {
        let halves = self.age.min(hold).as_nanos() * 512 / hold.as_nanos().max(1);
        // At most 2³² · 2¹⁰.
        u64::from(self.left()) * (1024 - halves as u64)
    }

    /// Whether it was offered less lately than the other, for the headroom that it has.
    fn is_less_used(&self, other: &Self) -> bool {
        u64::from(self.lately) * u64::from(other.headroom)
            < u64::from(other.lately) * u64::from(self.headroom)
    }
}

/// One of several nodes that a 302 names, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// Which.
    pub node: u16,
    /// Its `q` in the Contact, in thousandths (RFC 3261 §20.10: 0 to 1, three digits).
    pub q_permille: u16,
}

/// The q-values of the first, second and third Contact.
pub const Q_PERMILLE: [u16; 3] = [1000, 700, 400];

/// Chooses for one node.
#[derive(Debug)]
pub struct Chooser {
    own: u16,
    hold: Duration,
    recent: Recent,
    random: Random,
}

impl Chooser {
    /// For the node `own`. `hold` is the [hold time](crate::status::Timing::hold).
    pub fn new(own: u16, hold: Duration, seed: u64) -> Self {
        Self {
            own,
            hold,
            recent: Recent::new(),
            random: Random::new(seed),
        }
    }

    /// A good, new beacon of the node came: call it with all that the map takes.
    pub fn heard(&mut self, now: Duration, node: u16) {
        self.recent.heard(now, node);
    }

    /// The node was offered a call and refused: it is no candidate until it has spoken again.
    pub fn refused(&mut self, now: Duration, node: u16) {
        self.recent.refused(now, node);
    }

    /// The node to offer a call to that has visited `visited`. Counts as offered.
    pub fn choose(
        &mut self,
        now: Duration,
        map: &AvailabilityMap,
        visited: &Visited,
    ) -> Option<u16> {
        let candidates = self.candidates(now, map, visited);
        let node = draw(&candidates, self.hold, &mut self.random)?.node;
        self.recent.offered(now, node);
        Some(node)
    }

    /// Up to three nodes for the Contacts of one 302, the best first. The first counts as offered: it
    /// is where the switch goes unless that fails.
    pub fn choose_three(
        &mut self,
        now: Duration,
        map: &AvailabilityMap,
        visited: &Visited,
    ) -> Vec<Alternative> {
        let mut candidates = self.candidates(now, map, visited);
        let mut chosen = Vec::new();
        for q_permille in Q_PERMILLE {
            let Some(Candidate { node, .. }) = draw(&candidates, self.hold, &mut self.random)
            else {
                break;
            };
            candidates.retain(|candidate| candidate.node != node);
            chosen.push(Alternative { node, q_permille });
        }
        if let Some(first) = chosen.first() {
            self.recent.offered(now, first.node);
        }
        chosen
    }

    /// All that could take a call: `Up`, `Idle` or `Free`, with headroom by their last beacon; not
    /// this node, none that the call has visited, and none that refused since it spoke.
    pub fn candidates(
        &self,
        now: Duration,
        map: &AvailabilityMap,
        visited: &Visited,
    ) -> Vec<Candidate> {
        map.rows(now)
            .filter(|row| row.node != self.own && !visited.contains(row.node))
            .filter(|row| !self.recent.has_refused(now, row.node))
            .filter_map(|row| {
                let recent = &self.recent;
                let offered = recent.outstanding(now, row.node);
                candidate(&row, offered, recent.lately(now, row.node))
            })
            .collect()
    }
}

fn candidate(row: &Row, offered: u32, lately: u32) -> Option<Candidate> {
    let (beacon, age) = row.last?;
    let is_willing =
        row.liveness == Liveness::Up && beacon.admission <= Admission::Free && beacon.headroom > 0;
    is_willing.then_some(Candidate {
        node: row.node,
        headroom: beacon.headroom,
        age,
        offered,
        lately,
    })
}

/// The better of two, drawn in proportion to what is left of them. When nothing is left of any by
/// what they were offered, any: they have room by their own word, and may have got rid of calls.
pub(crate) fn draw(
    candidates: &[Candidate],
    hold: Duration,
    random: &mut Random,
) -> Option<Candidate> {
    let weight = |candidate: &Candidate| candidate.weight(hold);
    // At most 255 · 2⁴².
    let total: u64 = candidates.iter().map(weight).sum();
    if total == 0 {
        let any = random.below(candidates.len() as u64);
        return candidates.get(any as usize).copied();
    }
    let mut pick = || {
        let mut place = random.below(total);
        candidates.iter().find(|candidate| {
            let weight = weight(candidate);
            let is_here = place < weight;
            place = place.saturating_sub(weight);
            is_here
        })
    };
    let (first, second) = (pick()?, pick()?);
    let better = if second.is_less_used(first) {
        second
    } else {
        first
    };
    Some(*better)
}

#[cfg(test)]
mod tests;
