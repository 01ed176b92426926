//! The kernel's jiffies, as userspace tells them.
//!
//! Times in the maps are in jiffies, which userspace cannot read. So the object holds a program that
//! writes them into a frame, beside the coarse monotonic clock, which the kernel moves in the same
//! tick. Two readings give the length of a jiffy; from then on `CLOCK_MONOTONIC_COARSE` alone tells
//! the jiffies, exact to one tick, without a system call into BPF.
//!
//! The two clocks part by what NTP adds to the monotonic one (500 ppm at most), so
//! [`Clock::calibrate`] is to be repeated now and then: every minute bounds the error to 30 ms, and
//! every ten seconds to a tick of 250 Hz.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use aya::programs::{ProgramError, Xdp};
use aya_obj::programs::XdpAttachType;
use lb_common::maps::Settings;

use super::site::CLOCK_PIN;
use super::test_run::{self, TestRunError};
use super::{Plane, object};

/// The frame that the program writes its readings into.
const FRAME_LEN: usize = 64;

/// Time between the readings that measure a jiffy. Five ticks of the slowest kernel.
const SPAN: Duration = Duration::from_millis(50);

/// Timer frequencies that kernels are built with (`CONFIG_HZ`).
const FREQUENCIES: [u64; 4] = [100, 250, 300, 1_000];

/// Attempts to measure, each over twice the span of the one before.
const ATTEMPTS: u32 = 4;

/// The clock could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The clock program could not be run.
    #[error("reading the kernel's jiffies")]
    TestRun(#[from] TestRunError),
    /// The program is not pinned.
    #[error("the clock program's pin")]
    Pin(#[source] ProgramError),
    /// The program's answer makes no sense.
    #[error("the clock program does not tell the time")]
    Silent,
    /// No frequency that kernels are built with fits what was measured.
    #[error("a jiffy seems to last {measured_ns} ns, which no kernel's timer does")]
    Unsteady {
        /// The last measurement.
        measured_ns: u64,
    },
}

/// One look at the kernel's clocks.
#[derive(Clone, Copy, Debug)]
struct Reading {
    jiffies: u64,
    coarse_ns: u64,
}

/// Tells the time in jiffies.
#[derive(Debug)]
pub struct Clock {
    jiffy_ns: u64,
    /// Jiffies at the last reading.
    base_jiffies: AtomicU64,
    /// The coarse monotonic clock at the last reading.
    base_ns: AtomicU64,
}

impl Clock {
    /// Measures the length of a jiffy. Takes 50 ms; more on a machine that stalls.
    ///
    /// # Errors
    /// [`ClockError`].
    pub fn measure(plane: &Plane) -> Result<Self, ClockError> {
        let program = plane
            .program(object::CLOCK)
            .ok_or(TestRunError::NoProgram(object::CLOCK))?;
        let mut measured_ns = 0;
        for attempt in 0..ATTEMPTS {
            let first = read(program)?;
            thread::sleep(SPAN * 2u32.pow(attempt));
            let second = read(program)?;
            measured_ns = ns_per_jiffy(first, second).ok_or(ClockError::Silent)?;
            if let Some(jiffy_ns) = snap(measured_ns) {
                return Ok(Self::at(jiffy_ns, second));
            }
        }
        Err(ClockError::Unsteady { measured_ns })
    }

    /// The clock of a running data plane, for those who only read its maps: the length of a jiffy
    /// is in the settings, and the program is pinned in `dir`.
    ///
    /// # Errors
    /// [`ClockError`].
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self, ClockError> {
        let program = Xdp::from_pin(dir.join(CLOCK_PIN), XdpAttachType::Interface)
            .map_err(ClockError::Pin)?;
        if settings.jiffy_ns == 0 {
            return Err(ClockError::Silent);
        }
        Ok(Self::at(settings.jiffy_ns, read(&program)?))
    }

    fn at(jiffy_ns: u64, reading: Reading) -> Self {
        Self {
            jiffy_ns,
            base_jiffies: reading.jiffies.into(),
            base_ns: reading.coarse_ns.into(),
        }
    }

    /// Takes the clocks' relation anew, so that NTP's corrections do not add up.
    ///
    /// # Errors
    /// [`ClockError`]; the clock goes on as before.
    pub fn calibrate(&self, plane: &Plane) -> Result<(), ClockError> {
        let program = plane
            .program(object::CLOCK)
            .ok_or(TestRunError::NoProgram(object::CLOCK))?;
        let reading = read(program)?;
        self.base_jiffies.store(reading.jiffies, Ordering::Relaxed);
        self.base_ns.store(reading.coarse_ns, Ordering::Relaxed);
        Ok(())
    }

    /// Nanoseconds of a jiffy.
    pub fn jiffy_ns(&self) -> u64 {
        self.jiffy_ns
    }

    /// The time, in jiffies.
    pub fn now(&self) -> u64 {
        self.at_ns(coarse_ns())
    }

    fn at_ns(&self, ns: u64) -> u64 {
        let base_ns = self.base_ns.load(Ordering::Relaxed);
        let base = self.base_jiffies.load(Ordering::Relaxed);
        let half = self.jiffy_ns / 2;
        match ns.checked_sub(base_ns) {
            Some(since) => base.saturating_add((since + half) / self.jiffy_ns),
            None => base.saturating_sub((base_ns - ns + half) / self.jiffy_ns),
        }
    }

    /// A duration in jiffies, rounded up: what must not be too short is not.
    pub fn jiffies(&self, duration: Duration) -> u64 {
        jiffies(duration, self.jiffy_ns)
    }

    /// How long a number of jiffies lasts.
    pub fn duration(&self, jiffies: u64) -> Duration {
        Duration::from_nanos(jiffies.saturating_mul(self.jiffy_ns))
    }

    /// How long ago a moment was; zero for moments to come.
    pub fn age(&self, then: u64) -> Duration {
        self.duration(self.now().saturating_sub(then))
    }
}

/// A duration in jiffies of a length, rounded up.
pub(crate) fn jiffies(duration: Duration, jiffy_ns: u64) -> u64 {
    let ns = duration.as_nanos().div_ceil(u128::from(jiffy_ns.max(1)));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

fn read(program: &Xdp) -> Result<Reading, ClockError> {
    let run = test_run::run(program, &[0; FRAME_LEN], 0)?;
    let word = |at: usize| {
        let bytes = run.frame.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    match (word(0), word(16)) {
        (Some(jiffies @ 1..), Some(coarse_ns @ 1..)) => Ok(Reading { jiffies, coarse_ns }),
        _ => Err(ClockError::Silent),
    }
}

fn ns_per_jiffy(first: Reading, second: Reading) -> Option<u64> {
    let jiffies = second.jiffies.checked_sub(first.jiffies)?;
    second
        .coarse_ns
        .checked_sub(first.coarse_ns)?
        .checked_div(jiffies)
}

/// The length of a jiffy that was meant, if the measurement is within 2 % of one.
fn snap(measured_ns: u64) -> Option<u64> {
    FREQUENCIES
        .into_iter()
        .map(|hz| 1_000_000_000 / hz)
        .find(|jiffy_ns| measured_ns.abs_diff(*jiffy_ns) <= jiffy_ns / 50)
}

#[expect(unsafe_code, reason = "clock_gettime")]
fn coarse_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec. This clock exists since Linux 2.6.32, so the call
    // cannot fail; if it did, the zero time stands.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_snapped_or_refused() {
        assert_eq!(snap(4_000_000), Some(4_000_000));
        assert_eq!(snap(4_079_999), Some(4_000_000));
        assert_eq!(snap(3_920_001), Some(4_000_000));
        assert_eq!(snap(4_090_000), None);
        assert_eq!(snap(3_300_000), Some(3_333_333));
        assert_eq!(snap(0), None);
    }

    #[test]
    fn durations_round_up() {
        let clock = Clock::at(
            4_000_000,
            Reading {
                jiffies: 1_000,
                coarse_ns: 5_000_000_000,
            },
        );
        assert_eq!(clock.jiffies(Duration::ZERO), 0);
        assert_eq!(clock.jiffies(Duration::from_millis(1)), 1);
        assert_eq!(clock.jiffies(Duration::from_millis(4)), 1);
        assert_eq!(clock.jiffies(Duration::from_millis(5)), 2);
        assert_eq!(clock.jiffies(Duration::MAX), u64::MAX);
        assert_eq!(clock.duration(3), Duration::from_millis(12));
    }

    #[test]
    fn time_runs_on_from_the_reading_and_back() {
        let clock = Clock::at(
            4_000_000,
            Reading {
                jiffies: 1_000,
                coarse_ns: 5_000_000_000,
            },
        );
        assert_eq!(clock.at_ns(5_000_000_000), 1_000);
        // NTP makes ticks a little longer or shorter: the nearest one is meant.
        assert_eq!(clock.at_ns(5_004_000_100), 1_001);
        assert_eq!(clock.at_ns(5_003_999_900), 1_001);
        assert_eq!(clock.at_ns(4_996_000_000), 999);
        assert_eq!(clock.at_ns(0), 0);
    }

    #[test]
    fn a_kernel_that_stands_still_has_no_jiffy() {
        let reading = Reading {
            jiffies: 7,
            coarse_ns: 9,
        };
        assert_eq!(ns_per_jiffy(reading, reading), None);
        assert_eq!(
            ns_per_jiffy(
                reading,
                Reading {
                    jiffies: 6,
                    coarse_ns: 10
                }
            ),
            None
        );
    }
}
