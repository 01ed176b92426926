//! Monotonic time, as the machines of lb-proto count it.

use std::time::{Duration, Instant};

/// Counts time since it was made. The one clock of the daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// The instant to sleep until.
    pub(crate) fn instant(&self, time: Duration) -> tokio::time::Instant {
        (self.0 + time).into()
    }
}
