//! Reads how long tasks wait for CPU and memory, once a second.

use lb_proto::admission::Gate;
use lb_proto::admission::pressure::{Share, some_avg10};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The kernel itself averages over ten seconds.
const INTERVAL: Duration = Duration::from_secs(1);

/// The files of `/proc/pressure`.
#[derive(Debug)]
pub(crate) struct Pressure {
    due: Duration,
    cpu: Source,
    memory: Source,
}

impl Pressure {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            due: now,
            cpu: Source::new("/proc/pressure/cpu"),
            memory: Source::new("/proc/pressure/memory"),
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
        if let Some(share) = self.cpu.read() {
            gate.feel_cpu(share);
        }
        if let Some(share) = self.memory.read() {
            gate.feel_memory(share);
        }
    }
}

/// A file that may not be there, or not always: the daemon may lack a descriptor for a moment.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// It could not be read the last time, which was said.
    is_failing: bool,
}

impl Source {
    fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            is_failing: false,
        }
    }

    /// That it cannot be read is said when it begins and when it ends, and it is tried again the next
    /// time: a gate that was told of strain must hear of its end.
    fn read(&mut self) -> Option<Share> {
        let text = fs::read_to_string(&self.path).map_err(|error| error.to_string());
        let share = text.and_then(|text| some_avg10(&text).map_err(|error| error.to_string()));
        let was_failing = std::mem::replace(&mut self.is_failing, share.is_err());
        let path = self.path.display();
        match share {
            Ok(share) => {
                if was_failing {
                    tracing::info!(%path, "this pressure is looked at again");
                }
                Some(share)
            }
            Err(why) => {
                if !was_failing {
                    tracing::warn!(%path, why, "this pressure cannot be looked at");
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_could_not_be_read_once_is_read_again() {
        let path = std::env::temp_dir().join(format!("pm-{}-pressure", std::process::id()));
        let mut source = Source::new(&path);
        assert_eq!((source.read(), source.is_failing), (None, true));
        fs::write(&path, "some avg10=12.00 avg60=0.00 avg300=0.00 total=1\n").expect("a file");
        assert_eq!(
            (source.read(), source.is_failing),
            (Some(Share::percent(12)), false)
        );
        fs::write(&path, "nothing of the kind\n").expect("a file");
        assert_eq!((source.read(), source.is_failing), (None, true));
        fs::remove_file(&path).expect("own file");
    }
}
