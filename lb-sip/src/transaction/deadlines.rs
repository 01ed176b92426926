//! Who is due when: one deadline for each of many.

use std::collections::BTreeSet;
use std::time::Duration;

/// The deadlines of many things, in order of time and then of id.
///
/// Ordered, not hashed, so that what is due at the same time comes in the same order in every run. It
/// holds one entry for each thing that has a deadline, no stale ones, and is thereby as bounded as
/// its owner.
#[derive(Debug)]
pub(crate) struct Deadlines<Id>(BTreeSet<(Duration, Id)>);

impl<Id: Copy + Ord> Deadlines<Id> {
    pub(crate) const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Puts `to` in the place of `from`, which must be what the id's deadline was.
    pub(crate) fn replace(&mut self, id: Id, from: Option<Duration>, to: Option<Duration>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.0.remove(&(from, id));
        }
        if let Some(to) = to {
            self.0.insert((to, id));
        }
    }

    /// The first deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Who is due first, if anybody is by `now`.
    pub(crate) fn due(&self, now: Duration) -> Option<Id> {
        self.0
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// One machine's timers: one that repeats something, and one that ends the state it is in.
///
/// No state of RFC 3261 §17 needs more than these two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alarms<Timer> {
    repeat: Option<(Duration, Timer)>,
    end: Option<(Duration, Timer)>,
}

impl<Timer: Copy> Alarms<Timer> {
    pub(super) const fn none() -> Self {
        Self {
            repeat: None,
            end: None,
        }
    }

    pub(super) fn repeat(&mut self, timer: Timer, at: Duration) {
        self.repeat = Some((at, timer));
    }

    pub(super) fn end(&mut self, timer: Timer, at: Duration) {
        self.end = Some((at, timer));
    }

    pub(super) fn stop_repeating(&mut self) {
        self.repeat = None;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::none();
    }

    pub(super) fn next(&self) -> Option<Duration> {
        let times = [self.repeat, self.end];
        times.into_iter().flatten().map(|(at, _)| at).min()
    }

    /// Disarms a timer that is due, and says which. The end comes first: who gives up now sends
    /// nothing more, also when both are late.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Timer> {
        [&mut self.end, &mut self.repeat]
            .into_iter()
            .find_map(|alarm| alarm.take_if(|(at, _)| *at <= now))
            .map(|(_, timer)| timer)
    }
}
