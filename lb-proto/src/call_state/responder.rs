//! The node's side: whom it answers, and with what.
//!
//! The rule: **only the controller that holds the node's lease is answered, and only with that term.**
//! Everybody else is refused, told the highest term that the node has accepted, and counted. When the
//! node accepts a higher term, or misses its main, the connection to the controller of before is to be
//! closed, and what waits to be sent to it is dropped.
//!
//! The calls are somebody else's, who is asked through [`Calls`]. An answer is made in portions, one each
//! time that [`Responder::go_on`] is called, because who has the calls has other work that cannot wait.
//! What is to be sent waits here and is taken one message after the other, as fast as the link takes it:
//! never more than one portion of one answer, since a controller has one request outstanding. One that
//! asks again before it has all of an answer wants that answer no more.
//!
//! Calls begin and end between portions. Each portion goes on behind a place in an order that they do not
//! change, so that a call that lives from the first portion to the last is in the answer: what a
//! controller misses in a whole answer, it takes for ended.

mod telling;

use super::record::CallRecord;
use super::wire::{self, Filter, Message, Party};
use super::{CallKey, Designated, Place};
use crate::call::Call;
use std::collections::VecDeque;
use telling::{Rest, Telling};

/// Records in one answer, at most, whatever the controller asks for.
pub const MOST_RECORDS: usize = 4_096;

/// Messages that wait, at most, when a greeting is answered; beyond that its answer takes their place.
const MOST_WAITING: usize = 64;

/// Who has the calls.
pub trait Calls {
    /// Some of the calls behind one, in an order in which each keeps its place for as long as it lives;
    /// and the call behind which the next ones are, if there are any. It need not be there any more when
    /// they are asked for. Looks at `most` calls at most.
    ///
    /// Those are told that came here from a load balancer or from the node's own SIP server, and not those
    /// that came by way of another node, which has them as well.
    fn keys(&self, after: Option<Call>, most: usize) -> (Vec<CallKey>, Option<Call>);

    /// Some of their records, the most urgent and then the oldest first, behind a place; and the place
    /// behind which the next page begins, if there is one.
    fn page(&self, after: Option<Place>, limit: usize) -> (Vec<CallRecord<'_>>, Option<Place>);

    /// The records of these calls, without those that are not there.
    fn records_of(&self, calls: &[Call]) -> Vec<CallRecord<'_>>;

    /// Begins to reset all calls that are there now. New ones are no part of it.
    fn reset(&mut self, designated: Designated);

    /// Calls that are yet to be reset.
    fn left(&self) -> usize;
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to a controller.
    Send {
        /// The controller.
        controller: u16,
        /// The message.
        message: Vec<u8>,
    },
    /// Close the link to a controller, if there is one: it is not the node's main any more.
    Close {
        /// The controller.
        controller: u16,
    },
}

/// What was asked here, by what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered.
    pub answered: u64,
    /// Refused: of a lower term than the node has accepted.
    pub lower_term: u64,
    /// Refused: of a higher term, of which the node knows nothing.
    pub unknown_term: u64,
    /// Refused: not of the controller that holds the lease, or nobody holds it.
    pub not_holder: u64,
    /// Of another cluster, or a controller that calls itself by another id.
    pub foreign: u64,
    /// No message, or one that no controller sends.
    pub malformed: u64,
}

/// Who holds the node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    controller: u16,
    /// It is heard.
    is_there: bool,
}

/// The node's side; see the [module](self).
#[derive(Debug)]
pub struct Responder {
    cluster: u32,
    node: u16,
    /// The highest term that was accepted.
    term: u64,
    holder: Option<Holder>,
    /// The term whose reset was begun.
    reset: Option<u64>,
    /// The answer that is under way, to the holder.
    telling: Option<Telling>,
    waiting: VecDeque<Output>,
    counts: Counts,
}

impl Responder {
    /// A node that has accepted nobody.
    pub fn new(cluster: u32, node: u16) -> Self {
        Self {
            cluster,
            node,
            term: 0,
            holder: None,
            reset: None,
            telling: None,
            waiting: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The node has granted its lease to a controller, or renewed it.
    pub fn accepted(&mut self, term: u64, controller: u16) {
        if term < self.term {
            return;
        }
        let before = self.holder.filter(|before| before.controller != controller);
        if let Some(before) = before {
            self.close(before.controller);
        } else if term > self.term {
            // What waits was asked for under an earlier term; it will be asked again.
            let under_way = self.telling.take();
            self.forget(controller);
            let refused = under_way.map(|telling| wire::refused(telling.request, term));
            self.send(controller, refused);
        }
        self.term = term;
        self.holder = Some(Holder {
            controller,
            is_there: true,
        });
    }

    /// The node misses its main: nobody is answered until it is heard again, or another is accepted.
    pub fn missed(&mut self) {
        if let Some(holder) = self.holder.as_mut().filter(|holder| holder.is_there) {
            holder.is_there = false;
            let controller = holder.controller;
            self.close(controller);
        }
    }

    /// A link to a controller is gone.
    pub fn closed(&mut self, controller: u16) {
        self.forget(controller);
    }

    /// What was asked, by what became of it.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether [`Responder::go_on`] has something to do, now or when more has been taken.
    pub fn has_more(&self) -> bool {
        self.telling.is_some()
    }

    /// Makes the next portion of an answer, if all before it has been taken: looks at `most` calls at
    /// most, one at least.
    pub fn go_on(&mut self, calls: &impl Calls, most: usize) {
        if !self.waiting.is_empty() {
            return;
        }
        if let Some(mut telling) = self.telling.take() {
            let controller = telling.controller;
            let portion = telling.go_on(calls, most.max(1));
            self.telling = portion.is_open.then_some(telling);
            self.send(controller, portion.messages);
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.waiting.pop_front()
    }

    /// A message came from a controller. Whose link it came over, the link knows. Whether it was one:
    /// the link is to be closed otherwise.
    pub fn message(&mut self, controller: u16, bytes: &[u8], calls: &mut impl Calls) -> bool {
        let Ok(message) = Message::read(bytes) else {
            self.counts.malformed += 1;
            return false;
        };
        let (request, term) = match message {
            Message::Hello { cluster, party, .. } => {
                if cluster != self.cluster || party != Party::Controller(controller) {
                    self.counts.foreign += 1;
                    return false;
                }
                let hello = wire::hello(self.cluster, Party::Node(self.node), self.term);
                // It asks for nothing, so an answer that is under way goes on behind it.
                if self.waiting.len() < MOST_WAITING {
                    self.send(controller, [hello]);
                } else {
                    self.answer(controller, [hello]);
                }
                return true;
            }
            Message::Keys { request, term }
            | Message::Records { request, term, .. }
            | Message::Reset { request, term, .. } => (request, term),
            Message::KeysPart { .. }
            | Message::RecordsPart { .. }
            | Message::ResetPart { .. }
            | Message::Refused { .. } => {
                self.counts.malformed += 1;
                return false;
            }
        };
        if !self.is_entitled(controller, term) {
            let refused = wire::refused(request, self.term);
            self.answer(controller, [refused]);
            return true;
        }
        self.counts.answered += 1;
        let rest = match message {
            Message::Keys { .. } => Rest::Keys(None),
            Message::Records {
                filter: Filter::All { after, limit },
                ..
            } => {
                let limit = usize::from(limit).clamp(1, MOST_RECORDS);
                Rest::Page(after, limit)
            }
            Message::Records {
                filter: Filter::Some(named),
                ..
            } => Rest::Named(named.iter().take(MOST_RECORDS).collect()),
            Message::Reset { designated, .. } => {
                if self.reset != Some(term) {
                    self.reset = Some(term);
                    calls.reset(designated);
                }
                let left = u32::try_from(calls.left()).unwrap_or(u32::MAX);
                self.answer(controller, [wire::reset_part(request, left)]);
                return true;
            }
            Message::Hello { .. }
            | Message::KeysPart { .. }
            | Message::RecordsPart { .. }
            | Message::ResetPart { .. }
            | Message::Refused { .. } => return true,
        };
        self.forget(controller);
        self.telling = Some(Telling::new(controller, request, rest));
        true
    }

    /// The rule.
    fn is_entitled(&mut self, controller: u16, term: u64) -> bool {
        let holder = self.holder.filter(|holder| holder.is_there);
        let count = if term < self.term {
            &mut self.counts.lower_term
        } else if term > self.term {
            &mut self.counts.unknown_term
        } else if holder.is_none_or(|holder| holder.controller != controller) {
            &mut self.counts.not_holder
        } else {
            return true;
        };
        *count += 1;
        false
    }

    /// Puts an answer in the place of one that was not taken yet.
    fn answer(&mut self, controller: u16, messages: impl IntoIterator<Item = Vec<u8>>) {
        self.forget(controller);
        self.send(controller, messages);
    }

    fn send(&mut self, controller: u16, messages: impl IntoIterator<Item = Vec<u8>>) {
        let sends = messages.into_iter().map(|message| Output::Send {
            controller,
            message,
        });
        self.waiting.extend(sends);
    }

    fn close(&mut self, controller: u16) {
        self.forget(controller);
        self.waiting.push_back(Output::Close { controller });
    }

    /// Drops what waits for a controller, and what it was still to be told.
    fn forget(&mut self, controller: u16) {
        self.telling
            .take_if(|telling| telling.controller == controller);
        self.waiting.retain(|output| match output {
            Output::Send { controller: to, .. } => *to != controller,
            Output::Close { .. } => true,
        });
    }
}
