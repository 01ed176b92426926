//! The peek, in functions of their own: the scan and the hash each want the registers for themselves.

use aya_ebpf::bindings::xdp_md;
use lb_common::sip::{Budget, CallKey, find_call_id};
use lb_common::siphash::SipKey;
use lb_common::{Reason, Window};

use crate::frame::Frame;

/// Marks a [`Reason`] among offsets.
const FAILED: u32 = 1 << 31;

/// Where the Call-ID of the message at `at` starts.
#[inline(always)]
pub(crate) fn locate(ctx: *mut xdp_md, at: u32) -> Result<u32, Reason> {
    let found = call_id(ctx, at);
    if found & FAILED == 0 {
        return Ok(found);
    }
    Err(Reason::from_index(found as u8).unwrap_or(Reason::NotReady))
}

/// The scan, as a function that the verifier looks at once: an offset, or [`FAILED`] and a reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn call_id(ctx: *mut xdp_md, at: u32) -> u32 {
    let frame = Frame::of(ctx);
    match find_call_id(frame, frame.forget(at), Budget::KERNEL) {
        Ok(at) => at,
        Err(reason) => FAILED | reason as u32,
    }
}

/// The key of the Call-ID at `at`.
#[inline(never)]
pub(crate) fn call_key(frame: Frame, at: u32, secret: SipKey) -> Result<CallKey, Reason> {
    CallKey::read(frame, at, secret)
}
