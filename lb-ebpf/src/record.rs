//! What is recorded of calls: the pins of those that live away from home, and the memory of new
//! requests.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use lb_common::maps::{MAX_NODES, NO_NODE, Pin, Settings, pin_hint_of};
use lb_common::memory;
use lb_common::sip::Method;

use crate::maps::{COUNTS, MEMORY, PIN_HINTS, PINS};

/// The node that the call is pinned to, or [`NO_NODE`]. Passing messages keep the pin alive and tell its state.
#[inline(always)]
pub(crate) fn pinned(key: u64, method: Method, now: u64) -> u16 {
    if PIN_HINTS
        .get(pin_hint_of(key))
        .is_none_or(|count| *count == 0)
    {
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
pub(crate) fn pin(key: u64, node: u16, now: u64, in_place: bool) -> bool {
    let Some(hint) = PIN_HINTS.get_ptr_mut(pin_hint_of(key)) else {
        return false;
    };
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
        add_atomically(hint, 1);
        if PINS.insert(key, pin, BPF_NOEXIST.into()).is_err() {
            add_atomically(hint, -1);
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
pub(crate) fn is_remembered(key: u64, settings: &Settings, now: u64) -> bool {
    let epoch = memory::epoch_of(now, settings.epoch_shift);
    [epoch, epoch.wrapping_sub(1)].into_iter().any(|epoch| {
        MEMORY
            .get(memory::word_of(key, epoch))
            .is_some_and(|word| memory::has(*word, key, epoch))
    })
}

/// Remembers that a new request is sent home. Whether it is new in this epoch.
#[inline(always)]
pub(crate) fn remember(key: u64, settings: &Settings, now: u64) -> bool {
    let epoch = memory::epoch_of(now, settings.epoch_shift);
    if let Some(word) = MEMORY.get_ptr_mut(memory::word_of(key, epoch)) {
        // SAFETY: an element of an array map; the word is read and written whole.
        unsafe {
            let known = *word;
            if !memory::has(known, key, epoch) {
                *word = memory::with(known, key, epoch);
                return true;
            }
        }
    }
    false
}
