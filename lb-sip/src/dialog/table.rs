//! All dialogs that pass: found by Call-ID and tags, bounded, in order of priority, with one deadline.

mod observe;
mod page;

use super::liveness::Policy;
use super::record::life::Signal;
use super::record::{Dialog, InDialog};
use super::{Side, State};
use crate::transaction::Status;
use crate::transaction::deadlines::Deadlines;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

pub use observe::Observed;
pub use page::{Cursor, Page};

/// Dialogs with one Call-ID, at most: forks, and attempts that were challenged. Chosen; a look-up
/// walks through them.
pub const MOST_PER_CALL_ID: usize = 16;

/// Dialogs that one call of [`DialogTable::on_timeout`] looks at, at most.
pub const TIMERS_PER_CALL: usize = 256;

/// A dialog of one table. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogId(u64);

/// Hashes numbers that are given out one after the other, which nobody else can choose.
#[derive(Debug, Default)]
struct Numbers(u64);

impl Hasher for Numbers {
    fn write_u64(&mut self, number: u64) {
        // 2⁶⁴ over the golden ratio, made odd: neighbours lie far apart, in the high bits too.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the table tells its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A dialog is in another state, or new. When it ended, [`Dialog::end`] says why.
    State {
        /// Which.
        id: DialogId,
        /// Where it was; `None` if it is new.
        from: Option<State>,
        /// Where it is.
        to: State,
    },
    /// Send an OPTIONS within the dialog, as [`Dialog::question`] has it, and say by
    /// [`DialogTable::answered`] what came of it.
    Ask {
        /// Which dialog.
        id: DialogId,
        /// Whom.
        side: Side,
    },
}

/// How many dialogs there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Without a final response.
    pub early: usize,
    /// Accepted, and nobody holds.
    pub confirmed: usize,
    /// Accepted, and somebody holds.
    pub held: usize,
    /// Over, and remembered.
    pub ended: usize,
}

impl Counts {
    fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Early => &mut self.early,
            State::Confirmed => &mut self.confirmed,
            State::Held => &mut self.held,
            State::Ended => &mut self.ended,
        }
    }
}

/// Why a dialog was not hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HangUpError {
    /// It is over, or never was.
    #[error("the dialog is over")]
    Gone,
    /// It has no final response: cancel the INVITE, or refuse it.
    #[error("the dialog is early")]
    Early,
    /// A side gave no Contact, so that no request reaches it.
    #[error("a side's Contact is not known")]
    NoTarget,
}

/// The dialogs of the calls that pass an observer.
///
/// Every method that takes `out` appends what is to be known and done, in order. Two tables that are
/// told the same say the same.
#[derive(Debug)]
pub struct DialogTable {
    policy: Policy,
    capacity: usize,
    /// Record-Route entries that the observer puts on top of a request's.
    own_routes: usize,
    next_id: u64,
    dialogs: HashMap<DialogId, Dialog, BuildHasherDefault<Numbers>>,
    /// No list is empty.
    by_call_id: HashMap<Bytes, Vec<DialogId>>,
    /// Those that are not over.
    order: BTreeSet<Cursor>,
    /// Those that are over, by when they are forgotten.
    ended: BTreeSet<(Duration, DialogId)>,
    deadlines: Deadlines<DialogId>,
    counts: Counts,
    calls: usize,
}

impl DialogTable {
    /// No dialogs yet, `capacity` at most. `own_routes` is how many Record-Route entries the observer
    /// itself puts into a request: none if it is a user agent or does not record.
    pub fn new(policy: Policy, capacity: usize, own_routes: usize) -> Self {
        Self {
            policy,
            capacity,
            own_routes,
            next_id: 0,
            dialogs: HashMap::default(),
            by_call_id: HashMap::new(),
            order: BTreeSet::new(),
            ended: BTreeSet::new(),
            deadlines: Deadlines::new(),
            counts: Counts::default(),
            calls: 0,
        }
    }

    /// A dialog that is there, also if it is over and remembered.
    pub fn get(&self, id: DialogId) -> Option<&Dialog> {
        self.dialogs.get(&id)
    }

    /// How many dialogs there are in each state.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many calls there are: INVITEs of which a dialog is not over, forks not counted apart.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// The dialog that a request or response with these tags belongs to.
    pub fn find(&self, call_id: &[u8], from_tag: &[u8], to_tag: &[u8]) -> Option<(DialogId, Side)> {
        self.with_call_id(call_id).find_map(|(id, dialog)| {
            let side = dialog.sender(from_tag, to_tag)?;
            Some((id, side))
        })
    }

    /// The dialogs of a Call-ID, in the order in which they began, also those that are over.
    pub fn of_call(&self, call_id: &[u8]) -> impl Iterator<Item = (DialogId, &Dialog)> {
        self.with_call_id(call_id)
    }

    /// Notes the answer to a question (see [`Event::Ask`]); `None` if there was none.
    pub fn answered(
        &mut self,
        now: Duration,
        id: DialogId,
        by: Side,
        status: Option<Status>,
        out: &mut Vec<Event>,
    ) {
        let policy = self.policy;
        self.change(id, out, |dialog| dialog.answered(now, by, status, &policy));
    }

    /// Ends a call: the dialog is over at once, and the two BYEs are to be sent, to the caller and to
    /// the callee (§15.1.1).
    pub fn hang_up(
        &mut self,
        now: Duration,
        id: DialogId,
        out: &mut Vec<Event>,
    ) -> Result<[InDialog; 2], HangUpError> {
        let policy = self.policy;
        let dialog = self.get(id).ok_or(HangUpError::Gone)?;
        match dialog.state() {
            State::Ended => return Err(HangUpError::Gone),
            State::Early => return Err(HangUpError::Early),
            State::Confirmed | State::Held => {}
        }
        if Side::BOTH
            .iter()
            .any(|side| dialog.question(*side).is_none())
        {
            return Err(HangUpError::NoTarget);
        }
        self.change(id, out, |dialog| {
            let byes = (
                dialog.next_request(Side::Caller)?,
                dialog.next_request(Side::Callee)?,
            );
            dialog.life(now, Signal::HangUp, &policy);
            Some(byes.into())
        })
        .flatten()
        .ok_or(HangUpError::NoTarget)
    }

    /// Ends the record of a dialog without a word to anybody, whatever becomes of the dialog. Whether
    /// there was one that was not over.
    pub fn abandon(&mut self, now: Duration, id: DialogId, out: &mut Vec<Event>) -> bool {
        let policy = self.policy;
        let is_live = self.get(id).is_some_and(|dialog| dialog.end().is_none());
        if is_live {
            self.change(id, out, |dialog| dialog.life(now, Signal::HangUp, &policy));
        }
        is_live
    }

    /// A request of a user agent within its own dialog: takes the next CSeq. `None` if the dialog is
    /// over, or the other side's Contact is not known.
    pub fn next_request(&mut self, id: DialogId, to: Side) -> Option<InDialog> {
        let dialog = self.dialogs.get_mut(&id)?;
        match dialog.end() {
            Some(_) => None,
            None => dialog.next_request(to),
        }
    }

    /// When to call [`DialogTable::on_timeout`] next.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.deadlines.next()
    }

    /// Does what is due, for [`TIMERS_PER_CALL`] dialogs at most; the rest remains due.
    pub fn on_timeout(&mut self, now: Duration, out: &mut Vec<Event>) {
        let policy = self.policy;
        for _ in 0..TIMERS_PER_CALL {
            let Some(id) = self.deadlines.due(now) else {
                return;
            };
            if self.get(id).is_some_and(|dialog| dialog.end().is_some()) {
                self.forget(id);
                continue;
            }
            let asked = self.change(id, out, |dialog| dialog.on_timeout(now, &policy));
            let asked = asked.unwrap_or_default().into_iter();
            out.extend(asked.map(|side| Event::Ask { id, side }));
        }
    }

    fn with_call_id(&self, call_id: &[u8]) -> impl Iterator<Item = (DialogId, &Dialog)> {
        let ids = self.by_call_id.get(call_id).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.dialogs.get(id)?)))
    }

    fn insert(&mut self, dialog: Dialog, out: &mut Vec<Event>) -> Option<DialogId> {
        let with_call_id: Vec<DialogId> = self
            .with_call_id(dialog.call_id())
            .map(|(id, _)| id)
            .collect();
        if with_call_id.len() >= MOST_PER_CALL_ID {
            let ended = with_call_id
                .into_iter()
                .find(|id| self.get(*id).is_some_and(|dialog| dialog.end().is_some()))?;
            self.forget(ended);
        }
        if self.dialogs.len() >= self.capacity {
            let (_, ended) = *self.ended.first()?;
            self.forget(ended);
        }
        self.next_id += 1;
        let id = DialogId(self.next_id);
        if !self.has_call(&dialog) {
            self.calls += 1;
        }
        self.by_call_id
            .entry(dialog.call_id().clone())
            .or_default()
            .push(id);
        self.order.insert(Cursor::of(id, &dialog));
        self.deadlines
            .replace(id, None, Some(dialog.next_timeout()));
        let to = dialog.state();
        *self.counts.of(to) += 1;
        out.push(Event::State { id, from: None, to });
        self.dialogs.insert(id, dialog);
        Some(id)
    }

    /// Changes a dialog, and all that depends on it.
    fn change<T>(
        &mut self,
        id: DialogId,
        out: &mut Vec<Event>,
        change: impl FnOnce(&mut Dialog) -> T,
    ) -> Option<T> {
        let dialog = self.dialogs.get_mut(&id)?;
        let (from, deadline) = (dialog.state(), dialog.next_timeout());
        let result = change(dialog);
        let (to, next) = (dialog.state(), dialog.next_timeout());
        self.deadlines.replace(id, Some(deadline), Some(next));
        if from == to {
            return Some(result);
        }
        *self.counts.of(from) -= 1;
        *self.counts.of(to) += 1;
        out.push(Event::State {
            id,
            from: Some(from),
            to,
        });
        if to == State::Ended {
            self.order.remove(&Cursor::of(id, dialog));
            self.ended.insert((next, id));
            let dialog = self.dialogs.get(&id)?;
            if !self.has_call(dialog) {
                self.calls -= 1;
            }
        }
        Some(result)
    }

    /// Whether a dialog of the same INVITE is there that is not over.
    fn has_call(&self, dialog: &Dialog) -> bool {
        self.with_call_id(dialog.call_id()).any(|(_, other)| {
            other.end().is_none()
                && other.invite_cseq() == dialog.invite_cseq()
                && other.party(Side::Caller).tag == dialog.party(Side::Caller).tag
        })
    }

    /// Removes a dialog that is over.
    fn forget(&mut self, id: DialogId) {
        let Some(dialog) = self.dialogs.remove(&id) else {
            return;
        };
        let deadline = dialog.next_timeout();
        self.deadlines.replace(id, Some(deadline), None);
        self.ended.remove(&(deadline, id));
        self.counts.ended -= 1;
        if let Some(ids) = self.by_call_id.get_mut(dialog.call_id()) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_call_id.remove(dialog.call_id());
            }
        }
    }

    /// Whether all that depends on the dialogs agrees with them.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let mut counts = Counts::default();
        let mut calls = BTreeSet::new();
        for dialog in self.dialogs.values() {
            *counts.of(dialog.state()) += 1;
            if dialog.end().is_none() {
                let caller = dialog.party(Side::Caller).tag.clone();
                calls.insert((dialog.call_id().clone(), caller, dialog.invite_cseq()));
            }
        }
        let live = self
            .dialogs
            .values()
            .filter(|dialog| dialog.end().is_none());
        counts == self.counts
            && calls.len() == self.calls
            && self.order.len() == live.count()
            && self.ended.len() == counts.ended
            && self.order.len() + self.ended.len() == self.dialogs.len()
            && self.deadlines.len() == self.dialogs.len()
            && self.by_call_id.values().map(Vec::len).sum::<usize>() == self.dialogs.len()
            && self.by_call_id.values().all(|ids| !ids.is_empty())
            && self.dialogs.len() <= self.capacity
    }
}
