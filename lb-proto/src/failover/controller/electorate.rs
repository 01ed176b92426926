//! Of which nodes more than half make a main: the configuration's, and while it changes those before as well.
//!
//! ```text
//!              other nodes                    the others have this version,
//!   Settled ───────────────► Joining            or a minute has passed
//!      ▲                        │ more than half of the present hold this main's lease,
//!      │                        ▼ or another controller goes by this version
//!      └────────────────────── Both
//! ```
//! Two majorities of one set have a node in common, of two sets they need not. So between two sets of
//! nodes lies a time at which more than half of **both** are needed.
//! - `Joining`: the nodes before decide, and keep-alives say so. A main to which three nodes are added at
//!   once is not deposed because they have not granted yet.
//! - `Both`: more than half of each set. Nobody goes by the present nodes alone before the other
//!   controllers have said that they know of them; so of two controllers, one that goes by the former
//!   alone and one that goes by the present alone are never there at once.
//! - A candidacy ends with `Both`: its term may be one that another has reigned in by the nodes before. The
//!   next is above all that the others spoke of when they said that they know the present nodes.
//! - A controller that is not heard for [`LONGEST`] is not waited for: the nodes before may be gone for
//!   good, and would end every reign.
//!
//! A start forgets the nodes before: between a change and `Settled` (which takes a second while both
//! controllers run) a controller that starts again goes by its own file alone.

use super::super::trust::Members;
use super::{Controller, Event, GaveUp, NodeId, Peer, State, Vote};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long the nodes before are needed while another controller does not say that it knows the present.
pub const LONGEST: Duration = Duration::from_secs(60);

/// Nodes and their addresses.
type Nodes = BTreeMap<NodeId, Vec<IpAddr>>;

/// How far a change of the nodes has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The nodes of the configuration decide.
    #[default]
    Settled,
    /// Those before decide, until the others have granted.
    Joining,
    /// Both are needed.
    Both,
}

impl Stage {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Joining => "joining",
            Self::Both => "both",
        }
    }
}

/// The sets of nodes that count, beside that of the configuration.
#[derive(Debug, Default)]
pub(super) struct Electorate {
    former: Vec<Former>,
    is_joining: bool,
    /// The version of the configuration whose nodes decide.
    pub(super) version: u64,
}

#[derive(Debug)]
struct Former {
    nodes: Nodes,
    /// When it was replaced.
    at: Duration,
}

impl Electorate {
    pub(super) fn new(version: u64) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.is_joining {
            _ if self.former.is_empty() => Stage::Settled,
            true => Stage::Joining,
            false => Stage::Both,
        }
    }

    /// Other nodes take the place of these.
    fn replace(&mut self, now: Duration, before: &Nodes, present: &Nodes) {
        if before.keys().eq(present.keys()) {
            return;
        }
        // Those that were still joining have never counted.
        if !self.is_joining {
            let nodes = before.clone();
            self.former.push(Former { nodes, at: now });
            self.is_joining = true;
        }
    }

    /// All that take part: a node that is gone counts among the former.
    fn all(&self, present: &Nodes) -> Nodes {
        let former = self.former.iter().flat_map(|former| &former.nodes);
        let all = former.chain(present);
        all.map(|(node, addresses)| (*node, addresses.clone()))
            .collect()
    }

    /// The sets of which more than half are needed.
    fn needed<'a>(&'a self, present: &'a Nodes) -> impl Iterator<Item = &'a Nodes> {
        let former = self.former.iter().map(|former| &former.nodes);
        former.chain((!self.is_joining).then_some(present))
    }
}

/// More than half of so many.
pub(super) const fn majority(of: usize) -> usize {
    of / 2 + 1
}

fn is_majority(nodes: &Nodes, is_counted: impl Fn(&NodeId) -> bool) -> bool {
    nodes.keys().filter(|node| is_counted(node)).count() >= majority(nodes.len())
}

/// Until when more than half of the nodes' leases run.
fn majority_until(nodes: &Nodes, votes: &BTreeMap<NodeId, Vote>) -> Duration {
    let until = |node| votes.get(node).map_or(Duration::ZERO, |vote| vote.until);
    let mut ends: Vec<Duration> = nodes.keys().map(until).collect();
    let rank = majority(ends.len()) - 1;
    if rank >= ends.len() {
        return Duration::ZERO;
    }
    let (_, end, _) = ends.select_nth_unstable_by(rank, |a, b| b.cmp(a));
    *end
}

impl Controller {
    /// Until when more than half of the leases run, of every set that counts.
    pub(super) fn majority_until(&self) -> Duration {
        let sets = self.electorate.needed(&self.config.members.nodes);
        let ends = sets.map(|nodes| majority_until(nodes, &self.votes));
        ends.min().unwrap_or_default()
    }

    /// Whether more than half of every set that counts do.
    pub(super) fn has_majority(&self, does: impl Fn(&Vote) -> bool) -> bool {
        let mut sets = self.electorate.needed(&self.config.members.nodes);
        sets.all(|nodes| is_majority(nodes, |node| self.votes.get(node).is_some_and(&does)))
    }

    /// Whether more than half of a set that counts do.
    pub(super) fn has_majority_of_any(&self, does: impl Fn(&Vote) -> bool) -> bool {
        let mut sets = self.electorate.needed(&self.config.members.nodes);
        sets.any(|nodes| is_majority(nodes, |node| self.votes.get(node).is_some_and(&does)))
    }

    /// Takes over the members of another configuration, which stands in `config` already.
    pub(super) fn change_nodes(&mut self, now: Duration, before: &Nodes) {
        self.electorate
            .replace(now, before, &self.config.members.nodes);
        if !self.electorate.is_joining {
            self.electorate.version = self.config.version;
        } else {
            self.tell_stage();
        }
        self.count_members();
        self.settle_nodes(now);
    }

    /// Who takes part, wherever that is kept.
    fn count_members(&mut self) {
        let all = self.electorate.all(&self.config.members.nodes);
        self.votes.retain(|node, _| all.contains_key(node));
        for node in all.keys() {
            self.votes.entry(*node).or_default();
        }
        let members = Members {
            controllers: self.config.members.controllers.clone(),
            nodes: all,
        };
        self.gate.configure(self.config.keys.clone(), members);
    }

    /// Whether a change of the nodes has come further.
    pub(super) fn settle_nodes(&mut self, now: Duration) {
        let version = self.config.version;
        if self.electorate.is_joining {
            let is_main = matches!(self.state, State::Main(_));
            let present = &self.config.members.nodes;
            let has_granted = is_main && majority_until(present, &self.votes) > now;
            let is_gone_by = self.peers.values().any(|peer| self.goes_by_ours(peer));
            if has_granted || is_gone_by {
                self.electorate.is_joining = false;
                self.electorate.version = version;
                self.tell_stage();
                self.refresh_majority();
                self.hurry(now);
            }
        }
        if self.electorate.stage() != Stage::Both {
            return;
        }
        let is_known_to = |id| {
            let peer = self.peers.get(id);
            peer.is_some_and(|peer| self.goes_by_ours(peer))
        };
        let controllers = self.config.members.controllers.keys();
        let is_known = controllers.filter(|id| **id != self.id).all(is_known_to);
        let before = self.electorate.former.len();
        self.electorate
            .former
            .retain(|former| !is_known && now.saturating_sub(former.at) < LONGEST);
        if self.electorate.former.len() < before {
            self.count_members();
            self.refresh_majority();
            self.give_up(now, GaveUp::NodesChanged);
            if self.electorate.former.is_empty() {
                self.tell_stage();
            }
        }
    }

    /// Whether the other was seen to go by one's own configuration, or by a later one.
    fn goes_by_ours(&self, peer: &Peer) -> bool {
        let (own, life) = (&self.config, &peer.life);
        let is_ours = life.configuration == own.version && life.digest == own.digest;
        !life.is_joining && (is_ours || life.configuration > own.version)
    }

    fn tell_stage(&mut self) {
        self.event(Event::NodesChange(self.electorate.stage()));
    }
}
