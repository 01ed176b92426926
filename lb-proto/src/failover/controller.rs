//! The controllers' machine: one for all roles.
//!
//! ```text
//!              silence: Missed        no answer for an interval
//!   Following ─────────────► Asking ──────────────────────────► Candidate ──┐ more than half of
//!     ▲  ▲ ▲                   │                                 ▲  │   │   │ the nodes granted
//!     │  │ └── keep-alive, ────┘        Yield, or the wait is    │  │   │   ▼
//!     │  │     answer                   over and nobody reigns   │  │   │  Main
//!     │  │                                ┌──────────────────────┘  │   │   │
//!     │  └─────────────── keep-alive ── Vacant ◄────────────────────┘   │   │
//!     │                   of a main       ▲    refused, out of time     │   │
//!     │                                   └─────────────────────────────┼───┤ majority lost,
//!     └───────────────────── keep-alive of a main ──────────────────────┴───┘ yielded
//! ```
//! `Following`, `Asking` and `Vacant` are the stand-by's. `docs/failover.md` says which passage of seed
//! document 2 each edge comes from.
//! - [`Controller::reigns`] is the one question that counts: it looks at the time, and is never true of
//!   two controllers at once. A machine that was frozen looks at the time before all else, and
//!   [deactivates](Output::Deactivate).
//! - **Terms.** A candidate asks for a term above all that it has heard of, and has it on the disk
//!   first ([`Output::Persist`], then [`Controller::persisted`]). A main that learns of a higher term
//!   from a node that leased it to somebody without a majority asks for a higher one still, and goes on
//!   under that once more than half of the nodes have granted it ([`Output::Raise`]): otherwise
//!   that node would be lost to it.
//! - **Paths.** The stand-by has its main's keep-alives forwarded by nodes, by two while it hears them
//!   directly, by eight while it does not, others every second.
//!
//! Empty the socket by [`Controller::receive`], call [`Controller::handle_timeout`], carry out what
//! [`Controller::poll_output`] hands out, in order, and sleep until [`Controller::next_timeout`].

mod candidacy;
mod electorate;
mod follow;
mod output;
mod reign;
mod request;
mod send;
mod view;

pub use electorate::{Electors, LONGEST_WAIT, Nodes, Stage};
pub use output::{Deactivation, Event, GaveUp, Output, Steps};
pub use request::RequestError;
pub use view::{Counts, LeaseView, PathView, PeerView, Switch, View};

use super::silence::{Pulse, Silence};
use super::trust::{Gate, Members, Path, Received, Refusal, Refusals, Stamper};
use super::wire::{Body, KeepAlive, Missing, Report, Role, Verdict};
use super::{ControllerId, NodeId, Party, Term, Timing};
use crate::keys::NumberedKey;
use crate::random::Random;
use candidacy::Candidacy;
use electorate::Electorate;
use reign::Reign;
use request::Asked;
use send::{Releasing, SentLog};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Outputs that wait at most. Datagrams and events beyond are dropped and counted; what changes the
/// role is never dropped.
pub const OUTPUTS: usize = 4096;

/// What the controller is, for as long as it runs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its id.
    pub id: ControllerId,
    /// The cluster.
    pub cluster: u32,
    /// Which life of it: above all earlier ones.
    pub epoch: u32,
    /// What was last [persisted](Output::Persist); 0 when there is nothing, or it is lost.
    pub term: Term,
    /// What was last [kept](Output::KeepElectors); `None` when there is nothing, or it is lost: then the nodes
    /// of the configuration alone decide.
    pub electors: Option<Electors>,
    /// For jitter and nonces; another one in every life.
    pub seed: u64,
}

/// What the controller is told, and may be told anew.
#[derive(Clone, Debug)]
pub struct Config {
    /// Good for what is received; the first signs.
    pub keys: Vec<NumberedKey>,
    /// Who takes part. More than half of the nodes are needed.
    pub members: Members,
    /// How often, how long.
    pub timing: Timing,
    /// Whether the preferred controller takes over again when it is back.
    pub switchback: Switchback,
    /// For how long it must have been well before.
    pub switchback_after: Duration,
    /// The version of what all controllers must have alike.
    pub version: u64,
    /// A digest of that; 0 for none.
    pub digest: u64,
    /// Reign even with an older version than somebody else's.
    pub force: bool,
}

/// What the preferred controller does, the one with the lowest id, when it is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switchback {
    /// It is the stand-by.
    #[default]
    Stay,
    /// It asks for the reign.
    Resume,
}

#[derive(Debug)]
enum State {
    StandBy(Phase),
    Candidate(Candidacy),
    Main(Reign),
}

/// What a stand-by does.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// It hears a main.
    Following,
    /// It misses it, and asks it.
    Asking {
        since: Duration,
        nonce: u64,
        next: Duration,
    },
    /// It knows of no main, and waits until then.
    Vacant { until: Duration },
}

/// The main that is followed.
#[derive(Clone, Copy, Debug)]
struct Followed {
    id: ControllerId,
    term: Term,
    silence: Silence,
    since: Duration,
}

/// What another controller last said.
#[derive(Clone, Copy, Debug)]
struct Peer {
    at: Duration,
    term: Term,
    reigns: bool,
    life: KeepAlive,
}

/// What a node has said of its lease.
#[derive(Clone, Copy, Debug, Default)]
struct Vote {
    /// Until when its lease counts; in the past when it holds none.
    until: Duration,
    /// The term that it last granted or confirmed.
    term: Term,
    /// When it last confirmed it.
    confirmed: Option<Duration>,
    /// Why it last refused, in this candidacy or reign.
    refused: Option<Verdict>,
    missing: Missing,
}

/// How far a takeover has come, for [`Steps`].
#[derive(Clone, Copy, Debug)]
struct Loss {
    main: ControllerId,
    silence: Duration,
    missed: Duration,
}

/// A controller.
#[derive(Debug)]
pub struct Controller {
    id: ControllerId,
    config: Config,
    gate: Gate,
    stamper: Stamper,
    random: Random,
    state: State,
    /// The highest term that was heard of or asked for.
    highest: Term,
    /// The highest term that somebody was seen to reign in.
    reign: Term,
    /// Who has yielded is not followed in this term or a lower one.
    abdicated: Option<(ControllerId, Term)>,
    main: Option<Followed>,
    loss: Option<Loss>,
    peers: BTreeMap<ControllerId, Peer>,
    paths: BTreeMap<(ControllerId, Path), Duration>,
    /// All nodes that take part.
    votes: BTreeMap<NodeId, Vote>,
    electorate: Electorate,
    sent: SentLog,
    pulse: Pulse,
    /// When the next keep-alive is due, and when the last was sent.
    next_keep_alive: Duration,
    last_keep_alive: Duration,
    is_urgent: bool,
    keep_alives: u64,
    next_relays: Duration,
    /// Where the next choice of relays begins.
    relay_cursor: usize,
    releasing: Option<Releasing>,
    yielding: Option<reign::Yielding>,
    asked: Option<Asked>,
    /// Not before this is the reign handed over because this one cannot serve.
    next_hand_over: Duration,
    /// Since when a switchback could be asked for.
    well_since: Option<Duration>,
    /// Switchbacks in a row that came to nothing.
    switchbacks: u32,
    /// A newer configuration than one's own, whose, and when it was last asked for.
    newer: Option<(u64, ControllerId, Duration)>,
    /// Who has other contents under the version of one's own.
    differs: Option<ControllerId>,
    /// Candidacies in a row that came to nothing.
    attempts: u32,
    report: Report,
    /// The time of day at a time of the monotonic clock.
    wall: (Duration, Duration),
    last_switch: Option<Switch>,
    counts: view::Counts,
    refusals: Refusals,
    outputs: VecDeque<Output>,
}

impl Controller {
    /// A controller that has just started. It gives up what it may have held in an earlier life.
    pub fn new(now: Duration, setup: Setup, config: Config) -> Self {
        let own = Party::Controller(setup.id);
        let gate = Gate::new(
            own,
            setup.cluster,
            config.keys.clone(),
            config.members.clone(),
        );
        let mut random = Random::new(setup.seed);
        let interval = config.timing.interval();
        let mut controller = Self {
            id: setup.id,
            gate,
            stamper: Stamper::new(own, setup.cluster, setup.epoch),
            state: State::StandBy(Phase::Vacant { until: now }),
            highest: setup.term,
            reign: Term(0),
            abdicated: None,
            main: None,
            loss: None,
            peers: BTreeMap::new(),
            paths: BTreeMap::new(),
            votes: BTreeMap::new(),
            electorate: Electorate::new(now, setup.electors, &config.members.nodes),
            sent: SentLog::default(),
            pulse: Pulse::new(now),
            next_keep_alive: now,
            last_keep_alive: now,
            is_urgent: false,
            keep_alives: 0,
            next_relays: now,
            relay_cursor: random.below(256) as usize,
            releasing: (setup.term > Term(0)).then_some(Releasing::new(setup.term, now)),
            yielding: None,
            asked: None,
            next_hand_over: now,
            well_since: None,
            switchbacks: 0,
            newer: None,
            differs: None,
            attempts: 0,
            report: Report::default(),
            wall: (now, Duration::ZERO),
            last_switch: None,
            counts: view::Counts::default(),
            refusals: Refusals::default(),
            outputs: VecDeque::new(),
            random,
            config,
        };
        let timing = controller.config.timing;
        let wait = timing.silence() + timing.lease();
        let wait = if controller.is_preferred() {
            wait
        } else {
            wait * 2 + controller.random_below(interval)
        };
        controller.state = State::StandBy(Phase::Vacant { until: now + wait });
        controller.count_members();
        if controller.electorate.stage() != Stage::Settled {
            controller.tell_stage();
        }
        controller.settle_nodes(now);
        controller
    }

    /// Takes over a new configuration. Other nodes than before take part at once, and decide when it is
    /// safe: see [`Stage`].
    pub fn configure(&mut self, now: Duration, config: Config) {
        self.check_reign(now);
        let before = std::mem::replace(&mut self.config, config).members.nodes;
        let controllers = &self.config.members.controllers;
        self.peers.retain(|id, _| controllers.contains_key(id));
        self.change_nodes(now, &before);
        let (controllers, nodes) = (&self.config.members.controllers, &self.votes);
        self.paths.retain(|(id, path), _| {
            let is_path = match path {
                Path::Direct => true,
                Path::Relayed(node) => nodes.contains_key(node),
            };
            is_path && controllers.contains_key(id)
        });
        let version = self.config.version;
        self.newer = self.newer.filter(|newer| newer.0 > version);
        self.differs = None;
        self.refresh_majority();
        self.check_reign(now);
        self.hurry(now);
    }

    /// Tells what the next keep-alives say of this controller. News does not wait for the next regular
    /// one, but for a quarter of an interval since the last.
    pub fn set_report(&mut self, now: Duration, report: Report) {
        let old = std::mem::replace(&mut self.report, report);
        let is_news = old.status != report.status
            || old.nodes_alive != report.nodes_alive
            || (old.calls == 0) != (report.calls == 0);
        if is_news {
            self.hurry(now);
        }
    }

    /// Tells the time of day, since 1970. It is for people: nothing here goes by it.
    pub fn set_wall(&mut self, now: Duration, wall: Duration) {
        self.wall = (now, wall);
    }

    /// Whether this controller is main at this moment, and in which term. True of no two at once.
    pub fn reigns(&self, now: Duration) -> Option<Term> {
        match &self.state {
            State::Main(reign) if now < reign.until => Some(reign.term),
            State::Main(_) | State::Candidate(_) | State::StandBy(_) => None,
        }
    }

    /// Its role.
    pub const fn role(&self) -> Role {
        match self.state {
            State::StandBy(_) => Role::StandBy,
            State::Candidate(_) => Role::Candidate,
            State::Main(_) => Role::Main,
        }
    }

    /// All that take part: those of the configuration, and while the nodes change those before.
    pub const fn members(&self) -> &Members {
        self.gate.members()
    }

    /// The main that this controller knows of, and its term: itself, or the one that it follows.
    pub fn main(&self, now: Duration) -> Option<(Term, ControllerId)> {
        if let Some(term) = self.reigns(now) {
            return Some((term, self.id));
        }
        let main = self.main.filter(|_| self.role() == Role::StandBy);
        main.map(|main| (main.term, main.id))
    }

    /// Takes a datagram from the status port.
    ///
    /// # Errors
    /// [`Refusal`] for what is not taken; it has been counted.
    pub fn receive(&mut self, now: Duration, from: IpAddr, bytes: &[u8]) -> Result<(), Refusal> {
        self.check_reign(now);
        let taken = self.gate.take(now, from, bytes);
        let result = taken.and_then(|received| self.act(now, &received));
        if let Err(refusal) = result {
            self.refusals.count(refusal);
        }
        result
    }

    fn act(&mut self, now: Duration, received: &Received) -> Result<(), Refusal> {
        let header = received.datagram.header;
        match (header.from, received.datagram.body) {
            (Party::Controller(from), Body::KeepAlive(life)) => {
                self.paths.insert((from, received.path), now);
                if received.is_copy {
                    return Ok(());
                }
                self.hear(now, from, &header, &life, received.is_newest)
            }
            (Party::Controller(from), Body::Answer(life)) => {
                if !self.is_asking(life.nonce) {
                    return Err(Refusal::OutOfTurn);
                }
                self.hear(now, from, &header, &life, received.is_newest)
            }
            (Party::Controller(from), Body::Query { nonce }) => {
                self.answer(now, from, nonce);
                Ok(())
            }
            (Party::Controller(from), Body::Yield { reason }) => {
                self.succeed(now, from, header.term, reason)
            }
            (Party::Controller(from), Body::Ask { successor, reason }) => {
                self.asked_to_yield(now, from, header.term, successor, reason)
            }
            (Party::Node(node), Body::Ack(ack)) => self.acked(now, node, header.term, &ack),
            (Party::Node(node), Body::LeaseAnswer(answer)) => {
                self.lease_answered(now, node, header.term, &answer)
            }
            (Party::Controller(_), Body::LeaseRequest(_) | Body::Release | Body::RelayRequest)
            | (Party::Controller(_), Body::Ack(_) | Body::LeaseAnswer(_))
            | (Party::Node(_), _) => Err(Refusal::Recipient),
        }
    }

    /// The term is on the disk: it may be asked for.
    pub fn persisted(&mut self, now: Duration, term: Term) {
        self.check_reign(now);
        match &mut self.state {
            State::Candidate(candidacy) if candidacy.term == term => {
                candidacy.is_kept = true;
                self.request_leases(now);
            }
            State::Main(reign) => {
                let raising = reign.raising.as_mut().filter(|one| one.term == term);
                if let Some(raising) = raising {
                    raising.is_kept = true;
                    self.ask_higher(now);
                }
            }
            State::Candidate(_) | State::StandBy(_) => {}
        }
    }

    /// The term could not be kept: it is not asked for. Another is, later.
    pub fn persist_failed(&mut self, now: Duration, term: Term) {
        self.check_reign(now);
        match &mut self.state {
            State::Candidate(candidacy) if candidacy.term == term => {
                self.give_up(now, GaveUp::OutOfTime);
            }
            State::Main(reign) => {
                reign.raising.take_if(|raising| raising.term == term);
            }
            State::Candidate(_) | State::StandBy(_) => {}
        }
    }

    /// A term was heard of, by a path that proves less than [`Controller::receive`] asks for. A main
    /// goes on above it, as when a stand-by speaks of one: if somebody reigns in it, the nodes do not
    /// let it.
    pub fn outbid(&mut self, now: Duration, term: Term) {
        self.check_reign(now);
        if self.reigns(now).is_some() {
            self.highest = self.highest.max(term);
            self.heard_of(now, term);
        }
    }

    /// Looks at the time. Empty the socket first.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.check_reign(now);
        self.settle_nodes(now);
        let interval = self.config.timing.interval();
        if let Some(last) = self.pulse.beat(now, interval) {
            self.counts.stalls += 1;
            self.well_since = None;
            self.event(Event::Stalled(now.saturating_sub(last)));
            if let Some(main) = &mut self.main {
                main.silence.forgive(last, now);
            }
        }
        match &self.state {
            State::StandBy(phase) => {
                let phase = *phase;
                self.follow_on(now, phase);
            }
            State::Candidate(_) => self.campaign(now),
            State::Main(_) => {
                self.ask_higher(now);
                self.hurry_if_late(now);
            }
        }
        self.release_again(now);
        self.yield_again(now);
        self.ask_again(now);
        self.switch_back(now);
        self.hand_over(now);
        self.ask_relays(now);
        if now >= self.next_keep_alive {
            self.send_keep_alive(now);
        }
    }

    /// When to call [`Controller::handle_timeout`] next, at the latest.
    pub fn next_timeout(&self) -> Duration {
        let timing = self.config.timing;
        let of_state = match &self.state {
            State::StandBy(Phase::Following) => {
                self.main.map(|main| main.silence.end(timing.silence()))
            }
            State::StandBy(Phase::Asking { since, next, .. }) => {
                Some((*since + timing.interval()).min(*next))
            }
            State::StandBy(Phase::Vacant { until }) => Some(*until),
            State::Candidate(candidacy) => Some(candidacy.next_timeout(timing)),
            State::Main(reign) => Some(reign.next_timeout()),
        };
        let others = [
            of_state,
            self.releasing.as_ref().map(|releasing| releasing.next),
            self.yielding.as_ref().map(|yielding| yielding.next),
            self.asked.as_ref().map(|asked| asked.next),
        ];
        let first = self.pulse.due(timing.interval()).min(self.next_keep_alive);
        others.into_iter().flatten().fold(first, Duration::min)
    }

    /// What is to be done, one after the other.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The one of the lowest id.
    fn preferred(&self) -> ControllerId {
        let first = self.config.members.controllers.keys().next();
        first.copied().unwrap_or(self.id)
    }

    fn is_preferred(&self) -> bool {
        self.preferred() == self.id
    }

    fn random_below(&mut self, limit: Duration) -> Duration {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.below(nanos))
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn event(&mut self, event: Event) {
        if self.outputs.len() < OUTPUTS {
            self.output(Output::Event(event));
        } else {
            self.counts.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests;
