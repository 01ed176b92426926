//! The stand-by: hears the main, misses it, asks it, and then the nodes.

use super::{Controller, Event, Followed, Loss, Output, Peer, Phase, Role, State, Switch};
use crate::failover::silence::Silence;
use crate::failover::trust::{Marks, Path, Refusal};
use crate::failover::wire::{Body, Header, KeepAlive, RELAY_FOR, Reason, Status};
use crate::failover::{ControllerId, NodeId, Party, Term};
use std::time::Duration;

/// Nodes that forward keep-alives while they also come directly.
const RELAYS: usize = 2;
/// Nodes that forward them while they do not.
const RELAYS_IN_NEED: usize = 8;
/// From one request for a newer configuration to the next.
const FETCH_AGAIN: Duration = Duration::from_secs(5);

impl Controller {
    /// Another controller's keep-alive, or its answer.
    pub(super) fn hear(
        &mut self,
        now: Duration,
        from: ControllerId,
        header: &Header,
        life: &KeepAlive,
        is_newest: bool,
    ) -> Result<(), Refusal> {
        // One that was overtaken tells nothing that is still so.
        if !is_newest {
            return Ok(());
        }
        let (term, reigns) = (header.term, header.reigns);
        if reigns && (term < self.reign || self.has_abdicated(from, term)) {
            return Err(Refusal::LowerTerm);
        }
        self.peers.insert(
            from,
            Peer {
                at: now,
                term,
                reigns,
                life: *life,
            },
        );
        self.note_configuration(now, from, life.configuration);
        self.note_digest(from, life);
        self.settle_nodes(now);
        self.highest = self.highest.max(term);
        if reigns {
            return self.hear_main(now, from, term);
        }
        self.heard_of(now, term);
        let is_main = self.main.is_some_and(|main| main.id == from);
        if is_main && self.role() == Role::StandBy {
            self.main = None;
            self.event(Event::Ceased { main: from });
            let timing = self.config.timing;
            // Its successor is told so again and again; others have time.
            let is_yielding = life.report.status == Status::Yielding;
            let wait = if is_yielding {
                timing.lease() * 2
            } else {
                Duration::ZERO
            };
            let wait = wait + self.random_below(timing.interval());
            self.state = State::StandBy(Phase::Vacant { until: now + wait });
        }
        Ok(())
    }

    fn hear_main(&mut self, now: Duration, from: ControllerId, term: Term) -> Result<(), Refusal> {
        match &self.state {
            State::Main(reign) if term <= reign.term => return Err(Refusal::OutOfTurn),
            State::Main(_) => self.dethroned(now, from, term),
            State::Candidate(_) => self.give_up(now, super::GaveUp::MainHeard),
            State::StandBy(_) => {}
        }
        if let State::StandBy(Phase::Asking { since, .. }) = self.state {
            self.event(Event::Answered {
                main: from,
                after: now.saturating_sub(since),
            });
        }
        self.follow(now, from, term);
        Ok(())
    }

    fn follow(&mut self, now: Duration, id: ControllerId, term: Term) {
        let before = self.main;
        let same = before.filter(|main| main.id == id && main.term == term);
        self.main = Some(Followed {
            id,
            term,
            silence: Silence::new(now),
            since: same.map_or(now, |main| main.since),
        });
        self.state = State::StandBy(Phase::Following);
        self.loss = None;
        self.reign = term;
        self.attempts = 0;
        if same.is_none() {
            self.event(Event::Following { main: id, term });
            let is_switch = self.last_switch.as_ref().is_none_or(|last| last.to != id);
            if is_switch {
                self.last_switch = Some(Switch::seen(now, before.map(|main| main.id), id, term));
            }
            self.hurry(now);
        }
        if self.yielding.as_ref().is_some_and(|one| term > one.term) {
            self.yielding = None;
        }
    }

    /// Notes that somebody's configuration is newer than one's own, and has it fetched.
    fn note_configuration(&mut self, now: Duration, from: ControllerId, version: u64) {
        if version <= self.config.version {
            return;
        }
        let is_due = self.newer.is_none_or(|(known, _, fetched)| {
            version > known || now.saturating_sub(fetched) >= FETCH_AGAIN
        });
        if is_due {
            self.newer = Some((version, from, now));
            self.output(Output::FetchConfig { from, version });
        }
    }

    /// Notes that somebody's configuration has the own one's version and other contents.
    fn note_digest(&mut self, from: ControllerId, life: &KeepAlive) {
        let own = self.config.digest;
        let is_same_version = life.configuration == self.config.version;
        let differs = is_same_version && own != 0 && life.digest != 0 && life.digest != own;
        if differs && self.differs.is_none() {
            self.differs = Some(from);
            let version = self.config.version;
            self.event(Event::DifferentConfiguration { of: from, version });
        } else if !differs && self.differs == Some(from) {
            self.differs = None;
        }
    }

    /// Whether this query is under way.
    pub(super) fn is_asking(&self, nonce: u64) -> bool {
        matches!(self.state, State::StandBy(Phase::Asking { nonce: own, .. }) if own == nonce)
    }

    /// What a stand-by does when it looks at the time.
    pub(super) fn follow_on(&mut self, now: Duration, phase: Phase) {
        let timing = self.config.timing;
        match (phase, self.main) {
            (Phase::Following, Some(main)) => {
                let silence = main.silence.length(now);
                if silence >= timing.silence() {
                    self.miss(now, main, silence);
                }
            }
            (Phase::Asking { since, .. }, Some(_)) if now >= since + timing.interval() => {
                self.run(now, Reason::Loss);
            }
            (Phase::Asking { since, nonce, next }, Some(main)) if now >= next => {
                let next = now + timing.interval() / 4;
                self.state = State::StandBy(Phase::Asking { since, nonce, next });
                let to = Party::Controller(main.id);
                self.send(to, main.term, Body::Query { nonce });
            }
            (Phase::Asking { .. }, Some(_)) => {}
            (Phase::Vacant { until }, _) => {
                if now >= until {
                    let is_first = self.reign == Term(0);
                    self.run(
                        now,
                        if is_first {
                            Reason::Start
                        } else {
                            Reason::Loss
                        },
                    );
                }
            }
            // There is nobody to follow or to ask.
            (Phase::Following | Phase::Asking { .. }, None) => {
                self.state = State::StandBy(Phase::Vacant { until: now });
            }
        }
    }

    fn miss(&mut self, now: Duration, main: Followed, silence: Duration) {
        self.counts.missed += 1;
        self.loss = Some(Loss {
            main: main.id,
            silence,
            missed: now,
        });
        self.event(Event::Missed {
            main: main.id,
            silence,
        });
        let nonce = self.random.next();
        let phase = Phase::Asking {
            since: now,
            nonce,
            next: now,
        };
        self.state = State::StandBy(phase);
        self.follow_on(now, phase);
    }

    /// Has the main's keep-alives forwarded, so that a cut between the two says nothing.
    pub(super) fn ask_relays(&mut self, now: Duration) {
        if self.role() != Role::StandBy {
            return;
        }
        let timing = self.config.timing;
        let main = self.main.map(|main| main.id);
        let direct = main.and_then(|main| self.paths.get(&(main, Path::Direct)));
        let direct = direct.map_or(Duration::MAX, |at| now.saturating_sub(*at));
        let is_in_need = direct > timing.interval() * 3 / 2;
        // In need not once a second, but at once, and then every other interval.
        let soonest = self.next_relays.saturating_sub(RELAY_FOR / 2) + timing.interval() * 2;
        if now < self.next_relays && !(is_in_need && now >= soonest) {
            return;
        }
        self.next_relays = now + RELAY_FOR / 2;
        let count = if is_in_need { RELAYS_IN_NEED } else { RELAYS };
        let nodes: Vec<NodeId> = self.votes.keys().copied().collect();
        let first = self.relay_cursor;
        let chosen = nodes.iter().cycle().skip(first % nodes.len().max(1));
        let chosen: Vec<NodeId> = chosen.take(count.min(nodes.len())).copied().collect();
        self.relay_cursor = first.wrapping_add(chosen.len()) % nodes.len().max(1);
        for node in &chosen {
            self.gate
                .expect_relays(*node, now + RELAY_FOR + timing.lease());
        }
        let to = chosen.into_iter().map(Party::Node);
        self.send_all(to, self.highest, Marks::default(), Body::RelayRequest);
    }

    /// Whether the configuration lets this controller reign; says so when not.
    pub(super) fn may_run(&mut self, _now: Duration) -> bool {
        let Some((newer, of, _)) = self.newer.filter(|_| !self.config.force) else {
            return true;
        };
        let own = self.config.version;
        self.event(Event::OlderConfiguration { own, newer, of });
        self.output(Output::FetchConfig {
            from: of,
            version: newer,
        });
        false
    }
}
