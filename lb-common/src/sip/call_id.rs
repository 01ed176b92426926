//! The call key: SipHash-1-3 of the exact bytes of the Call-ID, read and hashed in one pass.

use core::num::NonZeroU32;

use super::lines::{CRLF, END, MAX_BLANKS, is_blank, load};
use super::word::{below, lowest, place_of};
use crate::siphash::{SipHash13, SipKey};
use crate::{Reason, Window};

/// Bytes from which on a Call-ID is too long to be read here, and steered in userspace.
///
/// The longest of RFC 4475 has 137, usual ones have 20 to 70.
pub const MAX_CALL_ID: u32 = 256;

/// No Call-ID holds a byte below this: blanks and control characters (RFC 3261 §25.1: callid).
pub const ENDS: u8 = b' ' + 1;

/// A call's key, and where its Call-ID stands in the message.
///
/// In this order, so that "none yet" is one aligned word on the kernel program's stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallKey {
    /// SipHash-1-3 of the Call-ID under the cluster's secret: nobody without the secret can choose
    /// Call-IDs that all go to one node.
    pub hash: u64,
    /// Bytes of Call-ID.
    pub len: NonZeroU32,
    /// Offset of the Call-ID's first byte.
    pub at: u32,
}

impl CallKey {
    /// Reads the Call-ID whose value starts at `at`.
    ///
    /// # Errors
    /// The [`Reason`] to defer: the value is empty, too long, folded, or followed by more than blanks.
    #[inline(always)]
    pub fn read<W: Window>(message: W, at: u32, secret: SipKey) -> Result<Self, Reason> {
        let mut hash = SipHash13::new(secret);
        let mut len = 0;
        let last = loop {
            let word = load(message, at + len);
            if ends(word) != 0 {
                break word;
            }
            hash.word(word);
            len += 8;
            if len >= MAX_CALL_ID {
                return Err(Reason::LongCallId);
            }
        };
        let place = place_of(lowest(ends(last)));
        let rest = last & !(!0 << (8 * place));
        let len = message.forget(len + place);
        let Some(len) = NonZeroU32::new(len) else {
            return Err(empty(message, at));
        };
        check_end(message, at + len.get())?;
        Ok(Self {
            hash: hash.finish(rest, len.get().into()),
            at,
            len,
        })
    }
}

/// A high bit for each byte that no Call-ID holds.
#[inline(always)]
const fn ends(word: u64) -> u64 {
    below(word, ENDS)
}

/// Why a value has no bytes: folded onto the next line, perhaps, or simply empty.
#[inline(always)]
fn empty<W: Window>(message: W, at: u32) -> Reason {
    match check_end(message, at) {
        Err(reason) => reason,
        Ok(()) => Reason::OddCallId,
    }
}

/// The line must end here, but for blanks, and not be continued.
#[inline(always)]
fn check_end<W: Window>(message: W, end: u32) -> Result<(), Reason> {
    let mut at = end;
    let mut word = load(message, at);
    if word as u16 == CRLF && (word >> 16) as u8 > b' ' {
        return Ok(());
    }
    if is_blank(word as u8) {
        let mut blanks = 0;
        while is_blank(word as u8) {
            if blanks == MAX_BLANKS {
                return Err(Reason::OddCallId);
            }
            blanks += 1;
            at += 1;
            word = u64::from(message.byte(at).unwrap_or(END));
        }
        word = load(message, message.forget(at));
    }
    match word as u16 {
        CRLF if is_blank((word >> 16) as u8) => Err(Reason::Folded),
        CRLF => Ok(()),
        _ => Err(match word as u8 {
            b'\r' => Reason::BareCarriageReturn,
            b'\n' => Reason::BareLineFeed,
            END if message.byte(at).is_none() => Reason::Truncated,
            0x21.. => Reason::OddCallId,
            _ => Reason::ControlCharacter,
        }),
    }
}
