//! Bytes as text that survives any SIP stack: base32 of RFC 4648 §6 in lower case, without padding.
//!
//! Letters of one case only, because a URI parameter is compared without regard to case (RFC 3261
//! §19.1.4), and a peer that changes it is within its rights.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Writes bytes.
pub(super) fn write(bytes: &[u8]) -> String {
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(5));
    let (mut bits, mut count) = (0u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(letter(bits >> count));
        }
    }
    if count > 0 {
        text.push(letter(bits << (5 - count)));
    }
    text
}

fn letter(five_bits: u32) -> char {
    ALPHABET[five_bits as usize % 32].into()
}

/// Reads what [`write()`] has written, in either case. `None` for everything else: other characters,
/// other lengths, bits left over that are not zero.
pub(super) fn read(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut count) = (0u32, 0);
    for character in text.bytes() {
        let five_bits = match character {
            b'a'..=b'z' => character - b'a',
            b'A'..=b'Z' => character - b'A',
            b'2'..=b'7' => character - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(five_bits);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
        bits &= 0xff;
    }
    // A whole character too many, or bits that no byte takes.
    let is_whole = count < 5 && bits & ((1 << count) - 1) == 0;
    is_whole.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 4648 §10.
    #[test]
    fn vectors() {
        let vectors = [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ];
        for (plain, text) in vectors {
            assert_eq!(write(plain.as_bytes()), text);
            assert_eq!(read(text).as_deref(), Some(plain.as_bytes()));
        }
        for text in ["m", "mz1", "mzx", "mz", "my======", "mzxw6y"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let text = write(&bytes);
            prop_assert_eq!(read(&text), Some(bytes.clone()));
            prop_assert_eq!(read(&text.to_ascii_uppercase()), Some(bytes));
        }

        /// There is one text for the bytes, but for its case.
        #[test]
        fn only_one_text_is_read(text in "[a-z2-7]{0,40}") {
            if let Some(bytes) = read(&text) {
                prop_assert_eq!(write(&bytes), text);
            }
        }
    }
}
