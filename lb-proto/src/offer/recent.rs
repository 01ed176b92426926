//! What this node has offered others since they last said how many calls they can take.
//!
//! Between two beacons of a node, everybody who looks at the map sees the same headroom. Who did not
//! remember his own offers would send all the calls of a period to the node that looked best at its
//! beginning. An offer is forgotten when a beacon comes that can have counted it, which is one that
//! comes at least [`SETTLE`] after the offer, or after the time of a [`LEASE`]: then the call has
//! come or never will.

use crate::admission::slots::LEASE;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// From an offer to the first beacon that can have counted it: the way there, and the other node's
/// reservation. Chosen: ten times what a local network and a busy task take.
pub const SETTLE: Duration = Duration::from_millis(20);

/// Time over which own offers are evened out among the others. Chosen: a tenth of a second is what
/// beacons are apart by default, so that what chance did to a node it has told by then.
pub const LATELY: Duration = Duration::from_millis(100);

/// Offers within this time are counted as one moment's.
const SLICE: Duration = Duration::from_millis(5);
/// Slices kept of one node, the oldest of which take in what would be one more. With beacons ten times
/// a second there are 25 at most.
const MOST_SLICES: usize = 256;

/// One node's own recent offers to the others.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    nodes: BTreeMap<u16, Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Offers by time, oldest first. The time is that of the last offer in it.
    slices: VecDeque<Slice>,
    /// When it last refused an offer that it should have taken by what it had said.
    refused: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Slice {
    first: Duration,
    last: Duration,
    count: u32,
    /// A beacon has come that can have counted it.
    is_counted: bool,
}

impl Recent {
    /// No offers.
    pub fn new() -> Self {
        Self::default()
    }

    /// A call was offered to the node.
    pub fn offered(&mut self, now: Duration, node: u16) {
        let slices = &mut self.nodes.entry(node).or_default().slices;
        let is_full = slices.len() == MOST_SLICES;
        match slices.back_mut() {
            Some(slice)
                if is_full || !slice.is_counted && now.saturating_sub(slice.first) < SLICE =>
            {
                slice.is_counted = false;
                slice.last = now;
                slice.count = slice.count.saturating_add(1);
            }
            Some(_) | None => slices.push_back(Slice {
                first: now,
                last: now,
                count: 1,
                is_counted: false,
            }),
        }
    }

    /// The node was asked and refused: it is no candidate until it has spoken again.
    pub fn refused(&mut self, now: Duration, node: u16) {
        self.nodes.entry(node).or_default().refused = Some(now);
    }

    /// A good, new beacon of the node came.
    pub fn heard(&mut self, now: Duration, node: u16) {
        let is_counted = |at: Duration| at + SETTLE <= now;
        if let Some(entry) = self.nodes.get_mut(&node) {
            for slice in &mut entry.slices {
                slice.is_counted |= is_counted(slice.last);
            }
            let is_over = |slice: &Slice| slice.is_counted && slice.last + LATELY <= now;
            entry.slices.retain(|slice| !is_over(slice));
            entry.refused = entry.refused.filter(|at| !is_counted(*at));
            if entry.slices.is_empty() && entry.refused.is_none() {
                self.nodes.remove(&node);
            }
        }
    }

    /// Calls offered to the node that it cannot have counted yet.
    pub fn outstanding(&self, now: Duration, node: u16) -> u32 {
        let slices = self.nodes.get(&node).map(|node| node.slices.iter());
        slices
            .into_iter()
            .flatten()
            .filter(|slice| !slice.is_counted && slice.last + LEASE > now)
            .fold(0, |sum, slice| sum.saturating_add(slice.count))
    }

    /// Calls offered to the node [lately](LATELY), counted by it or not.
    pub fn lately(&self, now: Duration, node: u16) -> u32 {
        let slices = self.nodes.get(&node).map(|node| node.slices.iter());
        slices
            .into_iter()
            .flatten()
            .filter(|slice| slice.last + LATELY > now)
            .fold(0, |sum, slice| sum.saturating_add(slice.count))
    }

    /// Whether the node has refused an offer and not spoken since.
    pub fn has_refused(&self, now: Duration, node: u16) -> bool {
        let refused = self.nodes.get(&node).and_then(|node| node.refused);
        refused.is_some_and(|at| at + LEASE > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_beacon_forgets_what_it_can_have_counted() {
        let mut recent = Recent::new();
        for ms in [0, 1, 50, 90, 90] {
            recent.offered(MS * ms, 3);
        }
        assert_eq!(recent.outstanding(MS * 90, 3), 5);
        recent.heard(MS * 100, 3);
        assert_eq!(recent.outstanding(MS * 100, 3), 2, "those of 90 ms");
        recent.heard(MS * 100, 4);
        recent.heard(MS * 110, 3);
        assert_eq!(recent.outstanding(MS * 110, 3), 0);
        assert_eq!(recent.lately(MS * 110, 3), 3, "those of 50 and 90 ms");
        assert_eq!(recent.lately(MS * 190, 3), 0);
        recent.heard(MS * 190, 3);
        assert!(recent.nodes.is_empty(), "and costs nothing");
    }

    #[test]
    fn without_beacons_an_offer_lasts_as_long_as_a_lease() {
        let mut recent = Recent::new();
        recent.offered(MS, 3);
        recent.refused(MS, 3);
        assert_eq!(recent.outstanding(LEASE, 3), 1);
        assert!(recent.has_refused(LEASE, 3) && !recent.has_refused(LEASE, 4));
        assert_eq!(recent.outstanding(LEASE + MS, 3), 0);
        assert!(!recent.has_refused(LEASE + MS, 3));
    }

    #[test]
    fn a_refusal_is_forgotten_like_an_offer() {
        let mut recent = Recent::new();
        recent.refused(MS * 90, 3);
        recent.heard(MS * 100, 3);
        assert!(recent.has_refused(MS * 100, 3));
        recent.heard(MS * 110, 3);
        assert!(!recent.has_refused(MS * 110, 3));
    }

    proptest! {
        /// Never fewer are outstanding than were made since the last beacon, never more than were
        /// made within the time of a lease; and what is kept is bounded.
        #[test]
        fn none_is_forgotten_too_soon(steps in proptest::collection::vec((0u8..4, 0u64..30), 1..800)) {
            let mut recent = Recent::new();
            let (mut now, mut beacon) = (Duration::ZERO, Duration::ZERO);
            let mut offers: Vec<Duration> = Vec::new();
            for (step, ms) in steps {
                match step {
                    0 => {
                        recent.heard(now, 1);
                        beacon = now;
                    }
                    1 => now += MS * ms as u32,
                    _ => {
                        recent.offered(now, 1);
                        offers.push(now);
                    }
                }
                let outstanding = recent.outstanding(now, 1) as usize;
                let since = offers.iter().filter(|at| **at + LEASE > now && **at >= beacon).count();
                let all = offers.iter().filter(|at| **at + LEASE + SLICE > now).count();
                prop_assert!((since..=all).contains(&outstanding), "{} {} {}", since, outstanding, all);
                prop_assert!(recent.nodes.values().all(|node| node.slices.len() <= MOST_SLICES));
            }
        }
    }
}
