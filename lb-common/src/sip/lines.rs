//! The lines of a header, read with certainty or not at all.

use super::word::{controls, lowest, place_of};
use crate::{Reason, Window};

/// How far to read before giving up.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Reading steps: one for every eight bytes, and one for every line end.
    pub steps: u32,
}

impl Budget {
    /// What the kernel program affords: 1,000 bytes with 30 lines in them. Of the lines before the Call-ID, its
    /// quicker way takes those that are plain within the first 1,472 bytes, before that, up to a `Call-Info`.
    ///
    /// In public captures the Call-ID starts within 512 bytes (142 messages, p99 387).
    pub const KERNEL: Self = Self { steps: 160 };
    /// Userspace reads to the end: no datagram of UDP has more steps in it.
    pub const WHOLE: Self = Self { steps: u32::MAX };
}

/// Shows the start of every header line from `from` on to `look`, until it finds the header it looks
/// for, and returns where that header's name ends. `from` is any place but the inside of a line end.
///
/// `look` gets the line's first six bytes (little-endian, zero above them) and its offset, and answers
/// with the length of the name.
///
/// # Errors
/// `absent` at the end of the header, or the [`Reason`] why the lines cannot be told apart with
/// certainty.
#[inline(always)]
pub(super) fn find_line<W: Window>(
    message: W,
    start: u32,
    from: u32,
    budget: Budget,
    absent: Reason,
    look: impl Fn(u64, u32) -> Option<u32>,
) -> Result<u32, Reason> {
    match load(message, start) as u8 {
        b'\r' | b'\n' => return Err(Reason::LeadingLineBreak),
        0x21..=0x7e => {}
        _ => return Err(Reason::NotSip),
    }
    let mut at = from;
    // The control characters in the word at `at` that are not dealt with yet, and the line feed that
    // the next word starts with, when the carriage return was this one's last byte.
    let (mut found, mut awaited) = (controls(load(message, at)), 0);
    let mut step = 0;
    while step < budget.steps {
        step += 1;
        if found == 0 {
            at = message.advance(at, 8);
            found = controls(load(message, at)) & !awaited;
            awaited = 0;
            continue;
        }
        let first = lowest(found);
        found ^= first;
        match meet(message, message.advance(at, place_of(first)), &look)? {
            Met::Header(name_end) => return Ok(message.forget(name_end)),
            Met::HeaderEnd => return Err(absent),
            Met::Other => {}
            Met::LineEnd => {
                found &= !(first << 8);
                awaited = first >> 56;
            }
        }
    }
    Err(Reason::LongHeader)
}

/// What stands at a control character.
enum Met {
    /// A line end, before the header that was looked for; where its name ends.
    Header(u32),
    /// The line end before the empty line.
    HeaderEnd,
    /// Another line end.
    LineEnd,
    /// A tab, or a control character that a quoted pair may hold (RFC 3261 §25.1).
    Other,
}

/// Looks at the control character at `spot` and, if it ends a line, at the next line's start.
#[inline(always)]
fn meet<W: Window>(
    message: W,
    spot: u32,
    look: &impl Fn(u64, u32) -> Option<u32>,
) -> Result<Met, Reason> {
    let here = load(message, spot);
    if here as u16 != CRLF {
        return match here as u8 {
            b'\n' => Err(Reason::BareLineFeed),
            b'\r' => Err(Reason::BareCarriageReturn),
            _ if message.byte(spot).is_none() => Err(Reason::Truncated),
            _ => Ok(Met::Other),
        };
    }
    let (line, line_at) = (here >> 16, message.advance(spot, 2));
    if let Some(name_len) = look(line, line_at) {
        return Ok(Met::Header(line_at + name_len));
    }
    Ok(if line as u16 == CRLF {
        Met::HeaderEnd
    } else {
        Met::LineEnd
    })
}

pub(super) const CRLF: u16 = u16::from_le_bytes(*b"\r\n");

/// Steps over the white space that may stand on either side of a header's colon (RFC 3261 §25.1:
/// HCOLON), from the byte behind the name.
#[inline(always)]
pub(super) fn value_start<W: Window>(
    message: W,
    name_end: u32,
    odd: Reason,
) -> Result<u32, Reason> {
    let word = load(message, name_end);
    if word as u16 == COLON_BLANK && (word >> 16) as u8 > b' ' {
        return Ok(name_end + 2);
    }
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

const COLON_BLANK: u16 = u16::from_le_bytes(*b": ");

/// White space read on either side of a colon, and behind a value. Chosen, because nobody aligns SIP
/// headers in columns wider than this, and every step costs the verifier.
pub(super) const MAX_BLANKS: u32 = 6;

#[inline(always)]
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[inline(always)]
pub(super) const fn is_after_name(byte: u8) -> bool {
    matches!(byte, b':' | b' ' | b'\t')
}

/// The word at `at`, or what is left of the datagram there, then [`END`].
#[inline(always)]
pub(super) fn load<W: Window>(message: W, at: u32) -> u64 {
    match message.word(at) {
        Some(word) => word,
        None => message.tail(at, END),
    }
}

/// Stands for the bytes behind the last one. A control character, so that every scan stops at it;
/// whether it is a byte of the message, its offset tells.
pub(super) const END: u8 = 0;
