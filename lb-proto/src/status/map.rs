//! The availability map: everybody's status with its age, made of the beacons that are genuine and
//! new.
//!
//! It refuses what the kernel program refuses, in the same order and for the same [`Reason`]s, and
//! judges ages by the same rules: `Stale` after the hold time, `Down` after ten periods by default,
//! and back from `Down` only after [`GOOD_BEACONS`] in a row. When every node looks stale at once, the
//! status plane is broken, not the nodes: ages are then counted to the last beacon that came.
//!
//! Beyond that, which the program cannot, it
//! - looks where a beacon comes from ([`receive_from`](AvailabilityMap::receive_from));
//! - makes nodes that flap wait: the second fall within a minute costs a second, the third two, up to
//!   a minute; those that were silent while nobody was heard do not count as fallen;
//! - holds against nobody what this receiver missed because it did not run itself
//!   ([`stalled`](AvailabilityMap::stalled));
//! - remembers the last stamp of every node for good, also of those that it has forgotten otherwise:
//!   what was played back after a node had aged out would bring the dead to life.
//!
//! What it does not do is doubt: confirming before a node is `Down` is the [judge](super::judge)'s.
//! And a map that starts empty takes the first genuine stamp that it sees. Who took over the program's
//! maps knows better, and says so by [`resume_stamp`](AvailabilityMap::resume_stamp).

use super::damping;
pub use super::members::{Discovery, Membership};
use super::members::{Members, Standing};
use super::{GOOD_BEACONS, Timing, origin};
use crate::keys::{NumberedKey, find};
use lb_common::beacon::{Beacon, BeaconError, is_authentic};
use lb_common::choose::Liveness;
use lb_common::maps::MAX_NODES;
use lb_common::{Admission, Reason};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Why a datagram is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// What the kernel program refuses as well.
    Program(Reason),
    /// Genuine and new, but not from an address of its node.
    Origin,
    /// Of a node that nobody configured, and there is no room to learn one more.
    Full,
}

impl Refusal {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Program(reason) => reason.name(),
            Self::Origin => "beacon-origin",
            Self::Full => "beacon-members-full",
        }
    }
}

/// One node's status.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// The last beacon; `None` for a configured node that was never heard.
    last: Option<Heard>,
    /// Beacons accepted.
    beacons: u64,
}

#[derive(Clone, Debug)]
struct Heard {
    beacon: Beacon,
    at: Duration,
    /// When the present run of beacons began.
    up_since: Duration,
    /// Good beacons in this run, up to 255.
    run: u8,
    /// Good beacons that the run needs.
    needed: u8,
    /// Falls that count against it.
    flaps: u32,
    /// Not `Up` before this.
    blocked_until: Duration,
}

impl Heard {
    fn is_ready(&self) -> bool {
        self.run >= self.needed
    }

    fn first(beacon: Beacon, now: Duration) -> Self {
        Self {
            beacon,
            at: now,
            up_since: now,
            run: 1,
            needed: 1,
            flaps: 0,
            blocked_until: Duration::ZERO,
        }
    }

    /// What becomes of it with the next beacon, after a silence that the node is to blame for, or
    /// not.
    fn followed(
        self,
        beacon: Beacon,
        now: Duration,
        silence: Duration,
        is_blamed: bool,
        timing: Timing,
    ) -> Self {
        if silence <= timing.hold() {
            return Self {
                beacon,
                at: now,
                run: self.run.saturating_add(1),
                ..self
            };
        }
        let was_ready = self.is_ready();
        let is_fall = silence > timing.down() && was_ready && is_blamed;
        let (flaps, blocked_until) = if is_fall {
            let up_for = self.at.saturating_sub(self.up_since);
            let flaps = damping::forgive(self.flaps, up_for);
            // The first fall costs nothing but the good beacons.
            let wait = flaps
                .checked_sub(1)
                .map_or(Duration::ZERO, damping::hold_down);
            (flaps + 1, now + wait)
        } else {
            (self.flaps, self.blocked_until)
        };
        let was_down = silence > timing.down() || !was_ready;
        Self {
            beacon,
            at: now,
            up_since: now,
            run: 1,
            needed: if was_down { GOOD_BEACONS } else { 1 },
            flaps,
            blocked_until,
        }
    }
}

/// One line of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The node.
    pub node: u16,
    /// Whether it is there.
    pub liveness: Liveness,
    /// What it said last, and how long ago; `None` when it was never heard.
    pub last: Option<(Beacon, Duration)>,
    /// How long beacons have been coming without a gap; zero when never heard.
    pub up_for: Duration,
    /// Beacons accepted.
    pub beacons: u64,
}

impl Row {
    /// What the node said last about calls.
    pub fn admission(&self) -> Option<Admission> {
        self.last.map(|(beacon, _)| beacon.admission)
    }
}

/// A time during which this receiver did not run.
#[derive(Clone, Copy, Debug)]
struct Stall {
    from: Duration,
    /// Ages are counted to `from` until then.
    until: Duration,
}

/// What is known of all nodes.
#[derive(Debug)]
pub struct AvailabilityMap {
    cluster: u32,
    keys: Vec<NumberedKey>,
    timing: Timing,
    members: Members,
    nodes: BTreeMap<u16, Entry>,
    /// The greatest stamp taken, by node: of every id at most.
    stamps: BTreeMap<u16, u64>,
    last_beacon: Option<Duration>,
    /// When somebody was last heard after nobody was.
    mended: Duration,
    stall: Option<Stall>,
}

impl AvailabilityMap {
    /// An empty map. Beacons under any of `keys` are genuine.
    pub fn new(
        cluster: u32,
        keys: Vec<NumberedKey>,
        timing: Timing,
        membership: Membership,
    ) -> Self {
        Self {
            cluster,
            keys,
            timing,
            members: Members::new(membership),
            nodes: BTreeMap::new(),
            stamps: BTreeMap::new(),
            last_beacon: None,
            mended: Duration::ZERO,
            stall: None,
        }
    }

    /// Makes `nodes` the configured ones, wherever they send from. Others are forgotten, unless nodes
    /// are learnt.
    pub fn configure(&mut self, nodes: &[u16]) {
        self.configure_at(nodes.iter().map(|node| (*node, Vec::new())).collect());
    }

    /// Makes `nodes` the configured ones, each with the addresses that it sends from; where there are
    /// none, those count that its beacons name. Others are forgotten, unless nodes are learnt.
    pub fn configure_at(&mut self, nodes: BTreeMap<u16, Vec<IpAddr>>) {
        for node in nodes.keys() {
            self.nodes.entry(*node).or_default();
        }
        self.members.configure(nodes);
        self.forget_strangers();
    }

    /// Whether and how nodes are learnt that nobody configured.
    pub fn set_discovery(&mut self, discovery: Option<Discovery>) {
        self.members.discovery = discovery;
        self.forget_strangers();
    }

    fn forget_strangers(&mut self) {
        let members = &self.members;
        self.nodes
            .retain(|node, _| members.standing(*node) != Standing::Stranger);
    }

    /// Changes the keys that are good.
    pub fn set_keys(&mut self, keys: Vec<NumberedKey>) {
        self.keys = keys;
    }

    /// The cluster.
    pub fn cluster(&self) -> u32 {
        self.cluster
    }

    /// The greatest stamp taken of a node: epoch in the high half, sequence in the low one.
    pub fn stamp(&self, node: u16) -> Option<u64> {
        self.stamps.get(&node).copied()
    }

    /// Whether a node's datagrams may come from there: from an address configured for it, or else one
    /// that its last beacon names. `None` for who is no member, or was never heard.
    pub fn is_origin(&self, node: u16, from: IpAddr) -> Option<bool> {
        let heard = self.nodes.get(&node)?.last.as_ref()?;
        Some(origin::is_good(
            self.members.addresses(node),
            &heard.beacon,
            from,
        ))
    }

    /// Takes over from another that it has taken this stamp of a node: only greater ones are taken.
    pub fn resume_stamp(&mut self, node: u16, stamp: u64) {
        if u32::from(node) < MAX_NODES {
            let held = self.stamps.entry(node).or_default();
            *held = stamp.max(*held);
        }
    }

    /// Takes in what came to the status port at `now`, wherever from.
    ///
    /// # Errors
    /// The [`Reason`] of the refusal, for a counter: the same that the kernel program gives. A node
    /// that there is no room to learn is an unknown one.
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) -> Result<Beacon, Reason> {
        let beacon = self.verify(bytes)?;
        match self.accept(now, beacon, None) {
            Ok(()) => Ok(beacon),
            Err(Refusal::Program(reason)) => Err(reason),
            Err(Refusal::Origin | Refusal::Full) => Err(Reason::BeaconUnknownNode),
        }
    }

    /// Takes in what came to the status port at `now` from an address, which must be one of the
    /// beacon's node.
    ///
    /// # Errors
    /// The [`Refusal`], for a counter.
    pub fn receive_from(
        &mut self,
        now: Duration,
        from: IpAddr,
        bytes: &[u8],
    ) -> Result<Beacon, Refusal> {
        let beacon = self.verify(bytes).map_err(Refusal::Program)?;
        self.accept(now, beacon, Some(from))?;
        Ok(beacon)
    }

    fn verify(&self, bytes: &[u8]) -> Result<Beacon, Reason> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let beacon = match Beacon::read(bytes, 0, len) {
            Ok(beacon) if beacon.cluster == self.cluster => beacon,
            Ok(_) | Err(BeaconError::Foreign) => return Err(Reason::ForeignStatus),
            Err(BeaconError::Malformed) => return Err(Reason::BeaconMalformed),
        };
        let key = find(&self.keys, beacon.key_id).ok_or(Reason::BeaconUnknownKey)?;
        if !is_authentic(bytes, 0, key) {
            return Err(Reason::BeaconForged);
        }
        Ok(beacon)
    }

    /// Takes over a beacon that is genuine.
    pub(super) fn accept(
        &mut self,
        now: Duration,
        beacon: Beacon,
        from: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let node = beacon.node;
        let standing = self.members.standing(node);
        if standing == Standing::Stranger {
            return Err(Refusal::Program(Reason::BeaconUnknownNode));
        }
        let stamp = self.stamp(node).unwrap_or(0);
        if beacon.stamp() <= stamp {
            let is_old = beacon.epoch < (stamp >> 32) as u32;
            return Err(Refusal::Program(if is_old {
                Reason::BeaconOldEpoch
            } else {
                Reason::BeaconReplayed
            }));
        }
        let configured = self.members.addresses(node);
        if from.is_some_and(|from| !origin::is_good(configured, &beacon, from)) {
            return Err(Refusal::Origin);
        }
        let is_newcomer = standing == Standing::Learnt && !self.nodes.contains_key(&node);
        if is_newcomer && !self.has_room(now) {
            return Err(Refusal::Full);
        }
        if self.is_plane_broken(now) {
            self.mended = now;
        }
        let (reference, mended) = (self.to_stall(now), self.mended);
        let entry = self.nodes.entry(node).or_default();
        entry.last = Some(match entry.last.take() {
            None => Heard::first(beacon, now),
            Some(heard) => {
                let silence = reference.saturating_sub(heard.at);
                let is_blamed = heard.at >= mended;
                heard.followed(beacon, now, silence, is_blamed, self.timing)
            }
        });
        entry.beacons += 1;
        self.stamps.insert(node, beacon.stamp());
        self.last_beacon = Some(now);
        Ok(())
    }

    /// Whether one more node can be learnt, perhaps after forgetting some.
    fn has_room(&mut self, now: Duration) -> bool {
        let most = self.members.discovery.map_or(0, |discovery| discovery.most);
        if self.learnt() >= most {
            self.forget_silent(now);
        }
        self.learnt() < most
    }

    fn learnt(&self) -> usize {
        let is_learnt = |node: &&u16| self.members.standing(**node) == Standing::Learnt;
        self.nodes.keys().filter(is_learnt).count()
    }

    /// Forgets learnt nodes that were silent for long, and says which. Nobody while the status plane
    /// is broken.
    pub fn forget_silent(&mut self, now: Duration) -> Vec<u16> {
        let reference = self.reference(now);
        let Some(limit) = self.members.forget_after(self.timing) else {
            return Vec::new();
        };
        let (members, mut forgotten) = (&self.members, Vec::new());
        self.nodes.retain(|node, entry| {
            let heard = entry.last.as_ref().map_or(Duration::ZERO, |heard| heard.at);
            let is_kept = members.standing(*node) == Standing::Configured
                || reference.saturating_sub(heard) <= limit;
            if !is_kept {
                forgotten.push(*node);
            }
            is_kept
        });
        forgotten
    }

    /// This receiver did not run from `from` until `now`. To be called before what waits in the
    /// sockets is read: ages are counted to when it last ran until a period has passed.
    pub fn stalled(&mut self, from: Duration, now: Duration) {
        let until = now + self.timing.period;
        // One stall after another is one.
        let from = match self.stall {
            Some(stall) if from < stall.until => stall.from,
            Some(_) | None => from,
        };
        self.stall = Some(Stall { from, until });
    }

    /// The present, or when this receiver last ran before a stall that is hardly over.
    fn to_stall(&self, now: Duration) -> Duration {
        match self.stall {
            Some(stall) if now < stall.until => stall.from.min(now),
            Some(_) | None => now,
        }
    }

    /// The moment that ages are counted to.
    fn reference(&self, now: Duration) -> Duration {
        let now = self.to_stall(now);
        match self.last_beacon {
            Some(last) if now.saturating_sub(last) > self.timing.hold() => last,
            Some(_) | None => now,
        }
    }

    /// Whether every node looks stale at once: then no age says anything about a node.
    pub fn is_plane_broken(&self, now: Duration) -> bool {
        let now = self.to_stall(now);
        self.last_beacon
            .is_none_or(|last| now.saturating_sub(last) > self.timing.hold())
    }

    /// How long ago the last beacon of anybody came.
    pub fn silence(&self, now: Duration) -> Option<Duration> {
        self.last_beacon.map(|last| now.saturating_sub(last))
    }

    /// One node's line; `None` when there is no such node.
    pub fn row(&self, now: Duration, node: u16) -> Option<Row> {
        self.nodes
            .get(&node)
            .map(|entry| self.describe(now, node, entry))
    }

    /// All lines, by node.
    pub fn rows(&self, now: Duration) -> impl Iterator<Item = Row> {
        self.nodes
            .iter()
            .map(move |(node, entry)| self.describe(now, *node, entry))
    }

    fn describe(&self, now: Duration, node: u16, entry: &Entry) -> Row {
        let heard = entry.last.as_ref();
        Row {
            node,
            liveness: self.liveness(now, heard),
            last: heard.map(|heard| (heard.beacon, now.saturating_sub(heard.at))),
            up_for: heard.map_or(Duration::ZERO, |heard| {
                heard.at.saturating_sub(heard.up_since)
            }),
            beacons: entry.beacons,
        }
    }

    fn liveness(&self, now: Duration, heard: Option<&Heard>) -> Liveness {
        if self.last_beacon.is_none() {
            // No beacon of anybody, ever: nothing speaks against this node.
            return Liveness::Up;
        }
        let Some(heard) = heard else {
            return Liveness::Down;
        };
        let silence = self.reference(now).saturating_sub(heard.at);
        let must_wait = !heard.is_ready() || now < heard.blocked_until;
        if silence > self.timing.down() || must_wait {
            Liveness::Down
        } else if silence > self.timing.hold() {
            Liveness::Stale
        } else {
            Liveness::Up
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
