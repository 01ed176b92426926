//! What ends a dialog that nobody ended: policy.
//!
//! A BYE can be lost, and a side can crash. Three things end what is left behind, whichever comes
//! first: the session timer that the two sides agreed on (RFC 4028), an answer that says that there is
//! no such dialog, and the longest time that a call may last. To have such an answer, the observer
//! asks each side that has been silent, by an OPTIONS within the dialog.

use super::SessionExpires;
use crate::transaction::Status;
use std::time::Duration;

/// How long what is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// 64 × T1: how long a BYE's answer is waited for, and other forks after one was accepted.
    pub give_up: Duration,
    /// How long an INVITE may go without a final response since its last provisional one.
    pub early: Duration,
    /// Silence of one side after which it is asked whether it is there.
    pub silence: Duration,
    /// From a question without an answer to the next.
    pub retry: Duration,
    /// Questions in a row without an answer that end a dialog. RFC 3261 §12.2.1.2 says one; chosen
    /// two, since an outage of the network would otherwise end every record at once.
    pub unanswered: u8,
    /// The longest time that a call may last: for peers that answer OPTIONS without looking for the
    /// dialog.
    pub longest: Duration,
    /// How long an ended dialog is remembered.
    pub remember: Duration,
}

impl Policy {
    /// 32 s; 213 s (timer C and 64 × T1); 15 min; 30 s; 2; 24 h; 32 s.
    pub const DEFAULT: Self = Self {
        give_up: Duration::from_secs(32),
        early: Duration::from_secs(213),
        silence: Duration::from_secs(15 * 60),
        retry: Duration::from_secs(30),
        unanswered: 2,
        longest: Duration::from_secs(24 * 60 * 60),
        remember: Duration::from_secs(32),
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a final response to a request within a dialog says about the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The side is there and does not deny the dialog.
    Alive,
    /// There is no such dialog.
    Gone,
    /// Somebody on the way answered: it says nothing.
    Inconclusive,
}

/// Judges a response to a request within a dialog, whoever sent that.
///
/// 481 and 408 end it (RFC 3261 §12.2.1.2), and so do the answers that there is nobody there
/// (404, 410, 604; RFC 5057 §5.1). 502, 503 and 504 are those of proxies that cannot reach it just
/// now. What complains about the request itself (405, 415, 500 …) was sent by somebody who is there.
pub fn verdict(status: Status) -> Verdict {
    match status.code() {
        404 | 408 | 410 | 481 | 604 => Verdict::Gone,
        502..=504 => Verdict::Inconclusive,
        _ => Verdict::Alive,
    }
}

/// The shortest session interval that RFC 4028 §4 permits. Less is taken for this, so that nobody
/// ends records sooner than sessions can end.
pub const SHORTEST_SESSION: Duration = Duration::from_secs(90);

/// The longest session interval: what the header can say (RFC 4028 §4 counts seconds, and RFC 3261
/// §20.19 its like in 32 bits). More is taken for this.
pub const LONGEST_SESSION: Duration = Duration::from_secs(u32::MAX as u64);

/// How long a session lasts that is not refreshed.
pub(super) fn session_length(expires: SessionExpires) -> Duration {
    expires.interval.clamp(SHORTEST_SESSION, LONGEST_SESSION)
}

/// What is known of one side's presence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presence {
    /// When it is to be asked next, or when the answer to the last question is overdue.
    due: Duration,
    is_asked: bool,
    /// Questions in a row that had no answer.
    misses: u8,
}

/// What time does to one side's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Rest,
    /// It is to be asked.
    Ask,
    /// It was asked often enough.
    Absent,
}

impl Presence {
    pub(super) fn heard(now: Duration, policy: &Policy) -> Self {
        Self {
            due: now + policy.silence,
            is_asked: false,
            misses: 0,
        }
    }

    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// An answer came that says nothing.
    pub(super) fn inconclusive(&mut self, now: Duration, policy: &Policy) {
        self.is_asked = false;
        self.due = now + policy.retry;
    }

    /// No answer came, and none will.
    pub(super) fn missed(&mut self, now: Duration, policy: &Policy) -> Step {
        if !self.is_asked {
            return Step::Rest;
        }
        self.inconclusive(now, policy);
        self.misses = self.misses.saturating_add(1);
        if self.misses >= policy.unanswered {
            Step::Absent
        } else {
            Step::Rest
        }
    }

    pub(super) fn on_timeout(&mut self, now: Duration, policy: &Policy) -> Step {
        if now < self.due {
            return Step::Rest;
        }
        if self.is_asked {
            return self.missed(now, policy);
        }
        self.is_asked = true;
        // Whoever asks hears of a time-out after 64 × T1; if he says nothing, it is taken for one.
        self.due = now + 2 * policy.give_up;
        Step::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_say() {
        let rows = [
            (200, Verdict::Alive),
            (401, Verdict::Alive),
            (405, Verdict::Alive),
            (500, Verdict::Alive),
            (404, Verdict::Gone),
            (408, Verdict::Gone),
            (410, Verdict::Gone),
            (481, Verdict::Gone),
            (604, Verdict::Gone),
            (502, Verdict::Inconclusive),
            (503, Verdict::Inconclusive),
            (504, Verdict::Inconclusive),
        ];
        for (code, expected) in rows {
            let status = Status::new(code).expect("a status code");
            assert_eq!(verdict(status), expected, "{code}");
        }
    }

    #[test]
    fn a_silent_side_is_asked_twice() {
        let policy = Policy::DEFAULT;
        let mut presence = Presence::heard(Duration::ZERO, &policy);
        let mut seen = Vec::new();
        loop {
            let now = presence.due();
            match presence.on_timeout(now, &policy) {
                Step::Absent => {
                    seen.push((now.as_secs(), "absent"));
                    break;
                }
                Step::Ask => seen.push((now.as_secs(), "ask")),
                Step::Rest => seen.push((now.as_secs(), "missed")),
            }
        }
        assert_eq!(
            seen,
            [
                (900, "ask"),
                (964, "missed"),
                (994, "ask"),
                (1_058, "absent")
            ]
        );
    }

    #[test]
    fn an_answer_that_says_nothing_is_no_miss() {
        let policy = Policy::DEFAULT;
        let mut presence = Presence::heard(Duration::ZERO, &policy);
        for _ in 0..10 {
            let now = presence.due();
            assert_eq!(presence.on_timeout(now, &policy), Step::Ask);
            presence.inconclusive(now, &policy);
            assert_eq!(presence.due(), now + policy.retry);
        }
        assert_eq!(presence.missed(Duration::ZERO, &policy), Step::Rest);
    }
}
