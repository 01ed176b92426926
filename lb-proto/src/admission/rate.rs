//! How fast calls come, and how fast they may.

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// How many calls a second a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls a second in the long run. 0 takes none at all.
    pub per_second: u32,
    /// Calls that may come at once, at least 1: without some of it, the calls of a second would have
    /// to come at even distances.
    pub burst: u32,
}

/// The token bucket behind a [`Rate`]: as full as its burst at first.
///
/// Only the moment is kept at which it will be full again (the virtual scheduling form of the leaky
/// bucket, ITU-T I.371 Annex A), so that nothing is rounded away between calls.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    full_at: Duration,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: Duration::ZERO,
        }
    }

    /// Goes on by another rate; what was taken stays taken.
    pub(super) fn set_rate(&mut self, now: Duration, rate: Rate) {
        let taken = self.rate.burst.saturating_sub(self.left(now));
        self.rate = rate;
        let debt = self.interval().saturating_mul(taken.min(rate.burst));
        self.full_at = now.saturating_add(debt);
    }

    /// Time that one call takes to be earned back.
    fn interval(&self) -> Duration {
        SECOND
            .checked_div(self.rate.per_second)
            .unwrap_or(Duration::MAX)
    }

    /// Calls that may come at this moment.
    pub(super) fn left(&self, now: Duration) -> u32 {
        if self.rate.per_second == 0 {
            return 0;
        }
        let missing = self.full_at.saturating_sub(now).as_nanos();
        let spent = missing.div_ceil(self.interval().as_nanos().max(1));
        let spent = u32::try_from(spent).unwrap_or(u32::MAX);
        self.rate.burst.saturating_sub(spent)
    }

    /// Calls that may come within the second that begins now.
    pub(super) fn left_in_a_second(&self, now: Duration) -> u32 {
        self.left(now).saturating_add(self.rate.per_second)
    }

    /// Whether half of the burst, or one call at least, is there.
    pub(super) fn is_half_full(&self, now: Duration) -> bool {
        self.left(now) >= self.rate.burst.div_ceil(2).max(1)
    }

    /// Takes one call out, if there is one.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let is_there = self.left(now) > 0;
        if is_there {
            self.full_at = self.full_at.max(now) + self.interval();
        }
        is_there
    }
}

const SLICES: usize = 10;

/// Counts the calls of the last second, to a tenth.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    slices: [u32; SLICES],
    /// The tenth of a second, counted from the origin of time, that is being counted in.
    slice: u64,
}

impl Meter {
    pub(super) fn count(&mut self, now: Duration) {
        self.advance(now);
        let place = (self.slice % SLICES as u64) as usize;
        if let Some(slice) = self.slices.get_mut(place) {
            *slice = slice.saturating_add(1);
        }
    }

    /// Calls counted within the last nine to ten tenths of a second.
    pub(super) fn per_second(&mut self, now: Duration) -> u32 {
        self.advance(now);
        self.slices
            .iter()
            .fold(0, |sum, slice| sum.saturating_add(*slice))
    }

    fn advance(&mut self, now: Duration) {
        let slice = u64::try_from(now.as_millis() / 100).unwrap_or(u64::MAX);
        let passed = slice.saturating_sub(self.slice).min(SLICES as u64);
        for step in 0..passed {
            let place = ((slice - step) % SLICES as u64) as usize;
            if let Some(slice) = self.slices.get_mut(place) {
                *slice = 0;
            }
        }
        self.slice = self.slice.max(slice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(Rate {
            per_second: 10,
            burst: 5,
        });
        let at_once = (0..100).filter(|_| bucket.take(MS)).count();
        assert_eq!(at_once, 5);
        assert!(!bucket.is_half_full(MS * 201), "two of five");
        assert!(bucket.is_half_full(MS * 301), "three of five");
        let later = (0..1000).filter(|ms| bucket.take(MS * (1 + ms))).count();
        assert_eq!(later, 9, "one every 100 ms, and the last is yet to come");
        assert_eq!(bucket.left_in_a_second(MS * 1001), 11);
    }

    #[test]
    fn none_a_second_is_none_at_all() {
        let mut bucket = Bucket::new(Rate {
            per_second: 0,
            burst: 5,
        });
        assert!(!bucket.take(Duration::from_secs(1000)));
        assert_eq!(bucket.left_in_a_second(Duration::ZERO), 0);
    }

    #[test]
    fn another_rate_forgives_nothing() {
        let rate = |per_second, burst| Rate { per_second, burst };
        let mut bucket = Bucket::new(rate(10, 4));
        (0..3).for_each(|_| assert!(bucket.take(MS)));
        bucket.set_rate(MS, rate(100, 8));
        assert_eq!(bucket.left(MS), 5);
        bucket.set_rate(MS, rate(100, 2));
        assert_eq!(bucket.left(MS), 0);
        bucket.set_rate(MS, rate(0, 2));
        assert_eq!(bucket.left(MS), 0);
    }

    #[test]
    fn the_meter_forgets_after_a_second() {
        let mut meter = Meter::default();
        for ms in 0..1000 {
            meter.count(MS * ms);
        }
        assert_eq!(meter.per_second(MS * 999), 1000);
        assert_eq!(meter.per_second(MS * 1499), 500);
        assert_eq!(meter.per_second(Duration::from_secs(1 << 40)), 0);
    }

    proptest! {
        /// In no span of time does more come through than the burst and what the span earns.
        #[test]
        fn never_more_than_allowed(
            per_second in 1u32..1000,
            burst in 1u32..50,
            gaps in proptest::collection::vec(0u64..20_000_000, 1..300),
        ) {
            let mut bucket = Bucket::new(Rate { per_second, burst });
            let mut now = Duration::ZERO;
            let mut taken = Vec::new();
            for gap in gaps {
                now += Duration::from_nanos(gap);
                if bucket.take(now) {
                    taken.push(now);
                }
            }
            for (i, first) in taken.iter().enumerate() {
                for (count, last) in (1u32..).zip(&taken[i..]) {
                    let earned = (*last - *first).as_secs_f64() * f64::from(per_second);
                    prop_assert!(f64::from(count) <= f64::from(burst) + earned + 0.001);
                }
            }
        }
    }
}
