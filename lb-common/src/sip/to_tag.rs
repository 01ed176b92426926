//! Whether a request belongs to a dialog: does its To header carry a tag (RFC 3261 §12.2)?
//!
//! Asked only where the answer changes the choice, so plain rather than fast.

use super::lines::{Budget, END, find_line, is_after_name, is_blank, value_start};
use crate::{Reason, Window};

/// Bytes of To header that are read. Chosen: display name and URI of a few hundred bytes exist.
const MAX_TO: u32 = 512;

/// `To` in lower case, and the bits that separate the cases.
const TO_NAME: u64 = u64::from_le_bytes(*b"to\0\0\0\0\0\0");
const TO_CASE: u64 = u64::from_le_bytes([0x20, 0x20, 0, 0, 0, 0, 0, 0]);

/// Where in the value the reader is.
mod place {
    pub(super) const PLAIN: u8 = 0;
    pub(super) const QUOTED: u8 = 1;
    pub(super) const ESCAPED: u8 = 2;
    pub(super) const IN_ANGLES: u8 = 3;
    pub(super) const PARAMETER: u8 = 4;
    pub(super) const T: u8 = 5;
    pub(super) const TA: u8 = 6;
    pub(super) const TAG: u8 = 7;
    pub(super) const FOUND: u8 = 8;
}

/// The place after each byte at each place, at `place << 8 | byte`.
///
/// A table, because every branch of a loop is one more path for the verifier, and a look-up is none.
static NEXT: [u8; 16 << 8] = {
    let mut table = [place::PLAIN; 16 << 8];
    let mut i = 0;
    while i < table.len() {
        table[i] = next((i >> 8) as u8, i as u8);
        i += 1;
    }
    table
};

/// Whether the message that starts at `start` has a tag in its To header.
///
/// A `;tag=` inside a display name or inside the angle brackets of the URI is none.
///
/// # Errors
/// [`Reason::OddTo`] when it cannot be told within the bytes that are read.
#[inline(always)]
pub fn has_to_tag<W: Window>(message: W, start: u32, budget: Budget) -> Result<bool, Reason> {
    let name_end = find_line(message, start, start, budget, Reason::OddTo, |line, _| {
        if (line | TO_CASE) & 0xffff == TO_NAME && is_after_name((line >> 16) as u8) {
            Some(2)
        } else if (line as u8 | 0x20) == b't' && is_after_name((line >> 8) as u8) {
            Some(1)
        } else {
            None
        }
    })
    .map_err(|_| Reason::OddTo)?;
    let value = value_start(message, name_end, Reason::OddTo).map_err(|_| Reason::OddTo)?;
    let mut at = place::PLAIN;
    let mut read = 0;
    while read < MAX_TO {
        let byte = message.byte(value + read).ok_or(Reason::OddTo)?;
        read += 1;
        at = NEXT[usize::from(at & 15) << 8 | usize::from(byte)];
        if at == place::FOUND {
            return Ok(true);
        }
        // A line that starts with a blank continues this one.
        if byte == b'\n' && !is_blank(message.byte(value + read).unwrap_or(END)) {
            return Ok(false);
        }
    }
    Err(Reason::OddTo)
}

const fn next(at: u8, byte: u8) -> u8 {
    match (at, byte) {
        (place::QUOTED, b'"') => place::PLAIN,
        (place::QUOTED, b'\\') => place::ESCAPED,
        (place::QUOTED | place::ESCAPED, _) => place::QUOTED,
        (place::IN_ANGLES, b'>') => place::PLAIN,
        (place::IN_ANGLES, _) => place::IN_ANGLES,
        (_, b'"') => place::QUOTED,
        (_, b'<') => place::IN_ANGLES,
        (_, b';') => place::PARAMETER,
        (place::PARAMETER | place::TAG, b' ' | b'\t' | b'\r' | b'\n') => at,
        (place::PARAMETER, b't' | b'T') => place::T,
        (place::T, b'a' | b'A') => place::TA,
        (place::TA, b'g' | b'G') => place::TAG,
        (place::TAG, b'=') => place::FOUND,
        _ => place::PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(to: &str) -> Result<bool, Reason> {
        extern crate std;
        let message = std::format!(
            "INVITE sip:b@c SIP/2.0\r\nTopic: x;tag=1\r\n{to}\r\nFrom: <sip:a@b>;tag=2\r\n\r\n"
        );
        has_to_tag(message.as_bytes(), 0, Budget::KERNEL)
    }

    #[test]
    fn a_tag_is_found_where_the_grammar_puts_it() {
        for to in [
            "To: <sip:b@c>;tag=x",
            "t:sip:b@c;tag=x",
            "TO : \"B\" <sip:b@c> ; x=y ; TAG = z",
            "To: <sip:b@c>;x\r\n ;\r\n\ttag=z",
        ] {
            assert_eq!(tagged(to), Ok(true), "{to}");
        }
    }

    #[test]
    fn what_only_looks_like_a_tag_is_none() {
        for to in [
            "To: <sip:b@c>",
            "To: <sip:b@c;tag=uri>",
            "To: \";tag=quoted\" <sip:b@c>",
            "To: \"\\\";tag=escaped\" <sip:b@c>",
            "To: <sip:b@c>;stag=x",
            "To: <sip:b@c>;tagged=x",
            "To: <sip:b@c>;x=tag",
        ] {
            assert_eq!(tagged(to), Ok(false), "{to}");
        }
    }

    #[test]
    fn a_missing_or_endless_to_is_odd() {
        extern crate std;
        assert_eq!(tagged("Subject: x"), Err(Reason::OddTo));
        assert_eq!(
            tagged(&std::format!("To: <sip:{}@c>;tag=x", "b".repeat(600))),
            Err(Reason::OddTo)
        );
    }
}
