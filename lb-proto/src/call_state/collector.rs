//! The controller's side: whom to ask what, and when.
//!
//! ```text
//!    linked ──► Keys ──────► Page ──► Page … ──► Named ──► ok ──► Keys (every 5 s) ──► Named ──► ok …
//!                │ no calls    │ the first time:   │ those whose record
//!                └──────► ok   │ all, in pages     │ did not come, or that have changed
//!    lost, or silent for 1 s: unreachable; linked again, or heard again: from Keys on
//!    cold stand-by:  linked ──► Reset ──► Reset (until none is left) ──► Keys …
//! ```
//! All nodes are asked for their keys at once: a few bytes for each call, which are all that a pin
//! needs. Records follow in pages, for a bounded number of nodes at a time: those first that have
//! emergencies, and of these the largest; each node pages the most urgent calls first and of these the
//! longest. One request is outstanding with a node, and it is never asked twice within 100 ms, whatever
//! becomes of its link.
//!
//! A node that does not answer keeps nothing from the others: it has no place among those that are
//! asked for records before it has given its keys, and loses that when it falls silent. Its calls are
//! unknown, and stay in the database.
//!
//! There is no socket and no clock in it: links are reported by [`Collector::linked`] and
//! [`Collector::lost`], bytes come by [`Collector::message`], and what is to be done comes out as
//! [`Output`]s.

mod node;
mod output;
mod pace;
mod schedule;

use super::CallKey;
use super::database::{Completeness, Database, Told};
use super::wire::{self, Message, Party, Request, WireError};
use crate::call::Call;
use crate::random::Random;
use node::{Asked, Node, Question, Step};
pub use output::{Counts, Output};
pub use pace::{DEFAULT_CAPACITY, Mode, Pace, Settings};
use std::collections::BTreeMap;
use std::time::Duration;

/// A node that is linked later in a cold reign is not reset: its calls may be of this reign. Chosen: far
/// longer than a link takes, far shorter than what an operator would call "at the takeover".
const RESET_WITHIN: Duration = Duration::from_secs(10);

/// A reign.
#[derive(Clone, Copy, Debug)]
struct Reign {
    term: u64,
    mode: Mode,
    began: Duration,
    /// When the last node was complete.
    latest: Duration,
    has_keys: bool,
    is_complete: bool,
}

/// The rebuild and its database; see the [module](self).
#[derive(Debug)]
pub struct Collector {
    settings: Settings,
    nodes: BTreeMap<u16, Node>,
    database: Database,
    reign: Option<Reign>,
    random: Random,
    counts: Counts,
}

impl Collector {
    /// A collector that asks nobody yet.
    pub fn new(settings: Settings, nodes: impl IntoIterator<Item = u16>, seed: u64) -> Self {
        let mut collector = Self {
            settings,
            nodes: BTreeMap::new(),
            database: Database::new(settings.capacity),
            reign: None,
            random: Random::new(seed),
            counts: Counts::default(),
        };
        collector.set_nodes(Duration::ZERO, nodes);
        collector
    }

    /// These are the nodes from now on.
    pub fn set_nodes(&mut self, now: Duration, nodes: impl IntoIterator<Item = u16>) {
        let mut kept = BTreeMap::new();
        for id in nodes {
            let node = self.nodes.remove(&id);
            kept.insert(id, node.unwrap_or_else(|| Node::new(now)));
        }
        self.database.set_nodes(kept.keys().copied());
        self.nodes = kept;
    }

    /// The controller reigns: what its nodes hold is to be found out. What is in the database is
    /// forgotten; links that are up are used.
    pub fn begin(&mut self, now: Duration, term: u64, mode: Mode, out: &mut Vec<Output>) {
        self.database.clear();
        self.reign = Some(Reign {
            term,
            mode,
            began: now,
            latest: now,
            has_keys: false,
            is_complete: false,
        });
        for (id, node) in &mut self.nodes {
            node.begin(now, mode);
            if node.is_linked {
                greet(&self.settings, *id, term, out);
            }
        }
        self.schedule(now, out);
    }

    /// The reign goes on under a later term. What was asked under the earlier one is refused, and asked
    /// again; but for a reset that was begun.
    pub fn raise(&mut self, term: u64, out: &mut Vec<Output>) {
        let Some(reign) = &mut self.reign else { return };
        reign.term = term;
        for (id, node) in &mut self.nodes {
            node.keep_reset();
            if node.is_linked {
                greet(&self.settings, *id, term, out);
            }
        }
    }

    /// It reigns no more: nobody is asked, and the database is empty.
    pub fn end(&mut self) {
        self.reign = None;
        self.database.clear();
        for node in self.nodes.values_mut() {
            node.asked = None;
        }
    }

    /// What is known, at any time.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// What was asked, and what went wrong.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// There is a link to a node, a new one.
    pub fn linked(&mut self, now: Duration, id: u16, out: &mut Vec<Output>) {
        self.lost(now, id, out);
        let (Some(node), Some(reign)) = (self.nodes.get_mut(&id), self.reign) else {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.is_linked = true;
            }
            return;
        };
        let is_late = now > reign.began + RESET_WITHIN;
        node.link(now, if is_late { Mode::Hot } else { reign.mode });
        if self.database.completeness(id) == Some(Completeness::Unreachable) {
            node.began = now;
            self.database.set_completeness(id, Completeness::Rebuilding);
        }
        greet(&self.settings, id, reign.term, out);
        self.schedule(now, out);
    }

    /// The link to a node is gone.
    pub fn lost(&mut self, now: Duration, id: u16, out: &mut Vec<Output>) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_linked) else {
            return;
        };
        node.unlink(now);
        if self.reign.is_none() {
            return;
        }
        let doubtful = node.next_request();
        self.database.distrust_before(id, doubtful);
        if self.database.completeness(id) == Some(Completeness::Ok) {
            self.database
                .set_completeness(id, Completeness::Unreachable);
            out.push(Output::Unreachable { node: id });
        }
        self.schedule(now, out);
    }

    /// A message came over the link to a node.
    ///
    /// # Errors
    /// [`WireError`] for what is no message: the link is of no use then.
    pub fn message(
        &mut self,
        now: Duration,
        id: u16,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), WireError> {
        let message = Message::read(bytes).inspect_err(|_| self.counts.malformed += 1)?;
        if self.reign.is_some() && self.nodes.get(&id).is_some_and(|node| node.is_linked) {
            self.take(now, id, message, out);
            self.schedule(now, out);
        } else {
            self.counts.stale += 1;
        }
        Ok(())
    }

    /// When to call [`Collector::on_timeout`] next.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.reign?;
        let pace = &self.settings.pace;
        let is_any_waiting = self.nodes.values().any(|node| node.is_waiting);
        let due = self.nodes.iter().filter_map(|(id, node)| {
            let is_rebuilding = self.database.completeness(*id) == Some(Completeness::Rebuilding);
            node.next_timeout(pace, is_rebuilding, is_any_waiting)
        });
        due.min()
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Duration, out: &mut Vec<Output>) {
        if self.reign.is_none() {
            return;
        }
        let pace = self.settings.pace;
        for (id, node) in &mut self.nodes {
            let jitter = self.random.below(1_000);
            if node.is_overdue(now, &pace) {
                self.counts.missed += 1;
                node.back_off(now, &pace, jitter);
                // The node is heard over this link, if it ever is, before it is believed again.
                self.database.distrust_before(*id, node.next_request());
            }
            let is_gone = node.is_gone(now, &pace);
            let completeness = self.database.completeness(*id);
            if is_gone && completeness != Some(Completeness::Unreachable) {
                self.database
                    .set_completeness(*id, Completeness::Unreachable);
                out.push(Output::Unreachable { node: *id });
            }
        }
        self.schedule(now, out);
    }

    /// Takes what a node says.
    fn take(&mut self, now: Duration, id: u16, message: Message<'_>, out: &mut Vec<Output>) {
        let (request, part, is_last) = match message {
            // Whose link it is, the link knows.
            Message::Hello { .. } => return,
            Message::KeysPart {
                request,
                part,
                is_last,
                ..
            }
            | Message::RecordsPart {
                request,
                part,
                is_last,
                ..
            } => (request, part, is_last),
            Message::ResetPart { request, .. } | Message::Refused { request, .. } => {
                (request, 0, true)
            }
            Message::Keys { .. } | Message::Records { .. } | Message::Reset { .. } => {
                self.counts.malformed += 1;
                return;
            }
        };
        let Self {
            nodes, database, ..
        } = self;
        let Some(node) = nodes.get_mut(&id) else {
            return;
        };
        let fits = |asked: &&mut Asked| asked.request == request && asked.takes(&message);
        let Some(asked) = node.asked.as_mut().filter(fits) else {
            self.counts.stale += 1;
            return;
        };
        if !asked.parts.take(part, is_last) {
            self.counts.stale += 1;
            return;
        }
        match message {
            Message::Refused { term, .. } => {
                self.counts.refused += 1;
                let jitter = self.random.below(1_000);
                node.back_off(now, &self.settings.pace, jitter);
                out.push(Output::Refused { node: id, term });
                return;
            }
            Message::KeysPart { keys, .. } => {
                for key in keys.iter() {
                    let told = database.tell_key(id, request, key);
                    pin(id, key, told, out);
                }
            }
            Message::RecordsPart { records, next, .. } => {
                for (record, bytes) in records.iter() {
                    let told = database.tell_record(now, id, request, &record, bytes);
                    let key = CallKey {
                        call: record.call,
                        state: record.state,
                        priority: record.priority,
                    };
                    // What rings is pinned anew with the keys.
                    if told != Told::Same {
                        pin(id, key, told, out);
                    }
                }
                asked.next = asked.next.or(next);
            }
            Message::ResetPart { left, .. } => asked.left = left,
            Message::Hello { .. }
            | Message::Keys { .. }
            | Message::Records { .. }
            | Message::Reset { .. } => {}
        }
        asked.heard = now;
        let is_whole = asked.parts.are_all();
        node.heard(now);
        if database.completeness(id) == Some(Completeness::Unreachable) {
            node.began = now;
            database.set_completeness(id, Completeness::Rebuilding);
        }
        if is_whole {
            self.answered(now, id, out);
        }
    }

    /// All parts of an answer have come.
    fn answered(&mut self, now: Duration, id: u16, out: &mut Vec<Output>) {
        let Self {
            nodes, database, ..
        } = self;
        let Some(node) = nodes.get_mut(&id) else {
            return;
        };
        let Some(asked) = node.asked.take() else {
            return;
        };
        let ended = match &asked.question {
            Question::Keys => database.not_told(id, asked.request),
            Question::Named(calls) => {
                let is_gone = |call: &&Call| !database.was_told(id, asked.request, **call);
                calls.iter().filter(is_gone).copied().collect()
            }
            Question::Reset | Question::Page(_) => Vec::new(),
        };
        for call in ended {
            if database.end(id, call) {
                out.push(Output::Ended { call, node: id });
            }
        }
        node.has_told_keys |= matches!(asked.question, Question::Reset | Question::Keys);
        match asked.question {
            Question::Reset => {
                if asked.left > 0 {
                    node.not_before = now + self.settings.pace.first_retry;
                } else {
                    node.is_reset = true;
                    node.step = Step::Keys;
                }
            }
            Question::Keys => {
                // Nothing is there yet: it comes in pages. Otherwise only what is missing is asked for.
                node.step = match database.awaited(id).0 == database.calls_of(id) {
                    true => Step::Page(None),
                    false => Step::Named,
                };
            }
            Question::Page(before) => match asked.next {
                // One that leads back would lead on for ever.
                Some(next) if before.is_none_or(|before| before < next) => {
                    node.step = Step::Page(Some(next));
                }
                Some(_) | None => {
                    node.step = Step::Named;
                }
            },
            Question::Named(_) => {}
        }
        let is_known = match node.step {
            Step::Reset => true,
            Step::Keys => node.is_reset,
            Step::Page(_) | Step::Named => database.awaited(id).0 == 0,
        };
        if !is_known {
            if node.step == Step::Named && node.named.is_empty() {
                node.named = database.awaited_calls(id);
                // The most urgent is taken first, from the end.
                node.named.reverse();
            }
            return;
        }
        if node.step != Step::Reset {
            node.named.clear();
            node.step = Step::Keys;
            let refresh = self.settings.pace.refresh;
            let jitter = refresh.mul_f64(self.random.below(1_000) as f64 / 10_000.0);
            node.not_before = now + refresh.mul_f64(0.95) + jitter;
        }
        if database.completeness(id) != Some(Completeness::Ok) {
            database.set_completeness(id, Completeness::Ok);
            out.push(Output::NodeComplete {
                node: id,
                calls: database.calls_of(id),
                took: now.saturating_sub(node.began),
            });
            if let Some(reign) = &mut self.reign {
                reign.latest = now;
            }
        }
    }
}

/// Says at the beginning of a link who speaks.
fn greet(settings: &Settings, node: u16, term: u64, out: &mut Vec<Output>) {
    let party = Party::Controller(settings.controller);
    let message = wire::hello(settings.cluster, party, term);
    out.push(Output::Request { node, message });
}

/// Says where a call lives, if that is news or has to be said again.
fn pin(node: u16, key: CallKey, told: Told, out: &mut Vec<Output>) {
    let confirmed = key.state.is_answered();
    let is_news = match told {
        Told::New | Told::Full => true,
        Told::Changed { from } => from.is_answered() != confirmed,
        Told::Same => !confirmed,
    };
    if is_news {
        let call = key.call;
        out.push(Output::Pin {
            call,
            node,
            confirmed,
        });
    }
}

/// The first number of a link's requests.
const FIRST: Request = Request(1);
