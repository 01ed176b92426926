//! Which node is home to each slot of the steering table: a weighted Maglev fill.
//!
//! Source: D. E. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer"
//! (NSDI 2016), §3.4. Every node has an order of preference over all slots of its own; the nodes
//! take turns, each claiming the slot it likes best among those left. So every node gets its share
//! to within a slot, and when a node is added or removed most slots stay where they were.
//!
//! Two things differ from the paper:
//! - **Weights.** A node takes its turn when it has saved up enough of them: the heaviest in every
//!   round, one of half its weight in every second.
//! - **Orders of preference.** The paper steps through the slots by a constant. Two nodes' steps are
//!   then related, and so are the owners of neighbouring slots; but a dead node's calls go to the
//!   owner of the next slot, and must spread evenly. The number of slots is 65,537 = 2¹⁶ + 1, prime,
//!   and 3 does not divide 2¹⁶, so cubing permutes the slots; two cubes with keyed steps between
//!   them are an order without such relations. Measured over 60 sets of four nodes: of a dead node's
//!   slots, the heir with most got up to 1.98 times the mean with constant steps, up to 1.04 times
//!   with cubes. When a node leaves, 0.1–0.3 % of the others' slots move, of four as of eight.
//!
//! The result depends on ids and weights alone: every controller, at any time and in any version,
//! must fill the same table, or calls move when one takes over from another.

use lb_common::maps::{NO_NODE, TABLE_SLOTS};
use lb_common::siphash::{SipKey, siphash13};

/// A node's claim on the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// The node's id. Shares of [`NO_NODE`] are ignored.
    pub node: u16,
    /// Its part of the slots, in proportion to the sum of all weights; 0 for none.
    pub weight: u32,
}

/// Fills the table: the home of every slot, [`TABLE_SLOTS`] of them.
///
/// In any order of `shares`; several shares of one node are added. All slots are [`NO_NODE`] when
/// nobody has any weight.
pub fn fill(shares: &[Share]) -> Vec<u16> {
    let mut table = vec![NO_NODE; TABLE_SLOTS as usize];
    let mut claimants = claimants(shares);
    let Some(turn) = claimants.iter().map(|claimant| claimant.weight).max() else {
        return table;
    };
    let mut left = table.len();
    loop {
        for claimant in &mut claimants {
            claimant.saved += claimant.weight;
            if claimant.saved < turn {
                continue;
            }
            claimant.saved -= turn;
            if left == 0 {
                return table;
            }
            left -= 1;
            claimant.claim(&mut table);
        }
    }
}

fn claimants(shares: &[Share]) -> Vec<Claimant> {
    let mut shares: Vec<Share> = shares.to_vec();
    shares.sort_unstable();
    let mut claimants: Vec<Claimant> = Vec::with_capacity(shares.len());
    for share in shares {
        if share.node == NO_NODE || share.weight == 0 {
            continue;
        }
        match claimants.last_mut() {
            Some(last) if last.node == share.node => last.weight += u64::from(share.weight),
            _ => claimants.push(Claimant::new(share.node, share.weight)),
        }
    }
    claimants
}

/// A node while the table is filled.
struct Claimant {
    node: u16,
    weight: u64,
    /// Weight saved up since its last turn.
    saved: u64,
    order: Preference,
    /// How far it has gone through its order of preference.
    place: u32,
}

impl Claimant {
    fn new(node: u16, weight: u32) -> Self {
        Self {
            node,
            weight: weight.into(),
            saved: 0,
            order: Preference::of(node),
            place: 0,
        }
    }

    /// Takes the free slot that it likes best. There must be one.
    fn claim(&mut self, table: &mut [u16]) {
        while self.place < TABLE_SLOTS {
            let slot = self.order.slot(self.place);
            self.place += 1;
            if let Some(home) = table.get_mut(slot as usize)
                && *home == NO_NODE
            {
                *home = self.node;
                return;
            }
        }
    }
}

/// A permutation of the slots: `place` ↦ `c · (b · (a · place + d)³ + e)³ + f`.
struct Preference {
    scales: [u64; 3],
    shifts: [u64; 3],
}

impl Preference {
    fn of(node: u16) -> Self {
        // Of these words hangs where every call lives: they must never change.
        let word = |index: u64| {
            siphash13(SipKey { k0: index, k1: 0 }, &node.to_be_bytes()) % u64::from(TABLE_SLOTS - 1)
        };
        Self {
            scales: [0, 1, 2].map(|i| 1 + word(i)),
            shifts: [3, 4, 5].map(word),
        }
    }

    fn slot(&self, place: u32) -> u32 {
        const PRIME: u64 = TABLE_SLOTS as u64;
        let cube = |x: u64| x * x % PRIME * x % PRIME;
        let [a, b, c] = self.scales;
        let [d, e, f] = self.shifts;
        let once = cube((a * u64::from(place) + d) % PRIME);
        let twice = cube((b * once + e) % PRIME);
        ((c * twice + f) % PRIME) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn equal(nodes: impl IntoIterator<Item = u16>) -> Vec<Share> {
        nodes
            .into_iter()
            .map(|node| Share { node, weight: 1 })
            .collect()
    }

    fn counts(table: &[u16]) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for node in table {
            *counts.entry(*node).or_default() += 1;
        }
        counts
    }

    /// Greatest count over the mean.
    fn unevenness(counts: &BTreeMap<u16, usize>) -> f64 {
        let sum: usize = counts.values().sum();
        let most = counts.values().max().copied().unwrap_or_default();
        most as f64 * counts.len() as f64 / sum as f64
    }

    fn shares() -> impl Strategy<Value = Vec<Share>> {
        proptest::collection::btree_map(1u16..256, 1u32..=16, 1..12).prop_map(|map| {
            map.into_iter()
                .map(|(node, weight)| Share { node, weight })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn every_slot_has_a_home_and_shares_follow_weights(shares in shares()) {
            let counts = counts(&fill(&shares));
            prop_assert!(!counts.contains_key(&NO_NODE));
            let sum: u32 = shares.iter().map(|share| share.weight).sum();
            for share in &shares {
                let ideal = f64::from(TABLE_SLOTS) * f64::from(share.weight) / f64::from(sum);
                let has = counts[&share.node] as f64;
                prop_assert!((has - ideal).abs() <= ideal * 0.01, "{share:?}: {has} for {ideal}");
            }
        }

        #[test]
        fn the_order_of_input_is_of_no_account(
            (shares, shuffled) in shares().prop_flat_map(|s| (Just(s.clone()), Just(s).prop_shuffle()))
        ) {
            prop_assert_eq!(fill(&shares), fill(&shuffled));
        }

        #[test]
        fn a_node_that_leaves_moves_few_slots_of_others(shares in shares(), leaves: usize) {
            prop_assume!(shares.len() > 1);
            let mut fewer = shares.clone();
            let gone = fewer.remove(leaves % shares.len()).node;
            let (before, after) = (fill(&shares), fill(&fewer));
            let moved = before.iter().zip(&after).filter(|(b, a)| **b != gone && b != a).count();
            let share = moved as f64 / f64::from(TABLE_SLOTS);
            prop_assert!(share < 0.015, "{:.2} % moved", share * 100.0);
        }

        /// What the kernel does with a dead node's calls: to the owner of the next slot.
        #[test]
        fn a_dead_nodes_slots_spread_evenly(nodes in proptest::collection::btree_set(1u16..256, 4..=5)) {
            let table = fill(&equal(nodes.iter().copied()));
            for dead in &nodes {
                let mut heirs = BTreeMap::new();
                for slot in (0..table.len()).filter(|slot| table[*slot] == *dead) {
                    let heir = (1..table.len())
                        .map(|step| table[(slot + step) % table.len()])
                        .find(|node| node != dead)
                        .expect("somebody lives");
                    *heirs.entry(heir).or_default() += 1;
                }
                prop_assert_eq!(heirs.len(), nodes.len() - 1);
                prop_assert!(unevenness(&heirs) < 1.10, "{heirs:?}");
            }
        }
    }

    #[test]
    fn equal_nodes_get_equal_shares() {
        for n in 1..=16 {
            let uneven = unevenness(&counts(&fill(&equal(1..=n))));
            assert!(uneven <= 1.005, "{n} nodes: {uneven}");
        }
    }

    #[test]
    fn a_full_fleet_fills_the_table() {
        let counts = counts(&fill(&equal(1..=255)));
        assert_eq!(counts.len(), 255);
        assert!(counts.values().all(|slots| (256..=258).contains(slots)));
    }

    #[test]
    fn nobody_has_no_table() {
        assert!(fill(&[]).iter().all(|node| *node == NO_NODE));
        let weightless = [
            Share { node: 1, weight: 0 },
            Share {
                node: NO_NODE,
                weight: 7,
            },
        ];
        let table = fill(&weightless);
        assert_eq!(table.len(), TABLE_SLOTS as usize);
        assert!(table.iter().all(|node| *node == NO_NODE));
    }

    #[test]
    fn a_preference_is_a_permutation() {
        for node in [1, 2, 255, u16::MAX] {
            let order = Preference::of(node);
            let mut seen = vec![false; TABLE_SLOTS as usize];
            for place in 0..TABLE_SLOTS {
                assert!(!std::mem::replace(
                    &mut seen[order.slot(place) as usize],
                    true
                ));
            }
        }
    }

    /// Calls live where this table says: a change here moves them all.
    #[test]
    fn the_table_is_the_same_in_every_version() {
        let table = fill(&[1, 2, 3, 4].map(|node| Share {
            node,
            weight: u32::from(node),
        }));
        let bytes: Vec<u8> = table.iter().flat_map(|node| node.to_be_bytes()).collect();
        assert_eq!(siphash13(SipKey::default(), &bytes), SNAPSHOT);
    }

    const SNAPSHOT: u64 = 0xd846_6709_d1ef_986d;
}
