//! A node's calls as they really are, and what it tells of them.

use crate::call::Call;
use crate::call_state::record::{CallRecord, Side};
use crate::call_state::responder::Calls;
use crate::call_state::{CallKey, Designated, Place, Priority, State};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

/// How a call really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truth {
    pub state: State,
    pub priority: Priority,
    pub started: Duration,
}

pub(super) fn record_of<'a>(
    call: Call,
    node: u16,
    truth: &Truth,
    now: Duration,
    text: &'a [u8],
) -> CallRecord<'a> {
    let age = now.saturating_sub(truth.started);
    let side = Side {
        address: text,
        tag: Some(text),
        cseq: Some(1),
    };
    CallRecord {
        call,
        call_id: text,
        caller: side,
        callee: side,
        state: truth.state,
        priority: truth.priority,
        age,
        answered: truth.state.is_answered().then_some(age),
        session: None,
        away: false,
        outgoing: false,
        cut: false,
        dialogs: 1,
        node,
    }
}

/// A node's calls.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub node: u16,
    pub now: Duration,
    pub calls: BTreeMap<Call, Truth>,
    order: BTreeSet<(Reverse<Priority>, Duration, Call)>,
    pub resets: Vec<Designated>,
    pub left: usize,
    /// Calls that were looked at to answer somebody.
    pub looked_at: Cell<usize>,
}

impl Record {
    /// A node without calls.
    pub(super) fn of(node: u16) -> Self {
        Self {
            node,
            ..Self::default()
        }
    }

    pub(super) fn put(&mut self, call: Call, truth: Truth) {
        self.remove(call);
        self.calls.insert(call, truth);
        let place = (Reverse(truth.priority), truth.started, call);
        self.order.insert(place);
    }

    pub(super) fn remove(&mut self, call: Call) {
        if let Some(truth) = self.calls.remove(&call) {
            let place = (Reverse(truth.priority), truth.started, call);
            self.order.remove(&place);
        }
    }

    fn look_at(&self, calls: usize) {
        self.looked_at.update(|before| before + calls);
    }

    fn record(&self, call: Call) -> Option<CallRecord<'_>> {
        let truth = self.calls.get(&call)?;
        Some(record_of(call, self.node, truth, self.now, b"some text"))
    }
}

fn place_of((priority, started, call): (Reverse<Priority>, Duration, Call)) -> Place {
    Place([3 - priority.0 as u64, started.as_nanos() as u64, call.key()])
}

impl Calls for Record {
    fn keys(&self, after: Option<Call>, most: usize) -> (Vec<CallKey>, Option<Call>) {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.calls.range((begin, Bound::Unbounded));
        let key = |(call, truth): (&Call, &Truth)| CallKey {
            call: *call,
            state: truth.state,
            priority: truth.priority,
        };
        let keys: Vec<CallKey> = behind.by_ref().take(most).map(key).collect();
        self.look_at(keys.len());
        let last = keys.last().map(|key| key.call);
        let next = last.filter(|_| behind.next().is_some());
        (keys, next)
    }

    fn page(&self, after: Option<Place>, limit: usize) -> (Vec<CallRecord<'_>>, Option<Place>) {
        let places = self.order.iter();
        let mut places = places.filter(|place| after.is_none_or(|after| after < place_of(**place)));
        let page: Vec<_> = places.by_ref().take(limit).collect();
        let last = page.last().map(|place| place_of(**place));
        let next = last.filter(|_| places.next().is_some());
        self.look_at(page.len());
        let records = page.iter().filter_map(|place| self.record(place.2));
        (records.collect(), next)
    }

    fn records_of(&self, calls: &[Call]) -> Vec<CallRecord<'_>> {
        self.look_at(calls.len());
        calls.iter().filter_map(|call| self.record(*call)).collect()
    }

    fn reset(&mut self, designated: Designated) {
        self.resets.push(designated);
        match designated {
            Designated::Drop => self.left = self.calls.len(),
            Designated::Reinitialise => {
                self.calls.clear();
                self.order.clear();
            }
        }
    }

    fn left(&self) -> usize {
        self.left
    }
}
