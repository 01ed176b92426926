//! What a controller knows of all calls: usable at every moment, also while it fills.
//!
//! By node, and within a node by call key: so it is plain at any time how complete each part is, a node
//! that is silent makes its own calls unknown and nobody else's, and what is gone from a node can be
//! told from what the node has not said yet. A record is kept in the bytes that it came in, some two
//! hundred for a call of usual length, and read when somebody looks.

mod view;

use super::record::CallRecord;
use super::wire::Request;
use super::{CallKey, Priority, State};
use crate::call::Call;
use std::cmp::Reverse;
use std::collections::btree_map::{self, BTreeMap};
use std::ops::Bound;
use std::time::Duration;
pub use view::{Completeness, Cursor, Filter, Page, Standing, Summary, View};

/// What came of what a node said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A call that was not there.
    New,
    /// It is in another state than it was.
    Changed {
        /// Where it was.
        from: State,
    },
    /// It was known.
    Same,
    /// A call that was not there, and there is no room for it.
    Full,
}

/// A call of a node's.
#[derive(Clone, Debug)]
struct Entry {
    /// As it came.
    record: Option<Box<[u8]>>,
    /// When it came, in milliseconds.
    told_ms: u64,
    /// The last request in answer to which the node spoke of the call.
    seen: Request,
    state: State,
    priority: Priority,
    /// The record is to be asked for.
    is_awaited: bool,
}

#[derive(Clone, Debug, Default)]
struct NodeCalls {
    completeness: Completeness,
    calls: BTreeMap<Call, Entry>,
    /// What was said in answer to earlier requests was said over a link that is lost.
    trusted_from: Request,
    numbers: Numbers,
}

/// How many calls of a node's are how.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    /// By [`State`].
    states: [usize; State::ALL.len()],
    awaited: usize,
    /// Of those, calls that are emergencies.
    awaited_emergencies: usize,
}

impl Numbers {
    /// Takes an entry into the numbers, or out of them.
    fn count(&mut self, entry: &Entry, by: isize) {
        let add = |count: &mut usize| *count = count.saturating_add_signed(by);
        self.states.get_mut(entry.state as usize).map(add);
        if entry.is_awaited {
            add(&mut self.awaited);
            if entry.priority == Priority::Emergency {
                add(&mut self.awaited_emergencies);
            }
        }
    }
}

impl NodeCalls {
    fn standing(&self, entry: &Entry) -> Standing {
        if self.completeness == Completeness::Unreachable || entry.seen < self.trusted_from {
            Standing::Unknown
        } else {
            Standing::Known(entry.state)
        }
    }

    fn remove(&mut self, call: Call) -> bool {
        let removed = self.calls.remove(&call);
        if let Some(entry) = &removed {
            self.numbers.count(entry, -1);
        }
        removed.is_some()
    }
}

/// All calls of all nodes; see the [module](self).
#[derive(Clone, Debug)]
pub struct Database {
    nodes: BTreeMap<u16, NodeCalls>,
    calls: usize,
    capacity: usize,
    full: u64,
}

impl Database {
    /// No calls yet, `capacity` at most. When it is full, further calls get their pins as others do,
    /// but are not kept, and are counted by [`Database::full`] each time that a node speaks of one.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            nodes: BTreeMap::new(),
            calls: 0,
            capacity,
            full: 0,
        }
    }

    /// How many calls there are, of all nodes, known and unknown.
    pub fn len(&self) -> usize {
        self.calls
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.calls == 0
    }

    /// How often a call was not kept because there was no room.
    pub fn full(&self) -> u64 {
        self.full
    }

    /// Every node's calls in numbers.
    pub fn nodes(&self) -> impl Iterator<Item = Summary> {
        self.nodes.iter().map(|(node, its)| {
            let mut summary = Summary {
                node: *node,
                completeness: its.completeness,
                calls: its.calls.len(),
                early: its.numbers.states[State::Early as usize],
                confirmed: its.numbers.states[State::Confirmed as usize],
                held: its.numbers.states[State::Held as usize],
                unknown: 0,
                awaited: its.numbers.awaited,
            };
            // What was said over a lost link is gone through again soon, and nothing of it is left then.
            if its.completeness != Completeness::Ok {
                for entry in its.calls.values() {
                    if its.standing(entry) == Standing::Unknown {
                        summary.unknown += 1;
                        match entry.state {
                            State::Early => summary.early -= 1,
                            State::Confirmed => summary.confirmed -= 1,
                            State::Held => summary.held -= 1,
                        }
                    }
                }
            }
            summary
        })
    }

    /// How far a node's calls are known; `None` if there is no such node.
    pub fn completeness(&self, node: u16) -> Option<Completeness> {
        self.nodes.get(&node).map(|its| its.completeness)
    }

    /// A call: on one node, or for an instant on two, while a node has not said yet that it has ended
    /// there.
    pub fn find(&self, now: Duration, call: Call) -> impl Iterator<Item = View<'_>> {
        self.nodes.iter().filter_map(move |(node, its)| {
            let entry = its.calls.get(&call)?;
            Some(view(now, *node, its, call, entry))
        })
    }

    /// Calls that pass a filter, by node and call key, `limit` at most, behind the place where the last
    /// page ended. Calls may come and go between pages: each that is there all the time is on one.
    pub fn page(
        &self,
        now: Duration,
        filter: Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Page<'_> {
        let (mut calls, limit) = (Vec::new(), limit.max(1));
        let first = filter.node.or(after.map(|after| after.node)).unwrap_or(0);
        let last = filter.node.unwrap_or(u16::MAX);
        if first > last {
            return Page { calls, next: None };
        }
        for (node, its) in self.nodes.range(first..=last) {
            let begin = match after {
                Some(after) if after.node > *node => continue,
                Some(after) if after.node == *node => Bound::Excluded(after.call),
                Some(_) | None => Bound::Unbounded,
            };
            for (call, entry) in its.calls.range((begin, Bound::Unbounded)) {
                let standing = its.standing(entry);
                if filter.standing.is_some_and(|wanted| wanted != standing) {
                    continue;
                }
                if calls.len() >= limit {
                    let next = calls.last().map(|view: &View<'_>| Cursor {
                        node: view.node,
                        call: view.call,
                    });
                    return Page { calls, next };
                }
                calls.push(view(now, *node, its, *call, entry));
            }
        }
        Page { calls, next: None }
    }

    /// Keeps these nodes, and no other's calls.
    pub(super) fn set_nodes(&mut self, nodes: impl IntoIterator<Item = u16>) {
        let mut kept = BTreeMap::new();
        for node in nodes {
            kept.insert(node, self.nodes.remove(&node).unwrap_or_default());
        }
        self.calls = kept.values().map(|its| its.calls.len()).sum();
        self.nodes = kept;
    }

    /// Forgets all calls.
    pub(super) fn clear(&mut self) {
        for its in self.nodes.values_mut() {
            *its = NodeCalls::default();
        }
        self.calls = 0;
    }

    pub(super) fn set_completeness(&mut self, node: u16, completeness: Completeness) {
        if let Some(its) = self.nodes.get_mut(&node) {
            its.completeness = completeness;
        }
    }

    /// What a node said in answer to requests before this one is doubtful now.
    pub(super) fn distrust_before(&mut self, node: u16, request: Request) {
        if let Some(its) = self.nodes.get_mut(&node) {
            its.trusted_from = request;
        }
    }

    /// How many calls a node has.
    pub(super) fn calls_of(&self, node: u16) -> usize {
        self.nodes.get(&node).map_or(0, |its| its.calls.len())
    }

    /// How many records of a node's are to be asked for, and how many of those are emergencies.
    pub(super) fn awaited(&self, node: u16) -> (usize, usize) {
        let its = self.nodes.get(&node);
        its.map_or((0, 0), |its| {
            (its.numbers.awaited, its.numbers.awaited_emergencies)
        })
    }

    /// The calls whose records are to be asked for, most urgent first.
    pub(super) fn awaited_calls(&self, node: u16) -> Vec<Call> {
        let entries = self.nodes.get(&node).into_iter().flat_map(|its| &its.calls);
        let awaited = entries.filter(|(_, entry)| entry.is_awaited);
        let mut awaited: Vec<(Reverse<Priority>, Call)> = awaited
            .map(|(call, entry)| (Reverse(entry.priority), *call))
            .collect();
        awaited.sort_unstable();
        awaited.into_iter().map(|(_, call)| call).collect()
    }

    /// A node says that it has a call, and where that is.
    pub(super) fn tell_key(&mut self, node: u16, request: Request, key: CallKey) -> Told {
        self.tell(node, request, key, |entry, told| {
            entry.is_awaited |= told != Told::Same;
        })
    }

    /// A node tells a call's record, which stands in these bytes.
    pub(super) fn tell_record(
        &mut self,
        now: Duration,
        node: u16,
        request: Request,
        record: &CallRecord<'_>,
        bytes: &[u8],
    ) -> Told {
        let key = CallKey {
            call: record.call,
            state: record.state,
            priority: record.priority,
        };
        self.tell(node, request, key, |entry, _| {
            entry.record = Some(bytes.into());
            entry.told_ms = milliseconds(now);
            entry.is_awaited = false;
        })
    }

    fn tell(
        &mut self,
        node: u16,
        request: Request,
        key: CallKey,
        change: impl FnOnce(&mut Entry, Told),
    ) -> Told {
        let CallKey {
            call,
            state,
            priority,
        } = key;
        let Some(its) = self.nodes.get_mut(&node) else {
            return Told::Same;
        };
        let NodeCalls { calls, numbers, .. } = its;
        let (entry, told) = match calls.entry(call) {
            btree_map::Entry::Occupied(entry) => {
                let entry = entry.into_mut();
                numbers.count(entry, -1);
                let told = match entry.state {
                    before if before == state => Told::Same,
                    from => Told::Changed { from },
                };
                (entry, told)
            }
            btree_map::Entry::Vacant(_) if self.calls >= self.capacity => {
                self.full += 1;
                return Told::Full;
            }
            btree_map::Entry::Vacant(vacant) => {
                self.calls += 1;
                let entry = vacant.insert(Entry {
                    record: None,
                    told_ms: 0,
                    seen: request,
                    state,
                    priority,
                    is_awaited: true,
                });
                (entry, Told::New)
            }
        };
        (entry.state, entry.priority, entry.seen) = (state, priority, request);
        change(entry, told);
        numbers.count(entry, 1);
        told
    }

    /// Whether a node spoke of a call in answer to this request.
    pub(super) fn was_told(&self, node: u16, request: Request, call: Call) -> bool {
        let entry = self.nodes.get(&node).and_then(|its| its.calls.get(&call));
        entry.is_some_and(|entry| entry.seen == request)
    }

    /// A call has ended. Whether it was there.
    pub(super) fn end(&mut self, node: u16, call: Call) -> bool {
        let its = self.nodes.get_mut(&node);
        let was_there = its.is_some_and(|its| its.remove(call));
        self.calls -= usize::from(was_there);
        was_there
    }

    /// All calls of a node of which it did not speak in answer to this request, which was for all.
    pub(super) fn not_told(&self, node: u16, request: Request) -> Vec<Call> {
        let entries = self.nodes.get(&node).into_iter().flat_map(|its| &its.calls);
        let gone = entries.filter(|(_, entry)| entry.seen != request);
        gone.map(|(call, _)| *call).collect()
    }
}

fn view<'a>(now: Duration, node: u16, its: &NodeCalls, call: Call, entry: &'a Entry) -> View<'a> {
    // It was read before, when it came.
    let record = entry.record.as_deref().and_then(CallRecord::read);
    let since = milliseconds(now).saturating_sub(entry.told_ms);
    View {
        call,
        node,
        standing: its.standing(entry),
        priority: entry.priority,
        record: record.map(|record| CallRecord {
            node,
            state: entry.state,
            ..record.later(Duration::from_millis(since))
        }),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
