//! What a controller holds, for people: `pointsman cluster`.

use super::electorate::Stage;
use super::{Controller, State, Steps};
use crate::failover::trust::{Path, Refusals};
use crate::failover::wire::{KeepAlive, Missing, Reason, Role, Verdict};
use crate::failover::{ControllerId, NodeId, Term};
use std::time::Duration;

/// What has been, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Mains that were missed, whether they were lost or not.
    pub missed: u64,
    /// Candidacies.
    pub candidacies: u64,
    /// Candidacies that came to nothing.
    pub given_up: u64,
    /// Candidacies that ended in a reign.
    pub reigns: u64,
    /// Reigns that went on under a higher term.
    pub raises: u64,
    /// Times that this machine did not run.
    pub stalls: u64,
    /// Datagrams and events dropped because [`OUTPUTS`](super::OUTPUTS) waited.
    pub dropped: u64,
}

/// One main taking over from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// When, by this controller's clock.
    pub at: Duration,
    /// From whom, when that is known.
    pub from: Option<ControllerId>,
    /// Who is main since.
    pub to: ControllerId,
    /// In which term.
    pub term: Term,
    /// Why, and how long each step took; `None` when it was another's.
    pub own: Option<(Reason, Steps)>,
}

impl Switch {
    pub(super) const fn seen(
        at: Duration,
        from: Option<ControllerId>,
        to: ControllerId,
        term: Term,
    ) -> Self {
        Self {
            at,
            from,
            to,
            term,
            own: None,
        }
    }

    pub(super) const fn won(
        at: Duration,
        from: Option<ControllerId>,
        to: ControllerId,
        term: Term,
        reason: Reason,
        steps: Steps,
    ) -> Self {
        Self {
            own: Some((reason, steps)),
            ..Self::seen(at, from, to, term)
        }
    }
}

/// A node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// The node.
    pub node: NodeId,
    /// How long its lease runs; `None` when this controller holds none.
    pub remaining: Option<Duration>,
    /// How long ago it confirmed it.
    pub age: Option<Duration>,
    /// Why it last refused.
    pub refused: Option<Verdict>,
    /// What it misses of this main.
    pub missing: Missing,
}

/// A way on which another's keep-alives come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathView {
    /// Whose.
    pub controller: ControllerId,
    /// By which.
    pub path: Path,
    /// How long ago the last came.
    pub age: Duration,
}

/// What another controller last said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Which.
    pub controller: ControllerId,
    /// How long ago.
    pub age: Duration,
    /// Its term.
    pub term: Term,
    /// Whether it reigned.
    pub reigns: bool,
    /// The whole of it.
    pub life: KeepAlive,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// This controller.
    pub id: ControllerId,
    /// Its role.
    pub role: Role,
    /// The main that it knows of, itself or another, and its term.
    pub main: Option<(Term, ControllerId)>,
    /// Since when it has followed that other.
    pub following_for: Option<Duration>,
    /// For how long that other has been silent.
    pub silence: Option<Duration>,
    /// The highest term that it has heard of.
    pub highest: Term,
    /// How long it reigns without another word from the nodes.
    pub reign_left: Option<Duration>,
    /// Leases that a main needs now.
    pub needed: usize,
    /// Whether the nodes before count as well.
    pub nodes_change: Stage,
    /// Each node's.
    pub leases: Vec<LeaseView>,
    /// Ways on which others are heard.
    pub paths: Vec<PathView>,
    /// The other controllers that were heard.
    pub peers: Vec<PeerView>,
    /// The version of its configuration.
    pub configuration: u64,
    /// A newer one, and whose.
    pub newer: Option<(u64, ControllerId)>,
    /// Who has other contents under the same version.
    pub differs: Option<ControllerId>,
    /// The last time that the main was another one.
    pub last_switch: Option<Switch>,
    /// What has been.
    pub counts: Counts,
    /// What was refused.
    pub refusals: Refusals,
}

impl Controller {
    /// What the machine holds, for people.
    pub fn view(&self, now: Duration) -> View {
        let age = |at: Duration| now.saturating_sub(at);
        let leases = self.votes.iter().map(|(node, vote)| LeaseView {
            node: *node,
            remaining: vote.until.checked_sub(now).filter(|left| !left.is_zero()),
            age: vote.confirmed.map(age),
            refused: vote.refused,
            missing: vote.missing,
        });
        let paths = self.paths.iter().map(|((controller, path), at)| PathView {
            controller: *controller,
            path: *path,
            age: age(*at),
        });
        let peers = self.peers.iter().map(|(controller, peer)| PeerView {
            controller: *controller,
            age: age(peer.at),
            term: peer.term,
            reigns: peer.reigns,
            life: peer.life,
        });
        let reign_left = match &self.state {
            State::Main(reign) => reign.until.checked_sub(now),
            State::StandBy(_) | State::Candidate(_) => None,
        };
        View {
            id: self.id,
            role: self.role(),
            main: self.main(now),
            following_for: self.main.map(|main| age(main.since)),
            silence: self.main.map(|main| main.silence.length(now)),
            highest: self.highest,
            reign_left,
            needed: self.needed(),
            nodes_change: self.electorate.stage(),
            leases: leases.collect(),
            paths: paths.collect(),
            peers: peers.collect(),
            configuration: self.config.version,
            newer: self.newer.map(|(version, of, _)| (version, of)),
            differs: self.differs,
            last_switch: self.last_switch,
            counts: self.counts,
            refusals: self.refusals.clone(),
        }
    }
}
