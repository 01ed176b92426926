//! The network between simulated machines: what gets through, when, and in which order.

use crate::random::Random;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// How the network treats datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss_permille: u64,
    pub(crate) duplicates_permille: u64,
    /// Datagrams take up to this long, so that they overtake one another.
    pub(crate) delay: Duration,
}

/// Nothing is lost or doubled.
pub(crate) const CALM: Weather = Weather {
    loss_permille: 0,
    duplicates_permille: 0,
    delay: Duration::from_millis(1),
};

pub(crate) const FAIR: Weather = Weather {
    loss_permille: 10,
    duplicates_permille: 10,
    delay: Duration::from_millis(5),
};

/// One in a hundred is lost, and 20 ms of jitter.
pub(crate) const ROUGH: Weather = Weather {
    loss_permille: 10,
    duplicates_permille: 0,
    delay: Duration::from_millis(20),
};

pub(crate) const FOUL: Weather = Weather {
    loss_permille: 300,
    duplicates_permille: 150,
    delay: Duration::from_millis(70),
};

impl Weather {
    /// The delays after which copies of one datagram arrive; none when it is lost.
    pub(crate) fn delays(&self, random: &mut Random) -> impl Iterator<Item = Duration> + use<> {
        let copies = if random.below(1000) < self.loss_permille {
            0
        } else {
            1 + usize::from(random.below(1000) < self.duplicates_permille)
        };
        let span = self.delay.as_nanos() as u64 + 1;
        let delays = [random.below(span), random.below(span)];
        delays.into_iter().take(copies).map(Duration::from_nanos)
    }
}

/// Which links carry nothing, each direction by itself. At most 32 machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cuts([u32; 32]);

impl Cuts {
    pub(crate) fn set(&mut self, from: usize, to: usize, is_cut: bool) {
        self.0[from] = self.0[from] & !(1 << to) | u32::from(is_cut) << to;
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.0[from] >> to & 1 != 0
    }

    /// Those of a side hear each other, and nobody of the other: bit n says which side machine n is
    /// on.
    pub(crate) fn sides(machines: usize, sides: u32) -> Self {
        let mut cuts = Self::default();
        for from in 0..machines {
            for to in 0..machines {
                cuts.set(from, to, (sides >> from ^ sides >> to) & 1 != 0);
            }
        }
        cuts
    }
}

/// What is to happen, by time; what is for the same time happens in the order in which it was put.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    items: Vec<Option<T>>,
    free: Vec<usize>,
    count: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            items: Vec::new(),
            free: Vec::new(),
            count: 0,
        }
    }

    pub(crate) fn put(&mut self, time: Duration, item: T) {
        let place = self.free.pop().unwrap_or(self.items.len());
        if place == self.items.len() {
            self.items.push(None);
        }
        self.items[place] = Some(item);
        self.count += 1;
        self.heap.push(Reverse((time, self.count, place)));
    }

    /// The next until `time`.
    pub(crate) fn take(&mut self, time: Duration) -> Option<(Duration, T)> {
        let Reverse((at, _, place)) = *self.heap.peek().filter(|first| first.0.0 <= time)?;
        self.heap.pop();
        self.free.push(place);
        self.items[place].take().map(|item| (at, item))
    }
}
