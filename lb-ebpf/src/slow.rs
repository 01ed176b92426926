//! The choice when home is not plainly up: pins, memory, the To tag, the policy.
//!
//! A function of its own, so that the fast way pays for it neither in registers nor in the
//! verifier's patience.

use aya_ebpf::bindings::xdp_md;
use lb_common::choose::{self, Choice, Fitness, Fleet, Standing, choose};
use lb_common::maps::NO_NODE;
use lb_common::sip::{Budget, Method, has_to_tag};
use lb_common::{Reason, Window};

use crate::fleet::{Kernel, jiffies};
use crate::frame::Frame;
use crate::record::{is_remembered, pin, pinned, remember};
use crate::tracks::Tracks;

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
    let Some(tracks) = Tracks::open() else {
        return Decision::pack(NO_NODE, Reason::NotReady, false);
    };
    let kernel = Kernel {
        tracks,
        now: jiffies(),
    };
    let method = Method::of(first);
    let pinned = pinned(tracks, key, method, kernel.now);
    let (reference, is_frozen) = choose::reference(&kernel);
    let is_lost =
        pinned != NO_NODE && kernel.fitness(pinned, Standing::Existing, reference) == Fitness::Out;
    let remembered = is_remembered(tracks, key, kernel.now);
    let keeper = if is_lost { NO_NODE } else { pinned };
    let standing = match standing(ctx, message_at, method, keeper) {
        Ok(standing) => standing,
        Err(reason) => return Decision::pack(NO_NODE, reason, false),
    };
    let turnout = tracks.turnout().word;
    let choice = choose(&kernel, key, standing, turnout, pinned, remembered);
    if is_frozen {
        // SAFETY: no other reference is alive here. The count is for the alarm: one that is lost between two
        // CPUs changes nothing.
        unsafe { tracks.plane_mut().ignored_staleness += 1 };
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
    } else if pin(kernel.tracks, key, choice.node, kernel.now, is_lost) {
        return Decision::pack(choice.node, choice.reason, is_call);
    } else {
        // Another CPU may have been faster with a copy of the same message: its choice counts.
        let node = pinned(kernel.tracks, key, Method::Other, kernel.now);
        if node != NO_NODE {
            return Decision::pack(node, Reason::Pinned, false);
        }
        if choice.fallback == NO_NODE {
            return Decision::pack(choice.node, Reason::PinsFull, is_call && !remembered);
        }
        (choice.fallback, Reason::PinsFull)
    };
    if standing != Standing::Existing && !remembered {
        remember(kernel.tracks, key, kernel.now);
    }
    Decision::pack(node, reason, is_call && !remembered)
}
