//! Whether a request belongs to a dialog: does its To header carry a tag (RFC 3261 §12.2)?
//!
//! Asked only where the answer changes the choice, so plain rather than fast.

use super::{Budget, END, find_line, is_after_name, is_blank, value_start};
use crate::{Reason, Window};

/// Bytes of To header that are read. Chosen: display name and URI of several hundred bytes exist.
const MAX_TO: u32 = 768;

/// `To` in lower case, and the bits that separate the cases.
const TO_NAME: u64 = u64::from_le_bytes(*b"to\0\0\0\0\0\0");
const TO_CASE: u64 = u64::from_le_bytes([0x20, 0x20, 0, 0, 0, 0, 0, 0]);

/// Where in the value the reader is. Plain numbers: the state is stored as one, see `forget`.
mod place {
    pub(super) const PLAIN: u32 = 0;
    pub(super) const QUOTED: u32 = 1;
    pub(super) const ESCAPED: u32 = 2;
    pub(super) const IN_ANGLES: u32 = 3;
    pub(super) const PARAMETER: u32 = 4;
    pub(super) const T: u32 = 5;
    pub(super) const TA: u32 = 6;
    pub(super) const TAG: u32 = 7;
}

/// Whether the message that starts at `start` has a tag in its To header.
///
/// A `;tag=` inside a display name or inside the angle brackets of the URI is none.
///
/// # Errors
/// [`Reason::OddTo`] when it cannot be told within the bytes that are read.
#[inline(always)]
pub fn has_to_tag<W: Window>(message: W, start: u32, budget: Budget) -> Result<bool, Reason> {
    let value = find_line(message, start, budget, Reason::OddTo, |line, at| {
        if (line | TO_CASE) & 0xffff == TO_NAME && is_after_name((line >> 16) as u8) {
            value_start(message, message.forget(at + 2), Reason::OddTo)
        } else if (line as u8 | 0x20) == b't' && is_after_name((line >> 8) as u8) {
            value_start(message, message.forget(at + 1), Reason::OddTo)
        } else {
            Ok(None)
        }
    })
    .map_err(|_| Reason::OddTo)?;
    let mut state = place::PLAIN;
    let mut read = 0;
    while read < MAX_TO {
        let byte = message.byte(value + read).unwrap_or(END);
        read += 1;
        if byte == END {
            return Err(Reason::OddTo);
        }
        if byte == b'\n' {
            // A line that starts with a blank continues this one; the blank itself is skipped below.
            if !is_blank(message.byte(value + read).unwrap_or(END)) {
                return Ok(false);
            }
            continue;
        }
        if state == place::TAG && byte == b'=' {
            return Ok(true);
        }
        state = message.forget(next(state, byte));
    }
    Err(Reason::OddTo)
}

#[inline(always)]
const fn next(state: u32, byte: u8) -> u32 {
    match (state, byte) {
        (place::QUOTED, b'"') => place::PLAIN,
        (place::QUOTED, b'\\') => place::ESCAPED,
        (place::QUOTED | place::ESCAPED, _) => place::QUOTED,
        (place::IN_ANGLES, b'>') => place::PLAIN,
        (place::IN_ANGLES, _) => place::IN_ANGLES,
        (_, b'"') => place::QUOTED,
        (_, b'<') => place::IN_ANGLES,
        (_, b';') => place::PARAMETER,
        (place::PARAMETER | place::TAG, b' ' | b'\t' | b'\r') => state,
        (place::PARAMETER, b't' | b'T') => place::T,
        (place::T, b'a' | b'A') => place::TA,
        (place::TA, b'g' | b'G') => place::TAG,
        _ => place::PLAIN,
    }
}
