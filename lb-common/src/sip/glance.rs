//! The glance: finds the Call-ID of a plain message in as few steps as can be.
//!
//! Plain means: nothing but whole lines up to the Call-ID, whose name is spelled out. Everything else
//! makes the glance *unsure*, and [`read_on`](super::read_on) starts where it stopped.
//!
//! It goes forward by eight bytes and never by what it found: then nothing that the processor reads
//! waits for what it has read before. That halves the time of the scan.

use super::lines::{CRLF, is_after_name};
use super::word::{likely_controls, lowest, place_of};
use super::{CALL_ID_CASE, CALL_ID_NAME};
use crate::{BLOCK, Window};

/// Blocks of [`BLOCK`] bytes that are looked at: a full Ethernet frame.
const MAX_BLOCKS: u32 = 1_472 / BLOCK;

/// What a glance saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// Where the Call-ID's name ends.
    Name(u32),
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
    let mut blocks = 0;
    loop {
        macro_rules! look_at {
            ($($index:literal)+) => { $({
                let word = message.word_in(block, $index);
                let likely = likely_controls(word);
                if likely != 0 {
                    let found = likely & !word;
                    if found != 0 {
                        let first = lowest(found);
                        let place = 8 * $index + place_of(first);
                        let Some(here) = message.word_from(block, place) else {
                            return unsure(message, block, place);
                        };
                        if here as u16 == CRLF {
                            // Two control characters and no third; and no compact name, no empty line.
                            let initial = (here >> 16) as u8 | 0x20;
                            if initial == b'i'
                                || initial == b'\r' | 0x20
                                || found ^ first ^ first << 8 != 0
                            {
                                return Glance::Unsure(message.offset_in(block, place));
                            }
                            if initial == b'c' && here >> 16 & CALL_ID_CASE == CALL_ID_NAME {
                                match message.word_from(block, place + 8) {
                                    Some(rest) if !is_name_end(rest) => {}
                                    Some(_) => {
                                        return Glance::Name(message.offset_in(block, place + 9));
                                    }
                                    None => return unsure(message, block, place),
                                }
                            }
                        } else if found != FIRST || !follows_return(message, block, place) {
                            // Not the line feed of a line end whose carriage return was the last byte
                            // of the word before.
                            return unsure(message, block, place);
                        }
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

/// What [`likely_controls`] finds in the first byte of a word.
const FIRST: u64 = 0x80;

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

/// Whether the word goes on as `Call-I` must: with a seventh letter and the end of the name.
#[inline(always)]
const fn is_name_end(rest: u64) -> bool {
    rest as u8 | 0x20 == b'd' && is_after_name((rest >> 8) as u8)
}
