//! A window on the bytes of a frame: the one way in which decoders read.
//!
//! The kernel implements it over the packet's own memory, userspace over a slice. Decoders see no
//! pointers and no lengths, only "the word at this offset, if it is all there".

/// Bytes of a block: what a reader goes through without a question about the end.
pub const BLOCK: u32 = 64;

/// Bytes that can be read at an offset, never past their end.
pub trait Window: Copy {
    /// [`BLOCK`] bytes that are known to be there.
    type Block: Copy;

    /// The block at `offset`.
    fn block(self, offset: u32) -> Option<Self::Block>;

    /// The word of a block at `place` (0–56), little-endian.
    fn word_in(self, block: Self::Block, place: u32) -> u64;

    /// The byte at `offset`.
    fn byte(self, offset: u32) -> Option<u8>;

    /// The eight bytes at `offset`, little-endian.
    fn word(self, offset: u32) -> Option<u64>;

    /// The two bytes at `offset`, in network order.
    fn be16(self, offset: u32) -> Option<u16>;

    /// The four bytes at `offset`, in network order.
    fn be32(self, offset: u32) -> Option<u32>;

    /// The same number, as one of which nothing is known.
    ///
    /// The verifier follows every path that leads to a different constant. Where many paths meet,
    /// the kernel's window makes it forget the constant, so that what comes after is verified once.
    #[inline(always)]
    fn forget(self, offset: u32) -> u32 {
        offset
    }

    /// The offset `by` bytes further on.
    ///
    /// The kernel's window keeps it below its greatest offset: so that the verifier sees one range
    /// however it came about, and not one for every way through a loop.
    #[inline(always)]
    fn advance(self, offset: u32, by: u32) -> u32 {
        offset + by
    }

    /// The up to seven bytes from `offset` to the end, little-endian, `fill` where there is no byte.
    ///
    /// For the last bytes of a datagram, where a whole word no longer fits.
    #[inline(always)]
    fn tail(self, offset: u32, fill: u8) -> u64 {
        tail_of(self, offset, fill)
    }
}

/// [`Window::tail`], byte by byte.
#[inline(always)]
pub fn tail_of<W: Window>(window: W, offset: u32, fill: u8) -> u64 {
    let mut word = u64::from_le_bytes([fill; 8]);
    let mut place = 0;
    while place < 7 {
        let Some(byte) = window.byte(offset + place) else {
            break;
        };
        word = word & !(0xff << (8 * place)) | u64::from(byte) << (8 * place);
        place += 1;
    }
    word
}

impl Window for &[u8] {
    type Block = u32;

    #[inline]
    fn block(self, offset: u32) -> Option<u32> {
        read::<{ BLOCK as usize }>(self, offset).map(|_| offset)
    }

    #[inline]
    fn word_in(self, block: u32, place: u32) -> u64 {
        self.word(block + place).unwrap_or(0)
    }

    #[inline]
    fn byte(self, offset: u32) -> Option<u8> {
        self.get(offset as usize).copied()
    }

    #[inline]
    fn word(self, offset: u32) -> Option<u64> {
        read(self, offset).map(u64::from_le_bytes)
    }

    #[inline]
    fn be16(self, offset: u32) -> Option<u16> {
        read(self, offset).map(u16::from_be_bytes)
    }

    #[inline]
    fn be32(self, offset: u32) -> Option<u32> {
        read(self, offset).map(u32::from_be_bytes)
    }
}

fn read<const N: usize>(bytes: &[u8], offset: u32) -> Option<[u8; N]> {
    let start = offset as usize;
    bytes.get(start..start.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_past_the_end() {
        let bytes: &[u8] = b"0123456789";
        assert_eq!(bytes.word(2), Some(u64::from_le_bytes(*b"23456789")));
        assert_eq!(bytes.word(3), None);
        assert_eq!(bytes.word(u32::MAX), None);
        assert_eq!(bytes.be16(8), Some(0x3839));
        assert_eq!(bytes.be32(7), None);
        assert_eq!(bytes.byte(10), None);
    }

    #[test]
    fn tail_fills_what_is_missing() {
        let bytes: &[u8] = b"0123456789";
        assert_eq!(
            bytes.tail(7, 0xff).to_le_bytes(),
            *b"789\xff\xff\xff\xff\xff"
        );
        assert_eq!(bytes.tail(10, 0).to_le_bytes(), [0; 8]);
    }
}
