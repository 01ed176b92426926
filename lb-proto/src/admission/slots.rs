//! The slots that a node has for calls: which are taken, which are held for calls that were promised
//! one.
//!
//! ```text
//!            reserve()             begin()            end()
//!   free ───────────────► leased ───────────► taken ────────► free
//!     │                     │  release(), or five seconds
//!     │                     └──────────────────────────────► free
//!     └──────────────── begin() ────────────────► taken
//! ```
//! A call has one slot at most, however often its INVITE comes: all operations are told the call, and
//! say so when it had what it asks for. A lease is not prolonged by asking again, or a peer that
//! retransmits could keep a slot from others for good.
//!
//! Taken and leased slots together are never more than the capacity, unless the capacity was made
//! smaller than what was taken already. So there are never more leases than that either.

use crate::call::Call;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How long a slot is held for a call that was told it may come (seed 1, claim 5): the time of a 302
/// to the switch and of an INVITE back, with three retransmissions (RFC 3261 §17.1.1.2: after 0.5,
/// 1.5 and 3.5 s).
pub const LEASE: Duration = Duration::from_secs(5);

/// A slot is held for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Until when.
    pub until: Duration,
    /// Whether it was held before already: the request is a retransmission.
    pub is_old: bool,
}

/// How a call came by its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// One was free.
    Free,
    /// One was held for it.
    Leased,
    /// It has it already: the request is a retransmission, or one more INVITE of the same call.
    Already,
}

/// No slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no slot is free")]
pub struct Full;

/// A node's slots.
#[derive(Clone, Debug)]
pub struct Slots {
    capacity: u32,
    taken: BTreeSet<Call>,
    leases: BTreeMap<Call, Duration>,
    /// In the order in which they end. Those that are no longer in `leases`, or there with another
    /// end, are passed over.
    ends: VecDeque<(Duration, Call)>,
}

impl Slots {
    /// So many slots, all free.
    pub const fn new(capacity: u32) -> Self {
        Self {
            capacity,
            taken: BTreeSet::new(),
            leases: BTreeMap::new(),
            ends: VecDeque::new(),
        }
    }

    /// Changes their number. Calls that have a slot keep it.
    pub fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// Slots in all.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Calls that have a slot.
    pub fn taken(&self) -> u32 {
        // Not more than a capacity ever was.
        u32::try_from(self.taken.len()).unwrap_or(u32::MAX)
    }

    /// Slots held.
    pub fn leased(&mut self, now: Duration) -> u32 {
        self.expire(now);
        u32::try_from(self.leases.len()).unwrap_or(u32::MAX)
    }

    /// Slots that are neither taken nor held.
    pub fn free(&mut self, now: Duration) -> u32 {
        let leased = self.leased(now);
        self.capacity
            .saturating_sub(self.taken())
            .saturating_sub(leased)
    }

    /// Whether the call has a slot.
    pub fn has(&self, call: Call) -> bool {
        self.taken.contains(&call)
    }

    /// Whether a slot is held for the call.
    pub fn is_held_for(&mut self, now: Duration, call: Call) -> bool {
        self.expire(now);
        self.leases.contains_key(&call)
    }

    /// Holds a slot for a call, for the time of a [`LEASE`].
    ///
    /// A call that has its slot already needs none, and is told of a lease all the same: what asks is
    /// a late copy of what was answered before.
    ///
    /// # Errors
    /// [`Full`] when no slot is free.
    pub fn reserve(&mut self, now: Duration, call: Call) -> Result<Lease, Full> {
        self.expire(now);
        if let Some(until) = self.leases.get(&call) {
            return Ok(Lease {
                until: *until,
                is_old: true,
            });
        }
        let until = now + LEASE;
        if self.has(call) {
            return Ok(Lease {
                until,
                is_old: true,
            });
        }
        if self.free(now) == 0 {
            return Err(Full);
        }
        self.leases.insert(call, until);
        self.ends.push_back((until, call));
        Ok(Lease {
            until,
            is_old: false,
        })
    }

    /// Gives the call a slot: the one held for it, or a free one.
    ///
    /// # Errors
    /// [`Full`] when there is neither.
    pub fn begin(&mut self, now: Duration, call: Call) -> Result<Taken, Full> {
        self.expire(now);
        if self.has(call) {
            return Ok(Taken::Already);
        }
        let taken = if self.leases.remove(&call).is_some() {
            Taken::Leased
        } else if self.free(now) > 0 {
            Taken::Free
        } else {
            return Err(Full);
        };
        self.taken.insert(call);
        Ok(taken)
    }

    /// The call has ended. Whether it had a slot.
    pub fn end(&mut self, call: Call) -> bool {
        self.taken.remove(&call)
    }

    /// The call that a slot is held for does not come. Whether one was held.
    pub fn release(&mut self, call: Call) -> bool {
        self.leases.remove(&call).is_some()
    }

    /// When the first lease ends that has not ended yet.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.ends.front().map(|(until, _)| *until)
    }

    fn expire(&mut self, now: Duration) {
        while let Some((until, call)) = self.ends.front().copied() {
            let is_current = self.leases.get(&call) == Some(&until);
            if is_current && until > now {
                return;
            }
            if is_current {
                self.leases.remove(&call);
            }
            self.ends.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Call = Call::from_key(1);
    const B: Call = Call::from_key(2);
    const ZERO: Duration = Duration::ZERO;
    const TICK: Duration = Duration::from_nanos(1);

    #[test]
    fn two_offers_cannot_take_the_last_slot() {
        let mut slots = Slots::new(1);
        let lease = Lease {
            until: LEASE,
            is_old: false,
        };
        assert_eq!(slots.reserve(ZERO, A), Ok(lease));
        assert_eq!(slots.reserve(ZERO, B), Err(Full));
        assert_eq!(
            slots.begin(ZERO, B),
            Err(Full),
            "nor does one that just comes"
        );
        let again = Lease {
            is_old: true,
            ..lease
        };
        assert_eq!(slots.reserve(LEASE - TICK, A), Ok(again), "not prolonged");
        assert_eq!(slots.begin(LEASE - TICK, A), Ok(Taken::Leased));
        assert_eq!(slots.begin(LEASE, A), Ok(Taken::Already));
        assert!(slots.reserve(LEASE, A).is_ok_and(|lease| lease.is_old));
        assert_eq!(slots.reserve(LEASE, B), Err(Full));
        assert!(slots.end(A) && !slots.end(A));
        assert_eq!(slots.begin(LEASE, B), Ok(Taken::Free));
    }

    #[test]
    fn who_does_not_come_loses_the_slot() {
        let mut slots = Slots::new(1);
        slots.reserve(ZERO, A).expect("free");
        assert_eq!(slots.next_timeout(), Some(LEASE));
        assert_eq!(slots.reserve(LEASE, B).map(|lease| lease.is_old), Ok(false));
        assert_eq!(slots.begin(LEASE, A), Err(Full), "too late");
        assert!(slots.release(B) && !slots.release(B));
        assert_eq!(slots.free(LEASE), 1);
        assert_eq!(slots.next_timeout(), None, "nothing is held");
    }

    #[test]
    fn a_smaller_capacity_ends_no_call() {
        let mut slots = Slots::new(2);
        slots.begin(ZERO, A).expect("free");
        slots.begin(ZERO, B).expect("free");
        slots.set_capacity(1);
        assert_eq!((slots.taken(), slots.free(ZERO)), (2, 0));
        slots.end(A);
        assert_eq!(slots.reserve(ZERO, A), Err(Full));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reserve(u64),
        Begin(u64),
        End(u64),
        Release(u64),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u64..12).prop_map(Step::Reserve),
            4 => (0u64..12).prop_map(Step::Begin),
            2 => (0u64..12).prop_map(Step::End),
            1 => (0u64..12).prop_map(Step::Release),
            3 => (0u64..4000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Against the plainest model there is: a call's slot and when it ends.
        #[test]
        fn no_slot_is_sold_twice(
            capacity in 0usize..6,
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let mut slots = Slots::new(capacity as u32);
            let mut now = ZERO;
            // None: taken.
            let mut model: BTreeMap<Call, Option<Duration>> = BTreeMap::new();
            for step in steps {
                let is_free = model.len() < capacity;
                match step {
                    Step::Reserve(call) => {
                        let call = Call::from_key(call);
                        let got = slots.reserve(now, call);
                        let was = model.get(&call).copied();
                        prop_assert_eq!(got.is_ok(), was.is_some() || is_free);
                        if let Ok(lease) = got {
                            prop_assert_eq!(lease.is_old, was.is_some());
                            if let Some(Some(until)) = was {
                                prop_assert_eq!(lease.until, until);
                            }
                            model.entry(call).or_insert(Some(lease.until));
                        }
                    }
                    Step::Begin(call) => {
                        let call = Call::from_key(call);
                        let expected = match model.get(&call) {
                            Some(None) => Ok(Taken::Already),
                            Some(Some(_)) => Ok(Taken::Leased),
                            None if is_free => Ok(Taken::Free),
                            None => Err(Full),
                        };
                        prop_assert_eq!(slots.begin(now, call), expected);
                        if expected.is_ok() {
                            model.insert(call, None);
                        }
                    }
                    Step::End(call) => {
                        let call = Call::from_key(call);
                        let is_taken = model.get(&call) == Some(&None);
                        prop_assert_eq!(slots.end(call), is_taken);
                        if is_taken {
                            model.remove(&call);
                        }
                    }
                    Step::Release(call) => {
                        let call = Call::from_key(call);
                        let is_held = matches!(model.get(&call), Some(Some(_)));
                        prop_assert_eq!(slots.release(call), is_held);
                        if is_held {
                            model.remove(&call);
                        }
                    }
                    Step::Wait(ms) => {
                        now += Duration::from_millis(ms);
                        model.retain(|_, until| until.is_none_or(|until| until > now));
                    }
                }
                prop_assert_eq!(slots.free(now) as usize, capacity - model.len());
                let taken = model.values().filter(|until| until.is_none()).count();
                prop_assert_eq!(slots.taken() as usize, taken);
                let first = model.values().flatten().min();
                prop_assert!(slots.next_timeout().is_none_or(|next| Some(&next) <= first || first.is_none()));
                prop_assert!(slots.ends.len() <= 64, "the queue of ends is bounded");
            }
        }
    }
}
