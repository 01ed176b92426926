//! What one node has granted, and may grant: policy, without messages.
//!
//! - A lease that runs excludes every controller but its holder.
//! - Only a term above the highest that was ever granted is granted; the same term again only to its
//!   holder, which is a renewal, and not after the holder gave it up.
//! - A lease that was granted or renewed at t ends at t + lease + lease/8 + 1 ms by the node's clock.
//!   Its holder counts from when it *sent* what was answered, by its own clock, and an eighth is more
//!   than the clocks may differ by; so the holder knows the lease to be over before the node does.
//! - After a start, what had been granted is taken as granted at that moment. A node that does not
//!   know grants nothing for as long as the longest lease runs.

use super::{ControllerId, Term};
use std::time::Duration;

/// A lease, as it is kept on the disk before it is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The term.
    pub term: Term,
    /// To whom.
    pub holder: ControllerId,
    /// The longest that it has been granted for at a time.
    pub lease: Duration,
}

/// Why a lease is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The term is not above the highest, or has been given up.
    LowerTerm,
    /// Another's lease runs.
    Runs,
    /// What had been granted is not known.
    Starting,
    /// Longer than any lease may be.
    TooLong,
}

/// The leases of one node: one at a time.
#[derive(Clone, Debug)]
pub(super) struct Book {
    last: Option<Grant>,
    /// When the last one ends.
    until: Duration,
    is_released: bool,
    longest: Duration,
    /// Nothing is granted before this.
    blocked_until: Duration,
}

/// How long the node holds itself to a lease, by its own clock.
fn span(lease: Duration) -> Duration {
    lease + lease / 8 + Duration::from_millis(1)
}

impl Book {
    /// After a start, with what is on the disk.
    pub(super) fn new(now: Duration, kept: Option<Grant>, longest: Duration) -> Self {
        Self {
            last: kept,
            until: kept.map_or(now, |grant| now + span(grant.lease)),
            is_released: false,
            longest,
            blocked_until: match kept {
                Some(_) => now,
                None => now + span(longest),
            },
        }
    }

    /// Whether a lease could be granted or renewed at this moment, and if not, why.
    pub(super) fn check(&self, now: Duration, wanted: Grant) -> Result<(), Refused> {
        if wanted.lease > self.longest {
            return Err(Refused::TooLong);
        }
        if wanted.term <= self.highest() && !self.is_renewal(wanted) {
            return Err(Refused::LowerTerm);
        }
        if now < self.blocked_until {
            return Err(Refused::Starting);
        }
        let running = self.running(now);
        if running.is_some_and(|running| running.holder != wanted.holder) {
            return Err(Refused::Runs);
        }
        Ok(())
    }

    fn is_renewal(&self, wanted: Grant) -> bool {
        self.last.is_some_and(|last| {
            last.term == wanted.term && last.holder == wanted.holder && !self.is_released
        })
    }

    /// What the disk must say before this is granted. It names the longest lease that the holder may
    /// count on, or a node that starts again would not wait for it.
    pub(super) fn to_keep(&self, now: Duration, wanted: Grant) -> Grant {
        let running = self
            .running(now)
            .filter(|last| last.holder == wanted.holder);
        let lease = running.map_or(wanted.lease, |last| last.lease.max(wanted.lease));
        Grant { lease, ..wanted }
    }

    /// Grants or renews a lease, or says why not. What is granted must be on the disk before anybody
    /// is told: see [`Book::to_keep`].
    pub(super) fn grant(&mut self, now: Duration, wanted: Grant) -> Result<(), Refused> {
        self.check(now, wanted)?;
        let kept = self.to_keep(now, wanted);
        // What runs is the same holder's, and it may count on it.
        let until = now + span(wanted.lease);
        self.until = self.until(now).map_or(until, |running| running.max(until));
        self.last = Some(kept);
        self.is_released = false;
        Ok(())
    }

    /// The holder gives up what it has of this term and of those before.
    pub(super) fn release(&mut self, holder: ControllerId, term: Term) -> Result<(), Refused> {
        match self.last {
            Some(last) if last.holder == holder && term < last.term => Err(Refused::LowerTerm),
            Some(last) if last.holder == holder => {
                self.is_released = true;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Lets the lease that runs, run for this long at least: no harm to anybody but who waits.
    pub(super) fn prolong(&mut self, now: Duration, by: Duration) {
        if self.running(now).is_some() {
            self.until = self.until.max(now + by);
        }
    }

    /// The lease that runs.
    pub(super) fn running(&self, now: Duration) -> Option<Grant> {
        self.last.filter(|_| now < self.until && !self.is_released)
    }

    /// The lease that was granted last, whether it runs or not.
    pub(super) const fn last(&self) -> Option<Grant> {
        self.last
    }

    /// When the lease that runs ends.
    pub(super) fn until(&self, now: Duration) -> Option<Duration> {
        self.running(now).map(|_| self.until)
    }

    /// The highest term that was ever granted.
    pub(super) fn highest(&self) -> Term {
        self.last.map_or(Term(0), |last| last.term)
    }

    /// How long somebody else has to wait.
    pub(super) fn remaining(&self, now: Duration) -> Duration {
        let lease = self.until(now).unwrap_or(now);
        lease.max(self.blocked_until).saturating_sub(now)
    }
}

#[cfg(test)]
mod tests;
