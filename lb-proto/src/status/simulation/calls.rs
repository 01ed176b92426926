//! Calls offered to a fleet: from the switch to a node, from there to others, and what must hold of
//! them at every step.

use super::fleet::{CLUSTER, Event, Fleet, Life};
use crate::admission::slots::Taken;
use crate::call::Call;
use crate::offer::hops::{Arrival, DeadEnd, Next};
use crate::offer::ticket::{MAX_HOPS, Ticket, Visited};
use lb_common::Admission;
use lb_common::choose::Liveness;
use std::collections::BTreeMap;
use std::time::Duration;

/// A SIP message takes this long. None is lost: transactions see to that.
const WAY: Duration = Duration::from_millis(2);
/// A 302 to the switch and the INVITE that follows it.
const REDIRECT: Duration = Duration::from_millis(30);

pub(super) enum Sip {
    /// An INVITE comes to a node's redirect server from the switch.
    Invite {
        node: u16,
        call: Call,
        ticket: Option<String>,
    },
    /// A node hands an INVITE to another, for it to answer 302 itself.
    Relay {
        from: u16,
        node: u16,
        call: Call,
        ticket: String,
    },
    /// The node that was handed an INVITE did not take it.
    Refused { by: u16, to: u16 },
    /// The call ends.
    End { node: u16, call: Call },
}

/// What became of all calls.
pub(super) struct Calls {
    pub(super) slots: u32,
    count: u64,
    /// Where a call is, from its answer to its end.
    at: BTreeMap<Call, u16>,
    offers: BTreeMap<Call, u8>,
    pub(super) accepted: u64,
    /// Those that were taken after an offer.
    pub(super) redirected: u64,
    pub(super) refused: BTreeMap<DeadEnd, u64>,
    /// Came to a machine that was not there.
    pub(super) lost: u64,
    /// Relays that were refused by who had said it takes calls.
    pub(super) disappointed: u64,
    /// Switches lose URI parameters, one redirect in so many; 0 for none.
    pub(super) drops_one_in: u64,
    /// Whether offers are answered by 302 at once.
    pub(super) is_direct: bool,
}

impl Calls {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            slots,
            count: 0,
            at: BTreeMap::new(),
            offers: BTreeMap::new(),
            accepted: 0,
            redirected: 0,
            refused: BTreeMap::new(),
            lost: 0,
            disappointed: 0,
            drops_one_in: 0,
            is_direct: false,
        }
    }

    /// The machine was killed, and its calls with it.
    pub(super) fn lost_with(&mut self, id: u16) {
        self.at.retain(|_, node| *node != id);
    }
}

impl Fleet {
    /// The switch sends calls to nodes that the load balancer chooses blindly, evenly until a time.
    pub(super) fn offer_calls(&mut self, count: u64, until: Duration) {
        let span = until.saturating_sub(self.now).as_nanos() as u64;
        for _ in 0..count {
            self.calls.count += 1;
            let call = Call::from_key(self.calls.count);
            let node = 1 + self.random.below(self.machines.len() as u64) as u16;
            let at = self.now + Duration::from_nanos(self.random.below(span));
            let invite = Sip::Invite {
                node,
                call,
                ticket: None,
            };
            self.queue.put(at, Event::Sip(invite));
        }
    }

    pub(super) fn sip(&mut self, sip: Sip) {
        match sip {
            Sip::Invite { node, call, ticket } => self.invite(node, call, ticket),
            Sip::Relay {
                from,
                node,
                call,
                ticket,
            } => self.relay(from, node, call, ticket),
            Sip::Refused { by, to } => {
                let now = self.now;
                let machine = self.machine(to);
                let local = machine.local(now);
                if let Some(life) = &mut machine.life {
                    life.chooser.refused(local, by);
                }
            }
            Sip::End { node, call } => {
                if self.calls.at.get(&call) == Some(&node) {
                    self.calls.at.remove(&call);
                    if let Some(life) = &mut self.machine(node).life {
                        life.gate.end(call);
                    }
                }
            }
        }
    }

    fn invite(&mut self, node: u16, call: Call, ticket: Option<String>) {
        let (now, seed) = (self.now, self.seed);
        let machine = self.machine(node);
        let local = machine.local(now);
        let Some(life) = &mut machine.life else {
            self.calls.lost += 1;
            return;
        };
        let taken = life.gate.begin(local, call);
        check_slots(life, local, seed);
        match taken {
            Ok(Taken::Already) => {}
            Ok(Taken::Free | Taken::Leased) => {
                let before = self.calls.at.insert(call, node);
                assert_eq!(before, None, "seed {seed}: {call:?} is taken twice");
                self.calls.accepted += 1;
                self.calls.redirected += u64::from(ticket.is_some());
                let length = Duration::from_millis(500 + self.random.below(3000));
                self.queue
                    .put(now + length, Event::Sip(Sip::End { node, call }));
            }
            Err(_) => self.pass_on(node, call, ticket),
        }
    }

    fn relay(&mut self, from: u16, node: u16, call: Call, ticket: String) {
        let (now, seed) = (self.now, self.seed);
        let machine = self.machine(node);
        let local = machine.local(now);
        let Some(life) = &mut machine.life else {
            self.calls.lost += 1;
            return;
        };
        let lease = life.gate.reserve(local, call);
        check_slots(life, local, seed);
        let ticket = Some(ticket);
        if lease.is_ok() {
            // Claim 5: the second node itself tells the switch, which comes straight to it.
            let invite = Sip::Invite { node, call, ticket };
            self.queue.put(now + REDIRECT, Event::Sip(invite));
        } else {
            self.calls.disappointed += 1;
            let refused = Sip::Refused { by: node, to: from };
            self.queue.put(now + WAY, Event::Sip(refused));
            self.pass_on(node, call, ticket);
        }
    }

    /// A node that does not take a call looks for one that does.
    fn pass_on(&mut self, node: u16, call: Call, ticket: Option<String>) {
        let (now, seed, is_direct) = (self.now, self.seed, self.calls.is_direct);
        let machine = self.machine(node);
        let (local, day) = (machine.local(now), machine.time_of_day(now));
        let keys = machine.keys.clone();
        let Some(life) = &mut machine.life else {
            return;
        };
        let arrival = ticket.map_or(Arrival::Fresh, |text| {
            Ticket::read(&text, CLUSTER, call, &keys, day).into()
        });
        let (map, chooser) = (&life.map, &mut life.chooser);
        let mut seen = Visited::NONE;
        let next = life.hops.next(local, call, arrival, |visited| {
            seen = *visited;
            if is_direct {
                chooser
                    .choose_three(local, map, visited)
                    .first()
                    .map(|first| first.node)
            } else {
                chooser.choose(local, map, visited)
            }
        });
        match next {
            Next::Offer { to, ticket } => {
                assert_ne!(to, node, "seed {seed}");
                assert!(
                    !ticket.visited.contains(to),
                    "seed {seed}: {call:?} goes round"
                );
                assert!(ticket.hop <= MAX_HOPS);
                let offers = self.calls.offers.entry(call).or_default();
                *offers += 1;
                let most = if self.calls.drops_one_in == 0 {
                    MAX_HOPS
                } else {
                    MAX_HOPS * self.machines.len() as u8
                };
                assert!(*offers <= most, "seed {seed}: {call:?} loops");
                let text = ticket.write(CLUSTER, call, keys[0], day);
                let drops = self.calls.drops_one_in;
                let is_dropped = drops > 0 && self.random.below(drops) == 0;
                let (delay, sip) = if is_direct {
                    let ticket = Some(text).filter(|_| !is_dropped);
                    let node = to;
                    (REDIRECT, Sip::Invite { node, call, ticket })
                } else {
                    let relay = Sip::Relay {
                        from: node,
                        node: to,
                        call,
                        ticket: text,
                    };
                    (WAY, relay)
                };
                self.queue.put(now + delay, Event::Sip(sip));
            }
            Next::Unavailable { reason, .. } => {
                if reason == DeadEnd::Nobody {
                    let missed = available(life, local, node, &seen);
                    assert_eq!(missed, None, "seed {seed}: {node} at {now:?} knows one");
                }
                *self.calls.refused.entry(reason).or_default() += 1;
            }
        }
    }
}

/// A node that is available by what this one knows, found the plain way.
fn available(life: &Life, local: Duration, own: u16, visited: &Visited) -> Option<u16> {
    let asked = life.chooser.candidates(local, &life.map, visited);
    let row = life.map.rows(local).find(|row| {
        let is_open = row
            .last
            .is_some_and(|(beacon, _)| beacon.admission <= Admission::Free && beacon.headroom > 0);
        // Who refused since it spoke is known not to be.
        let has_refused = asked.iter().all(|candidate| candidate.node != row.node);
        let is_other = row.node != own && !visited.contains(row.node);
        is_open && is_other && row.liveness == Liveness::Up && !has_refused
    });
    row.map(|row| row.node)
}

/// No slot is sold twice.
fn check_slots(life: &mut Life, local: Duration, seed: u64) {
    let facts = life.gate.facts(local);
    let mut slots = life.gate.slots().clone();
    let sold = slots.taken() + slots.leased(local);
    assert!(sold <= slots.capacity(), "seed {seed}: {sold} sold");
    assert_eq!(facts.free, slots.capacity() - sold, "seed {seed}");
}
