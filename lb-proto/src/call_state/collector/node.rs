//! One node of a rebuild: what it is asked next, and what it still has to answer.

use super::{FIRST, Mode, Pace, Reign};
use crate::call::Call;
use crate::call_state::Place;
use crate::call_state::wire::{self, MOST_NAMED, Message, Request};
use std::time::Duration;

/// Calls that are asked for by name at a time.
const NAMED_AT_ONCE: usize = 1_000;
const _: () = assert!(NAMED_AT_ONCE <= MOST_NAMED);

/// What a node is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To reset its calls, or how far that is.
    Reset,
    /// Which calls there are.
    Keys,
    /// Records of all, behind this place.
    Page(Option<Place>),
    /// Records of some.
    Named,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Reset,
    Keys,
    Page(Option<Place>),
    Named(Vec<Call>),
}

/// A request that is not answered yet, or not wholly.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub request: Request,
    pub question: Question,
    pub parts: Parts,
    /// When it was asked, or a part of the answer came.
    pub heard: Duration,
    /// Where the next page begins, if a part has said so.
    pub next: Option<Place>,
    /// Calls that are yet to be reset.
    pub left: u32,
    /// It has been silent for so long that another was given its place among those that send records.
    pub is_lent: bool,
}

impl Asked {
    /// Whether a message is of the kind that this request is answered with.
    pub(super) fn takes(&self, message: &Message<'_>) -> bool {
        match (&self.question, message) {
            (_, Message::Refused { .. })
            | (Question::Reset, Message::ResetPart { .. })
            | (Question::Keys, Message::KeysPart { .. })
            | (Question::Page(_) | Question::Named(_), Message::RecordsPart { .. }) => true,
            (
                Question::Reset | Question::Keys | Question::Page(_) | Question::Named(_),
                Message::Hello { .. }
                | Message::Keys { .. }
                | Message::KeysPart { .. }
                | Message::Records { .. }
                | Message::RecordsPart { .. }
                | Message::Reset { .. }
                | Message::ResetPart { .. },
            ) => false,
        }
    }
}

/// Which parts of an answer have come. They may come in any order.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    seen: Vec<u64>,
    count: u32,
    last: Option<u16>,
}

impl Parts {
    /// Notes a part; false if it has come before.
    pub(super) fn take(&mut self, part: u16, is_last: bool) -> bool {
        let (word, bit) = (usize::from(part / 64), 1_u64 << (part % 64));
        if self.seen.len() <= word {
            // A part's number says 1,024 words at most.
            self.seen.resize(word + 1, 0);
        }
        let Some(seen) = self.seen.get_mut(word).filter(|seen| **seen & bit == 0) else {
            return false;
        };
        *seen |= bit;
        self.count += 1;
        if is_last {
            self.last = Some(part);
        }
        true
    }

    /// Whether none is missing.
    pub(super) fn are_all(&self) -> bool {
        self.last.is_some_and(|last| self.count > u32::from(last))
    }
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub is_linked: bool,
    pub step: Step,
    pub asked: Option<Asked>,
    /// It is not asked before this.
    pub not_before: Duration,
    /// When the rebuild began, or the node was heard again.
    pub began: Duration,
    /// It would be asked for records if not so many others were.
    pub is_waiting: bool,
    /// It has told all its keys in this reign.
    pub has_told_keys: bool,
    /// Calls to be asked for by name, the first at the end.
    pub named: Vec<Call>,
    /// It has reset all its calls in this reign.
    pub is_reset: bool,
    /// When it was last in order: linked, lost, or heard.
    well: Duration,
    /// Requests in a row that came to nothing.
    misses: u32,
    /// When it may be asked again, over whatever link.
    next_ask: Duration,
    /// The number of its last request.
    last: Request,
}

impl Node {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            is_linked: false,
            step: Step::Keys,
            asked: None,
            not_before: now,
            began: now,
            is_waiting: false,
            has_told_keys: false,
            named: Vec::new(),
            is_reset: false,
            well: now,
            misses: 0,
            next_ask: Duration::ZERO,
            last: Request(FIRST.0 - 1),
        }
    }

    /// A reign begins.
    pub(super) fn begin(&mut self, now: Duration, mode: Mode) {
        (self.began, self.is_reset, self.has_told_keys) = (now, false, false);
        self.link_or_not(now, mode);
    }

    /// A link is there.
    pub(super) fn link(&mut self, now: Duration, mode: Mode) {
        self.is_linked = true;
        self.link_or_not(now, mode);
    }

    fn link_or_not(&mut self, now: Duration, mode: Mode) {
        self.step = match mode {
            Mode::Cold(_) if !self.is_reset => Step::Reset,
            Mode::Cold(_) | Mode::Hot => Step::Keys,
        };
        (self.asked, self.misses, self.well) = (None, 0, now);
        (self.is_waiting, self.not_before) = (false, now);
        self.named.clear();
    }

    /// A reset that it was asked for goes on, whatever it is asked next.
    pub(super) fn keep_reset(&mut self) {
        let is_asked = self.asked.as_ref();
        if is_asked.is_some_and(|asked| matches!(asked.question, Question::Reset)) {
            (self.is_reset, self.step, self.asked) = (true, Step::Keys, None);
        }
    }

    /// It is gone.
    pub(super) fn unlink(&mut self, now: Duration) {
        self.is_linked = false;
        self.is_waiting = false;
        (self.asked, self.well) = (None, now);
    }

    /// It has answered something.
    pub(super) fn heard(&mut self, now: Duration) {
        (self.well, self.misses) = (now, 0);
    }

    /// The number that its next request has.
    pub(super) fn next_request(&self) -> Request {
        Request(self.last.0.wrapping_add(1))
    }

    /// Whether it is to be asked now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.is_linked && self.asked.is_none() && self.may_be_asked() <= now
    }

    fn may_be_asked(&self) -> Duration {
        self.not_before.max(self.next_ask)
    }

    /// Whether it is one of those that are sending records.
    pub(super) fn is_sending_records(&mut self, now: Duration, pace: &Pace) -> bool {
        let lent = self.lent_at(pace);
        let is_sending = lent.is_some_and(|lent| now < lent);
        if let Some(asked) = &mut self.asked {
            asked.is_lent = !is_sending;
        }
        is_sending
    }

    /// When it is none of those any more, if it goes on to be silent.
    fn lent_at(&self, pace: &Pace) -> Option<Duration> {
        let asked = self.asked.as_ref()?;
        match asked.question {
            Question::Page(_) | Question::Named(_) => Some(asked.heard + pace.lend_after),
            Question::Reset | Question::Keys => None,
        }
    }

    /// Whether an answer has not come in time.
    pub(super) fn is_overdue(&self, now: Duration, pace: &Pace) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.heard + pace.patience <= now)
    }

    /// Whether it has been out of order for so long that nobody should wait for it.
    pub(super) fn is_gone(&self, now: Duration, pace: &Pace) -> bool {
        (!self.is_linked || self.misses > 0) && self.well + pace.patience <= now
    }

    /// A request came to nothing: the node is asked again after a while, and first for its keys, which
    /// tell what of the rest is missing. `jitter` is in thousandths.
    pub(super) fn back_off(&mut self, now: Duration, pace: &Pace, jitter: u64) {
        self.asked = None;
        self.named.clear();
        self.step = match self.step {
            Step::Reset => Step::Reset,
            Step::Keys | Step::Page(_) | Step::Named => Step::Keys,
        };
        let doublings = self.misses.min(16);
        self.misses += 1;
        let pause = pace.first_retry.saturating_mul(1 << doublings);
        let pause = pause.min(pace.longest_retry);
        self.not_before = now + pause + pause.mul_f64(jitter as f64 / 4_000.0);
    }

    /// When something is due, of what time does to it.
    pub(super) fn next_timeout(
        &self,
        pace: &Pace,
        is_rebuilding: bool,
        is_any_waiting: bool,
    ) -> Option<Duration> {
        let gone = (is_rebuilding && (!self.is_linked || self.misses > 0))
            .then(|| self.well + pace.patience);
        let next = match &self.asked {
            Some(asked) => {
                let overdue = asked.heard + pace.patience;
                // Somebody waits for its place.
                let lent = self
                    .lent_at(pace)
                    .filter(|_| is_any_waiting && !asked.is_lent);
                Some(lent.map_or(overdue, |lent| lent.min(overdue)))
            }
            None if self.is_linked && !self.is_waiting => Some(self.may_be_asked()),
            None => None,
        };
        [gone, next].into_iter().flatten().min()
    }

    /// Asks it for the next thing: the message.
    pub(super) fn ask(&mut self, now: Duration, pace: &Pace, reign: &Reign) -> Vec<u8> {
        self.last = self.next_request();
        let (request, term) = (self.last, reign.term);
        let (question, message) = match (self.step, reign.mode) {
            (Step::Reset, Mode::Cold(designated)) => {
                (Question::Reset, wire::reset(request, term, designated))
            }
            (Step::Reset, Mode::Hot) | (Step::Keys, _) => {
                (Question::Keys, wire::keys(request, term))
            }
            (Step::Page(after), _) => (
                Question::Page(after),
                wire::records_page(request, term, after, pace.page),
            ),
            (Step::Named, _) => {
                let rest = self.named.len().saturating_sub(NAMED_AT_ONCE);
                let mut calls = self.named.split_off(rest);
                calls.reverse();
                let message = wire::records_of(request, term, calls.iter().copied());
                (Question::Named(calls), message)
            }
        };
        self.asked = Some(Asked {
            request,
            question,
            parts: Parts::default(),
            heard: now,
            next: None,
            left: 0,
            is_lent: false,
        });
        self.is_waiting = false;
        self.next_ask = now + pace.apart;
        message
    }
}
