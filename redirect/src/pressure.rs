//! Reads how long tasks wait for CPU and memory, once a second.

use lb_proto::admission::Gate;
use lb_proto::admission::pressure::some_avg10;
use std::fs;
use std::time::Duration;

/// The kernel itself averages over ten seconds.
const INTERVAL: Duration = Duration::from_secs(1);

/// The files of `/proc/pressure` that there are.
#[derive(Debug)]
pub(crate) struct Pressure {
    due: Duration,
    has_cpu: bool,
    has_memory: bool,
}

impl Pressure {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            due: now,
            has_cpu: true,
            has_memory: true,
        }
    }

    /// When to call [`Pressure::tell`] next.
    pub(crate) fn due(&self) -> Duration {
        self.due
    }

    /// Tells the gate, if it is time.
    pub(crate) fn tell(&mut self, now: Duration, gate: &mut Gate) {
        if now < self.due {
            return;
        }
        self.due = now + INTERVAL;
        if let Some(share) = read("/proc/pressure/cpu", &mut self.has_cpu) {
            gate.feel_cpu(share);
        }
        if let Some(share) = read("/proc/pressure/memory", &mut self.has_memory) {
            gate.feel_memory(share);
        }
    }
}

/// A file that cannot be read is said so once, and not looked at again.
fn read(path: &str, is_there: &mut bool) -> Option<lb_proto::admission::pressure::Share> {
    if !*is_there {
        return None;
    }
    let why = match fs::read_to_string(path) {
        Ok(text) => match some_avg10(&text) {
            Ok(share) => return Some(share),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    *is_there = false;
    tracing::warn!(path, why, "this pressure is not looked at");
    None
}
