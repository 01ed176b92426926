//! The call key: SipHash-1-3 of the exact bytes of the Call-ID, read and hashed in one pass.

use super::{CRLF, END, below, first_place, is_blank, load};
use crate::siphash::{SipHash13, SipKey};
use crate::{Reason, Window};

/// Longest Call-ID that is read, in bytes. Longer ones are steered in userspace.
///
/// The longest of RFC 4475 has 137, usual ones have 20 to 70.
pub const MAX_CALL_ID: u32 = 256;

/// A call's key, and where its Call-ID stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallKey {
    /// SipHash-1-3 of the Call-ID under the cluster's secret: nobody without the secret can choose
    /// Call-IDs that all go to one node.
    pub hash: u64,
    /// Offset of the Call-ID's first byte.
    pub at: u32,
    /// Bytes of Call-ID.
    pub len: u32,
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
        while len < MAX_CALL_ID {
            let word = load(message, at + len);
            // A Call-ID holds no blank and no control character (RFC 3261 §25.1: callid).
            let found = below(word, b' ' + 1);
            if found == 0 {
                hash.word(word);
                len += 8;
                continue;
            }
            let place = first_place(found);
            let rest = word & !(!0 << (8 * place));
            let len = message.forget(len + place);
            if len == 0 {
                return Err(empty(message, at));
            }
            check_end(message, at + len)?;
            return Ok(Self {
                hash: hash.finish(rest, len.into()),
                at,
                len,
            });
        }
        Err(Reason::LongCallId)
    }
}

/// Why a value has no bytes: folded onto the next line, perhaps, or simply empty.
#[inline(always)]
fn empty<W: Window>(message: W, at: u32) -> Reason {
    match check_end(message, at) {
        Err(reason) => reason,
        Ok(()) => Reason::OddCallId,
    }
}

/// Blanks read behind a value. Chosen like those around a colon.
const MAX_BLANKS: u32 = 6;

/// The line must end here, but for blanks, and not be continued.
#[inline(always)]
fn check_end<W: Window>(message: W, end: u32) -> Result<(), Reason> {
    let mut at = end;
    let mut word = load(message, at);
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
            END => Reason::Truncated,
            0x21.. => Reason::OddCallId,
            _ => Reason::ControlCharacter,
        }),
    }
}
