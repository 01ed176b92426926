//! What to answer a call that this node does not take: an offer to another, or that there is none.
//!
//! **No loops.** A call is offered on at most [`MAX_HOPS`] times, because each offer carries a ticket
//! with a higher hop count, and never to a node that it has visited. Three things could undo that,
//! and do not:
//!
//! - A ticket that is not good (forged, expired by a clock that is wrong, under a key that is no
//!   longer valid). It does not count as none: a call with such a ticket is taken here, or refused.
//! - A peer that drops URI parameters, against RFC 3261 §19.1.1. So each node also remembers the
//!   calls that it has offered on: whoever loops, loops through nodes that count.
//! - The same call, tried again with a new CSeq: it is the same Call-ID, and is remembered likewise.

use super::ticket::{LIFETIME, MAX_HOPS, Ticket, TicketError, Visited};
use crate::call::Call;
use crate::random::Random;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Calls whose offers a node remembers. When it is full, the oldest is forgotten.
pub const REMEMBERED: usize = 65_536;
/// The shortest `Retry-After`. Chosen: beacons have then told many times who has room.
pub const SHORTEST_RETRY: Duration = Duration::from_secs(2);
/// The longest. Chosen: what comes back within these seconds comes back evenly, and not as the herd
/// that it was.
pub const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// With what a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// No ticket: a new call, for all that the message says.
    Fresh,
    /// A good ticket.
    Ticketed(Ticket),
    /// A ticket that does not count.
    Spoilt(TicketError),
}

impl From<Result<Ticket, TicketError>> for Arrival {
    fn from(read: Result<Ticket, TicketError>) -> Self {
        read.map_or_else(Self::Spoilt, Self::Ticketed)
    }
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Offer the call to those that were chosen, with this ticket.
    Offer {
        /// What the chooser said.
        to: T,
        /// To be [written](Ticket::write) into the Contact, or the Request-URI.
        ticket: Ticket,
    },
    /// 503 (Service Unavailable) with this `Retry-After`, whole seconds.
    Unavailable {
        /// Why.
        reason: DeadEnd,
        /// RFC 3261 §20.33.
        retry_after: Duration,
    },
}

/// Why a call is offered to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeadEnd {
    /// It was redirected as often as may be.
    Hops,
    /// Its ticket does not count.
    Ticket,
    /// No other node is known to have room.
    Nobody,
}

impl DeadEnd {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hops => "hops",
            Self::Ticket => "ticket",
            Self::Nobody => "nobody",
        }
    }
}

/// One node's side of it.
#[derive(Debug)]
pub struct Hops {
    own: u16,
    calls: BTreeMap<Call, Remembered>,
    /// In the order in which they are to be forgotten. Entries with another time than the call's are
    /// passed over.
    ends: VecDeque<(Duration, Call)>,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    ticket: Ticket,
    until: Duration,
}

impl Hops {
    /// For the node `own`.
    pub fn new(own: u16, seed: u64) -> Self {
        Self {
            own,
            calls: BTreeMap::new(),
            ends: VecDeque::new(),
            random: Random::new(seed),
        }
    }

    /// What to answer to a call that this node does not take. `choose` is told whom not to choose.
    pub fn next<T>(
        &mut self,
        now: Duration,
        call: Call,
        arrival: Arrival,
        choose: impl FnOnce(&Visited) -> Option<T>,
    ) -> Next<T> {
        let ticket = match self.ticket(now, call, arrival) {
            Ok(ticket) => ticket,
            Err(reason) => return self.unavailable(reason),
        };
        match choose(&ticket.visited) {
            None => self.unavailable(DeadEnd::Nobody),
            Some(to) => {
                self.remember(now, call, ticket);
                Next::Offer { to, ticket }
            }
        }
    }

    /// The ticket of the next offer.
    fn ticket(&mut self, now: Duration, call: Call, arrival: Arrival) -> Result<Ticket, DeadEnd> {
        self.forget(now);
        let mut ticket = match arrival {
            Arrival::Fresh => Ticket {
                hop: 0,
                visited: Visited::NONE,
            },
            Arrival::Ticketed(ticket) => ticket,
            Arrival::Spoilt(_) => return Err(DeadEnd::Ticket),
        };
        if let Some(Remembered { ticket: last, .. }) = self.calls.get(&call) {
            ticket.hop = ticket.hop.max(last.hop);
            ticket.visited.add_all(&last.visited);
        }
        if ticket.hop >= MAX_HOPS || !ticket.visited.add(self.own) {
            return Err(DeadEnd::Hops);
        }
        ticket.hop += 1;
        Ok(ticket)
    }

    fn unavailable<T>(&mut self, reason: DeadEnd) -> Next<T> {
        let span = LONGEST_RETRY.as_secs() - SHORTEST_RETRY.as_secs() + 1;
        let jitter = Duration::from_secs(self.random.below(span));
        Next::Unavailable {
            reason,
            retry_after: SHORTEST_RETRY + jitter,
        }
    }

    fn remember(&mut self, now: Duration, call: Call, ticket: Ticket) {
        let until = now + LIFETIME;
        self.calls.insert(call, Remembered { ticket, until });
        self.ends.push_back((until, call));
        while self.calls.len() > REMEMBERED || self.ends.len() > REMEMBERED * 2 {
            self.forget_first();
        }
    }

    fn forget(&mut self, now: Duration) {
        while self.ends.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((until, call)) = self.ends.pop_front()
            && self
                .calls
                .get(&call)
                .is_some_and(|remembered| remembered.until == until)
        {
            self.calls.remove(&call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZERO: Duration = Duration::ZERO;
    const CALL: Call = Call::from_key(7);

    fn offer(hops: &mut Hops, arrival: Arrival, to: u16) -> Next<u16> {
        hops.next(ZERO, CALL, arrival, |visited| {
            assert!(!visited.contains(to), "{to} was visited");
            Some(to)
        })
    }

    #[test]
    fn three_hops_and_then_503() {
        let mut arrival = Arrival::Fresh;
        for own in 1..=3 {
            let mut hops = Hops::new(own, 1);
            let Next::Offer { to, ticket } = offer(&mut hops, arrival, own + 1) else {
                panic!("node {own} gives up");
            };
            assert_eq!((to, ticket.hop), (own + 1, own as u8));
            assert!(ticket.visited.iter().eq(1..=own));
            arrival = Arrival::Ticketed(ticket);
        }
        let last = Hops::new(4, 1).next(ZERO, CALL, arrival, |_| Some(5));
        let Next::Unavailable {
            reason,
            retry_after,
        } = last
        else {
            panic!("a fourth hop: {last:?}");
        };
        assert_eq!(reason, DeadEnd::Hops);
        assert!((SHORTEST_RETRY..=LONGEST_RETRY).contains(&retry_after));
        assert_eq!(retry_after.subsec_nanos(), 0);
    }

    #[test]
    fn a_bad_ticket_is_worse_than_none() {
        for error in [
            TicketError::Expired,
            TicketError::Forged,
            TicketError::Malformed,
        ] {
            let mut hops = Hops::new(1, 1);
            let next = hops.next(ZERO, CALL, Err(error).into(), |_| Some(2));
            let is_end = matches!(
                next,
                Next::Unavailable {
                    reason: DeadEnd::Ticket,
                    ..
                }
            );
            assert!(is_end, "{error}: {next:?}");
        }
    }

    #[test]
    fn retries_are_spread() {
        let mut hops = Hops::new(1, 1);
        let mut seen = [0; 9];
        for _ in 0..9000 {
            let next = hops.next(ZERO, CALL, Arrival::Fresh, |_| None::<u16>);
            let Next::Unavailable { retry_after, .. } = next else {
                panic!("an offer to nobody");
            };
            seen[retry_after.as_secs() as usize - 2] += 1;
        }
        assert!(
            seen.iter().all(|count| (900..1100).contains(count)),
            "{seen:?}"
        );
    }

    #[test]
    fn memory_is_bounded_and_forgets() {
        let mut hops = Hops::new(1, 1);
        for number in 0..REMEMBERED as u64 + 100 {
            hops.next(ZERO, Call::from_key(number), Arrival::Fresh, |_| Some(2));
        }
        assert_eq!(hops.calls.len(), REMEMBERED);
        assert!(!hops.calls.contains_key(&Call::from_key(99)));
        for _ in 0..REMEMBERED * 3 {
            hops.remember(
                ZERO,
                CALL,
                Ticket {
                    hop: 1,
                    visited: Visited::NONE,
                },
            );
        }
        assert!(hops.ends.len() <= REMEMBERED * 2);
        hops.forget(LIFETIME);
        assert!(hops.calls.is_empty() && hops.ends.is_empty());
    }

    proptest! {
        /// Nobody has room, and peers drop the ticket as they please: every call comes to an end. With
        /// the ticket after three offers, without it when each node has offered it three times.
        #[test]
        fn every_call_ends(nodes in 2u16..10, drops in proptest::collection::vec(any::<bool>(), 40), seed: u64) {
            let mut random = Random::new(seed);
            let mut fleet: Vec<Hops> = (1..=nodes).map(|own| Hops::new(own, seed)).collect();
            let (mut at, mut arrival, mut offers) = (1u16, Arrival::Fresh, 0u16);
            loop {
                let next = fleet[usize::from(at) - 1].next(ZERO, CALL, arrival, |visited| {
                    let open: Vec<u16> = (1..=nodes).filter(|node| !visited.contains(*node)).collect();
                    open.get(random.below(open.len() as u64) as usize).copied()
                });
                let Next::Offer { to, ticket } = next else { break };
                prop_assert_ne!(to, at);
                at = to;
                let is_dropped = drops.get(usize::from(offers)) == Some(&true);
                arrival = if is_dropped { Arrival::Fresh } else { Arrival::Ticketed(ticket) };
                offers += 1;
                prop_assert!(offers <= nodes * u16::from(MAX_HOPS));
                if drops.iter().take(usize::from(offers)).all(|drop| !drop) {
                    prop_assert!(offers <= u16::from(MAX_HOPS));
                }
            }
        }
    }
}
