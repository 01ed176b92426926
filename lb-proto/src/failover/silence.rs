//! For how long somebody has not been heard, less what this machine itself is to blame for.
//!
//! A process that was stopped, swapped out or starved of a CPU has not listened. It empties its
//! sockets first; what it still misses afterwards it may have missed itself, so the time that it did
//! not run does not count. It counts again when that happens over and over in one silence: a machine
//! that is always late must notice a loss, too.

use std::time::Duration;

/// Stalls forgiven in one silence. Chosen: one is what befalls a machine, four are what it is like.
const MOST_FORGIVEN: u8 = 3;

/// The silence of one sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    /// When it was heard, or would have been if the stalls had not been.
    from: Duration,
    forgiven: u8,
}

impl Silence {
    /// Begins when it is heard.
    pub(super) const fn new(now: Duration) -> Self {
        Self {
            from: now,
            forgiven: 0,
        }
    }

    /// Takes the time from `last` to `now` out of it; whether it did.
    pub(super) fn forgive(&mut self, last: Duration, now: Duration) -> bool {
        // What was heard since the stall has ended the silence that it fell into.
        if self.forgiven == MOST_FORGIVEN || self.from > last {
            return false;
        }
        self.forgiven += 1;
        self.from += now.saturating_sub(last);
        true
    }

    pub(super) const fn length(&self, now: Duration) -> Duration {
        now.saturating_sub(self.from)
    }

    /// When it will have lasted that long.
    pub(super) fn end(&self, limit: Duration) -> Duration {
        self.from + limit
    }
}

/// Notices that this machine did not run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    last: Duration,
}

impl Pulse {
    pub(super) const fn new(now: Duration) -> Self {
        Self { last: now }
    }

    /// To be called in every turn: when the last turn was, if that is longer ago than `limit`.
    pub(super) fn beat(&mut self, now: Duration, limit: Duration) -> Option<Duration> {
        let last = std::mem::replace(&mut self.last, now);
        (now.saturating_sub(last) > limit).then_some(last)
    }

    /// When the next turn is due at the latest: sooner than a stall would be noticed.
    pub(super) fn due(&self, limit: Duration) -> Duration {
        self.last + limit / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_stall_does_not_count_but_the_fourth_does() {
        let mut silence = Silence::new(10 * MS);
        let mut now = 20 * MS;
        for round in 0..5u32 {
            let woke = now + 2000 * MS;
            assert_eq!(silence.forgive(now, woke), round < 3);
            now = woke;
            let own = 10 * MS + (round + 1).saturating_sub(3) * 2000 * MS;
            assert_eq!(silence.length(now), own);
        }
    }

    #[test]
    fn what_was_heard_after_the_stall_is_not_put_off() {
        let mut silence = Silence::new(70 * MS);
        assert!(!silence.forgive(20 * MS, 71 * MS));
        assert_eq!(silence.length(72 * MS), 2 * MS);
    }

    #[test]
    fn only_what_is_late_is_a_stall() {
        let mut pulse = Pulse::new(MS);
        let limit = 20 * MS;
        assert_eq!(pulse.due(limit), 11 * MS);
        assert_eq!(pulse.beat(21 * MS, limit), None);
        assert_eq!(pulse.beat(42 * MS, limit), Some(21 * MS));
        assert_eq!(pulse.beat(43 * MS, limit), None);
    }
}
