//! The peek: the quick ways first, and where they are not sure the readers that both sides share.
//!
//! Cut into functions where the verifier or the registers ask for it.

use core::num::NonZeroU32;

use aya_ebpf::bindings::xdp_md;
use lb_common::sip::{Budget, CallKey, read_on};
use lb_common::siphash::SipKey;
use lb_common::{Reason, Window};

use crate::frame::Frame;
use crate::tracks::Tracks;

/// Marks a [`Reason`], or a place to read on from, among offsets.
const FAILED: u32 = 1 << 31;

/// Where the Call-ID of the message at `at` starts.
#[inline(always)]
pub(crate) fn locate(ctx: *mut xdp_md, at: u32) -> Result<u32, Reason> {
    let seen = plain_value(ctx, at);
    if seen & FAILED == 0 {
        return Ok(seen);
    }
    let read = call_id_after(ctx, at, seen);
    if read & FAILED == 0 {
        return Ok(read);
    }
    Err(reason(read))
}

/// [`Frame::plain_value`] as a function that has the registers for itself: an offset, or [`FAILED`] and one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn plain_value(ctx: *mut xdp_md, at: u32) -> u32 {
    match Frame::of(ctx).plain_value(at) {
        Ok(at) => at,
        Err(from) => FAILED | from,
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
pub(crate) fn call_key(
    ctx: *mut xdp_md,
    frame: Frame,
    at: u32,
    secret: &SipKey,
) -> Result<CallKey, Reason> {
    if let Some(call) = frame.plain_call_id(at, secret) {
        return Ok(call);
    }
    let mut hash = 0;
    let len = read_call_id(ctx, at, &mut hash);
    match NonZeroU32::new(len) {
        Some(len) if len.get() & FAILED == 0 => Ok(CallKey { hash, len, at }),
        _ => Err(reason(len)),
    }
}

/// [`CallKey::read`] as a function of its own: the length, or [`FAILED`] and a reason.
#[inline(never)]
fn read_call_id(ctx: *mut xdp_md, at: u32, hash: &mut u64) -> u32 {
    let Some(tracks) = Tracks::open() else {
        return FAILED | Reason::NotReady as u32;
    };
    match CallKey::read(Frame::of(ctx), at, tracks.settings().call_secret) {
        Ok(call) => {
            *hash = call.hash;
            call.len.get()
        }
        Err(reason) => FAILED | reason as u32,
    }
}

/// The reason behind [`FAILED`].
#[inline(always)]
fn reason(failed: u32) -> Reason {
    Reason::from_index(failed as u8).unwrap_or(Reason::NotReady)
}
