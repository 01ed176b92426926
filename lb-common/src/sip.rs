//! The peek into a SIP message: request or response, method, and where its Call-ID stands.
//!
//! **The exact Call-ID, or a reason to defer. Never a guess.** The header is read line by line, as
//! RFC 3261 §7.3.1 defines lines: ended by CRLF, continued by a line that starts with white space.
//! So text in a body, in another header or in a folded line can never be taken for a Call-ID, and
//! a message whose line ends are ambiguous (a bare LF or CR, which receivers read differently) is
//! not read at all here. Only the lines up to the Call-ID are read: what is odd behind it is the node's
//! to judge, and changes nothing in where the message belongs.
//!
//! One source for kernel and userspace. The kernel has quicker ways over plain lines and plain Call-IDs, which
//! answer as these readers do, or not at all: then it asks here, from where they stopped.

mod call_id;
mod lenient;
mod lines;
mod method;
#[cfg(test)]
mod tests;
mod to_tag;
pub mod word;

pub use call_id::{CallKey, ENDS, MAX_CALL_ID};
pub use lenient::find_call_id_leniently;
pub use lines::Budget;
pub use method::Method;
pub use to_tag::has_to_tag;

use crate::{Reason, Window};
use lines::{find_line, is_after_name, value_start};

/// Where the Call-ID's value starts in a message that starts at `start`.
///
/// # Errors
/// The [`Reason`] to defer: the message does not show its Call-ID in the plain form within `budget`.
#[inline(always)]
pub fn find_call_id<W: Window>(message: W, start: u32, budget: Budget) -> Result<u32, Reason> {
    read_on(message, start, start, budget)
}

/// The same, when it is known that it does not start before `from`, which is any place but the inside of a line
/// end.
///
/// # Errors
/// As [`find_call_id`].
#[inline(always)]
pub fn read_on<W: Window>(
    message: W,
    start: u32,
    from: u32,
    budget: Budget,
) -> Result<u32, Reason> {
    let name_end = find_line(
        message,
        start,
        from,
        budget,
        Reason::NoCallId,
        |line, at| call_id_name(message, line, at),
    )?;
    value_start(message, name_end, Reason::OddCallId)
}

/// The length of the Call-ID header's name, if the line at `at`, whose first six bytes are given, has it.
#[inline(always)]
fn call_id_name<W: Window>(message: W, line: u64, at: u32) -> Option<u32> {
    if line & CALL_ID_CASE == CALL_ID_NAME {
        // The six bytes of `Call-I` are there; a seventh and the end of the name must follow.
        let end = message.be16(at + 6)?;
        ((end >> 8) as u8 | 0x20 == b'd' && is_after_name(end as u8)).then_some(7)
    } else if line as u8 | 0x20 == b'i' && is_after_name((line >> 8) as u8) {
        Some(1)
    } else {
        None
    }
}

/// `CALL-I` in upper case, as the low six bytes of a word.
pub const CALL_ID_NAME: u64 = u64::from_le_bytes(*b"CALL-I\0\0");
/// All bits but the one that separates the cases of each letter. Not that of the hyphen: a carriage
/// return differs from it by the same bit.
pub const CALL_ID_CASE: u64 = u64::from_le_bytes([0xdf, 0xdf, 0xdf, 0xdf, 0xff, 0xdf, 0, 0]);
