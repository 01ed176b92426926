//! `TRACKS`, shared with the kernel: all that plain packets ask for, in this process's memory.
//!
//! The program reads and writes it meanwhile, so every access here is atomic by words, and what is written later
//! is seen later. A value of several words may be seen half changed, for ever if the controller is killed there,
//! until the next one writes it: so the word that makes the others count is the last (see [`Layout`]).
//!
//! The hints of pins and their sum are exact because both sides only ever add and subtract: a system call could
//! only read and then write, and lose what the kernel added in between. A controller that is killed between
//! counting and inserting, or between deleting and counting, leaves them one too high while the maps live: then
//! hints are asked for where there are no pins, and calls searched for that have none. No pin is ever hidden.

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::Shared;
use lb_common::maps::{
    MAX_NODES, MAX_VIPS, Node, NodeStatus, PIN_HINTS, Settings, StatusPlane, TABLE_ROW,
    TABLE_SLOTS, Tracks as Layout, Turnout, VIP_SLOTS, Vip, pin_hint_of,
};
use lb_common::memory::MEMORY_WORDS;

const LEN: usize = size_of::<Layout>();
const WORD: usize = size_of::<u64>();
/// Node ids in a word of the table.
const IDS: usize = WORD / size_of::<u16>();

/// Some values of one type in the layout, one behind the other.
pub(super) struct Place<T> {
    offset: usize,
    len: u32,
    of: std::marker::PhantomData<T>,
}

impl<T> Place<T> {
    /// # Panics
    /// At compile time, when the values do not consist of words of the layout.
    const fn new(offset: usize, len: u32) -> Self {
        assert!(offset.is_multiple_of(WORD) && size_of::<T>().is_multiple_of(WORD));
        assert!(offset + len as usize * size_of::<T>() <= LEN);
        let of = std::marker::PhantomData;
        Self { offset, len, of }
    }

    /// How many values.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }
}

pub(super) const SETTINGS: Place<Settings> = Place::new(offset_of!(Layout, settings), 1);
pub(super) const TURNOUT: Place<Turnout> = Place::new(offset_of!(Layout, turnout), 1);
pub(super) const PLANE: Place<StatusPlane> = Place::new(offset_of!(Layout, plane), 1);
pub(super) const VIPS: Place<Vip> = Place::new(offset_of!(Layout, vips), VIP_SLOTS);
pub(super) const NODES: Place<Node> = Place::new(offset_of!(Layout, nodes), MAX_NODES);
pub(super) const STATUS: Place<NodeStatus> = Place::new(offset_of!(Layout, status), MAX_NODES);
pub(super) const MEMORY: Place<u64> = Place::new(offset_of!(Layout, memory), 2 * MEMORY_WORDS);
pub(super) const VIPS_BEFORE: Place<u64> = Place::new(offset_of!(Layout, vips_before), MAX_VIPS);
const PINS: Place<u64> = Place::new(offset_of!(Layout, pins), 1);
const HINTS: Place<u64> = Place::new(offset_of!(Layout, pin_hints), PIN_HINTS);
const TABLE: Place<u64> = Place::new(offset_of!(Layout, table), (2 * TABLE_ROW / IDS) as u32);

/// The mapped value.
pub(super) struct Tracks {
    words: NonNull<AtomicU64>,
}

impl Tracks {
    /// Maps the value of the map behind `fd`.
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
        let words = NonNull::new(memory.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { words })
    }

    /// The value at an index of a place; `None` beyond its end.
    pub(super) fn get<T: Shared>(&self, place: &Place<T>, index: u32) -> Option<T> {
        let words = self.words(place, index)?;
        let mut value = MaybeUninit::<T>::uninit();
        let to = value.as_mut_ptr().cast::<u64>();
        for (at, word) in words.iter().enumerate() {
            // SAFETY: as many words as the value has, and any alignment will do.
            #[expect(unsafe_code, reason = "a value is put together from words")]
            unsafe {
                to.add(at).write_unaligned(word.load(Ordering::Acquire));
            }
        }
        // SAFETY: all of its words were written, and every bit pattern is a value of a shared type.
        #[expect(unsafe_code, reason = "the promise of Shared")]
        Some(unsafe { value.assume_init() })
    }

    /// Writes the value at an index of a place. Whether there is such an index.
    #[must_use]
    pub(super) fn set<T: Shared>(&self, place: &Place<T>, index: u32, value: T) -> bool {
        let Some(words) = self.words(place, index) else {
            return false;
        };
        let from = (&raw const value).cast::<u64>();
        for (at, word) in words.iter().enumerate() {
            // SAFETY: as many words as the value has, without padding, and any alignment will do.
            #[expect(unsafe_code, reason = "a value is taken apart into words")]
            let new = unsafe { from.add(at).read_unaligned() };
            word.store(new, Ordering::Release);
        }
        true
    }

    /// The words of a value.
    fn words<T>(&self, place: &Place<T>, index: u32) -> Option<&[AtomicU64]> {
        self.all(place)
            .chunks_exact(size_of::<T>() / WORD)
            .nth(index as usize)
    }

    /// The words of all of a place's values.
    fn all<T>(&self, place: &Place<T>) -> &[AtomicU64] {
        // SAFETY: places lie in the layout, whose length was mapped; the mapping lives as long as `self`, and
        // is accessed atomically here.
        #[expect(unsafe_code, reason = "the mapping's length is known")]
        unsafe {
            let first = self.words.as_ptr().add(place.offset / WORD);
            std::slice::from_raw_parts(first, place.len as usize * size_of::<T>() / WORD)
        }
    }

    /// Fills a generation of the table: the node of each slot, and none beyond the slice.
    pub(super) fn set_table(&self, generation: u32, nodes: &[u16]) {
        for (word, nodes) in self
            .row(generation)
            .iter()
            .zip(nodes.chunks(IDS).chain(std::iter::repeat(&[] as &[u16])))
        {
            let ids = nodes
                .iter()
                .rev()
                .fold(0, |ids, id| ids << 16 | u64::from(*id));
            word.store(ids, Ordering::Release);
        }
    }

    /// A generation of the table: the node of each slot.
    pub(super) fn table(&self, generation: u32) -> Vec<u16> {
        let ids = self.row(generation).iter().flat_map(|word| {
            let ids = word.load(Ordering::Acquire);
            (0..IDS).map(move |place| (ids >> (place * 16)) as u16)
        });
        ids.take(TABLE_SLOTS as usize).collect()
    }

    /// The node that a generation of the table gives for a slot; `None` beyond its end.
    pub(super) fn home(&self, generation: u32, slot: u32) -> Option<u16> {
        let (word, place) = (slot as usize / IDS, slot as usize % IDS);
        let word = self.row(generation).get(word)?;
        (slot < TABLE_SLOTS).then(|| (word.load(Ordering::Acquire) >> (place * 16)) as u16)
    }

    /// The words of a generation of the table.
    fn row(&self, generation: u32) -> &[AtomicU64] {
        let (even, odd) = self.all(&TABLE).split_at(TABLE_ROW / IDS);
        if generation.is_multiple_of(2) {
            even
        } else {
            odd
        }
    }

    /// One pin more, or one that is about to be: counted before it is there.
    pub(super) fn add_pin(&self, key: u64) {
        self.all_pins().fetch_add(1, Ordering::SeqCst);
        self.hint(key).fetch_add(1, Ordering::SeqCst);
    }

    /// One pin less: after it was deleted, or when its insertion failed.
    pub(super) fn subtract_pin(&self, key: u64) {
        self.hint(key).fetch_sub(1, Ordering::SeqCst);
        self.all_pins().fetch_sub(1, Ordering::SeqCst);
    }

    /// How many pins have this key's hint.
    pub(super) fn pin_hint(&self, key: u64) -> u64 {
        self.hint(key).load(Ordering::SeqCst)
    }

    /// How many pins there are.
    pub(super) fn pins(&self) -> u64 {
        self.all_pins().load(Ordering::SeqCst)
    }

    fn hint(&self, key: u64) -> &AtomicU64 {
        &self.all(&HINTS)[pin_hint_of(key) as usize]
    }

    fn all_pins(&self) -> &AtomicU64 {
        &self.all(&PINS)[0]
    }
}

impl Drop for Tracks {
    #[expect(unsafe_code, reason = "munmap of what `map` mapped")]
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; no reference outlives `self`.
        unsafe { libc::munmap(self.words.as_ptr().cast(), LEN) };
    }
}

#[expect(unsafe_code, reason = "a pointer to atomics")]
// SAFETY: the words are atomic, and the mapping belongs to the process, not to a thread.
unsafe impl Send for Tracks {}
#[expect(unsafe_code, reason = "a pointer to atomics")]
// SAFETY: as above.
unsafe impl Sync for Tracks {}
