//! What `pointsman cluster` and `pointsman calls` say: the documents behind tables, `--json` and metrics.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lb_proto::call_state::database::{Database, View as CallView};
use lb_proto::call_state::record::CallRecord;
use lb_proto::failover::controller::{LeaseView, PathView, PeerView, Stage, Switch, View};
use lb_proto::failover::trust::Path;
use serde::{Deserialize, Serialize};

use super::rebuild::Progress;

/// The pair, as one controller sees it. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// This controller.
    pub controller: u16,
    /// `main`, `stand-by` or `candidate`.
    pub role: String,
    /// The main that it knows of, itself or another.
    pub main: Option<u16>,
    /// That main's term.
    pub term: Option<u64>,
    /// The highest term that it has heard of.
    pub highest_term: u64,
    /// Whether its data plane steers.
    pub steers: bool,
    /// Whether the switch reaches this machine: its ports have a carrier.
    pub reached: bool,
    /// Silence of the other that is the main.
    pub silence_ms: Option<u64>,
    /// How long it reigns without another word from the nodes.
    pub reign_left_ms: Option<u64>,
    /// Leases that a main needs.
    pub needed: usize,
    /// What this controller holds of each node.
    pub leases: Vec<Lease>,
    /// By which ways keep-alives of others come.
    pub paths: Vec<Way>,
    /// What the others last said of themselves.
    pub others: Vec<Other>,
    /// The version of the shared configuration.
    pub configuration: u64,
    /// A newer one that was heard of, and whose.
    pub newer: Option<Newer>,
    /// The controller that has other contents under the same version.
    pub differs: Option<u16>,
    /// How far a change of the nodes has come: `settled`, `joining` or `both`.
    pub nodes_change: String,
    /// When the main last was another, and why.
    pub last_switch: Option<LastSwitch>,
    /// Call state, while this controller is the main.
    pub rebuild: Option<RebuildReport>,
    /// What has been since the start.
    pub counts: BTreeMap<String, u64>,
    /// Control datagrams that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Links, and what became of attempts at them, by reason.
    pub links: BTreeMap<String, u64>,
    /// VIPs that are on this machine.
    pub vips: Vec<IpAddr>,
}

/// A node's lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The node.
    pub node: u16,
    /// How long it runs; `None` when this controller holds none.
    pub remaining_ms: Option<u64>,
    /// Since it was confirmed.
    pub age_ms: Option<u64>,
    /// Why it was last refused.
    pub refused: Option<String>,
    /// Whether there is a link to the node.
    pub linked: bool,
    /// How far its calls are known: `ok`, `rebuilding` or `unreachable`.
    pub calls: Option<String>,
}

/// A way on which another's keep-alives come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// Whose.
    pub controller: u16,
    /// The node that forwards them; `None` when they come directly.
    pub by_node: Option<u16>,
    /// Since the last.
    pub age_ms: u64,
}

/// Another controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Other {
    /// Which.
    pub controller: u16,
    /// Since it was heard.
    pub age_ms: u64,
    /// Its role.
    pub role: String,
    /// How it fares.
    pub status: String,
    /// Its term.
    pub term: u64,
    /// Calls that it supports.
    pub calls: u32,
    /// Calls that its nodes can take.
    pub capacity: u32,
    /// Nodes that it knows to be alive.
    pub nodes_alive: u16,
    /// The version of its configuration.
    pub configuration: u64,
    /// Its time of day, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// Whose leases make a main, at a stage of a change of the nodes.
pub(super) const fn whose_leases_count(stage: Stage) -> &'static str {
    match stage {
        Stage::Settled => "more than half of the present nodes decide",
        Stage::Joining => {
            "those before decide until more than half of the present ones have granted"
        }
        Stage::Both => {
            "more than half of those before are needed as well, until the other controller has this \
             configuration, for a minute at most"
        }
    }
}

/// A configuration that is newer than the own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newer {
    /// Its version.
    pub version: u64,
    /// Whose it is.
    pub of: u16,
}

/// One main taking over from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastSwitch {
    /// How long ago.
    pub age_ms: u64,
    /// From whom, when that is known.
    pub from: Option<u16>,
    /// To whom.
    pub to: u16,
    /// The term that began.
    pub term: u64,
    /// `loss`, `command`, `start`, `switchback` or `unfit`; `None` when it was another's.
    pub reason: Option<String>,
    /// From the old main's last sign of life until it was missed.
    pub silence_ms: Option<f64>,
    /// From then until nobody had answered.
    pub query_ms: Option<f64>,
    /// From then until more than half of the nodes had granted.
    pub leases_ms: Option<f64>,
    /// From then until the data plane steered and the VIPs were here.
    pub activation_ms: Option<f64>,
}

/// How a rebuild goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebuildReport {
    /// From the takeover until dialogs were steered again.
    pub gathered_ms: Option<f64>,
    /// By then not all nodes had said which calls they have.
    pub cut_short: bool,
    /// Until every node was complete or unreachable.
    pub complete_ms: Option<f64>,
    /// Calls that are known.
    pub calls: usize,
    /// Of these, calls of which nothing is known now, because their node does not answer.
    pub unknown: usize,
    /// Calls for which the database has no room.
    pub full: u64,
    /// Pins made for calls away from home.
    pub pinned: u64,
    /// Calls for whose pins there was no room.
    pub pins_full: u64,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The call key.
    pub key: String,
    /// The node that has it.
    pub node: u16,
    /// `early`, `confirmed`, `held`, or `unknown` while its node does not answer.
    pub state: String,
    /// Its priority.
    pub priority: String,
    /// The rest; `None` while only its key has come.
    #[serde(flatten)]
    pub record: Option<Record>,
}

/// A call's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The Call-ID.
    pub call_id: String,
    /// Who called.
    pub from: String,
    /// Who was called.
    pub to: String,
    /// The caller's tag.
    pub from_tag: Option<String>,
    /// The callee's tag.
    pub to_tag: Option<String>,
    /// The CSeq of the caller's last request.
    pub from_cseq: Option<u32>,
    /// The CSeq of the callee's last request.
    pub to_cseq: Option<u32>,
    /// Since its INVITE.
    pub age_ms: u64,
    /// Since it was answered.
    pub answered_ms: Option<u64>,
    /// Until its session ends, if it has a timer.
    pub session_ms: Option<u64>,
    /// It was redirected to its node from another.
    pub away: bool,
    /// The node's SIP server called.
    pub outgoing: bool,
    /// Dialogs that are not over.
    pub dialogs: u8,
}

/// What a report is made of.
pub(super) struct Sources<'a> {
    pub(super) view: View,
    pub(super) now: Duration,
    pub(super) steers: bool,
    pub(super) reached: bool,
    pub(super) database: &'a Database,
    pub(super) progress: Option<Progress>,
    pub(super) linked: Vec<u16>,
    pub(super) links: BTreeMap<String, u64>,
    pub(super) activation: Option<Duration>,
    pub(super) vips: Vec<IpAddr>,
}

impl ClusterReport {
    pub(super) fn of(sources: Sources<'_>) -> Self {
        let Sources {
            view,
            now,
            steers,
            reached,
            database,
            progress,
            linked,
            links,
            activation,
            vips,
        } = sources;
        let completeness = |node: u16| {
            let known = database.completeness(node).filter(|_| progress.is_some());
            known.map(|known| known.name().to_owned())
        };
        let leases = view.leases.iter().map(|lease: &LeaseView| {
            let node = lease.node.get();
            Lease {
                node,
                remaining_ms: lease.remaining.map(whole),
                age_ms: lease.age.map(whole),
                refused: lease.refused.map(|why| why.name().to_owned()),
                linked: linked.contains(&node),
                calls: completeness(node),
            }
        });
        let counts = &view.counts;
        let counts = [
            ("missed", counts.missed),
            ("candidacies", counts.candidacies),
            ("given-up", counts.given_up),
            ("reigns", counts.reigns),
            ("raises", counts.raises),
            ("stalls", counts.stalls),
            ("dropped", counts.dropped),
        ];
        let named = |(name, count): (&str, u64)| (name.to_owned(), count);
        let refusals = view.refusals.iter();
        Self {
            controller: view.id.get().into(),
            role: view.role.name().to_owned(),
            main: view.main.map(|(_, main)| main.get().into()),
            term: view.main.map(|(term, _)| term.0),
            highest_term: view.highest.0,
            steers,
            reached,
            silence_ms: view.silence.map(whole),
            reign_left_ms: view.reign_left.map(whole),
            needed: view.needed,
            leases: leases.collect(),
            paths: view.paths.iter().map(Way::of).collect(),
            others: view.peers.iter().map(Other::of).collect(),
            configuration: view.configuration,
            newer: view.newer.map(|(version, of)| Newer {
                version,
                of: of.get().into(),
            }),
            differs: view.differs.map(|of| of.get().into()),
            nodes_change: view.nodes_change.name().to_owned(),
            last_switch: view
                .last_switch
                .map(|switch| LastSwitch::of(&switch, now, activation)),
            rebuild: progress.map(|progress| RebuildReport::of(progress, database)),
            counts: counts.into_iter().map(named).collect(),
            refused: refusals
                .map(|(why, count)| named((why.name(), count)))
                .collect(),
            links,
            vips,
        }
    }
}

impl Way {
    fn of(path: &PathView) -> Self {
        Self {
            controller: path.controller.get().into(),
            by_node: match path.path {
                Path::Direct => None,
                Path::Relayed(node) => Some(node.get()),
            },
            age_ms: whole(path.age),
        }
    }
}

impl Other {
    fn of(peer: &PeerView) -> Self {
        let report = peer.life.report;
        Self {
            controller: peer.controller.get().into(),
            age_ms: whole(peer.age),
            role: peer.life.role.name().to_owned(),
            status: report.status.name().to_owned(),
            term: peer.term.0,
            calls: report.calls,
            capacity: report.capacity,
            nodes_alive: report.nodes_alive,
            configuration: peer.life.configuration,
            wall_ms: peer.life.wall_ms,
        }
    }
}

impl LastSwitch {
    fn of(switch: &Switch, now: Duration, activation: Option<Duration>) -> Self {
        let own = switch.own.as_ref();
        Self {
            age_ms: whole(now.saturating_sub(switch.at)),
            from: switch.from.map(|from| from.get().into()),
            to: switch.to.get().into(),
            term: switch.term.0,
            reason: own.map(|(reason, _)| reason.name().to_owned()),
            silence_ms: own.map(|(_, steps)| exact(steps.silence)),
            query_ms: own.map(|(_, steps)| exact(steps.query)),
            leases_ms: own.map(|(_, steps)| exact(steps.leases)),
            activation_ms: own.and(activation).map(exact),
        }
    }
}

impl RebuildReport {
    fn of(progress: Progress, database: &Database) -> Self {
        Self {
            gathered_ms: progress.gathered.map(exact),
            cut_short: progress.cut_short,
            complete_ms: progress.complete.map(exact),
            calls: database.len(),
            unknown: database.nodes().map(|node| node.unknown).sum(),
            full: database.full(),
            pinned: progress.pinned,
            pins_full: progress.full,
        }
    }
}

impl Call {
    pub(super) fn of(view: &CallView<'_>) -> Self {
        Self {
            key: format!("{:016x}", view.call.key()),
            node: view.node,
            state: view.standing.name().to_owned(),
            priority: view.priority.name().to_owned(),
            record: view.record.as_ref().map(Record::of),
        }
    }
}

impl Record {
    fn of(record: &CallRecord<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            call_id: text(record.call_id),
            from: text(record.caller.address),
            to: text(record.callee.address),
            from_tag: record.caller.tag.map(text),
            to_tag: record.callee.tag.map(text),
            from_cseq: record.caller.cseq,
            to_cseq: record.callee.cseq,
            age_ms: whole(record.age),
            answered_ms: record.answered.map(whole),
            session_ms: record.session.map(whole),
            away: record.away,
            outgoing: record.outgoing,
            dialogs: record.dialogs,
        }
    }
}

fn whole(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

fn exact(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
