//! When a dialog moves on, and to where.
//!
//! ```text
//!   INVITE ─► Early ── 2xx ──► Confirmed ◄─────────┐ 401, 407
//!             │ │ │             │  │  │             │
//!             │ │ └──── BYE ────│──┴──│─────────► Closing ── BYE answered, or 64 × T1 ─┐
//!             │ │               │     │             │                                  │
//!             │ │               │     └── 481, 408, nobody there, session expired, ────┤
//!             │ │               │         hung up                                      │
//!             │ │               └ lasted too long ─────────────────────────────────────┤
//!             │ └ refused; 199; another fork accepted and 64 × T1 ─────────────────────┤
//!             └ no final response in time ──────────────────────────────────────────► Ended
//! ```
//! §12.1 (early and confirmed), §12.3 and §13.2.2.4 (early ends), §15.1.1 (BYE), §12.2.1.2 (481 and
//! 408), RFC 4028 §10 (sessions), RFC 6228 (199). A closing dialog still counts as what it was before.

use super::Dialog;
use crate::dialog::liveness::{Policy, Presence, Step};
use crate::dialog::{End, Side};
use std::time::Duration;

/// Where a dialog is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Early,
    Confirmed,
    /// A BYE passed, and was not answered yet.
    Closing,
    Ended(End),
}

/// What matters for a dialog's life, extracted from messages and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialog) enum Signal {
    /// The INVITE that began it has a provisional response.
    Ringing,
    /// It was accepted.
    Accepted,
    /// It was refused.
    Refused,
    /// Another fork of it was accepted.
    OtherAccepted,
    /// A BYE passed.
    Bye,
    /// It was answered.
    ByeAnswered,
    /// It was answered with a demand for credentials: it will come again.
    ByeChallenged,
    /// One side says that there is no such dialog.
    Denied,
    /// One side does not answer.
    Absent,
    /// The observer ends it.
    HangUp,
    /// The phase has lasted too long.
    Limit,
    /// The session was not refreshed.
    SessionOver,
}

impl Dialog {
    /// When time does something to it next.
    pub(in crate::dialog) fn next_timeout(&self) -> Duration {
        let mut next = self.limit;
        match self.phase {
            Phase::Early | Phase::Ended(_) => {}
            Phase::Confirmed => {
                next = self
                    .presence
                    .iter()
                    .map(Presence::due)
                    .fold(next, Duration::min);
                next = self.session.map_or(next, |session| session.until.min(next));
            }
            Phase::Closing => {
                next = self.session.map_or(next, |session| session.until.min(next));
            }
        }
        next
    }

    /// Does what time does: returns the sides that are to be asked whether they are there.
    pub(in crate::dialog) fn on_timeout(&mut self, now: Duration, policy: &Policy) -> Vec<Side> {
        if now >= self.limit {
            self.life(now, Signal::Limit, policy);
        } else if self.session.is_some_and(|session| now >= session.until) {
            self.life(now, Signal::SessionOver, policy);
        }
        let mut asked = Vec::new();
        for side in Side::BOTH {
            if self.phase != Phase::Confirmed {
                break;
            }
            match self.presence[side.index()].on_timeout(now, policy) {
                Step::Rest => {}
                Step::Ask => asked.push(side),
                Step::Absent => self.life(now, Signal::Absent, policy),
            }
        }
        // Whoever is gone for the other's sake need not be asked.
        asked.retain(|_| self.phase == Phase::Confirmed);
        asked
    }

    /// Moves it on.
    pub(in crate::dialog) fn life(&mut self, now: Duration, signal: Signal, policy: &Policy) {
        match (self.phase, signal) {
            (Phase::Early, Signal::Ringing) => {
                if self.early_end == End::NeverAnswered {
                    self.limit = now + policy.early;
                }
            }
            (Phase::Early, Signal::Accepted) => {
                self.phase = Phase::Confirmed;
                self.confirmed = Some(now);
                self.limit = now + policy.longest;
                self.presence = [Presence::heard(now, policy); 2];
            }
            (Phase::Early, Signal::OtherAccepted) => {
                self.early_end = End::OtherFork;
                self.limit = now + policy.give_up;
            }
            (Phase::Early | Phase::Confirmed, Signal::Bye) => {
                self.phase = Phase::Closing;
                self.limit = now + policy.give_up;
            }
            (Phase::Closing, Signal::ByeChallenged) => match self.confirmed {
                Some(confirmed) => {
                    self.phase = Phase::Confirmed;
                    self.limit = confirmed + policy.longest;
                }
                None => {
                    self.phase = Phase::Early;
                    self.limit = now + policy.early;
                }
            },
            (Phase::Early, Signal::Refused) => self.finish(now, End::Refused, policy),
            (Phase::Early, Signal::Limit) => self.finish(now, self.early_end, policy),
            (Phase::Confirmed, Signal::Limit) => self.finish(now, End::TooLong, policy),
            (Phase::Closing, Signal::Refused | Signal::Limit)
            | (Phase::Early | Phase::Confirmed | Phase::Closing, Signal::ByeAnswered) => {
                self.finish(now, End::Bye, policy);
            }
            (Phase::Confirmed | Phase::Closing, Signal::Denied) => {
                self.finish(now, End::Gone, policy);
            }
            (Phase::Confirmed, Signal::Absent) => self.finish(now, End::Unresponsive, policy),
            (Phase::Confirmed | Phase::Closing, Signal::SessionOver) => {
                self.finish(now, End::SessionExpired, policy);
            }
            (Phase::Early | Phase::Confirmed | Phase::Closing, Signal::HangUp) => {
                self.finish(now, End::HungUp, policy);
            }

            // Copies, and what comes too late.
            (
                Phase::Confirmed,
                Signal::Ringing | Signal::Accepted | Signal::Refused | Signal::OtherAccepted,
            )
            | (
                Phase::Closing,
                Signal::Ringing | Signal::Accepted | Signal::OtherAccepted | Signal::Bye,
            )
            // A BYE was challenged that did not pass here.
            | (Phase::Early | Phase::Confirmed, Signal::ByeChallenged)
            // What is early ends with its INVITE; until then, a fork may not know of a request.
            | (Phase::Early, Signal::Denied | Signal::Absent | Signal::SessionOver)
            | (Phase::Closing, Signal::Absent)
            | (
                Phase::Ended(_),
                Signal::Ringing
                | Signal::Accepted
                | Signal::Refused
                | Signal::OtherAccepted
                | Signal::Bye
                | Signal::ByeAnswered
                | Signal::ByeChallenged
                | Signal::Denied
                | Signal::Absent
                | Signal::HangUp
                | Signal::Limit
                | Signal::SessionOver,
            ) => {}
        }
    }

    fn finish(&mut self, now: Duration, end: End, policy: &Policy) {
        self.phase = Phase::Ended(end);
        self.limit = now + policy.remember;
        self.pending = Vec::new();
    }
}
