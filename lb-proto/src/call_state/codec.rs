//! Numbers and texts as they stand in messages: low byte first, or in groups of seven bits.

/// Takes one after the other from the front; `None` when too little is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Seven bits a byte, the lowest first; the eighth says that more follow. What does not fit into 64
    /// bits, or is written longer than it need be, is none.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            let is_lost = shift == 63 && bits > 1;
            let is_padded = shift > 0 && byte == 0;
            if is_lost || is_padded {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A text of `most` bytes at most, behind its length.
    pub(super) fn text(&mut self, most: usize) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        if len > most {
            return None;
        }
        self.take(len)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// Writes what [`Reader::number`] reads.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The low seven bits, and that more follow.
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes what [`Reader::text`] reads.
pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_there_and_back(number: u64, shift in 0_u32..64) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            prop_assert!(bytes.len() <= 10);
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn a_number_is_written_in_one_way(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader(&bytes);
            if let Some(number) = reader.number() {
                let mut again = Vec::new();
                put_number(&mut again, number);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.0.len()]);
            }
        }
    }

    #[test]
    fn what_is_no_number() {
        for bytes in [&[][..], &[0x80], &[0x80, 0], &[0xff; 11]] {
            assert_eq!(Reader(bytes).number(), None, "{bytes:?}");
        }
        let mut most = vec![0xff; 9];
        most.push(1);
        assert_eq!(Reader(&most).number(), Some(u64::MAX));
        most[9] = 2;
        assert_eq!(Reader(&most).number(), None, "65 bits");
    }

    #[test]
    fn texts_end_within_the_message_and_their_bound() {
        let mut bytes = Vec::new();
        put_text(&mut bytes, b"abc");
        assert_eq!(Reader(&bytes).text(3), Some(&b"abc"[..]));
        assert_eq!(Reader(&bytes).text(2), None);
        assert_eq!(Reader(&bytes[..3]).text(3), None);
    }
}
