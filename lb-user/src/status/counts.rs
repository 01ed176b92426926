//! What the status task has seen, for `/metrics`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lb_proto::pin_report::Refusal;
use lb_proto::pin_report::wire::Verdict;

use super::discovery::NotLearnt;

/// What became of a pin report that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// Carried out.
    New(Verdict),
    /// A repetition: answered once more.
    Again,
    /// A map could not be written: not answered.
    Failed,
}

impl Reported {
    /// All of them: the counters' order.
    pub const ALL: [Self; 5] = [
        Self::New(Verdict::Pinned),
        Self::New(Verdict::AtHome),
        Self::New(Verdict::Full),
        Self::Again,
        Self::Failed,
    ];

    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New(verdict) => verdict.name(),
            Self::Again => "repeated",
            Self::Failed => "failed",
        }
    }
}

/// The status task's counters.
#[derive(Debug, Default)]
pub struct StatusCounts {
    is_plane_broken: AtomicBool,
    accepted: AtomicU64,
    refused: AtomicU64,
    origins: AtomicU64,
    queries: AtomicU64,
    held: AtomicU64,
    downs: AtomicU64,
    stalls: AtomicU64,
    reported: [AtomicU64; Reported::ALL.len()],
    report_refusals: [AtomicU64; Refusal::ALL.len()],
    not_learnt: [AtomicU64; NotLearnt::ALL.len()],
}

macro_rules! counts {
    ($($(#[$doc:meta])+ $name:ident, $count:ident;)+) => {
        $($(#[$doc])+
        pub fn $name(&self) -> u64 {
            self.$name.load(Ordering::Relaxed)
        }

        pub(super) fn $count(&self) {
            add(&self.$name);
        })+
    };
}

impl StatusCounts {
    /// Whether nobody at all is heard: staleness is ignored, and somebody should look.
    pub fn is_plane_broken(&self) -> bool {
        self.is_plane_broken.load(Ordering::Relaxed)
    }

    pub(super) fn set_plane_broken(&self, is_broken: bool) {
        self.is_plane_broken.store(is_broken, Ordering::Relaxed);
    }

    counts! {
        /// Beacons that userspace took.
        accepted, count_accepted;
        /// Datagrams on the status port that userspace refused; pin reports are counted by themselves.
        refused, count_refused;
        /// Of those, beacons from elsewhere than their node.
        origins, count_origin;
        /// Questions asked of silent nodes.
        queries, count_query;
        /// Nodes' questions answered whose stamps are too old.
        held, count_held;
        /// Times that a node was declared `Down`.
        downs, count_down;
        /// Times that this process itself did not run for so long that it could not judge others.
        stalls, count_stall;
    }

    /// Pin reports that were taken, by what became of them.
    pub fn reported(&self) -> impl Iterator<Item = (Reported, u64)> + '_ {
        let counts = self.reported.iter();
        Reported::ALL
            .into_iter()
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
    }

    /// Pin reports that were refused, by reason.
    pub fn report_refusals(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        let counts = self.report_refusals.iter();
        Refusal::ALL
            .into_iter()
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
    }

    /// Good beacons of nodes that could not be learnt, by reason.
    pub fn not_learnt(&self) -> impl Iterator<Item = (NotLearnt, u64)> + '_ {
        let counts = self.not_learnt.iter();
        NotLearnt::ALL
            .into_iter()
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
    }

    pub(super) fn count_not_learnt(&self, why: NotLearnt) {
        let place = NotLearnt::ALL.iter().position(|other| *other == why);
        if let Some(count) = place.and_then(|place| self.not_learnt.get(place)) {
            add(count);
        }
    }

    pub(super) fn count_reported(&self, reported: Reported) {
        let place = Reported::ALL.iter().position(|other| *other == reported);
        if let Some(count) = place.and_then(|place| self.reported.get(place)) {
            add(count);
        }
    }

    pub(super) fn count_report_refusal(&self, refusal: Refusal) {
        let place = Refusal::ALL.iter().position(|other| *other == refusal);
        if let Some(count) = place.and_then(|place| self.report_refusals.get(place)) {
            add(count);
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
