//! What is seen of a frame's way: counters by reason, node and VIP, and sampled events.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lb_common::maps::{Counts, Event, MAX_NODES, MAX_VIPS};
use lb_common::sip::CallKey;
use lb_common::{Outcome, REASON_SLOTS, Reason};

use crate::frame::Frame;
use crate::maps::{COUNTS, EVENTS};

/// What the program found out about a frame on its way.
///
/// In this order, so that what the compiler writes in one go is aligned: the verifier refuses other
/// accesses to the stack.
#[repr(C, align(8))]
pub(crate) struct Sight {
    /// The call, once its Call-ID was read.
    pub(crate) call: Option<CallKey>,
    /// The VIP's index, [`MAX_VIPS`] when it was for none.
    pub(crate) vip: u32,
    /// One event in this many frames goes to the ring; 0 for none.
    pub(crate) sample: u32,
    /// The node chosen.
    pub(crate) node: u16,
    /// Why, as the number of a [`Reason`].
    pub(crate) choice: u8,
}

impl Default for Sight {
    #[inline(always)]
    fn default() -> Self {
        Self {
            call: None,
            vip: MAX_VIPS,
            sample: 0,
            node: 0,
            choice: 0,
        }
    }
}

/// How a frame is sent on.
///
/// Its fields are wider than they need be: what fits in one word, the compiler packs into one, by ways
/// over the stack that the verifier refuses.
#[derive(Clone, Copy)]
pub(crate) struct Sending {
    /// The node.
    pub(crate) node: u64,
    /// 1 when this is a new call.
    pub(crate) started: u64,
    /// The XDP action.
    pub(crate) action: u32,
    /// Why there.
    pub(crate) reason: Reason,
}

/// Counts a frame that is sent on, and shows it if it is sampled. Returns the XDP action.
#[inline(always)]
pub(crate) fn count_sent(ctx: *mut xdp_md, frame: Frame, sending: Sending, sight: &Sight) -> u32 {
    if let Some(counts) = count_reason(sending.reason) {
        let node = &mut counts.nodes[sending.node as usize & (MAX_NODES as usize - 1)];
        node.packets += 1;
        node.bytes += u64::from(frame.len());
        node.started += sending.started;
        counts.vips[sight.vip as usize & (MAX_VIPS as usize - 1)] += 1;
    }
    finish(ctx, sending.reason, sight, sending.action)
}

/// Counts a frame that is not sent on, and shows it if it is sampled. Returns the XDP action.
///
/// A function of its own, so that the many ways here cost the one way past it no registers.
#[inline(never)]
pub(crate) fn count_kept(ctx: *mut xdp_md, reason: Reason, sight: &Sight) -> u32 {
    let action = if reason.outcome() as u8 == Outcome::Drop as u8 {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    };
    if let Some(counts) = count_reason(reason)
        && let Some(count) = counts.vips.get_mut(sight.vip as usize)
    {
        *count += 1;
    }
    finish(ctx, reason, sight, action)
}

/// Counts the reason, and returns this CPU's counts.
#[inline(always)]
fn count_reason(reason: Reason) -> Option<&'static mut Counts> {
    // SAFETY: this CPU's element, which nobody else writes, and which lives as long as the program.
    let counts = unsafe { &mut *COUNTS.get_ptr_mut(0)? };
    counts.reasons[usize::from(reason as u8) & (REASON_SLOTS - 1)] += 1;
    Some(counts)
}

/// Shows the frame if it is sampled.
#[inline(always)]
fn finish(ctx: *mut xdp_md, reason: Reason, sight: &Sight, action: u32) -> u32 {
    if sight.sample != 0 {
        show(ctx, reason, sight, action);
    }
    #[cfg(feature = "log")]
    tell(ctx, reason, sight, action);
    action
}

/// Says what was decided for the frame. Reasons go by number: names are pointers, which a program
/// has no place for.
#[cfg(feature = "log")]
#[inline(never)]
fn tell(ctx: *mut xdp_md, reason: Reason, sight: &Sight, action: u32) {
    let (key, at, len) = match sight.call {
        Some(call) => (call.hash, call.at, call.len.get()),
        None => (0, 0, 0),
    };
    aya_log_ebpf::info!(
        aya_ebpf::programs::XdpContext::new(ctx),
        "{} bytes, Call-ID of {} at {}, key {:x}: choice {}, node {}, reason {}, action {}",
        Frame::of(ctx).len(),
        len,
        at,
        key,
        sight.choice,
        sight.node,
        reason as u8,
        action
    );
}

/// Puts one frame in so many into the ring. A full ring loses the event, not the frame.
#[inline(never)]
fn show(ctx: *mut xdp_md, reason: Reason, sight: &Sight, action: u32) {
    // SAFETY: the helper takes nothing and returns a number.
    if sight.sample > 1 && unsafe { bpf_get_prandom_u32() } % sight.sample != 0 {
        return;
    }
    let (key, call_id_at, call_id_len) = match sight.call {
        Some(call) => (call.hash, call.at, call.len.get()),
        None => (0, 0, 0),
    };
    if let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) {
        entry.write(Event {
            key,
            // SAFETY: the helper takes nothing and returns a number.
            time_ns: unsafe { bpf_ktime_get_ns() },
            call_id_at,
            call_id_len,
            frame_len: Frame::of(ctx).len(),
            // SAFETY: the kernel calls the program with a valid context.
            ifindex: unsafe { (*ctx).ingress_ifindex },
            node: sight.node,
            reason: reason as u8,
            action: action as u8,
            choice: sight.choice,
            reserved: [0; 3],
        });
        entry.submit(0);
    }
}
