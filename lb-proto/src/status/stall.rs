//! Notices that this receiver itself did not run: drain first, judge after.
//!
//! A process that was stopped, swapped out or starved of a CPU has not listened, and what it missed
//! says nothing about others. It must not look at anybody's age before it has read what waits in its
//! sockets, and what was dropped there for want of room it must not hold against the senders.

use super::Timing;
use std::time::Duration;

/// Watches the time from one turn of the receiver's loop to the next.
#[derive(Clone, Debug)]
pub struct StallWatch {
    limit: Duration,
    last: Duration,
}

impl StallWatch {
    /// Half a hold time is a stall: a shorter one makes nobody look silent who is not.
    pub fn new(timing: Timing, now: Duration) -> Self {
        Self {
            limit: timing.hold() / 2,
            last: now,
        }
    }

    /// To be called first in every turn, before anything is read: when the last turn was, if that is
    /// so long ago that it was a stall. Then tell the map by
    /// [`stalled`](super::map::AvailabilityMap::stalled), drain the sockets, and go on.
    pub fn woke(&mut self, now: Duration) -> Option<Duration> {
        let last = std::mem::replace(&mut self.last, now);
        (now.saturating_sub(last) > self.limit).then_some(last)
    }

    /// When the next turn is due at the latest: sooner than a stall would be noticed.
    pub fn next_timeout(&self) -> Duration {
        self.last + self.limit / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_time_is_no_stall() {
        let mut watch = StallWatch::new(Timing::DEFAULT, Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..100 {
            now = watch.next_timeout();
            assert_eq!(watch.woke(now), None);
        }
        let late = now + Duration::from_millis(151);
        assert_eq!(watch.woke(late), Some(now));
        assert_eq!(watch.woke(late), None);
    }
}
