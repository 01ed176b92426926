//! The peek into a SIP message: request or response, method, and where its Call-ID stands.
//!
//! **The exact Call-ID, or a reason to defer. Never a guess.** The header is read line by line, as
//! RFC 3261 §7.3.1 defines lines: ended by CRLF, continued by a line that starts with white space.
//! So text in a body, in another header or in a folded line can never be taken for a Call-ID, and
//! a message whose line ends are ambiguous (a bare LF or CR, which receivers read differently) is
//! not read at all here.
//!
//! One source for kernel and userspace. It reads eight bytes at a time and looks at single bytes
//! only where a control character stands, which in SIP means: at the end of a line.

mod call_id;
mod lenient;
mod method;
mod to_tag;

pub use call_id::{CallKey, MAX_CALL_ID};
pub use lenient::find_call_id_leniently;
pub use method::Method;
pub use to_tag::has_to_tag;

use crate::{Reason, Window};

/// How far to read before giving up.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Reading steps: one a word of eight bytes, and one more a line.
    pub steps: u32,
}

impl Budget {
    /// What the kernel program affords: at least 1,400 bytes of lines of usual length.
    ///
    /// In public captures the Call-ID starts within 512 bytes (142 messages, p99 387).
    pub const KERNEL: Self = Self { steps: 240 };
    /// Userspace reads to the end: no datagram of UDP has more steps in it.
    pub const WHOLE: Self = Self { steps: u32::MAX };
}

/// Where the Call-ID's value starts in a message that starts at `start`.
///
/// # Errors
/// The [`Reason`] to defer: the message does not show its Call-ID in the plain form within `budget`.
#[inline(always)]
pub fn find_call_id<W: Window>(message: W, start: u32, budget: Budget) -> Result<u32, Reason> {
    let name_end = find_line(message, start, budget, Reason::NoCallId, |line, at| {
        if (line | CALL_ID_CASE) == CALL_ID_NAME {
            message.byte(at + 7).is_some_and(is_after_name).then_some(7)
        } else if (line as u8 | 0x20) == b'i' && is_after_name((line >> 8) as u8) {
            Some(1)
        } else {
            None
        }
    })?;
    value_start(message, name_end, Reason::OddCallId)
}

/// `Call-ID` in lower case, as the low seven bytes of a word.
const CALL_ID_NAME: u64 = u64::from_le_bytes(*b"call-id\0");
/// The bit that separates the cases, for each letter in it. Not for the hyphen: a carriage return
/// differs from it by the same bit.
const CALL_ID_CASE: u64 = u64::from_le_bytes([0x20, 0x20, 0x20, 0x20, 0, 0x20, 0x20, 0]);

/// Shows the start of every header line to `look`, until it finds the header it looks for, and
/// returns where that header's name ends.
///
/// `look` gets the line's first seven bytes (little-endian, zero above them) and its offset, and
/// answers with the length of the name.
///
/// # Errors
/// `absent` at the end of the header, or the [`Reason`] why the lines cannot be told apart with
/// certainty.
#[inline(always)]
fn find_line<W: Window>(
    message: W,
    start: u32,
    budget: Budget,
    absent: Reason,
    look: impl Fn(u64, u32) -> Option<u32>,
) -> Result<u32, Reason> {
    let mut at = start;
    let mut word = load(message, at);
    match word as u8 {
        b'\r' | b'\n' => return Err(Reason::LeadingLineBreak),
        0x21..=0x7e => {}
        _ => return Err(Reason::NotSip),
    }
    let mut step = 0;
    while step < budget.steps {
        step += 1;
        let found = controls(word);
        if found == 0 {
            at = message.advance(at, 8);
            word = load(message, at);
            continue;
        }
        let place = first_place(found);
        let control = (word >> (8 * place)) as u8;
        at = message.advance(at, place + 1);
        word = load(message, at);
        if control != b'\r' {
            match control {
                b'\t' => continue,
                b'\n' => return Err(Reason::BareLineFeed),
                END if message.byte(at - 1).is_none() => return Err(Reason::Truncated),
                _ => return Err(Reason::ControlCharacter),
            }
        }
        if word as u8 != b'\n' {
            return Err(Reason::BareCarriageReturn);
        }
        let line = word >> 8;
        if let Some(name_len) = look(line, at + 1) {
            return Ok(message.forget(at + 1 + name_len));
        }
        if line as u16 == u16::from_le_bytes(*b"\r\n") {
            return Err(absent);
        }
        // The line feed is dealt with; the rest of the word is scanned like any other.
        word |= 0xff;
    }
    Err(Reason::LongHeader)
}

/// Steps over the white space that may stand on either side of a header's colon (RFC 3261 §25.1:
/// HCOLON), from the byte behind the name.
#[inline(always)]
fn value_start<W: Window>(message: W, name_end: u32, odd: Reason) -> Result<u32, Reason> {
    let mut at = name_end;
    let mut byte = message.byte(at).ok_or(Reason::Truncated)?;
    let mut blanks = 0;
    while byte != b':' {
        if !is_blank(byte) || blanks == MAX_BLANKS {
            return Err(odd);
        }
        at += 1;
        blanks += 1;
        byte = message.byte(at).ok_or(Reason::Truncated)?;
    }
    at += 1;
    blanks = 0;
    byte = message.byte(at).ok_or(Reason::Truncated)?;
    while is_blank(byte) {
        if blanks == MAX_BLANKS {
            return Err(odd);
        }
        at += 1;
        blanks += 1;
        byte = message.byte(at).ok_or(Reason::Truncated)?;
    }
    Ok(message.forget(at))
}

/// White space read on either side of a colon. Chosen, because nobody aligns SIP headers in columns
/// wider than this, and every step costs the verifier.
const MAX_BLANKS: u32 = 6;

#[inline(always)]
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[inline(always)]
const fn is_after_name(byte: u8) -> bool {
    matches!(byte, b':' | b' ' | b'\t')
}

/// The word at `at`, or what is left of the datagram there, then [`END`].
#[inline(always)]
fn load<W: Window>(message: W, at: u32) -> u64 {
    match message.word(at) {
        Some(word) => word,
        None => message.tail(at, END),
    }
}

/// Stands for the bytes behind the last one. A control character, so that every scan stops at it;
/// whether it is a byte of the message, its offset tells.
const END: u8 = 0;

/// The high bit of every byte of `word` below 0x0e: line ends, tabs, and what no header may hold.
/// Bits above the first may be wrong, the first never is.
#[inline(always)]
const fn controls(word: u64) -> u64 {
    below(word, 0x0e)
}

/// The high bit of every byte of `word` below `limit` (at most 0x80), right up to the first one.
///
/// From "Bit Twiddling Hacks" (S. E. Anderson): the subtraction borrows only behind a hit, so what
/// comes before the first hit is exact.
#[inline(always)]
const fn below(word: u64, limit: u8) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    word.wrapping_sub(ONES * limit as u64) & !word & (ONES << 7)
}

/// The place (0–7, in bytes from the low end) of the first high bit that [`below`] has set.
#[inline(always)]
const fn first_place(found: u64) -> u32 {
    // BPF has no instruction that counts zeros: the lowest bit, times a word that holds each
    // place's number, leaves the number in the top byte.
    let lowest = (found & found.wrapping_neg()) >> 7;
    (lowest.wrapping_mul(0x0001_0203_0405_0607) >> 56) as u32
}
