//! The node's side: each report to every LB, again and again until all have answered or time is up.
//!
//! ```text
//!            answered by all ─────────────────────► Everywhere, or Refused if one had no room
//!  report ─► open ──┐ every 10 ms: again to those that have not answered
//!            ▲      │
//!            └──────┘ 50 ms ──────────────────────► TimedOut
//! ```
//! At most [`MOST_OPEN`] are open. One more is refused with [`Full`], and the caller goes on as after
//! a time-out: the call is served, and only a request within its dialog that comes by the LB would go
//! astray.

use super::WINDOW;
use super::wire::{Answer, Report, ReportBytes, Verdict};
use crate::call::Call;
use crate::keys::NumberedKey;
use crate::status::peers::{self, PeerError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// From one sending to the next. Chosen: an answer takes under a millisecond in one building.
pub const RETRY: Duration = Duration::from_millis(10);
/// How long an answer to the switch is held up at most. Chosen: five attempts, and a tenth of SIP's
/// first retransmission (T1, RFC 3261 §17.1.1.1).
pub const GIVE_UP: Duration = Duration::from_millis(50);
/// Reports under way at most: more than 20,000 a second.
pub const MOST_OPEN: usize = WINDOW as usize;
/// LBs at most: main and stand-by of four sites.
pub const MOST_LBS: usize = 8;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every LB knows. With no LB configured, at once.
    Everywhere,
    /// Every LB has answered, and so many had no room for the pin.
    Refused {
        /// How many.
        lbs: u32,
    },
    /// Time is up, and so many LBs have not answered.
    TimedOut {
        /// How many.
        lbs: u32,
    },
}

/// No room for one more report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_OPEN} pin reports are under way already")]
pub struct Full;

/// Why a list of LBs cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LbError {
    /// One is no machine's address.
    #[error(transparent)]
    Address(#[from] PeerError),
    /// More than [`MOST_LBS`].
    #[error("{0} LBs; {MOST_LBS} at most")]
    TooMany(usize),
}

/// Who reports.
#[derive(Clone, Copy, Debug)]
pub struct Signer {
    /// The cluster.
    pub cluster: u32,
    /// The node.
    pub node: u16,
    /// The key to sign with.
    pub key: NumberedKey,
}

/// A report under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    call: Call,
    epoch: u32,
    beacon_sequence: u32,
    until: Duration,
    /// LBs that have not answered, one bit each.
    missing: u8,
    /// LBs that it is yet to be sent to in this round.
    unsent: u8,
    refused: u32,
}

/// The reports of one node.
#[derive(Debug)]
pub struct Reporter {
    signer: Signer,
    lbs: Vec<SocketAddr>,
    /// Of the next report. Grows through all epochs.
    sequence: u32,
    open: BTreeMap<u32, Open>,
    calls: BTreeMap<Call, u32>,
    /// When each open report is looked at next.
    timers: BTreeSet<(Duration, u32)>,
    /// Reports with something unsent, each once.
    ready: VecDeque<u32>,
    outcomes: VecDeque<(Call, Outcome)>,
}

impl Reporter {
    /// One that tells the controllers at `lbs`, the addresses of their status ports.
    ///
    /// # Errors
    /// [`LbError`] for the first address that is wrong.
    pub fn new(signer: Signer, lbs: &[SocketAddr]) -> Result<Self, LbError> {
        let mut reporter = Self::to_nobody(signer);
        reporter.set_lbs(lbs)?;
        Ok(reporter)
    }

    /// One without LBs: every report is over at once.
    pub fn to_nobody(signer: Signer) -> Self {
        Self {
            signer,
            lbs: Vec::new(),
            sequence: 0,
            open: BTreeMap::new(),
            calls: BTreeMap::new(),
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            outcomes: VecDeque::new(),
        }
    }

    /// Tells others from now on. What is under way is over, as if its time were up.
    ///
    /// # Errors
    /// [`LbError`] for the first address that is wrong; nothing has changed.
    pub fn set_lbs(&mut self, lbs: &[SocketAddr]) -> Result<(), LbError> {
        let lbs = peers::check(lbs)?;
        if lbs.len() > MOST_LBS {
            return Err(LbError::TooMany(lbs.len()));
        }
        while let Some((sequence, open)) = self.open.first_key_value() {
            let lbs = open.missing.count_ones();
            self.finish(*sequence, Outcome::TimedOut { lbs });
        }
        self.lbs = lbs;
        Ok(())
    }

    /// Signs with another key from now on, also what was begun under the old one.
    pub fn set_key(&mut self, key: NumberedKey) {
        self.signer.key = key;
    }

    /// Reports under way.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Begins a report of a call that this node has taken. `beacon` are epoch and sequence of the
    /// node's next beacon. A call that is being reported already is not begun again: one outcome
    /// comes for both.
    ///
    /// # Errors
    /// [`Full`]; no outcome will come.
    pub fn report(&mut self, now: Duration, call: Call, beacon: (u32, u32)) -> Result<(), Full> {
        if self.calls.contains_key(&call) {
            return Ok(());
        }
        if self.lbs.is_empty() {
            // Bounded like the reports themselves: who never asks for outcomes is told it is full.
            if self.outcomes.len() >= MOST_OPEN {
                return Err(Full);
            }
            self.outcomes.push_back((call, Outcome::Everywhere));
            return Ok(());
        }
        let reach = self.open.first_key_value();
        let is_out_of_reach = reach.is_some_and(|(oldest, _)| self.sequence - oldest >= WINDOW);
        if self.open.len() + self.outcomes.len() >= MOST_OPEN || is_out_of_reach {
            return Err(Full);
        }
        let sequence = self.sequence;
        // After four thousand million reports in one life, no further one is made.
        self.sequence = sequence.checked_add(1).ok_or(Full)?;
        let all = u8::MAX >> (MOST_LBS - self.lbs.len());
        self.open.insert(
            sequence,
            Open {
                call,
                epoch: beacon.0,
                beacon_sequence: beacon.1,
                until: now + GIVE_UP,
                missing: all,
                unsent: all,
                refused: 0,
            },
        );
        self.calls.insert(call, sequence);
        self.timers.insert((now + RETRY, sequence));
        self.ready.push_back(sequence);
        Ok(())
    }

    /// The report to send now, and to whom. Call until there is none.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<(SocketAddr, ReportBytes)> {
        self.look_at_timers(now);
        while let Some(sequence) = self.ready.front() {
            let (sequence, key) = (*sequence, self.signer.key);
            let open = self.open.get_mut(&sequence);
            let Some(open) = open.filter(|open| open.unsent != 0) else {
                self.ready.pop_front();
                continue;
            };
            let recipient = open.unsent.trailing_zeros();
            open.unsent &= open.unsent - 1;
            let Some(lb) = self.lbs.get(recipient as usize) else {
                continue;
            };
            let report = Report {
                cluster: self.signer.cluster,
                node: self.signer.node,
                key_id: key.id,
                recipient: recipient as u8,
                epoch: open.epoch,
                sequence,
                beacon_sequence: open.beacon_sequence,
                call: open.call,
            };
            return Some((*lb, report.write(key.key)));
        }
        None
    }

    /// An authentic answer came. Late ones, copies and those of another life change nothing: `false`.
    pub fn answered(&mut self, answer: &Answer) -> bool {
        let report = &answer.report;
        let is_ours = report.cluster == self.signer.cluster && report.node == self.signer.node;
        let Some(open) = self.open.get_mut(&report.sequence).filter(|_| is_ours) else {
            return false;
        };
        let bit = 1u8.checked_shl(report.recipient.into()).unwrap_or(0);
        let is_awaited =
            open.call == report.call && open.epoch == report.epoch && open.missing & bit != 0;
        if !is_awaited {
            return false;
        }
        open.missing &= !bit;
        open.unsent &= !bit;
        open.refused += u32::from(answer.verdict == Verdict::Full);
        if open.missing == 0 {
            let outcome = match open.refused {
                0 => Outcome::Everywhere,
                lbs => Outcome::Refused { lbs },
            };
            self.finish(report.sequence, outcome);
        }
        true
    }

    /// What has become of a report. Call until there is none.
    pub fn poll_outcome(&mut self, now: Duration) -> Option<(Call, Outcome)> {
        self.look_at_timers(now);
        self.outcomes.pop_front()
    }

    /// When to call [`Reporter::poll_transmit`] and [`Reporter::poll_outcome`] next, after both have
    /// said that there is nothing.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|(due, _)| *due)
    }

    fn look_at_timers(&mut self, now: Duration) {
        while let Some((due, sequence)) = self.timers.first().copied() {
            if due > now {
                return;
            }
            let Some(open) = self.open.get_mut(&sequence) else {
                self.timers.pop_first();
                continue;
            };
            if open.until <= now {
                let lbs = open.missing.count_ones();
                self.finish(sequence, Outcome::TimedOut { lbs });
                // Its timer is found without a report next time round.
                continue;
            }
            self.timers.pop_first();
            if open.unsent == 0 {
                self.ready.push_back(sequence);
            }
            open.unsent = open.missing;
            self.timers
                .insert(((now + RETRY).min(open.until), sequence));
        }
    }

    fn finish(&mut self, sequence: u32, outcome: Outcome) {
        if let Some(open) = self.open.remove(&sequence) {
            self.calls.remove(&open.call);
            self.outcomes.push_back((open.call, outcome));
        }
    }
}
