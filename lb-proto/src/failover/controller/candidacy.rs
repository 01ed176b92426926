//! The candidate: asks the nodes for leases until it has enough, or gives up.

use super::{
    Controller, Deactivation, Event, GaveUp, Loss, Output, Phase, Reign, Role, State, Steps,
    Switch, Vote,
};
use crate::failover::trust::{Marks, Refusal};
use crate::failover::wire::{Body, LeaseAnswer, LeaseRequest, Reason, Verdict};
use crate::failover::{NodeId, Party, Term, Timing};
use std::time::Duration;

/// A candidacy under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidacy {
    pub(super) term: Term,
    pub(super) reason: Reason,
    since: Duration,
    /// Whether its term is on the disk.
    pub(super) is_kept: bool,
    nonce: u64,
    /// When the nodes are asked next.
    next: Duration,
    loss: Option<Loss>,
}

impl Candidacy {
    /// Longer than a lease that was just renewed runs.
    fn end(&self, timing: Timing) -> Duration {
        self.since + timing.lease() * 2
    }

    pub(super) fn next_timeout(&self, timing: Timing) -> Duration {
        let end = self.end(timing);
        if self.is_kept {
            end.min(self.next)
        } else {
            end
        }
    }

    /// How long each step took.
    fn steps(&self, now: Duration) -> Steps {
        let loss = self.loss.filter(|_| self.reason == Reason::Loss);
        Steps {
            silence: loss.map_or(Duration::ZERO, |loss| loss.silence),
            query: loss.map_or(Duration::ZERO, |loss| {
                self.since.saturating_sub(loss.missed)
            }),
            leases: now.saturating_sub(self.since),
        }
    }
}

impl Controller {
    /// Becomes a candidate, if the configuration lets it.
    pub(super) fn run(&mut self, now: Duration, reason: Reason) {
        let timing = self.config.timing;
        if !self.may_run(now) {
            let until = now + timing.lease();
            self.main = None;
            self.state = State::StandBy(Phase::Vacant { until });
            return;
        }
        let term = self.highest.next();
        self.highest = term;
        self.sent.clear();
        for vote in self.votes.values_mut() {
            *vote = Vote::default();
        }
        // What is to be given up is of a lower term, and the nodes that grant this one forget it.
        self.releasing = None;
        self.asked = None;
        self.state = State::Candidate(Candidacy {
            term,
            reason,
            since: now,
            is_kept: false,
            nonce: self.random.next() | 1,
            next: now,
            loss: self.loss.take(),
        });
        self.counts.candidacies += 1;
        self.event(Event::Candidate { term, reason });
        self.output(Output::Persist { term });
    }

    /// What a candidate does when it looks at the time.
    pub(super) fn campaign(&mut self, now: Duration) {
        let timing = self.config.timing;
        let State::Candidate(candidacy) = &self.state else {
            return;
        };
        if now >= candidacy.end(timing) {
            self.give_up(now, GaveUp::OutOfTime);
        } else if candidacy.is_kept && now >= candidacy.next {
            self.request_leases(now);
        }
    }

    /// Asks those nodes that have not granted.
    pub(super) fn request_leases(&mut self, now: Duration) {
        let timing = self.config.timing;
        let State::Candidate(candidacy) = &mut self.state else {
            return;
        };
        candidacy.next = now + timing.interval() / 4;
        let request = LeaseRequest {
            nonce: candidacy.nonce,
            lease: timing.lease(),
            reason: candidacy.reason,
        };
        let term = candidacy.term;
        // A grant that is about to run out is asked for again, too.
        let soon = now + timing.interval() / 2;
        let open = self.votes.iter().filter(|(_, vote)| vote.until <= soon);
        let to: Vec<Party> = open.map(|(node, _)| Party::Node(*node)).collect();
        let body = Body::LeaseRequest(request);
        let stamp = self.send_all(to, term, Marks::default(), body);
        self.sent.note(now, stamp, term, now + timing.lease());
    }

    /// A node's answer to a request, or its refusal of a keep-alive.
    pub(super) fn lease_answered(
        &mut self,
        now: Duration,
        node: NodeId,
        term: Term,
        answer: &LeaseAnswer,
    ) -> Result<(), Refusal> {
        let until = self.sent.find(answer.echo, term);
        let is_to_request = match &self.state {
            State::Candidate(candidacy) => candidacy.nonce == answer.nonce,
            State::Main(reign) => reign.has_asked(answer.nonce),
            State::StandBy(_) => false,
        };
        let is_to_keep_alive = answer.nonce == 0 && self.role() == Role::Main;
        let until = until.filter(|_| is_to_request || is_to_keep_alive);
        let Some(until) = until.filter(|_| self.has_node(node)) else {
            // It came too late: the node need not keep to it.
            if self.role() == Role::StandBy && answer.verdict == Verdict::Granted {
                self.send(Party::Node(node), term, Body::Release);
            }
            return Err(Refusal::OutOfTurn);
        };
        self.highest = self.highest.max(answer.highest);
        let vote = self.votes.entry(node).or_default();
        let is_first = vote.until.is_zero();
        if answer.verdict == Verdict::Granted {
            vote.until = vote.until.max(until);
            vote.term = vote.term.max(term);
            vote.confirmed = Some(now);
            vote.refused = None;
        } else {
            vote.refused = Some(answer.verdict);
        }
        match &self.state {
            State::Candidate(candidacy) => {
                let candidacy = *candidacy;
                if is_first && answer.verdict == Verdict::Granted {
                    self.event(Event::Granted {
                        node,
                        after: now.saturating_sub(candidacy.since),
                    });
                }
                self.weigh(now, &candidacy, answer);
            }
            State::Main(_) => {
                self.refresh_majority();
                self.settle_nodes(now);
                match answer.verdict {
                    Verdict::Granted => self.raise(now),
                    Verdict::LowerTerm => self.overruled(term, answer),
                    Verdict::HearsMain
                    | Verdict::LeaseRuns
                    | Verdict::Starting
                    | Verdict::TooLong => {}
                }
            }
            State::StandBy(_) => {}
        }
        Ok(())
    }

    /// Whether the candidacy is decided by one more answer.
    fn weigh(&mut self, now: Duration, candidacy: &Candidacy, answer: &LeaseAnswer) {
        match answer.verdict {
            Verdict::Granted => {
                let until = self.majority_until();
                if until > now {
                    self.ascend(now, candidacy, until);
                }
            }
            Verdict::LowerTerm => {
                if answer.highest >= candidacy.term {
                    self.give_up(now, GaveUp::Overtaken);
                }
            }
            // A main that yields is known to be well: it has given up its leases, and who has not
            // heard of it will, or they end.
            Verdict::HearsMain => {
                let has_yielded = [Reason::Command, Reason::Switchback, Reason::Unfit];
                let is_loss = !has_yielded.contains(&candidacy.reason);
                let hears_main = |vote: &Vote| vote.refused == Some(Verdict::HearsMain);
                if is_loss && self.has_majority_of_any(hears_main) {
                    self.give_up(now, GaveUp::NodesHearMain);
                }
            }
            Verdict::LeaseRuns | Verdict::Starting | Verdict::TooLong => {}
        }
    }

    /// Becomes main.
    fn ascend(&mut self, now: Duration, candidacy: &Candidacy, until: Duration) {
        let Candidacy { term, reason, .. } = *candidacy;
        let steps = candidacy.steps(now);
        self.reign = term;
        self.attempts = 0;
        if reason != Reason::Switchback {
            self.switchbacks = 0;
        }
        let from = candidacy.loss.map(|loss| loss.main);
        let from = from.or(self.main.map(|main| main.id));
        self.main = None;
        self.yielding = None;
        self.state = State::Main(Reign::new(term, candidacy.nonce, until));
        self.electorate.has_reigned();
        self.counts.reigns += 1;
        self.last_switch = Some(Switch::won(now, from, self.id, term, reason, steps));
        self.output(Output::Activate {
            term,
            reason,
            steps,
        });
        self.is_urgent = true;
        self.send_keep_alive(now);
    }

    /// Ends the candidacy. What was granted is given back.
    pub(super) fn give_up(&mut self, now: Duration, why: GaveUp) {
        let State::Candidate(candidacy) = &self.state else {
            return;
        };
        let (term, after) = (candidacy.term, now.saturating_sub(candidacy.since));
        // The next candidacy is for the same loss, unless a main is heard.
        self.loss = candidacy.loss;
        self.counts.given_up += 1;
        self.event(Event::GaveUp { term, why, after });
        self.sent.clear();
        let timing = self.config.timing;
        let wait = match why {
            GaveUp::MainHeard | GaveUp::Overtaken | GaveUp::NodesChanged => {
                self.random_below(timing.interval())
            }
            GaveUp::NodesHearMain | GaveUp::OutOfTime => {
                let span = timing.lease() * 2u32.pow(self.attempts.min(1));
                self.attempts += 1;
                timing.interval() + self.random_below(span)
            }
        };
        self.main = None;
        self.state = State::StandBy(Phase::Vacant { until: now + wait });
        self.release(now, term);
    }

    /// Another reigns in a higher term.
    pub(super) fn dethroned(
        &mut self,
        now: Duration,
        by: crate::failover::ControllerId,
        term: Term,
    ) {
        self.step_down(now, Deactivation::HigherTerm { by, term }, now);
    }
}
