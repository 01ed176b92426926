//! The choice when home is not plainly up: pins, memory, the To tag, the policy.
//!
//! A function of its own, so that the fast way pays for it neither in registers nor in the
//! verifier's patience.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST, xdp_md};
use lb_common::choose::{self, Choice, Fitness, Fleet, Standing, choose};
use lb_common::maps::{MAX_NODES, NO_NODE, Pin, Settings, Turnout, pin_hint_of};
use lb_common::memory;
use lb_common::sip::{Budget, Method, has_to_tag};
use lb_common::{Reason, Window};

use crate::fleet::{Kernel, jiffies};
use crate::frame::Frame;
use crate::maps::{COUNTS, MEMORY, PIN_HINTS, PINS, PLANE, SETTINGS, TURNOUT};

/// Where a message goes, and why: what a function can return in one register.
#[derive(Clone, Copy)]
pub(crate) struct Decision {
    pub(crate) node: u16,
    pub(crate) reason: u8,
    /// 1 when this is a new call.
    pub(crate) started: u8,
}

impl Decision {
    #[inline(always)]
    pub(crate) fn unpack(word: u64) -> Self {
        Self {
            node: word as u16,
            reason: (word >> 16) as u8,
            started: (word >> 24) as u8,
        }
    }

    #[inline(always)]
    fn pack(node: u16, reason: Reason, started: bool) -> u64 {
        u64::from(node) | (reason as u64) << 16 | u64::from(started) << 24
    }
}

/// Chooses for the message at `message_at`, whose first word and call key are given. Returns a
/// packed [`Decision`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn decide(ctx: *mut xdp_md, message_at: u32, first: u64, key: u64) -> u64 {
    let (Some(settings), Some(turnout)) = (SETTINGS.get(0), TURNOUT.get(0)) else {
        return Decision::pack(NO_NODE, Reason::NotReady, false);
    };
    let kernel = Kernel {
        settings,
        now: jiffies(),
    };
    let method = Method::of(first);
    let pinned = pinned(key, method, kernel.now);
    let (reference, is_frozen) = choose::reference(&kernel);
    let is_lost =
        pinned != NO_NODE && kernel.fitness(pinned, Standing::Existing, reference) == Fitness::Out;
    let remembered = is_remembered(key, settings, kernel.now);
    let keeper = if is_lost { NO_NODE } else { pinned };
    let standing = match standing(ctx, message_at, method, keeper) {
        Ok(standing) => standing,
        Err(reason) => return Decision::pack(NO_NODE, reason, false),
    };
    let choice = choose(&kernel, key, standing, turnout.word, pinned, remembered);
    if is_frozen && let Some(plane) = PLANE.get_ptr_mut(0) {
        // SAFETY: an element of an array map lives as long as the program. The count is for the
        // alarm: one that is lost between two CPUs changes nothing.
        unsafe { (*plane).ignored_staleness += 1 };
    }
    carry_out(choice, &kernel, key, standing, remembered, is_lost)
}

/// How the message stands to the calls that exist. A pinned call's node is asked whatever it is.
#[inline(always)]
fn standing(ctx: *mut xdp_md, at: u32, method: Method, pinned: u16) -> Result<Standing, Reason> {
    if pinned != NO_NODE || !method.may_start() {
        return Ok(Standing::Existing);
    }
    match to_tag(ctx, at) {
        PRESENT => Ok(Standing::Existing),
        ABSENT if method == Method::Invite => Ok(Standing::NewCall),
        ABSENT => Ok(Standing::NewRequest),
        _ => Err(Reason::OddTo),
    }
}

const ABSENT: u32 = 0;
const PRESENT: u32 = 1;
const ODD: u32 = 2;

/// [`has_to_tag`] as a function that the verifier looks at once, whatever its caller knows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn to_tag(ctx: *mut xdp_md, at: u32) -> u32 {
    let frame = Frame::of(ctx);
    match has_to_tag(frame, frame.forget(at), Budget::KERNEL) {
        Ok(false) => ABSENT,
        Ok(true) => PRESENT,
        Err(_) => ODD,
    }
}

/// Makes the pin that the choice asks for, or remembers that home was chosen: once, so that a request
/// that is repeated for ever is not remembered for ever. Returns a packed [`Decision`].
#[inline(always)]
fn carry_out(
    choice: Choice,
    kernel: &Kernel,
    key: u64,
    standing: Standing,
    remembered: bool,
    is_lost: bool,
) -> u64 {
    let is_call = standing == Standing::NewCall;
    let (node, reason) = if !choice.pin {
        (choice.node, choice.reason)
    } else if pin(key, choice.node, kernel.now, is_lost) {
        return Decision::pack(choice.node, choice.reason, is_call);
    } else {
        // Another CPU may have been faster with a copy of the same message: its choice counts.
        let node = pinned(key, Method::Other, kernel.now);
        if node != NO_NODE {
            return Decision::pack(node, Reason::Pinned, false);
        }
        if choice.fallback == NO_NODE {
            return Decision::pack(choice.node, Reason::PinsFull, is_call && !remembered);
        }
        (choice.fallback, Reason::PinsFull)
    };
    if standing != Standing::Existing && !remembered {
        remember(key, kernel.settings, kernel.now);
    }
    Decision::pack(node, reason, is_call && !remembered)
}

/// The node that the call is pinned to, or [`NO_NODE`]. Passing messages keep the pin alive and tell its state.
#[inline(always)]
fn pinned(key: u64, method: Method, now: u64) -> u16 {
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
fn pin(key: u64, node: u16, now: u64, in_place: bool) -> bool {
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
fn is_remembered(key: u64, settings: &Settings, now: u64) -> bool {
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

/// Whether the tables are changing, so that home alone does not decide.
#[inline(always)]
pub(crate) const fn is_draining(turnout: u64) -> bool {
    turnout & Turnout::DRAINING != 0
}

/// Reads a message's first word.
#[inline(always)]
pub(crate) fn first_word(frame: Frame, message_at: u32) -> u64 {
    frame.word(message_at).unwrap_or(0)
}
