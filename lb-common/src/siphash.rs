//! SipHash: the keyed hash behind the call key (SipHash-1-3) and the beacon's MAC (SipHash-2-4-128).
//!
//! Source: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF" (2012) and the authors'
//! reference code for the 128-bit output. Written as a state machine over 64-bit words, because that
//! is how both the kernel and userspace meet their input: eight bytes at a time.

/// A 128-bit SipHash key, as the two little-endian words that the algorithm starts from.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SipKey {
    /// Bytes 0–7 of the key, little-endian.
    pub k0: u64,
    /// Bytes 8–15 of the key, little-endian.
    pub k1: u64,
}

impl SipKey {
    /// The key made of 16 bytes, in the order the reference code reads them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let word = u128::from_le_bytes(bytes);
        Self {
            k0: word as u64,
            k1: (word >> 64) as u64,
        }
    }
}

/// What the key's words are mixed with: "somepseudorandomlygeneratedbytes".
pub const START: [u64; 4] = [
    0x736f_6d65_7073_6575,
    0x646f_7261_6e64_6f6d,
    0x6c79_6765_6e65_7261,
    0x7465_6462_7974_6573,
];

/// The state of a SipHash with `C` compression rounds a word.
#[derive(Clone, Copy)]
pub struct SipHash<const C: usize> {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

/// The hash of the call key: one round a word, three to finish.
pub type SipHash13 = SipHash<1>;
/// The hash of the beacon's MAC: two rounds a word, four to finish.
pub type SipHash24 = SipHash<2>;

impl<const C: usize> SipHash<C> {
    #[inline(always)]
    const fn start(key: SipKey, wide: u64) -> Self {
        Self {
            v0: key.k0 ^ START[0],
            v1: key.k1 ^ START[1] ^ wide,
            v2: key.k0 ^ START[2],
            v3: key.k1 ^ START[3],
        }
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    /// Takes in the next eight bytes of the message, little-endian.
    #[inline(always)]
    pub fn word(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        if C == 2 {
            self.round();
        }
        self.v0 ^= word;
    }
}

impl SipHash13 {
    /// A hash under way, with nothing taken in yet.
    #[inline(always)]
    pub const fn new(key: SipKey) -> Self {
        Self::start(key, 0)
    }

    /// The hash, given the last 0–7 bytes (little-endian, zero above them) and the whole length.
    #[inline(always)]
    pub fn finish(mut self, rest: u64, len: u64) -> u64 {
        self.word(rest | len << 56);
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

impl SipHash24 {
    /// A hash with 128 bits of output under way.
    #[inline(always)]
    pub const fn wide(key: SipKey) -> Self {
        Self::start(key, 0xee)
    }

    /// Both words of the MAC, given the last 0–7 bytes (little-endian) and the whole length.
    #[inline(always)]
    pub fn finish_wide(mut self, rest: u64, len: u64) -> [u64; 2] {
        self.word(rest | len << 56);
        self.v2 ^= 0xee;
        self.finish_rounds();
        let low = self.v0 ^ self.v1 ^ self.v2 ^ self.v3;
        self.v1 ^= 0xdd;
        self.finish_rounds();
        [low, self.v0 ^ self.v1 ^ self.v2 ^ self.v3]
    }

    #[inline(always)]
    fn finish_rounds(&mut self) {
        self.round();
        self.round();
        self.round();
        self.round();
    }
}

/// SipHash-1-3 of a whole slice: the call key of a Call-ID that userspace holds in its hand.
pub fn siphash13(key: SipKey, bytes: &[u8]) -> u64 {
    let mut hash = SipHash13::new(key);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        hash.word(little_endian(chunk));
    }
    hash.finish(little_endian(chunks.remainder()), bytes.len() as u64)
}

/// Up to eight bytes as a little-endian word, zero above them.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first three 128-bit vectors of the reference code (key 00..0f, input 00, 01, 02 …).
    #[test]
    fn mac_matches_the_reference_vectors() {
        let key = SipKey::from_bytes(core::array::from_fn(|i| i as u8));
        let vectors: [(&[u8], [u8; 16]); 2] = [
            (
                &[],
                [
                    0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7,
                    0x55, 0x02, 0x93,
                ],
            ),
            (
                &[0],
                [
                    0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b,
                    0x22, 0xfc, 0x45,
                ],
            ),
        ];
        for (input, expected) in vectors {
            let [low, high] =
                SipHash24::wide(key).finish_wide(little_endian(input), input.len() as u64);
            assert_eq!(low.to_le_bytes(), expected[..8]);
            assert_eq!(high.to_le_bytes(), expected[8..]);
        }
    }

    /// Against the `siphasher` crate, over every length that a Call-ID may have.
    #[test]
    fn call_key_matches_an_independent_implementation() {
        use core::hash::Hasher;
        extern crate std;
        let key = SipKey {
            k0: 0x0706_0504_0302_0100,
            k1: 0x0f0e_0d0c_0b0a_0908,
        };
        let bytes: std::vec::Vec<u8> = (0..255u32).map(|i| (i * 7 + 3) as u8).collect();
        for len in 0..=bytes.len() {
            let mut oracle = siphasher::sip::SipHasher13::new_with_keys(key.k0, key.k1);
            oracle.write(&bytes[..len]);
            assert_eq!(
                siphash13(key, &bytes[..len]),
                oracle.finish(),
                "length {len}"
            );
        }
    }
}
