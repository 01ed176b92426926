//! What is recorded of calls: the pins of those that live away from home, and the memory of new
//! requests.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use lb_common::maps::{MAX_NODES, NO_NODE, Pin};
use lb_common::memory;
use lb_common::sip::Method;

use crate::maps::{COUNTS, PINS};
use crate::tracks::Tracks;

/// Whether a pin has this key's hint.
#[inline(always)]
pub(crate) fn may_be_pinned(tracks: Tracks, key: u64) -> bool {
    // SAFETY: words of an array map, which lives as long as the program.
    unsafe { *tracks.pins() != 0 && *tracks.pin_hint(key) != 0 }
}

/// The node that the call is pinned to, or [`NO_NODE`]. Passing messages keep the pin alive and tell its state.
#[inline(always)]
pub(crate) fn pinned(tracks: Tracks, key: u64, method: Method, now: u64) -> u16 {
    if !may_be_pinned(tracks, key) {
        return NO_NODE;
    }
    let Some(pin) = PINS.get_ptr_mut(key) else {
        return NO_NODE;
    };
    // SAFETY: the pointer is valid until the program ends. If userspace expires the pin meanwhile,
    // the kernel may give its memory to another pin after a grace period, not before.
    let pin = unsafe { &mut *pin };
    pin.last_seen = now;
    match method {
        Method::Ack => pin.flags |= Pin::CONFIRMED,
        Method::Bye | Method::Cancel => pin.flags |= Pin::ENDED,
        Method::Response | Method::Invite | Method::InDialogOnly | Method::Other => {}
    }
    pin.node
}

/// Pins a call, in place of a pin that has lost its node or else of none. False when it is pinned
/// already, or when the pins are full.
#[inline(always)]
pub(crate) fn pin(tracks: Tracks, key: u64, node: u16, now: u64, in_place: bool) -> bool {
    let hint = tracks.pin_hint(key);
    let pin = Pin {
        node,
        flags: 0,
        reserved: 0,
        created: now,
        last_seen: now,
    };
    if in_place {
        if PINS.insert(key, pin, BPF_EXIST.into()).is_err() {
            return false;
        }
    } else {
        // Counted before it is there: a pin without its hint would not be found.
        add_atomically(tracks.pins(), 1);
        add_atomically(hint, 1);
        if PINS.insert(key, pin, BPF_NOEXIST.into()).is_err() {
            add_atomically(hint, -1);
            add_atomically(tracks.pins(), -1);
            return false;
        }
    }
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        // SAFETY: this CPU's element, which nobody else writes.
        unsafe { (*counts).nodes[usize::from(node) & (MAX_NODES as usize - 1)].pinned += 1 };
    }
    true
}

/// Adds to a word that userspace and other CPUs add to as well.
///
/// The target has the instruction, but no compare-and-swap of the width that `AtomicU64::fetch_add`
/// asks for, so the library hides it.
#[inline(always)]
fn add_atomically(word: *mut u64, addend: i64) {
    // SAFETY: an aligned word of an array map, which lives as long as the program.
    unsafe { asm!("lock *(u64 *)({} + 0) += {}", in(reg) word, in(reg) addend) };
}

/// Whether a request of this call was sent home in this epoch or the last.
#[inline(always)]
pub(crate) fn is_remembered(tracks: Tracks, key: u64, now: u64) -> bool {
    let epoch = memory::epoch_of(now, tracks.settings().epoch_shift);
    [epoch, epoch.wrapping_sub(1)].into_iter().any(|epoch| {
        // SAFETY: a word of an array map, which lives as long as the program.
        let word = unsafe { *tracks.memory(memory::word_of(key, epoch)) };
        memory::has(word, key, epoch)
    })
}

/// Remembers that a new request is sent home. Whether it is new in this epoch.
#[inline(always)]
pub(crate) fn remember(tracks: Tracks, key: u64, now: u64) -> bool {
    let epoch = memory::epoch_of(now, tracks.settings().epoch_shift);
    let word = tracks.memory(memory::word_of(key, epoch));
    // SAFETY: a word of an array map, which lives as long as the program, read and written whole.
    unsafe {
        let known = *word;
        let is_new = !memory::has(known, key, epoch);
        if is_new {
            *word = memory::with(known, key, epoch);
        }
        is_new
    }
}
