//! The main: holds more than half of the leases, or steps down.

use super::{Controller, Deactivation, Event, Output, Phase, RequestError, State};
use crate::failover::trust::{Marks, Refusal};
use crate::failover::wire::{Ack, Body, LeaseAnswer, LeaseRequest, Reason, Status};
use crate::failover::{ControllerId, NodeId, Party, Term};
use std::time::Duration;

/// A reign that lasted for this long shows that switching back was right.
const STEADY: Duration = Duration::from_secs(600);

/// A reign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reign {
    pub(super) term: Term,
    /// The candidacy's: grants that come late count, too.
    pub(super) nonce: u64,
    /// Until when more than half of the leases run.
    pub(super) until: Duration,
    /// The higher term that the nodes are asked for.
    pub(super) raising: Option<Raising>,
    /// When it last went on under a higher term.
    raised: Option<Duration>,
}

/// A higher term on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raising {
    pub(super) term: Term,
    /// Whether it is on the disk.
    pub(super) is_kept: bool,
    nonce: u64,
    /// When the nodes are asked next.
    next: Duration,
}

impl Reign {
    pub(super) const fn new(term: Term, nonce: u64, until: Duration) -> Self {
        Self {
            term,
            nonce,
            until,
            raising: None,
            raised: None,
        }
    }

    /// Whether a request with this nonce was of this reign.
    pub(super) fn has_asked(&self, nonce: u64) -> bool {
        self.nonce == nonce || self.raising.is_some_and(|raising| raising.nonce == nonce)
    }

    pub(super) fn next_timeout(&self) -> Duration {
        let raising = self.raising.filter(|raising| raising.is_kept);
        raising.map_or(self.until, |raising| raising.next.min(self.until))
    }
}

/// A reign that was given up for somebody, until that one reigns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Yielding {
    to: ControllerId,
    /// The term that was given up.
    pub(super) term: Term,
    reason: Reason,
    until: Duration,
    pub(super) next: Duration,
}

impl Controller {
    pub(super) fn refresh_majority(&mut self) {
        let until = self.majority_until();
        if let State::Main(reign) = &mut self.state {
            reign.until = until;
        }
    }

    /// A main without its majority is none: before anything else.
    pub(super) fn check_reign(&mut self, now: Duration) {
        let timing = self.config.timing;
        let State::Main(reign) = &self.state else {
            return;
        };
        if now >= reign.until {
            let wait = timing.lease() + self.random_below(timing.lease());
            self.step_down(now, Deactivation::LostMajority, now + wait);
        }
    }

    /// Ends the reign. Unless somebody is heard who reigns, it is not sought again before `until`.
    pub(super) fn step_down(&mut self, now: Duration, why: Deactivation, until: Duration) {
        let State::Main(reign) = &self.state else {
            return;
        };
        let term = reign.raising.map_or(reign.term, |raising| raising.term);
        let own = self.last_switch.filter(|last| last.to == self.id);
        if own.is_some_and(|own| now.saturating_sub(own.at) >= STEADY) {
            self.switchbacks = 0;
        }
        self.state = State::StandBy(Phase::Vacant { until });
        self.main = None;
        self.sent.clear();
        for vote in self.votes.values_mut() {
            vote.until = Duration::ZERO;
        }
        self.output(Output::Deactivate { why });
        self.release(now, term);
        self.hurry(now);
    }

    /// When half of the lease is over before enough nodes have confirmed more, keep-alives come as
    /// fast as they may: with few nodes, three lost datagrams in a row would otherwise end a reign.
    pub(super) fn hurry_if_late(&mut self, now: Duration) {
        let half = self.config.timing.lease() / 2;
        if let State::Main(reign) = &self.state
            && now + half >= reign.until
        {
            self.hurry(now);
        }
    }

    /// A node confirms a keep-alive.
    pub(super) fn acked(
        &mut self,
        now: Duration,
        node: NodeId,
        term: Term,
        ack: &Ack,
    ) -> Result<(), Refusal> {
        let State::Main(reign) = &self.state else {
            return Err(Refusal::OutOfTurn);
        };
        let (until_now, is_old) = (reign.until, term < reign.term);
        let until = self.sent.find(ack.echo, term).ok_or(if is_old {
            Refusal::LowerTerm
        } else {
            Refusal::OutOfTurn
        })?;
        let vote = self.votes.get_mut(&node).ok_or(Refusal::UnknownSender)?;
        let before = vote.until;
        vote.until = before.max(until);
        vote.term = vote.term.max(term);
        vote.confirmed = Some(now);
        vote.refused = None;
        vote.missing = ack.missing;
        if before <= until_now {
            self.refresh_majority();
        }
        self.settle_nodes(now);
        Ok(())
    }

    /// A node refused this main's `refused` term, because it knows a higher one of somebody who does
    /// not reign; or this one, but from a life of this main of which the disk knew nothing any more.
    pub(super) fn overruled(&mut self, refused: Term, answer: &LeaseAnswer) {
        let State::Main(reign) = &self.state else {
            return;
        };
        let own = reign.raising.map_or(reign.term, |raising| raising.term);
        // What was sent before the node granted more says nothing.
        let is_late = answer.holder == Some(self.id) && refused < own;
        if answer.highest > own || answer.highest == own && !is_late {
            self.ask_above();
        }
    }

    /// Has a term above all that are known kept, to be asked for.
    fn ask_above(&mut self) {
        let (term, nonce) = (self.highest.next(), self.random.next() | 1);
        let State::Main(reign) = &mut self.state else {
            return;
        };
        reign.raising = Some(Raising {
            term,
            is_kept: false,
            nonce,
            next: Duration::ZERO,
        });
        self.highest = term;
        self.output(Output::Persist { term });
    }

    /// Somebody who does not reign speaks of a term. When it is a higher one, nodes may know of it,
    /// too, and who had reigned before takes this main for an older one.
    pub(super) fn heard_of(&mut self, now: Duration, term: Term) {
        let pause = self.config.timing.lease() * 2;
        if let State::Main(reign) = &self.state
            && term > reign.raising.map_or(reign.term, |raising| raising.term)
            && reign.raised.is_none_or(|at| now >= at + pause)
        {
            self.ask_above();
        }
    }

    /// Asks the nodes for the higher term. Meanwhile those that grant it refuse keep-alives of the
    /// lower one, so they are asked again and again.
    pub(super) fn ask_higher(&mut self, now: Duration) {
        let timing = self.config.timing;
        let State::Main(reign) = &mut self.state else {
            return;
        };
        let raising = reign.raising.as_mut();
        let Some(raising) = raising.filter(|one| one.is_kept && one.next <= now) else {
            return;
        };
        raising.next = now + timing.interval() / 2;
        let (term, nonce) = (raising.term, raising.nonce);
        let request = LeaseRequest {
            nonce,
            lease: timing.lease(),
            reason: Reason::Raise,
        };
        let nodes = self.nodes();
        let body = Body::LeaseRequest(request);
        let stamp = self.send_all(nodes, term, Marks::default(), body);
        self.sent.note(now, stamp, term, now + timing.lease());
    }

    /// Goes on under the higher term, once more than half of the nodes have granted it.
    pub(super) fn raise(&mut self, now: Duration) {
        let State::Main(Reign {
            raising: Some(Raising { term, nonce, .. }),
            ..
        }) = self.state
        else {
            return;
        };
        if !self.has_majority(|vote| vote.term == term && vote.until > now) {
            return;
        }
        let State::Main(reign) = &mut self.state else {
            return;
        };
        reign.raising = None;
        reign.term = term;
        reign.nonce = nonce;
        reign.raised = Some(now);
        self.reign = term;
        self.counts.raises += 1;
        self.output(Output::Raise { term });
        self.hurry(now);
    }

    /// Gives the reign to another.
    pub(super) fn yield_to(
        &mut self,
        now: Duration,
        to: ControllerId,
        reason: Reason,
    ) -> Result<(), RequestError> {
        let timing = self.config.timing;
        let State::Main(reign) = &self.state else {
            return Err(RequestError::NoMain);
        };
        let term = reign.term;
        self.check_successor(now, to)?;
        let until = now + timing.lease() * 2;
        let wait = self.random_below(timing.interval());
        self.step_down(now, Deactivation::Yielded { to }, until + wait);
        self.yielding = Some(Yielding {
            to,
            term,
            reason,
            until,
            next: now,
        });
        self.yield_again(now);
        Ok(())
    }

    /// Whether that reign was given up.
    pub(super) fn has_abdicated(&self, id: ControllerId, term: Term) -> bool {
        self.abdicated
            .is_some_and(|(who, last)| who == id && term <= last)
    }

    /// Whether somebody could take over.
    pub(super) fn check_successor(
        &self,
        now: Duration,
        to: ControllerId,
    ) -> Result<(), RequestError> {
        if to == self.id {
            return Err(RequestError::AlreadyMain);
        }
        if !self.config.members.controllers.contains_key(&to) {
            return Err(RequestError::Unknown);
        }
        let lease = self.config.timing.lease();
        let peer = self.peers.get(&to);
        let peer = peer.filter(|peer| now.saturating_sub(peer.at) < lease);
        let peer = peer.ok_or(RequestError::Silent)?;
        if peer.life.report.status == Status::Unfit {
            return Err(RequestError::Unfit);
        }
        if peer.life.configuration < self.config.version && !self.config.force {
            return Err(RequestError::OlderConfiguration);
        }
        Ok(())
    }

    pub(super) fn yield_again(&mut self, now: Duration) {
        let gap = self.config.timing.interval() / 4;
        let Some(yielding) = self.yielding.as_mut().filter(|one| one.next <= now) else {
            return;
        };
        let Yielding {
            to,
            term,
            reason,
            until,
            ..
        } = *yielding;
        if now >= until {
            self.yielding = None;
            self.event(Event::YieldFailed { to });
            return;
        }
        yielding.next = now + gap;
        self.send(Party::Controller(to), term, Body::Yield { reason });
    }

    /// The main gives the reign to this controller.
    pub(super) fn succeed(
        &mut self,
        now: Duration,
        from: ControllerId,
        term: Term,
        reason: Reason,
    ) -> Result<(), Refusal> {
        if term < self.reign || self.has_abdicated(from, term) {
            return Err(Refusal::LowerTerm);
        }
        let State::StandBy(_) = &self.state else {
            return Err(Refusal::OutOfTurn);
        };
        if self.main.is_some_and(|main| main.id != from) {
            return Err(Refusal::OutOfTurn);
        }
        self.reign = self.reign.max(term);
        self.highest = self.highest.max(term);
        self.abdicated = Some((from, term));
        self.loss = None;
        self.run(now, reason);
        Ok(())
    }
}
