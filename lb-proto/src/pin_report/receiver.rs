//! The controller's side: which reports are genuine, new and from where they should be.
//!
//! A report that is to be carried out is handed out ([`Taken::New`]); when its pin is in the map, the
//! caller [settles](Receiver::settle) it and gets the answer to send. A repetition of one that is
//! settled gets the same answer and is not carried out again. One that is not settled, because a map
//! could not be written, is handed out again with its next repetition: carrying it out twice must do
//! no harm, and does none to a pin.
//!
//! Bounds: [`REPORTS_PER_SECOND`] of each node, repetitions among them; 1024 sequence numbers
//! remembered of each node that has ever reported; 256 nodes.

use super::WINDOW;
use super::wire::{Answer, Message, Report, ReportBytes, Verdict};
use crate::call::Call;
use crate::keys::NumberedKey;
use crate::sealed::SealError;
use lb_common::maps::{MAX_NODES, NO_NODE};
use std::collections::BTreeMap;
use std::time::Duration;

/// Reports of one node in a second, and at once. Chosen: a node that takes a thousand calls a second
/// that are not its own may repeat each three times; what is over is not answered, and comes again.
pub const REPORTS_PER_SECOND: u32 = 4_096;
/// How long a copy counts as a repetition. A reporter gives up long before.
const REPEATS_FOR: Duration = Duration::from_secs(1);
/// Beacons that may have come since a report was made. At ten a second they take over a minute, at a
/// hundred, with answers and news in between, some seconds.
const BEACONS_SINCE: u64 = 1024;

/// What the caller knows of the node that a report names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The report came from an address of that node.
    pub is_origin: bool,
    /// Epoch (high half) and sequence of its last beacon.
    pub stamp: Option<u64>,
}

/// A report that is genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// To be carried out, then settled.
    New(Report),
    /// It was carried out before: this is the answer once more.
    Again(ReportBytes),
}

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// None, or not genuine.
    #[error("no genuine pin report, but {0}")]
    Seal(#[from] SealError),
    /// An answer, which no controller has asked for.
    #[error("an answer to a pin report")]
    Answer,
    /// Of another cluster.
    #[error("a pin report of another cluster")]
    Cluster,
    /// Of a node that is no member.
    #[error("a pin report of an unknown node")]
    UnknownNode,
    /// Not from an address of its node.
    #[error("a pin report from elsewhere than its node")]
    Origin,
    /// Of an earlier life of its node.
    #[error("a pin report of an earlier life")]
    OldEpoch,
    /// Made long before the node's last beacon.
    #[error("a pin report from long ago")]
    Stale,
    /// Its stamp has been used, or is older than what is remembered.
    #[error("a pin report played back")]
    Replayed,
    /// More than the node may report in a second.
    #[error("more pin reports than one node may make")]
    Rate,
}

impl Refusal {
    /// All of them: the counters' order.
    pub const ALL: [Self; 12] = [
        Self::Seal(SealError::Foreign),
        Self::Seal(SealError::Malformed),
        Self::Seal(SealError::UnknownKey),
        Self::Seal(SealError::Forged),
        Self::Answer,
        Self::Cluster,
        Self::UnknownNode,
        Self::Origin,
        Self::OldEpoch,
        Self::Stale,
        Self::Replayed,
        Self::Rate,
    ];

    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal(error) => error.name(),
            Self::Answer => "answer",
            Self::Cluster => "cluster",
            Self::UnknownNode => "unknown-node",
            Self::Origin => "origin",
            Self::OldEpoch => "old-epoch",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Rate => "rate",
        }
    }
}

/// One report that was handed out.
#[derive(Clone, Copy, Debug)]
struct Seen {
    call: Call,
    at: Duration,
    verdict: Option<Verdict>,
}

/// What is remembered of one node.
#[derive(Debug)]
struct Window {
    epoch: u32,
    /// The highest sequence.
    top: u32,
    /// Those handed out, none [`WINDOW`] or more below the highest.
    seen: BTreeMap<u32, Seen>,
    left: u32,
    since: Duration,
}

impl Window {
    fn new(now: Duration) -> Self {
        Self {
            epoch: 0,
            top: 0,
            seen: BTreeMap::new(),
            left: REPORTS_PER_SECOND,
            since: now,
        }
    }

    fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.since).as_nanos();
        let earned = passed * u128::from(REPORTS_PER_SECOND) / 1_000_000_000;
        if earned > 0 {
            let left = u128::from(self.left) + earned;
            self.left = left.min(REPORTS_PER_SECOND.into()) as u32;
            self.since = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }

    fn has(&self, report: &Report) -> Option<&Seen> {
        self.seen
            .get(&report.sequence)
            .filter(|_| self.epoch == report.epoch)
    }

    fn enter(&mut self, report: &Report, seen: Seen) {
        if report.epoch > self.epoch {
            (self.epoch, self.top) = (report.epoch, report.sequence);
            self.seen.clear();
        }
        self.top = self.top.max(report.sequence);
        self.seen.insert(report.sequence, seen);
        let lowest = self.top.saturating_sub(WINDOW - 1);
        while self
            .seen
            .first_key_value()
            .is_some_and(|(s, _)| *s < lowest)
        {
            self.seen.pop_first();
        }
    }
}

/// The reports that come to one controller.
#[derive(Debug)]
pub struct Receiver {
    cluster: u32,
    keys: Vec<NumberedKey>,
    nodes: BTreeMap<u16, Window>,
}

impl Receiver {
    /// One that has seen nothing. Reports under any of `keys` are genuine; answers go out under the
    /// first.
    pub fn new(cluster: u32, keys: Vec<NumberedKey>) -> Self {
        Self {
            cluster,
            keys,
            nodes: BTreeMap::new(),
        }
    }

    /// Changes the keys that are good.
    pub fn set_keys(&mut self, keys: Vec<NumberedKey>) {
        self.keys = keys;
    }

    /// Takes in what came to the status port. `known` is asked about the node that a genuine report
    /// names; `None`: there is no such node.
    ///
    /// # Errors
    /// The [`Refusal`], for a counter. `Seal(Foreign)`: it is something else, and others may know.
    pub fn receive(
        &mut self,
        now: Duration,
        bytes: &[u8],
        known: impl FnOnce(u16) -> Option<Known>,
    ) -> Result<Taken, Refusal> {
        let report = match Message::read(bytes, &self.keys)? {
            Message::Report(report) => report,
            Message::Answer(_) => return Err(Refusal::Answer),
        };
        if report.cluster != self.cluster {
            return Err(Refusal::Cluster);
        }
        let is_real = report.node != NO_NODE && u32::from(report.node) < MAX_NODES;
        let known = known(report.node)
            .filter(|_| is_real)
            .ok_or(Refusal::UnknownNode)?;
        if !known.is_origin {
            return Err(Refusal::Origin);
        }
        let stamp = known.stamp.unwrap_or_default();
        if report.epoch < (stamp >> 32) as u32 {
            return Err(Refusal::OldEpoch);
        }
        if report.beacon_stamp().saturating_add(BEACONS_SINCE) < stamp {
            return Err(Refusal::Stale);
        }
        self.take(now, report)
    }

    fn take(&mut self, now: Duration, report: Report) -> Result<Taken, Refusal> {
        let window = self
            .nodes
            .entry(report.node)
            .or_insert_with(|| Window::new(now));
        if report.epoch < window.epoch {
            return Err(Refusal::OldEpoch);
        }
        let is_behind =
            report.epoch == window.epoch && window.top.saturating_sub(report.sequence) >= WINDOW;
        let is_repeat = match window.has(&report) {
            None => false,
            Some(seen) => {
                let is_late = now.saturating_sub(seen.at) > REPEATS_FOR;
                if seen.call != report.call || is_late {
                    return Err(Refusal::Replayed);
                }
                true
            }
        };
        if is_behind {
            return Err(Refusal::Replayed);
        }
        if !window.take(now) {
            return Err(Refusal::Rate);
        }
        if is_repeat {
            let verdict = window.has(&report).and_then(|seen| seen.verdict);
            return Ok(match verdict {
                Some(verdict) => Taken::Again(self.answer(report, verdict)),
                None => Taken::New(report),
            });
        }
        let seen = Seen {
            call: report.call,
            at: now,
            verdict: None,
        };
        window.enter(&report, seen);
        Ok(Taken::New(report))
    }

    /// The report has been carried out: the answer to send to where it came from.
    pub fn settle(&mut self, report: &Report, verdict: Verdict) -> ReportBytes {
        let window = self.nodes.get_mut(&report.node);
        let window = window.filter(|window| window.epoch == report.epoch);
        if let Some(seen) = window.and_then(|window| window.seen.get_mut(&report.sequence)) {
            seen.verdict = Some(verdict);
        }
        self.answer(*report, verdict)
    }

    fn answer(&self, report: Report, verdict: Verdict) -> ReportBytes {
        // A report is only taken under one of the keys, so there is one.
        let first = self.keys.first();
        let (key_id, key) =
            first.map_or((report.key_id, Default::default()), |key| (key.id, key.key));
        let report = Report { key_id, ..report };
        Answer { report, verdict }.write(key)
    }
}
