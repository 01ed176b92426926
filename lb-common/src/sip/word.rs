//! Eight bytes at a time: where in a word are the bytes that matter?
//!
//! From "Bit Twiddling Hacks" (S. E. Anderson). BPF has neither vectors nor an instruction that counts
//! zeros; a subtraction that borrows and a multiplication that gathers do as well.

/// The high bit of every byte of `word` below 0x0e: line ends, tabs, and what no header may hold.
///
/// Behind the first one, a byte 0x0e may be found too. It is a control character as well.
#[inline(always)]
pub(super) const fn controls(word: u64) -> u64 {
    below(word, CONTROLS)
}

/// The limit of [`controls`].
pub const CONTROLS: u8 = 0x0e;

/// The high bit of every byte of `word` below `limit` (at most 0x80), exact up to the first one: the
/// subtraction borrows only behind a hit.
#[inline(always)]
pub(super) const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & HIGH & !word
}

/// The lowest bit that is set.
#[inline(always)]
pub(super) const fn lowest(found: u64) -> u64 {
    found & found.wrapping_neg()
}

/// The place (0–7, in bytes from the low end) of a high bit.
#[inline(always)]
pub(super) const fn place_of(bit: u64) -> u32 {
    ((bit >> 7).wrapping_mul(GATHER) >> 56) as u32
}

/// The lowest bit of each byte.
pub const ONES: u64 = u64::from_le_bytes([1; 8]);
/// The highest bit of each byte.
pub const HIGH: u64 = ONES << 7;
/// Multiplied by the lowest bit of a byte, it has the number of that byte's place in its top byte.
pub const GATHER: u64 = 0x0001_0203_0405_0607;

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
