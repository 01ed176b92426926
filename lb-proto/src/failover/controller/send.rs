//! What a controller sends: keep-alives, releases, and the memory of what may be answered.

use super::{Controller, OUTPUTS, Output, Role, State};
use crate::failover::trust::Marks;
use crate::failover::wire::{Body, KeepAlive, Stamp, Status};
use crate::failover::{ControllerId, NodeId, Party, Term};
use std::collections::VecDeque;
use std::time::Duration;

/// Datagrams remembered at most, of those that are answered by leases. At the shortest interval those
/// of the longest lease; the oldest goes first, and its answer counts for nothing.
const REMEMBERED: usize = 1024;
/// A stand-by sends one in so many keep-alives to the nodes, for their operators.
const STAND_BY_TO_NODES: u64 = 10;
/// How often a release is sent.
const RELEASES: u8 = 3;

/// What was sent to the nodes, and until when its answer would be a lease.
#[derive(Debug, Default)]
pub(super) struct SentLog(VecDeque<Sent>);

#[derive(Clone, Copy, Debug)]
struct Sent {
    stamp: Stamp,
    term: Term,
    until: Duration,
}

impl SentLog {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn note(&mut self, now: Duration, stamp: Stamp, term: Term, until: Duration) {
        while self.0.front().is_some_and(|sent| sent.until <= now) || self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Sent { stamp, term, until });
    }

    /// Until when an answer to it is a lease.
    pub(super) fn find(&self, stamp: Stamp, term: Term) -> Option<Duration> {
        let place = self
            .0
            .binary_search_by_key(&stamp, |sent| sent.stamp)
            .ok()?;
        let sent = self.0.get(place)?;
        (sent.term == term).then_some(sent.until)
    }
}

/// A lease that is being given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Releasing {
    term: Term,
    left: u8,
    pub(super) next: Duration,
}

impl Releasing {
    pub(super) const fn new(term: Term, now: Duration) -> Self {
        Self {
            term,
            left: RELEASES,
            next: now,
        }
    }
}

impl Controller {
    pub(super) fn send(&mut self, to: Party, term: Term, body: Body) {
        let reigns = self.role() == Role::Main;
        let marks = Marks {
            reigns,
            is_urgent: false,
        };
        let key = self.gate.signing();
        let (_, bytes) = self.stamper.write(key, to.id(), term, marks, body);
        self.push_send(to, bytes);
    }

    fn push_send(&mut self, to: Party, bytes: crate::failover::wire::Bytes) {
        if self.outputs.len() < OUTPUTS {
            self.outputs.push_back(Output::Send { to, bytes });
        } else {
            self.counts.dropped += 1;
        }
    }

    /// Sends the same to several.
    pub(super) fn send_all(
        &mut self,
        to: impl IntoIterator<Item = Party>,
        term: Term,
        marks: Marks,
        body: Body,
    ) -> Stamp {
        let key = self.gate.signing();
        let (stamp, bytes) = self.stamper.write(key, 0, term, marks, body);
        for to in to {
            self.push_send(to, bytes);
        }
        stamp
    }

    pub(super) fn nodes(&self) -> Vec<Party> {
        self.votes.keys().copied().map(Party::Node).collect()
    }

    pub(super) fn has_node(&self, node: NodeId) -> bool {
        self.votes.contains_key(&node)
    }

    /// The term that this controller speaks of: its own, or else the highest it knows.
    fn term(&self) -> Term {
        match &self.state {
            State::Main(reign) => reign.term,
            State::Candidate(candidacy) => candidacy.term,
            State::StandBy(_) => self.highest,
        }
    }

    pub(in crate::failover) fn keep_alive(&self, now: Duration, nonce: u64) -> KeepAlive {
        let timing = self.config.timing;
        let (at, wall) = self.wall;
        let wall = wall + now.saturating_sub(at);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut report = self.report;
        if self.yielding.is_some() {
            report.status = Status::Yielding;
        }
        KeepAlive {
            wall_ms: ms(wall),
            monotonic_ms: ms(now),
            report,
            role: self.role(),
            configuration: self.config.version,
            digest: self.config.digest,
            is_joining: self.electorate.says_joining(),
            lease: timing.lease(),
            interval: timing.interval(),
            misses: timing.misses(),
            nonce,
        }
    }

    pub(super) fn send_keep_alive(&mut self, now: Duration) {
        let interval = self.config.timing.interval();
        let jitter = self.random_below(interval / 5);
        self.last_keep_alive = now;
        self.next_keep_alive = now + interval - interval / 10 + jitter;
        self.keep_alives += 1;
        let is_main = self.role() == Role::Main;
        let own = self.id;
        let others = self.config.members.controllers.keys().copied();
        let others = others.filter(|id| *id != own).map(Party::Controller);
        let mut to: Vec<Party> = others.collect();
        if is_main || self.keep_alives.is_multiple_of(STAND_BY_TO_NODES) {
            to.extend(self.votes.keys().copied().map(Party::Node));
        }
        let marks = Marks {
            reigns: is_main,
            is_urgent: std::mem::take(&mut self.is_urgent),
        };
        let term = self.term();
        let body = Body::KeepAlive(self.keep_alive(now, 0));
        let stamp = self.send_all(to, term, marks, body);
        if is_main {
            let until = now + self.config.timing.lease();
            self.sent.note(now, stamp, term, until);
        }
    }

    /// Lets the next keep-alive come as soon as it may.
    pub(super) fn hurry(&mut self, now: Duration) {
        let soonest = self.last_keep_alive + self.config.timing.interval() / 4;
        self.next_keep_alive = self.next_keep_alive.min(soonest.max(now));
        self.is_urgent = true;
    }

    /// Answers a query: whoever is asked says what it is.
    pub(super) fn answer(&mut self, now: Duration, to: ControllerId, nonce: u64) {
        let body = Body::Answer(self.keep_alive(now, nonce));
        let term = self.term();
        self.send(Party::Controller(to), term, body);
    }

    /// Gives up what is held of this term: to be repeated, since nobody answers.
    pub(super) fn release(&mut self, now: Duration, term: Term) {
        self.releasing = Some(Releasing::new(term, now));
        self.release_again(now);
    }

    pub(super) fn release_again(&mut self, now: Duration) {
        let gap = self.config.timing.interval() / 4;
        let Some(releasing) = self.releasing.as_mut().filter(|one| one.next <= now) else {
            return;
        };
        releasing.left -= 1;
        releasing.next = now + gap;
        let (term, left) = (releasing.term, releasing.left);
        if left == 0 {
            self.releasing = None;
        }
        let nodes = self.nodes();
        self.send_all(nodes, term, Marks::default(), Body::Release);
    }
}
