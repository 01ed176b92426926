//! The peek, cut into functions where the verifier or the registers ask for it.

use aya_ebpf::bindings::xdp_md;
use lb_common::sip::{Budget, CallKey, Glance, call_id_value, glance, read_on};
use lb_common::siphash::SipKey;
use lb_common::{Reason, Window};

use crate::frame::Frame;

/// Marks a [`Reason`], or a place to read on from, among offsets.
const FAILED: u32 = 1 << 31;

/// Where the Call-ID of the message at `at` starts.
#[inline(always)]
pub(crate) fn locate(ctx: *mut xdp_md, frame: Frame, at: u32) -> Result<u32, Reason> {
    let mut name_end = glance_at(ctx, at);
    if name_end & FAILED != 0 {
        name_end = call_id_name(ctx, at, name_end);
        if name_end & FAILED != 0 {
            return Err(Reason::from_index(name_end as u8).unwrap_or(Reason::NotReady));
        }
    }
    call_id_value(frame, frame.forget(name_end))
}

/// [`glance`] as a function that has the registers for itself: an offset, or [`FAILED`] and one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn glance_at(ctx: *mut xdp_md, at: u32) -> u32 {
    match glance(Frame::of(ctx), at) {
        Glance::Name(end) => end,
        Glance::Unsure(from) => FAILED | from,
    }
}

/// [`read_on`] as a function that the verifier looks at once: an offset, or [`FAILED`] and a reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn call_id_name(ctx: *mut xdp_md, at: u32, from: u32) -> u32 {
    let frame = Frame::of(ctx);
    match read_on(frame, frame.forget(at), frame.forget(from), Budget::KERNEL) {
        Ok(end) => end,
        Err(reason) => FAILED | reason as u32,
    }
}

/// The key of the Call-ID at `at`.
#[inline(always)]
pub(crate) fn call_key(frame: Frame, at: u32, secret: SipKey) -> Result<CallKey, Reason> {
    CallKey::read(frame, at, secret)
}
