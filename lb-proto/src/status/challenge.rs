//! How a node finds out that its epoch is too old, and gets a higher one.
//!
//! A node keeps its epoch on the disk and takes a higher one with every boot. When the disk is lost
//! and the clock is wrong, it comes back with one that others have seen already, and everybody refuses
//! its beacons: rightly, for so would a replay of its old life look. The kernel program never takes a
//! stamp that is not greater than the last, so the way back is that the *node* goes beyond it:
//!
//! ```text
//!   node, epoch 5                                receiver, holds (9, 1234) for the node
//!     ├── beacon (5, 0) ──────────────────────────► refused: old epoch
//!     ├── probe: next is (5, 1), nonce n ─────────►
//!     ◄── held: (9, 1234), nonce n ───────────────┤ only because (9, 1234) ≥ (5, 1)
//!     │ epoch 10, kept on the disk first
//!     └── beacon (10, 0) ─────────────────────────► taken
//! ```
//! - **Who can lie.** Nobody without a key: all of it is authenticated, and an answer counts only with
//!   the nonce of one of the last two probes, so none of another life can be played back. What a
//!   receiver holds is what the node itself has sent once; no chain of answers leads further than one
//!   epoch beyond that.
//! - **The ceiling.** An epoch close to the highest of all is not followed: from there, no way leads on.
//! - **A second node of the same id** is refused by turns with the first, and both would climb. With
//!   each epoch gained, a node waits twice as long before it asks again: in a day it climbs by some
//!   thousand, and says from the fourth on that it is contested.
//!
//! A node asks [`BURST`] times half a period apart when it begins to speak and when it has got a new
//! epoch, and then every [`BACKGROUND`] periods: a receiver may have been out of reach at first.
//! Nobody answers a node whose next beacon he would take, so in a cluster where nothing is wrong that
//! is one datagram more in sixteen.

use super::map::AvailabilityMap;
use super::query::{Held, Probe, QueryBytes};
use super::sender::{Answers, Sender};
use crate::keys::NumberedKey;
use crate::random::Random;
use std::collections::BTreeMap;
use std::time::Duration;

/// Probes at the beginning, half a period apart: with one datagram in a hundred lost, one probe and
/// its answer get through but once in six million times.
pub const BURST: u32 = 4;
/// Periods between probes after that.
pub const BACKGROUND: u32 = 16;
/// Epochs from here on are not followed. The clock's seconds are there in the year 2106.
pub const CEILING: u32 = u32::MAX - 65_536;
/// Epochs gained in one life from which on the node's id is contested.
pub const CONTESTED: u32 = 4;
/// Doublings of half a period that lead to about a minute and a half.
const MOST_DOUBLINGS: u32 = 11;

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// For another node, cluster or probe: a late one, a copy, or a replay.
    NotOurs,
    /// The stamp is one of this life, or the node is beyond it already.
    Passed,
    /// The epoch is beyond the [`CEILING`]: somebody must look.
    Ceiling,
    /// The node has this epoch from now on: to be kept before the next beacon goes out.
    Raised {
        /// The new epoch.
        epoch: u32,
        /// It is not for the first time: another node may have the same id.
        is_contested: bool,
    },
}

/// The node's side.
#[derive(Debug)]
pub struct Challenge {
    period: Duration,
    /// When the next probe is due; `None` while the sender is silent.
    due: Option<Duration>,
    /// Probes left of the burst.
    burst: u32,
    /// The nonces of the last two probes.
    open: [Option<u64>; 2],
    /// Epochs gained.
    gained: u32,
    random: Random,
}

impl Challenge {
    /// For a sender of this period. `seed` is for the nonces: of two lives, it must not be the same.
    pub fn new(period: Duration, seed: u64) -> Self {
        Self {
            period,
            due: None,
            burst: 0,
            open: [None; 2],
            gained: 0,
            random: Random::new(seed),
        }
    }

    /// The probe that is due at `now`, if one is: for every group and peer that beacons go to.
    pub fn poll_transmit(&mut self, now: Duration, sender: &Sender) -> Option<QueryBytes> {
        if !sender.is_speaking() {
            self.due = None;
            return None;
        }
        if self.due.is_none() {
            self.burst = BURST;
        }
        if self.due.is_some_and(|due| due > now) {
            return None;
        }
        self.burst = self.burst.saturating_sub(1);
        let wait = if self.burst > 0 {
            self.period / 2
        } else {
            // Give or take an eighth, so that nodes do not stay in step.
            let whole = self.period * BACKGROUND;
            let quarter = u64::try_from(whole.as_nanos() / 4).unwrap_or(u64::MAX);
            whole * 7 / 8 + Duration::from_nanos(self.random.below(quarter))
        };
        self.due = Some(now + wait);
        let nonce = self.random.next();
        self.open = [Some(nonce), self.open[0]];
        let (identity, (epoch, sequence)) = (sender.identity(), sender.next_stamp());
        let probe = Probe {
            cluster: identity.cluster,
            node: identity.node,
            key_id: identity.key.id,
            nonce,
            stamp: u64::from(epoch) << 32 | u64::from(sequence),
        };
        Some(probe.write(identity.key.key))
    }

    /// When to call [`Challenge::poll_transmit`] next.
    pub fn next_timeout(&self, now: Duration, sender: &Sender) -> Option<Duration> {
        sender.is_speaking().then(|| self.due.unwrap_or(now))
    }

    /// An authentic answer came.
    pub fn answered(&mut self, now: Duration, held: &Held, sender: &mut Sender) -> Outcome {
        let (identity, (own, sequence)) = (sender.identity(), sender.next_stamp());
        let is_ours = held.cluster == identity.cluster
            && held.node == identity.node
            && self.open.contains(&Some(held.nonce));
        if !is_ours {
            return Outcome::NotOurs;
        }
        if held.stamp < u64::from(own) << 32 | u64::from(sequence) {
            return Outcome::Passed;
        }
        let epoch = (held.stamp >> 32) as u32;
        if epoch >= CEILING {
            return Outcome::Ceiling;
        }
        sender.raise_epoch(now, epoch + 1);
        self.gained = self.gained.saturating_add(1);
        self.burst = BURST;
        let doublings = (self.gained - 1).min(MOST_DOUBLINGS);
        self.due = Some(now + self.period / 2 * (1 << doublings));
        Outcome::Raised {
            epoch: epoch + 1,
            is_contested: self.gained >= CONTESTED,
        }
    }
}

/// The receivers' side. Every receiver answers: each may hold another stamp.
#[derive(Debug)]
pub struct Answerer {
    answers: Answers,
    /// The nonce that each node was answered last, by node: a captured probe is answered but once in
    /// a row.
    last: BTreeMap<u16, u64>,
}

impl Answerer {
    /// One that has answered nobody.
    pub fn new(now: Duration) -> Self {
        Self {
            answers: Answers::new(now),
            last: BTreeMap::new(),
        }
    }

    /// The answer to an authentic probe, to be sent to where it came from; `None` when the node's next
    /// beacon is good, or too many asked.
    pub fn answer(
        &mut self,
        now: Duration,
        probe: &Probe,
        map: &AvailabilityMap,
        key: NumberedKey,
    ) -> Option<QueryBytes> {
        // What is held is held of real nodes only, so `last` is bounded by their number.
        let stamp = map.stamp(probe.node).filter(|held| *held >= probe.stamp)?;
        let is_new = self.last.get(&probe.node) != Some(&probe.nonce);
        if probe.cluster != map.cluster() || !is_new || !self.answers.take(now) {
            return None;
        }
        self.last.insert(probe.node, probe.nonce);
        let held = Held {
            cluster: probe.cluster,
            node: probe.node,
            key_id: key.id,
            nonce: probe.nonce,
            stamp,
        };
        Some(held.write(key.key))
    }
}

#[cfg(test)]
mod tests;
