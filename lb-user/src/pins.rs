//! Removes pins that are over. The program only makes them and marks what has happened.
//!
//! | pin | lives |
//! |---|---|
//! | not confirmed: no ACK has passed | 64 s after it was made: no SIP transaction takes longer |
//! | ended: a BYE or CANCEL has passed | 64 s after its last packet |
//! | confirmed | the session limit after its last packet |
//!
//! Pins are a plain map, so nothing is ever evicted: when it is full, new calls are served at home
//! only, and that is an alarm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lb_common::maps::Pin;
use tokio::sync::watch;

use crate::plane::clock::Clock;
use crate::plane::maps::Cursor;
use crate::plane::{AccessError, Maps};

/// SIP's longest transaction: 64 · T1, once for the request and once for its answer (RFC 3261 §17).
const TRANSACTION: Duration = Duration::from_secs(64);
/// Work comes in portions, so that other tasks get their turn.
const TICK: Duration = Duration::from_millis(250);
/// A walk over all pins is to take no longer than this, however many there are.
const WALK: Duration = Duration::from_secs(16);
/// Entries of one portion, at least (see the map's batches).
const PORTION: u64 = 4_096;
/// The alarm ends below this part of the map's size.
const RELIEF_PERCENT: u64 = 95;

/// How long pins live, in jiffies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls that are being set up, or over.
    pub transaction: u64,
    /// Calls that were answered.
    pub session: u64,
}

impl Limits {
    /// By the clock's jiffies. `session`: the configured limit.
    pub fn new(clock: &Clock, session: Duration) -> Self {
        Self {
            transaction: clock.jiffies(TRANSACTION),
            session: clock.jiffies(session),
        }
    }
}

/// Whether a pin is over.
pub fn is_over(pin: &Pin, now: u64, limits: Limits) -> bool {
    let (since, limit) = if pin.flags & Pin::ENDED != 0 {
        (pin.last_seen, limits.transaction)
    } else if pin.flags & Pin::CONFIRMED != 0 {
        (pin.last_seen, limits.session)
    } else {
        (pin.created, limits.transaction)
    };
    // A pin made on another CPU a moment from now is no age old.
    now.checked_sub(since).is_some_and(|age| age > limit)
}

/// What the sweeper has seen, for `/metrics`.
#[derive(Debug, Default)]
pub struct SweepCounts {
    expired: AtomicU64,
    is_full: AtomicBool,
}

impl SweepCounts {
    /// Pins removed since the daemon started.
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Whether the map is full: new calls are served at home only.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }
}

/// Walks over the pins, again and again.
pub struct Sweeper {
    maps: Arc<Maps>,
    clock: Arc<Clock>,
    counts: Arc<SweepCounts>,
    at: Option<Cursor>,
}

impl Sweeper {
    /// A sweeper at the start of the map.
    pub fn new(maps: Arc<Maps>, clock: Arc<Clock>) -> Self {
        Self {
            maps,
            clock,
            counts: Arc::default(),
            at: None,
        }
    }

    /// The counters.
    pub fn counts(&self) -> Arc<SweepCounts> {
        self.counts.clone()
    }

    /// Goes on by some portions; returns how many pins were removed.
    ///
    /// # Errors
    /// [`AccessError`]; the walk starts over next time.
    pub fn step(&mut self, limits: Limits) -> Result<u64, AccessError> {
        let ticks = (WALK.as_millis() / TICK.as_millis()) as u64;
        let portions = u64::from(self.maps.max_pins()).div_ceil(PORTION * ticks);
        let mut removed = 0;
        for _ in 0..portions {
            let batch = self.maps.pin_batch(self.at.take())?;
            let now = self.clock.now();
            for (key, pin) in batch.entries {
                if is_over(&pin, now, limits) && self.is_still_over(key, now, limits)? {
                    removed += u64::from(self.maps.remove_pin(key)?);
                }
            }
            self.at = batch.next;
            if self.at.is_none() {
                break;
            }
        }
        self.counts.expired.fetch_add(removed, Ordering::Relaxed);
        self.watch_room();
        Ok(removed)
    }

    /// A packet may have gone by since the batch was read; between this look and the removal lies
    /// about a microsecond.
    fn is_still_over(&self, key: u64, now: u64, limits: Limits) -> Result<bool, AccessError> {
        Ok(self
            .maps
            .pin(key)?
            .is_some_and(|pin| is_over(&pin, now, limits)))
    }

    fn watch_room(&self) {
        let (count, max) = (self.maps.pin_count(), u64::from(self.maps.max_pins()));
        let was_full = self.counts.is_full();
        let is_full = if was_full {
            count * 100 >= max * RELIEF_PERCENT
        } else {
            count >= max
        };
        if is_full == was_full {
            return;
        }
        self.counts.is_full.store(is_full, Ordering::Relaxed);
        if is_full {
            tracing::error!(
                max,
                "the map of pins is full: new calls are served at home only; raise `max` in [pins] \
                 (that takes `pointsman detach` and a fresh start)"
            );
        } else {
            tracing::info!(count, max, "there is room for pins again");
        }
    }

    /// Sweeps until the future is dropped, which loses nothing. `session` brings another limit.
    pub async fn run(mut self, session: watch::Receiver<Duration>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let limits = Limits::new(&self.clock, *session.borrow());
            if let Err(error) = self.step(limits) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot sweep pins"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        transaction: 100,
        session: 1_000,
    };

    fn pin(flags: u16, created: u64, last_seen: u64) -> Pin {
        Pin {
            node: 1,
            flags,
            reserved: 0,
            created,
            last_seen,
        }
    }

    #[test]
    fn each_kind_has_its_time() {
        // (flags, created, last seen, over after)
        let cases = [
            (0, 50, 140, 150),
            (Pin::CONFIRMED, 50, 140, 1_140),
            (Pin::ENDED, 50, 140, 240),
            (Pin::CONFIRMED | Pin::ENDED, 50, 140, 240),
            (Pin::BY_CONTROLLER, 50, 140, 150),
            (Pin::BY_CONTROLLER | Pin::CONFIRMED, 50, 140, 1_140),
        ];
        for (flags, created, last_seen, last) in cases {
            let pin = pin(flags, created, last_seen);
            assert!(!is_over(&pin, last, LIMITS), "{pin:?}");
            assert!(is_over(&pin, last + 1, LIMITS), "{pin:?}");
        }
    }

    #[test]
    fn what_lies_ahead_is_not_over() {
        assert!(!is_over(&pin(0, 10, 10), 9, LIMITS));
        assert!(!is_over(&pin(Pin::ENDED, 0, u64::MAX), 500, LIMITS));
    }
}
