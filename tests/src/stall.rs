//! The stall witness: did the machine itself stand still for a while?
//!
//! Shared machines stop for 140 ms to 1 s now and then. A detection time measured across such a stop
//! says nothing about the program, so every test that depends on time keeps a witness, and a run in
//! which it stalled for more than [`LIMIT`] is void.
//!
//! The witness is one thread for each CPU, before all ordinary threads: it sees the machine's
//! stalls, not its load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lab::{Scheduling, cpus, run_on_cpu};

/// Stalls up to this long are allowed for in the times that are promised.
pub const LIMIT: Duration = Duration::from_millis(20);

/// How long each sleep of the witness is meant to be.
const SLEEP: Duration = Duration::from_millis(2);

/// Threads that watch the CPUs until this value is dropped.
#[derive(Debug)]
pub struct StallWitness {
    stop: Arc<AtomicBool>,
    longest_ns: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl StallWitness {
    /// Starts watching.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let longest_ns = Arc::new(AtomicU64::new(0));
        let threads = cpus().into_iter().map(|cpu| {
            let (stop, longest_ns) = (stop.clone(), longest_ns.clone());
            thread::spawn(move || watch(cpu, &stop, &longest_ns))
        });
        let threads = threads.collect();
        Self {
            stop,
            longest_ns,
            threads,
        }
    }

    /// The longest stall since the start, or since [`Self::take`].
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.load(Ordering::Relaxed))
    }

    /// The longest stall; from now on a new one is looked for.
    pub fn take(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.swap(0, Ordering::Relaxed))
    }
}

fn watch(cpu: usize, stop: &AtomicBool, longest_ns: &AtomicU64) {
    // Where it may not be had, the witness also sees load, and voids rather more runs than needed.
    let _: Result<Scheduling, _> = run_on_cpu(cpu, Scheduling::RealTime);
    let mut before = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(SLEEP);
        let now = Instant::now();
        let stall = now.duration_since(before).saturating_sub(SLEEP);
        let stall = u64::try_from(stall.as_nanos()).unwrap_or(u64::MAX);
        longest_ns.fetch_max(stall, Ordering::Relaxed);
        before = now;
    }
}

impl Drop for StallWitness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
