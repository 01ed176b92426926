//! Eight bytes at a time: where in a word are the bytes that matter?
//!
//! From "Bit Twiddling Hacks" (S. E. Anderson). BPF has neither vectors nor an instruction that counts
//! zeros; a subtraction that borrows and a multiplication that gathers do as well.

use crate::Window;

/// The high bit of every byte of `word` below 0x0e: line ends, tabs, and what no header may hold.
///
/// Behind the first one, a byte 0x0e may be found too. It is a control character as well.
#[inline(always)]
pub(super) const fn controls(word: u64) -> u64 {
    below(word, CONTROLS)
}

/// The limit of [`controls`].
pub(super) const CONTROLS: u8 = 0x0e;

/// Looks for bytes below a limit in many words.
#[derive(Clone, Copy)]
pub(super) struct Below {
    limits: u64,
    high: u64,
}

impl Below {
    #[inline(always)]
    pub(super) const fn new(limit: u8) -> Self {
        Self {
            limits: ONES * limit as u64,
            high: HIGH,
        }
    }

    /// The same, with its constants in registers.
    #[inline(always)]
    pub(super) fn kept<W: Window>(window: W, limit: u8) -> Self {
        let Self { limits, high } = Self::new(limit);
        Self {
            limits: window.keep(limits),
            high: window.keep(high),
        }
    }

    /// As [`below`], and every byte from the limit + 0x80 on. Nearly always nothing, in fewer steps;
    /// `& !word` takes out the rest.
    #[inline(always)]
    pub(super) const fn likely(self, word: u64) -> u64 {
        word.wrapping_sub(self.limits) & self.high
    }
}

/// The high bit of every byte of `word` below `limit` (at most 0x80), exact up to the first one: the
/// subtraction borrows only behind a hit.
#[inline(always)]
pub(super) const fn below(word: u64, limit: u8) -> u64 {
    Below::new(limit).likely(word) & !word
}

/// The lowest bit that is set.
#[inline(always)]
pub(super) const fn lowest(found: u64) -> u64 {
    found & found.wrapping_neg()
}

/// The place (0–7, in bytes from the low end) of a high bit.
#[inline(always)]
pub(super) const fn place_of(bit: u64) -> u32 {
    // The bit moves the byte with its place's number to the top.
    ((bit >> 7).wrapping_mul(0x0001_0203_0405_0607) >> 56) as u32
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_hit_is_exact(bytes: [u8; 8], limit in 1u8..=0x80) {
            let found = below(u64::from_le_bytes(bytes), limit);
            let first = bytes.iter().position(|byte| *byte < limit);
            prop_assert_eq!((found != 0).then(|| place_of(lowest(found)) as usize), first);
        }
    }
}
