//! The peek into a SIP message: request or response, method, and where its Call-ID stands.
//!
//! **The exact Call-ID, or a reason to defer. Never a guess.** The header is read line by line, as
//! RFC 3261 §7.3.1 defines lines: ended by CRLF, continued by a line that starts with white space.
//! So text in a body, in another header or in a folded line can never be taken for a Call-ID, and
//! a message whose line ends are ambiguous (a bare LF or CR, which receivers read differently) is
//! not read at all here.
//!
//! One source for kernel and userspace. It reads sixteen bytes at a time and looks at single bytes
//! only where a control character stands, which in SIP means: at the end of a line.

mod call_id;
mod lenient;
mod method;
#[cfg(test)]
mod tests;
mod to_tag;

pub use call_id::{CallKey, MAX_CALL_ID};
pub use lenient::find_call_id_leniently;
pub use method::Method;
pub use to_tag::has_to_tag;

use crate::{Reason, Window};

/// How far to read before giving up.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Reading steps: one for every sixteen bytes, or for every line end where lines are shorter.
    pub steps: u32,
}

impl Budget {
    /// What the kernel program affords: the Call-ID within the first 1,390 bytes, To within 1,150.
    ///
    /// In public captures the Call-ID starts within 512 bytes (142 messages, p99 387).
    pub const KERNEL: Self = Self { steps: 72 };
    /// Userspace reads to the end: no datagram of UDP has more steps in it.
    pub const WHOLE: Self = Self { steps: u32::MAX };
}

/// Where the Call-ID's value starts in a message that starts at `start`.
///
/// # Errors
/// The [`Reason`] to defer: the message does not show its Call-ID in the plain form within `budget`.
#[inline(always)]
pub fn find_call_id<W: Window>(message: W, start: u32, budget: Budget) -> Result<u32, Reason> {
    let name_end = find_line::<W, true>(message, start, budget, Reason::NoCallId, |line, at| {
        if line & CALL_ID_CASE == CALL_ID_NAME {
            // The six bytes of `Call-I` are there; a seventh and the end of the name must follow.
            let end = message.be16(at + 6)?;
            ((end >> 8) as u8 | 0x20 == b'd' && is_after_name(end as u8)).then_some(7)
        } else if line as u8 | 0x20 == b'i' && is_after_name((line >> 8) as u8) {
            Some(1)
        } else {
            None
        }
    })?;
    value_start(message, name_end, Reason::OddCallId)
}

/// `CALL-I` in upper case, as the low six bytes of a word.
const CALL_ID_NAME: u64 = u64::from_le_bytes(*b"CALL-I\0\0");
/// All bits but the one that separates the cases of each letter. Not that of the hyphen: a carriage
/// return differs from it by the same bit.
const CALL_ID_CASE: u64 = u64::from_le_bytes([0xdf, 0xdf, 0xdf, 0xdf, 0xff, 0xdf, 0, 0]);

/// Shows the start of every header line to `look`, until it finds the header it looks for, and
/// returns where that header's name ends.
///
/// `look` gets the line's first six bytes (little-endian, zero above them) and its offset, and answers
/// with the length of the name.
///
/// The reader goes forward by sixteen bytes and never by what it found: then nothing that
/// the processor reads waits for what it has read before. That halves the time of the scan.
///
/// `FAST` looks at the first 256 bytes in code without loops, at the price of more of it.
///
/// # Errors
/// `absent` at the end of the header, or the [`Reason`] why the lines cannot be told apart with
/// certainty.
#[inline(always)]
fn find_line<W: Window, const FAST: bool>(
    message: W,
    start: u32,
    budget: Budget,
    absent: Reason,
    look: impl Fn(u64, u32) -> Option<u32>,
) -> Result<u32, Reason> {
    match load(message, start) as u8 {
        b'\r' | b'\n' => return Err(Reason::LeadingLineBreak),
        0x21..=0x7e => {}
        _ => return Err(Reason::NotSip),
    }
    // The sixteen bytes being looked at, and the control characters in them that are not dealt with
    // yet, a bit each; 1 in `pending` when the first byte is the line feed of a line end before.
    let (mut at, mut left, mut pending) = (start, 0, 0);
    if FAST && let Some(block) = message.block(start) {
        // The first 256 bytes, without a question about their end: that is where most Call-IDs are.
        macro_rules! look_at {
            ($($pair:literal)+) => { 'block: { $({
                let (low, high) = W::pair_in(&block, $pair);
                if may_hold_control(low, high) {
                    at = message.advance(start, 16 * $pair);
                    let controls = controls_in(low, high) & !pending;
                    pending = 0;
                    if controls != 0 {
                        let place = first_bit(controls);
                        match meet(message, message.advance(at, place), &look)? {
                            Met::Header(name_end) => return Ok(message.forget(name_end)),
                            Met::HeaderEnd => return Err(absent),
                            Met::Other => {
                                left = without_first(controls);
                                break 'block;
                            }
                            Met::LineEnd => {
                                pending = (place + 1) >> 4;
                                left = without_first(without_first(controls));
                                if left != 0 {
                                    break 'block;
                                }
                            }
                        }
                    }
                }
            })+
                at = message.advance(start, 240);
            } };
        }
        look_at!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    } else {
        left = controls_at(message, start);
    }
    let mut found = left;
    at = message.forget(at);
    let mut step = 0;
    while step < budget.steps {
        step += 1;
        if found == 0 {
            at = message.advance(at, 16);
            found = controls_at(message, at) & !pending;
            pending = 0;
            if found == 0 {
                continue;
            }
        }
        let place = first_bit(found);
        let spot = message.advance(at, place);
        found = without_first(found);
        match meet(message, spot, &look)? {
            Met::Header(name_end) => return Ok(message.forget(name_end)),
            Met::HeaderEnd => return Err(absent),
            Met::Other => {}
            Met::LineEnd => {
                // The line feed is found next; if not in these sixteen bytes, then in the next.
                found = without_first(found);
                pending = (place + 1) >> 4;
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

/// Whether a control character may be in the two words: as [`controls`], but without the exemption of
/// bytes above 0x7f, which takes fewer steps. Nearly always it says no, and is right.
#[inline(always)]
const fn may_hold_control(low: u64, high: u64) -> bool {
    (low.wrapping_sub(ONES * 0x0e) | high.wrapping_sub(ONES * 0x0e)) & (ONES << 7) != 0
}

/// The [`controls`] in two words, a bit each.
#[inline(always)]
const fn controls_in(low: u64, high: u64) -> u32 {
    bits(controls(low)) | bits(controls(high)) << 8
}

/// The same places without the first.
#[inline(always)]
const fn without_first(found: u32) -> u32 {
    found & found.wrapping_sub(1)
}

/// The [`controls`] in the sixteen bytes at `at`, a bit each.
#[inline(always)]
fn controls_at<W: Window>(message: W, at: u32) -> u32 {
    let (low, high) = match message.pair(at) {
        Some(pair) => pair,
        None => (load(message, at), load(message, at + 8)),
    };
    if may_hold_control(low, high) {
        controls_in(low, high)
    } else {
        0
    }
}

const CRLF: u16 = u16::from_le_bytes(*b"\r\n");

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
///
/// Behind the first one, a byte 0x0e may be found too. It is a control character as well.
#[inline(always)]
const fn controls(word: u64) -> u64 {
    below(word, 0x0e)
}

/// The high bit of every byte of `word` below `limit` (at most 0x80), exact up to the first one.
///
/// From "Bit Twiddling Hacks" (S. E. Anderson): the subtraction borrows only behind a hit, so what
/// comes before the first hit is exact.
#[inline(always)]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & (ONES << 7)
}

const ONES: u64 = u64::from_le_bytes([1; 8]);

/// The high bits of a word's bytes as the low bits of a number, in the same order.
#[inline(always)]
const fn bits(high: u64) -> u32 {
    ((high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}

/// The place of the lowest of sixteen bits, one of which is set.
///
/// BPF has no instruction that counts zeros: the bit alone, times a de Bruijn sequence, leaves a
/// different pattern in the top four bits for each place.
#[inline(always)]
fn first_bit(found: u32) -> u32 {
    const SEQUENCE: u32 = 0x09af;
    static PLACES: [u8; 16] = {
        let mut places = [0; 16];
        let mut place = 0;
        while place < 16 {
            places[((SEQUENCE << place) >> 12 & 15) as usize] = place as u8;
            place += 1;
        }
        places
    };
    let lowest = found & found.wrapping_neg();
    u32::from(PLACES[(lowest.wrapping_mul(SEQUENCE) >> 12 & 15) as usize])
}

/// The place (0–7, in bytes from the low end) of the first high bit that [`below`] has set.
#[inline(always)]
const fn first_place(found: u64) -> u32 {
    // As in `first_bit`, with a word that holds each place's number in a byte.
    let lowest = (found & found.wrapping_neg()) >> 7;
    (lowest.wrapping_mul(0x0001_0203_0405_0607) >> 56) as u32
}
