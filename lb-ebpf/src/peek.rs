//! The peek, cut into functions where the verifier or the registers ask for it.

use aya_ebpf::bindings::xdp_md;
use lb_common::sip::{Budget, CallKey, Glance, glance, read_on};
use lb_common::siphash::SipKey;
use lb_common::{Reason, Window};

use crate::frame::Frame;

/// Marks a [`Reason`], or a place to read on from, among offsets.
const FAILED: u32 = 1 << 31;

/// Where the Call-ID of the message at `at` starts.
#[inline(always)]
pub(crate) fn locate(ctx: *mut xdp_md, at: u32) -> Result<u32, Reason> {
    let seen = glance_at(ctx, at);
    if seen & FAILED == 0 {
        return Ok(seen);
    }
    let read = call_id_after(ctx, at, seen);
    if read & FAILED == 0 {
        return Ok(read);
    }
    Err(Reason::from_index(read as u8).unwrap_or(Reason::NotReady))
}

/// [`glance`] as a function that has the registers for itself: an offset, or [`FAILED`] and one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn glance_at(ctx: *mut xdp_md, at: u32) -> u32 {
    match glance(Frame::of(ctx), at) {
        Glance::Value(at) => at,
        Glance::Unsure(from) => FAILED | from,
    }
}

/// [`read_on`] as a function that the verifier looks at once: an offset, or [`FAILED`] and a reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn call_id_after(ctx: *mut xdp_md, at: u32, from: u32) -> u32 {
    let frame = Frame::of(ctx);
    match read_on(frame, frame.forget(at), frame.forget(from), Budget::KERNEL) {
        Ok(at) => at,
        Err(reason) => FAILED | reason as u32,
    }
}

/// The key of the Call-ID at `at`.
#[inline(always)]
pub(crate) fn call_key(frame: Frame, at: u32, secret: SipKey) -> Result<CallKey, Reason> {
    CallKey::read(frame, at, secret)
}
