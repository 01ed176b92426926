//! The glance: finds the Call-ID of a plain message in as few steps as can be.
//!
//! Plain means: nothing but whole lines up to the Call-ID, whose name is spelled out, with a colon and one
//! blank behind it. Everything else makes the glance *unsure*, and [`read_on`](super::read_on) starts where it
//! stopped.
//!
//! It goes forward by eight bytes and never by what it found: then nothing that the processor reads
//! waits for what it has read before. That halves the time of the scan.

use super::lines::{CRLF, is_after_name};
use super::word::{Below, CONTROLS, lowest, place_of};
use super::{CALL_ID_CASE, CALL_ID_NAME};
use crate::{BLOCK, Window};

/// Blocks of [`BLOCK`] bytes that are looked at: a full Ethernet frame.
const MAX_BLOCKS: u32 = 1_472 / BLOCK;

/// What a glance saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// Where the Call-ID's value starts.
    Value(u32),
    /// Where to read on: any place but the inside of a line end.
    Unsure(u32),
}

/// Glances at the message that starts at `start`.
#[inline(always)]
pub fn glance<W: Window>(message: W, start: u32) -> Glance {
    let Some(mut block) = message.block(start) else {
        return Glance::Unsure(start);
    };
    if !matches!(message.word_in(block, 0) as u8, 0x21..=0x7e) {
        return Glance::Unsure(start);
    }
    let controls = Below::kept(message, CONTROLS);
    let mut blocks = 0;
    loop {
        macro_rules! look_at {
            ($($index:literal)+) => { $({
                let word = message.word_in(block, 8 * $index);
                let likely = controls.likely(word);
                if likely != 0 {
                    let found = likely & !word;
                    let first = lowest(found);
                    let (at, place) = (8 * $index, place_of(first));
                    let Some(here) = message.word_from(block, at, place) else {
                        return unsure(message, block, at + place);
                    };
                    if here as u16 == CRLF {
                        // Two control characters and no third.
                        if found ^ first ^ first << 8 != 0 {
                            return Glance::Unsure(message.offset_in(block, at + place));
                        }
                        if here & LIKE_C_MASK == LIKE_C {
                            let initial = (here >> 16) as u8 | 0x20;
                            // A compact name, or the empty line.
                            if initial == b'i' || initial == b'\r' | 0x20 {
                                return Glance::Unsure(message.offset_in(block, at + place));
                            }
                            if here >> 16 & CALL_ID_CASE == CALL_ID_NAME {
                                match message.word_from(block, at + 8, place) {
                                    Some(rest) if is_plain_value(rest) => {
                                        let value = at + place + 11;
                                        return Glance::Value(message.offset_in(block, value));
                                    }
                                    Some(rest) if !is_name_end(rest) => {}
                                    _ => return unsure(message, block, at + place),
                                }
                            }
                        }
                    } else if found != 0 && (found != FIRST || !follows_return(message, block, at)) {
                        // Not the line feed of a line end whose carriage return was the last byte
                        // of the word before.
                        return unsure(message, block, at + place);
                    }
                }
            })+ };
        }
        look_at!(0 1 2 3 4 5 6 7);
        blocks += 1;
        match message.block_after(block) {
            Some(next) if blocks < MAX_BLOCKS => block = next,
            _ => return unsure(message, block, BLOCK),
        }
    }
}

/// What [`Below`] finds in the first byte of a word.
const FIRST: u64 = 0x80;

/// Bits of a word that starts with a line end: of the byte behind it, three that `c`, `C`, `i`, `I` and
/// the carriage return have in common, and few other initials. One question instead of three.
const LIKE_C_MASK: u64 = 0x91 << 16;
const LIKE_C: u64 = LIKE_C_MASK & (b'c' as u64) << 16;

/// To be read on from this place, or from the carriage return before it.
#[inline(always)]
fn unsure<W: Window>(message: W, block: W::Block, place: u32) -> Glance {
    let back = u32::from(follows_return(message, block, place));
    Glance::Unsure(message.offset_in(block, place) - back)
}

/// Whether a carriage return stands before this place. Not asked at a message's first byte, which is
/// no control character.
#[inline(always)]
fn follows_return<W: Window>(message: W, block: W::Block, place: u32) -> bool {
    message.byte(message.offset_in(block, place) - 1) == Some(b'\r')
}

/// Whether the word goes on as `Call-I` does nearly always: with a letter, a colon, a blank and the value.
#[inline(always)]
const fn is_plain_value(rest: u64) -> bool {
    (rest as u32 | 0x20) & 0x00ff_ffff == u32::from_le_bytes(*b"d: \0") && (rest >> 24) as u8 > b' '
}

/// Whether the word goes on as `Call-I` must: with a seventh letter and the end of the name.
#[inline(always)]
const fn is_name_end(rest: u64) -> bool {
    rest as u8 | 0x20 == b'd' && is_after_name((rest >> 8) as u8)
}
