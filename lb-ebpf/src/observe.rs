//! What is seen of a frame's way: counters by reason, node and VIP, and sampled events.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lb_common::maps::{Event, MAX_NODES, MAX_VIPS};
use lb_common::sip::CallKey;
use lb_common::{Outcome, REASON_SLOTS, Reason};

use crate::frame::Frame;
use crate::maps::{COUNTS, EVENTS, VIP_COUNTS};

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
    /// The action, when the frame is to be sent on.
    pub(crate) action: u32,
    /// One event in this many frames goes to the ring; 0 for none.
    pub(crate) sample: u32,
    /// The node chosen.
    pub(crate) node: u16,
    /// Why, as the number of a [`Reason`].
    pub(crate) choice: u8,
    /// 1 when this is a new call.
    pub(crate) started: u8,
}

impl Default for Sight {
    #[inline(always)]
    fn default() -> Self {
        Self {
            call: None,
            vip: MAX_VIPS,
            node: 0,
            choice: 0,
            started: 0,
            action: xdp_action::XDP_PASS,
            sample: 0,
        }
    }
}

/// Counts the frame, shows it if it is sampled, and turns the verdict into an XDP action.
#[inline(always)]
pub(crate) fn count(ctx: *mut xdp_md, frame: Frame, reason: Reason, sight: &Sight) -> u32 {
    let is_sent = sight.action != xdp_action::XDP_PASS;
    let action = if !is_sent && reason.outcome() as u8 == Outcome::Drop as u8 {
        xdp_action::XDP_DROP
    } else {
        sight.action
    };
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        // SAFETY: this CPU's element, which nobody else writes.
        let counts = unsafe { &mut *counts };
        counts.reasons[usize::from(reason as u8) & (REASON_SLOTS - 1)] += 1;
        if is_sent {
            let node = &mut counts.nodes[usize::from(sight.node) & (MAX_NODES as usize - 1)];
            node.packets += 1;
            node.bytes += u64::from(frame.len());
            node.started += u64::from(sight.started);
        }
    }
    if let Some(count) = VIP_COUNTS.get_ptr_mut(sight.vip) {
        // SAFETY: as above.
        unsafe { *count += 1 };
    }
    if sight.sample != 0 {
        show(ctx, reason, sight, action);
    }
    #[cfg(feature = "log")]
    tell(ctx, frame, reason, sight, action);
    action
}

/// Says what was decided for the frame. Reasons go by number: names are pointers, which a program
/// has no place for.
#[cfg(feature = "log")]
#[inline(never)]
fn tell(ctx: *mut xdp_md, frame: Frame, reason: Reason, sight: &Sight, action: u32) {
    let (key, at, len) = match sight.call {
        Some(call) => (call.hash, call.at, call.len.get()),
        None => (0, 0, 0),
    };
    aya_log_ebpf::info!(
        aya_ebpf::programs::XdpContext::new(ctx),
        "{} bytes, Call-ID of {} at {}, key {:x}: choice {}, node {}, reason {}, action {}",
        frame.len(),
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
