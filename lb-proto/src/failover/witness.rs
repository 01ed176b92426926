//! The access node's machine: leases the reign, notices the loss of the main itself, and says whose
//! commands to obey.
//!
//! ```text
//!            keep-alive of a main, or request       no keep-alive for as long
//!            of a candidate: granted                as the main said: Missed
//!   nobody ────────────────────────────► holder ─────────────────────────► holder, missed
//!     ▲                                  ▲    │                              │   │
//!     │                                  └────┼──────── keep-alive: Heard ───┘   │
//!     └── the lease ends, or is released ─────┴──────────────────────────────────┘
//! ```
//! - **Keep-alives renew.** A main that reigns renews its lease with every keep-alive. A node that
//!   has not granted that term, because it came later or was cut off, grants it by the keep-alive, if
//!   it may grant it at all.
//! - **Kept, then told.** A new term is on the disk before anybody hears of it: [`Output::Persist`],
//!   then [`Witness::persisted`], then the answer goes out.
//! - **Missed** means `misses × interval` of the main's own saying: the same detector as the
//!   stand-by's. A node that hears the main says so to a candidate; one that misses it, that the
//!   lease still runs.
//! - **Stalls** of this machine do not count as silence, and let a lease run for an interval more:
//!   the main's keep-alives may wait behind the candidate's request in the socket.
//!
//! Empty the socket by [`Witness::receive`], call [`Witness::handle_timeout`], carry out what
//! [`Witness::poll_output`] hands out, sleep until [`Witness::next_timeout`].

mod grant;
mod output;

pub use output::{Event, Output, Seen, View};

use super::lease::{Book, Grant};
use super::silence::{Pulse, Silence};
use super::trust::{Gate, Marks, Members, Received, Refusal, Refusals, Stamper};
use super::wire::{Body, Bytes, KeepAlive, Missing, RELAY_FOR};
use super::{ControllerId, NodeId, Party, Term};
use crate::keys::NumberedKey;
use grant::Wish;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Outputs that wait at most. Datagrams and events beyond are dropped and counted: whoever waits for a
/// datagram asks again. Leases to be kept are never dropped.
pub const OUTPUTS: usize = 256;

/// What the node is, for as long as it runs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The node.
    pub node: NodeId,
    /// The cluster.
    pub cluster: u32,
    /// Which life of the node: above all earlier ones.
    pub epoch: u32,
    /// What was last [persisted](Output::Persist); `None` when there is nothing, or it is lost.
    pub kept: Option<Grant>,
    /// The longest lease that is ever granted; the same in all lives.
    /// [`LONGEST_LEASE`](super::LONGEST_LEASE) unless there is a reason.
    pub longest_lease: Duration,
}

/// The main that is heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    controller: ControllerId,
    silence: Silence,
    interval: Duration,
    /// Silence past which it is missed.
    limit: Duration,
    is_missed: bool,
}

/// The access node's machine.
#[derive(Debug)]
pub struct Witness {
    gate: Gate,
    stamper: Stamper,
    book: Book,
    /// What is on the disk.
    kept: Option<Grant>,
    /// What is on its way there. Nothing of a lower term is granted meanwhile but what was.
    pending: Option<Wish>,
    heard: Option<Heard>,
    /// The lease whose end has not been told.
    told: Option<Grant>,
    pulse: Pulse,
    relays: BTreeMap<ControllerId, Duration>,
    seen: BTreeMap<ControllerId, (Duration, Term, KeepAlive)>,
    missing: Missing,
    outputs: VecDeque<Output>,
    refusals: Refusals,
    dropped: u64,
}

impl Witness {
    /// A node that has just started. Of the members only the controllers matter.
    pub fn new(now: Duration, setup: Setup, keys: Vec<NumberedKey>, members: Members) -> Self {
        let own = Party::Node(setup.node);
        Self {
            gate: Gate::new(own, setup.cluster, keys, members),
            stamper: Stamper::new(own, setup.cluster, setup.epoch),
            book: Book::new(now, setup.kept, setup.longest_lease),
            kept: setup.kept,
            pending: None,
            heard: None,
            told: None,
            pulse: Pulse::new(now),
            relays: BTreeMap::new(),
            seen: BTreeMap::new(),
            missing: Missing { link: true },
            outputs: VecDeque::new(),
            refusals: Refusals::default(),
            dropped: 0,
        }
    }

    /// Takes over keys and members from a new configuration.
    pub fn configure(&mut self, keys: Vec<NumberedKey>, members: Members) {
        self.gate.configure(keys, members);
    }

    /// Tells the main, with the next acks, what the node misses of it.
    pub fn set_missing(&mut self, missing: Missing) {
        self.missing = missing;
    }

    /// Who is to be obeyed, and in which term: the holder of the lease that runs, once it is on the
    /// disk.
    pub fn accepted(&self, now: Duration) -> Option<(Term, ControllerId)> {
        let running = self.book.running(now)?;
        let told = self.told?;
        (told.holder == running.holder).then_some((told.term, told.holder))
    }

    /// Takes a datagram from the status port.
    ///
    /// # Errors
    /// [`Refusal`] for what is not taken; it has been counted.
    pub fn receive(&mut self, now: Duration, from: IpAddr, bytes: &[u8]) -> Result<(), Refusal> {
        let taken = self.gate.take(now, from, bytes);
        let result = taken.and_then(|received| self.act(now, &received, bytes));
        if let Err(refusal) = result {
            self.refusals.count(refusal);
        }
        result
    }

    fn act(&mut self, now: Duration, received: &Received, bytes: &[u8]) -> Result<(), Refusal> {
        let header = received.datagram.header;
        let Party::Controller(from) = header.from else {
            return Err(Refusal::Recipient);
        };
        match received.datagram.body {
            Body::KeepAlive(life) => {
                if received.is_newest {
                    self.seen.insert(from, (now, header.term, life));
                }
                if !header.reigns {
                    return Ok(());
                }
                self.renew(now, from, &header, &life)?;
                self.relay(now, from, bytes);
                Ok(())
            }
            Body::LeaseRequest(request) => self.consider(now, from, &header, &request),
            Body::Release => {
                let running = self.book.running(now);
                let released = self.book.release(from, header.term);
                released.map_err(|_| Refusal::LowerTerm)?;
                if let Some(grant) = running.filter(|grant| grant.holder == from) {
                    self.told = None;
                    self.heard = None;
                    self.pending.take_if(|wish| wish.grant.holder == from);
                    self.event(Event::Released {
                        controller: from,
                        term: grant.term,
                    });
                }
                Ok(())
            }
            Body::RelayRequest => {
                self.relays.insert(from, now + RELAY_FOR);
                Ok(())
            }
            Body::Query { .. }
            | Body::Answer(_)
            | Body::Ack(_)
            | Body::LeaseAnswer(_)
            | Body::Yield { .. }
            | Body::Ask { .. } => Err(Refusal::Recipient),
        }
    }

    fn hear(&mut self, now: Duration, from: ControllerId, interval: Duration, limit: Duration) {
        self.heard = Some(Heard {
            controller: from,
            silence: Silence::new(now),
            interval,
            limit,
            is_missed: false,
        });
    }

    /// Whether the holder of the lease is heard.
    fn hears_main(&self, now: Duration) -> bool {
        let heard = self.heard.as_ref();
        heard.is_some_and(|heard| heard.silence.length(now) < heard.limit)
    }

    /// Forwards a main's keep-alive to those who asked for it.
    fn relay(&mut self, now: Duration, main: ControllerId, bytes: &[u8]) {
        let Ok(bytes) = Bytes::try_from(bytes) else {
            return;
        };
        self.relays.retain(|_, until| now < *until);
        for to in self.relays.keys().copied().filter(|to| *to != main) {
            push(
                &mut self.outputs,
                &mut self.dropped,
                Output::Send { to, bytes },
            );
        }
    }

    /// Looks at the time. Empty the socket first.
    pub fn handle_timeout(&mut self, now: Duration) {
        let interval = self.heard.map_or(Duration::MAX, |heard| heard.interval);
        if let Some(last) = self.pulse.beat(now, interval)
            && let Some(heard) = &mut self.heard
        {
            if heard.silence.forgive(last, now) {
                self.book.prolong(now, interval);
            }
            self.event(Event::Stalled(now.saturating_sub(last)));
        }
        let running = self.book.running(now);
        if let Some(told) = self.told
            && running.is_none()
        {
            self.told = None;
            self.event(Event::Expired {
                controller: told.holder,
                term: told.term,
            });
        }
        if let Some(heard) = &mut self.heard
            && !heard.is_missed
            && heard.silence.length(now) >= heard.limit
        {
            heard.is_missed = true;
            let (controller, silence) = (heard.controller, heard.silence.length(now));
            if let Some(told) = self.told {
                self.event(Event::Missed {
                    controller,
                    term: told.term,
                    silence,
                });
            }
        }
    }

    /// When to call [`Witness::handle_timeout`] next, at the latest.
    pub fn next_timeout(&self, now: Duration) -> Option<Duration> {
        let heard = self.heard.as_ref();
        let missed = heard
            .filter(|heard| !heard.is_missed)
            .map(|heard| heard.silence.end(heard.limit));
        let pulse = heard
            .filter(|_| self.told.is_some())
            .map(|heard| self.pulse.due(heard.interval));
        let end = self.told.map(|_| self.book.until(now).unwrap_or(now));
        [missed, pulse, end].into_iter().flatten().min()
    }

    /// What is to be done, one after the other.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What the machine holds, for people.
    pub fn view(&self, now: Duration) -> View {
        let seen = |(id, (at, term, life)): (&ControllerId, &(Duration, Term, KeepAlive))| Seen {
            controller: *id,
            age: now.saturating_sub(*at),
            role: life.role,
            term: *term,
            configuration: life.configuration,
        };
        let relays = self.relays.iter().filter(|(_, until)| now < **until);
        View {
            accepted: self.accepted(now),
            remaining: self.book.remaining(now),
            is_missed: self.heard.is_some_and(|heard| heard.is_missed),
            highest: self.book.highest(),
            controllers: self.seen.iter().map(seen).collect(),
            relays: relays.map(|(id, _)| *id).collect(),
            refusals: self.refusals.clone(),
            dropped: self.dropped,
        }
    }

    fn send(&mut self, to: ControllerId, term: Term, body: Body) {
        let key = self.gate.signing();
        let to_id = u16::from(to.get());
        let (_, bytes) = self.stamper.write(key, to_id, term, Marks::default(), body);
        push(
            &mut self.outputs,
            &mut self.dropped,
            Output::Send { to, bytes },
        );
    }

    fn event(&mut self, event: Event) {
        push(&mut self.outputs, &mut self.dropped, Output::Event(event));
    }
}

fn push(outputs: &mut VecDeque<Output>, dropped: &mut u64, output: Output) {
    if outputs.len() < OUTPUTS {
        outputs.push_back(output);
    } else {
        *dropped += 1;
    }
}

#[cfg(test)]
mod tests;
