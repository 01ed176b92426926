//! What became of deferred datagrams, counted by reason: the part of `stats` that the program cannot
//! count.

use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::{Outcome, Reason};

use super::steer::Steering;

macro_rules! losses {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a deferred datagram was not sent on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Loss {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Loss {
            /// Every loss, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that people and programs read.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The sentence behind the word.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

losses! {
    /// The socket's queue was full: more was deferred than one core steers.
    QueueFull = "queue-full",
    /// Sent from an address that nobody can be answered at: loopback, multicast, zero, or a VIP.
    BadSource = "bad-source",
    /// The hop limit was used up: it has been round too often.
    HopLimit = "hop-limit",
    /// The table is empty: there is no node at all.
    NoNode = "no-node",
    /// Another LB serves the VIP.
    Passive = "passive",
    /// Part of a dialog that may live anywhere: where is being asked, and it will come again.
    Gathering = "gathering",
    /// The node's link address did not become known in time.
    NoNeighbour = "no-neighbour",
    /// Too many datagrams already waited for a link address.
    WaitingFull = "waiting-full",
    /// It does not fit the frames that the port sends.
    Unframed = "unframed",
    /// The port refused a frame: it is down, or its queue is full.
    Unsent = "unsent",
    /// A map could not be read or written.
    NoMap = "no-map",
}

/// Counters, written by the task, read by whoever looks.
#[derive(Debug)]
pub struct Counters {
    by_call_id: [AtomicU64; Reason::ALL.len()],
    by_client: [AtomicU64; Reason::ALL.len()],
    lost: [AtomicU64; Loss::ALL.len()],
    held: AtomicU64,
    frames: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            by_call_id: [const { AtomicU64::new(0) }; _],
            by_client: [const { AtomicU64::new(0) }; _],
            lost: [const { AtomicU64::new(0) }; _],
            held: AtomicU64::new(0),
            frames: AtomicU64::new(0),
        }
    }
}

impl Counters {
    pub(super) fn steered(&self, steering: &Steering) {
        let counters = match steering.outcome() {
            Outcome::SteerCallId => &self.by_call_id,
            _ => &self.by_client,
        };
        if let Some(counter) = counters.get(steering.reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn lost(&self, loss: Loss, datagrams: u64) {
        if let Some(counter) = self.lost.get(loss as usize) {
            counter.fetch_add(datagrams, Ordering::Relaxed);
        }
    }

    pub(super) fn held(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, frames: usize) {
        self.frames.fetch_add(frames as u64, Ordering::Relaxed);
    }

    /// Datagrams steered, by outcome and reason; those that never happened are left out.
    pub fn all_steered(&self) -> Vec<(Outcome, Reason, u64)> {
        let of = |outcome, counters: &[AtomicU64]| -> Vec<_> {
            let counts = counters
                .iter()
                .map(|counter| counter.load(Ordering::Relaxed));
            let named = Reason::ALL.iter().zip(counts);
            named
                .filter(|(_, count)| *count > 0)
                .map(|(r, count)| (outcome, *r, count))
                .collect()
        };
        let mut all = of(Outcome::SteerCallId, &self.by_call_id);
        all.extend(of(Outcome::SteerFallback, &self.by_client));
        all
    }

    /// Datagrams lost, by reason, zeros included.
    pub fn all_lost(&self) -> Vec<(Loss, u64)> {
        let counts = self
            .lost
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed));
        Loss::ALL.iter().copied().zip(counts).collect()
    }

    /// Datagrams that had to wait for a link address.
    pub fn all_held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Frames sent; a datagram may take several.
    pub fn all_sent(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_out_under_their_names() {
        let counters = Counters::default();
        let steering = |call_id| Steering {
            node: 1,
            reason: Reason::Home,
            call_id,
            key: 0,
        };
        counters.steered(&steering(Some(0..1)));
        counters.steered(&steering(None));
        counters.steered(&steering(None));
        counters.lost(Loss::HopLimit, 3);
        assert_eq!(
            counters.all_steered(),
            [
                (Outcome::SteerCallId, Reason::Home, 1),
                (Outcome::SteerFallback, Reason::Home, 2)
            ]
        );
        assert_eq!(counters.all_lost().len(), Loss::ALL.len());
        assert!(counters.all_lost().contains(&(Loss::HopLimit, 3)));
        for (place, loss) in Loss::ALL.iter().enumerate() {
            assert_eq!(*loss as usize, place);
        }
    }
}
