//! Of which nodes more than half make a main: the configuration's, and while it changes those before as well.
//!
//! ```text
//!              other nodes                    the others have this configuration,
//!   Settled ───────────────► Joining            or are silent for a minute
//!      ▲                        │ more than half of the present hold this main's lease,
//!      │                        ▼ or another controller goes by this configuration
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
//! - A controller that is not heard for [`LONGEST_WAIT`] is not waited for: the nodes before may be gone for
//!   good, and would end every reign. If they are gone while all wait in `Joining`, nobody can be main:
//!   after so long without one, the present nodes decide.
//!
//! A start goes on from what is on the disk, [`Electors`]: a file that was changed meanwhile is a change of the
//! nodes like any other. That the present nodes count is told when it is on the disk, not before: else a
//! controller that starts again could go by the former alone, and another, which was told, by the present.
//! A controller that starts says that it is joining until it is the main, or follows one of the same
//! configuration, unless the disk has it that the present nodes have granted: nobody else concludes that from a
//! start. One whose disk was lost goes by its file alone.

use super::super::trust::Members;
use super::{Controller, Event, GaveUp, NodeId, Output, Peer, Role, State, Vote};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long a controller that is silent is waited for, and how long there may be no main by the nodes before.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long after it could not be kept the electorate is to be kept again.
const RETRY: Duration = Duration::from_secs(1);

/// Nodes and their addresses.
pub type Nodes = BTreeMap<NodeId, Vec<IpAddr>>;

/// Whose leases count, as a controller keeps it to start again with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Electors {
    /// The nodes before, the oldest set first; none when nothing changes.
    pub former: Vec<Nodes>,
    /// The nodes of the configuration.
    pub present: Nodes,
    /// These have not granted yet: only those before count.
    pub is_joining: bool,
}

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
    /// Since a start, nobody has reigned by this configuration.
    is_new: bool,
    /// Since when there has been no main, while the nodes before decide.
    vacant: Option<Duration>,
    keeping: Keeping,
}

/// What of this is on the disk.
#[derive(Debug, Default)]
struct Keeping {
    /// What was last handed out to be kept, and how many were before.
    last: Option<Electors>,
    number: u32,
    /// It may be something else by now.
    is_due: bool,
    /// When that which could not be kept is handed out again.
    again: Option<Duration>,
    /// The disk says that the present nodes count.
    has_present: bool,
}

#[derive(Debug)]
struct Former {
    nodes: Nodes,
    /// When it was replaced.
    at: Duration,
}

impl Electorate {
    /// That of a start, given what was last kept.
    pub(super) fn new(now: Duration, kept: Option<Electors>, present: &Nodes) -> Self {
        let mut electorate = Self {
            is_new: true,
            keeping: Keeping {
                last: kept.clone(),
                is_due: true,
                ..Keeping::default()
            },
            ..Self::default()
        };
        if let Some(kept) = kept {
            let former = kept.former.into_iter();
            electorate.former = former.map(|nodes| Former { nodes, at: now }).collect();
            electorate.is_joining = kept.is_joining && !electorate.former.is_empty();
            electorate.keeping.has_present = !kept.is_joining;
            // `Both` is on the disk: nobody would ever leave the nodes before if all forgot that they have
            // granted, and those were gone.
            let is_same = kept.present.keys().eq(present.keys());
            electorate.is_new = !is_same || electorate.stage() != Stage::Both;
            electorate.replace(now, &kept.present, present);
        }
        electorate
    }

    /// What keep-alives say: others must not conclude that the present nodes decide.
    pub(super) fn says_joining(&self) -> bool {
        self.is_joining || self.is_new || !self.keeping.has_present
    }

    /// A main reigns by this configuration.
    pub(super) fn has_reigned(&mut self) {
        self.is_new = false;
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
        self.keeping.is_due = true;
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

    fn electors(&self, present: &Nodes) -> Electors {
        let former = self.former.iter().map(|former| former.nodes.clone());
        Electors {
            former: former.collect(),
            present: present.clone(),
            is_joining: self.is_joining,
        }
    }

    /// Whether something is to be kept now.
    fn is_to_be_kept(&mut self, now: Duration, present: &Nodes) -> bool {
        if std::mem::take(&mut self.keeping.is_due) {
            let electors = self.electors(present);
            let last = self.keeping.last.as_ref();
            if last != Some(&electors) {
                let is_same = last.is_some_and(|last| last.present.keys().eq(present.keys()));
                self.keeping.has_present &= is_same && !electors.is_joining;
                self.keeping.last = Some(electors);
                self.keeping.number += 1;
                self.keeping.again = None;
                return true;
            }
        }
        self.keeping.again.take_if(|again| *again <= now).is_some()
    }

    /// All that take part: a node that is gone counts among the former.
    fn all(&self, present: &Nodes) -> Nodes {
        let former = self.former.iter().flat_map(|former| &former.nodes);
        let all = former.chain(present);
        all.map(|(node, addresses)| (*node, addresses.clone()))
            .collect()
    }

    /// The sets of which more than half are needed.
    fn counting<'a>(&'a self, present: &'a Nodes) -> impl Iterator<Item = &'a Nodes> {
        let former = self.former.iter().map(|former| &former.nodes);
        former.chain((!self.is_joining).then_some(present))
    }
}

/// More than half of so many.
const fn majority(of: usize) -> usize {
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
    /// How many leases a main needs: of every set that counts more than half, so as many as the largest asks.
    pub(super) fn needed(&self) -> usize {
        let sets = self.electorate.counting(&self.config.members.nodes);
        sets.map(|nodes| majority(nodes.len())).max().unwrap_or(1)
    }

    /// Until when more than half of the leases run, of every set that counts.
    pub(super) fn majority_until(&self) -> Duration {
        let sets = self.electorate.counting(&self.config.members.nodes);
        let ends = sets.map(|nodes| majority_until(nodes, &self.votes));
        ends.min().unwrap_or_default()
    }

    /// Whether more than half of every set that counts do.
    pub(super) fn has_majority(&self, does: impl Fn(&Vote) -> bool) -> bool {
        let mut sets = self.electorate.counting(&self.config.members.nodes);
        sets.all(|nodes| is_majority(nodes, |node| self.votes.get(node).is_some_and(&does)))
    }

    /// Whether more than half of a set that counts do.
    pub(super) fn has_majority_of_any(&self, does: impl Fn(&Vote) -> bool) -> bool {
        let mut sets = self.electorate.counting(&self.config.members.nodes);
        sets.any(|nodes| is_majority(nodes, |node| self.votes.get(node).is_some_and(&does)))
    }

    /// Takes over the members of another configuration, which stands in `config` already.
    pub(super) fn change_nodes(&mut self, now: Duration, before: &Nodes) {
        self.electorate
            .replace(now, before, &self.config.members.nodes);
        if self.electorate.is_joining {
            self.tell_stage();
        }
        self.count_members();
        self.settle_nodes(now);
    }

    /// What is to be kept on the disk, and its number.
    pub fn electors(&self) -> (u32, Electors) {
        let keeping = &self.electorate.keeping;
        (keeping.number, keeping.last.clone().unwrap_or_default())
    }

    /// What had this number is on the disk.
    pub fn electors_kept(&mut self, now: Duration, number: u32) {
        self.check_reign(now);
        let keeping = &mut self.electorate.keeping;
        if keeping.number == number {
            let is_joining = keeping.last.as_ref().is_some_and(|last| last.is_joining);
            keeping.has_present = !is_joining;
            self.hurry(now);
        }
    }

    /// It could not be kept. A second later it is handed out again; meanwhile nobody is told that the
    /// present nodes count.
    pub fn electors_not_kept(&mut self, now: Duration, number: u32) {
        let keeping = &mut self.electorate.keeping;
        if keeping.number == number {
            keeping.again = Some(now + RETRY);
        }
    }

    /// Who takes part, wherever that is noted.
    pub(super) fn count_members(&mut self) {
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
        let followed = self.main.filter(|_| self.role() == Role::StandBy);
        let followed = followed.and_then(|main| self.peers.get(&main.id));
        if followed.is_some_and(|peer| self.goes_by_ours(peer)) {
            self.electorate.has_reigned();
        }
        if self.electorate.is_joining {
            self.join(now);
        }
        if self.electorate.stage() == Stage::Both {
            self.leave_former(now);
        }
        let present = &self.config.members.nodes;
        if self.electorate.is_to_be_kept(now, present) {
            self.output(Output::KeepElectors);
        }
    }

    /// From `Joining` to `Both`, or to `Settled` when the nodes before are gone.
    fn join(&mut self, now: Duration) {
        let is_main = matches!(self.state, State::Main(_));
        let has_granted = is_main && majority_until(&self.config.members.nodes, &self.votes) > now;
        let is_gone_by = self.peers.values().any(|peer| self.goes_by_ours(peer));
        self.electorate.vacant = match is_main || self.main.is_some() {
            true => None,
            false => self.electorate.vacant.or(Some(now)),
        };
        let vacant = self.electorate.vacant;
        let are_gone = vacant.is_some_and(|since| now.saturating_sub(since) >= LONGEST_WAIT);
        if !has_granted && !is_gone_by && !are_gone {
            return;
        }
        self.electorate.is_joining = false;
        self.electorate.keeping.is_due = true;
        self.electorate.vacant = None;
        if are_gone {
            self.electorate.former.clear();
            self.count_members();
            self.give_up(now, GaveUp::NodesChanged);
        }
        self.tell_stage();
        self.refresh_majority();
        self.hurry(now);
    }

    /// From `Both` to `Settled`.
    fn leave_former(&mut self, now: Duration) {
        let former = std::mem::take(&mut self.electorate.former);
        let before = former.len();
        let kept = former.into_iter();
        let kept = kept.filter(|former| self.waits_for_somebody(now, former.at));
        self.electorate.former = kept.collect();
        if self.electorate.former.len() < before {
            self.electorate.keeping.is_due = true;
            self.count_members();
            self.refresh_majority();
            self.give_up(now, GaveUp::NodesChanged);
            if self.electorate.former.is_empty() {
                self.tell_stage();
            }
        }
    }

    /// Whether another controller may still go by nodes that were replaced then.
    fn waits_for_somebody(&self, now: Duration, since: Duration) -> bool {
        let controllers = self.config.members.controllers.keys();
        controllers.filter(|id| **id != self.id).any(|id| {
            let peer = self.peers.get(id);
            let heard = peer.map_or(since, |peer| peer.at.max(since));
            let is_told = peer.is_some_and(|peer| self.goes_by_ours(peer));
            !is_told && now.saturating_sub(heard) < LONGEST_WAIT
        })
    }

    /// Whether the other was seen to go by one's own configuration.
    fn goes_by_ours(&self, peer: &Peer) -> bool {
        let (own, life) = (&self.config, &peer.life);
        let is_ours = life.configuration == own.version && life.digest == own.digest;
        is_ours && !life.is_joining
    }

    pub(super) fn tell_stage(&mut self) {
        self.event(Event::NodesChange(self.electorate.stage()));
    }
}
