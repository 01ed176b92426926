//! `PIN_HINTS`, shared with the kernel: how many pins have a key that falls in each place.
//!
//! Counts are exact because both sides only ever add and subtract atomically: the kernel with its
//! atomic instructions, userspace through a mapping of the map's memory. A system call could only
//! read and then write, and lose what the kernel added in between.
//!
//! A controller that is killed between counting and inserting leaves a count one too high, which
//! costs a search that finds nothing, and no more.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::maps::{PIN_HINTS, pin_hint_of};

const LEN: usize = PIN_HINTS as usize * size_of::<u64>();

/// The mapped counters.
pub(super) struct PinHints {
    counters: NonNull<AtomicU64>,
}

impl PinHints {
    /// Maps the counters of the map behind `fd`.
    #[expect(unsafe_code, reason = "mmap of a BPF array")]
    pub(super) fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping at an address of the kernel's choosing; the kernel refuses
        // lengths that the map's memory does not have.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let counters = NonNull::new(memory.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { counters })
    }

    fn counter(&self, key: u64) -> &AtomicU64 {
        let place = pin_hint_of(key) as usize;
        // SAFETY: `pin_hint_of` is below `PIN_HINTS`, the mapping holds that many aligned counters
        // and lives as long as `self`; everybody accesses them atomically.
        #[expect(unsafe_code, reason = "the mapping's length is known")]
        unsafe {
            self.counters.add(place).as_ref()
        }
    }

    /// One pin more with this key's hint. Before the pin is inserted.
    pub(super) fn add(&self, key: u64) {
        self.counter(key).fetch_add(1, Ordering::SeqCst);
    }

    /// One pin less. After the pin was deleted, or when its insertion failed.
    pub(super) fn subtract(&self, key: u64) {
        self.counter(key).fetch_sub(1, Ordering::SeqCst);
    }

    /// The count for a key.
    pub(super) fn get(&self, key: u64) -> u64 {
        self.counter(key).load(Ordering::SeqCst)
    }

    /// All counts together: the number of pins.
    pub(super) fn total(&self) -> u64 {
        // One key of each hint: the hint is bits 40 and up.
        (0..u64::from(PIN_HINTS))
            .map(|place| self.get(place << 40))
            .sum()
    }
}

impl Drop for PinHints {
    #[expect(unsafe_code, reason = "munmap of what `map` mapped")]
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; no reference outlives `self`.
        unsafe { libc::munmap(self.counters.as_ptr().cast(), LEN) };
    }
}

#[expect(unsafe_code, reason = "a pointer to atomics")]
// SAFETY: the counters are atomic, and the mapping belongs to the process, not to a thread.
unsafe impl Send for PinHints {}
#[expect(unsafe_code, reason = "a pointer to atomics")]
// SAFETY: as above.
unsafe impl Sync for PinHints {}
