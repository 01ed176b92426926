//! Sealed datagrams: the form that the queries of the status plane, the pin reports and the control
//! datagrams share.
//!
//! ```text
//!  0  magic                4 bytes       7  the protocol's        89 bytes
//!  4  version              u8           96  MAC: SipHash-2-4-128 of 16 bytes
//!  5  kind                 u8               bytes 0..96
//!  6  key id               u8
//! ```
//! In the form of the [beacon](lb_common::beacon), under the same keys: numbers in network order, the
//! MAC low word first. All are of one length, so that nobody gains anything by asking in another's
//! name. Nothing but the start is looked at before the MAC is verified.

use crate::keys::{NumberedKey, find};
use lb_common::Window;
use lb_common::beacon::{BEACON_LEN, is_authentic};
use lb_common::siphash::{SipHash24, SipKey};

/// Bytes of a sealed datagram.
pub(crate) const LEN: usize = BEACON_LEN as usize;
/// Bytes that the MAC covers: all before it.
const SIGNED_LEN: usize = 96;

/// The bytes of one.
pub(crate) type Bytes = [u8; LEN];

/// Why bytes are no datagram of a protocol, or none that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum SealError {
    /// Something else, of another protocol perhaps.
    #[error("of another protocol")]
    Foreign,
    /// Starts like one, but has another length or version; or is genuine, but of another kind, or with
    /// a field out of range.
    #[error("of another length, version, kind or range")]
    Malformed,
    /// Under a key that is not valid here.
    #[error("under an unknown key")]
    UnknownKey,
    /// Its authentication code is wrong.
    #[error("forged")]
    Forged,
}

impl SealError {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::Forged => "forged",
        }
    }
}

/// What the datagrams of one protocol start with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u8,
}

impl Form {
    /// Verifies a datagram under one of `keys`, and has its fields decoded: `decode` answers `None` for
    /// what is out of range.
    pub(crate) fn read<T>(
        self,
        bytes: &[u8],
        keys: &[NumberedKey],
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, SealError> {
        if !bytes.starts_with(&self.magic) {
            return Err(SealError::Foreign);
        }
        if bytes.len() != LEN || bytes.byte(4) != Some(self.version) {
            return Err(SealError::Malformed);
        }
        let key_id = bytes.byte(6).ok_or(SealError::Malformed)?;
        let key = find(keys, key_id).ok_or(SealError::UnknownKey)?;
        if !is_authentic(bytes, 0, key) {
            return Err(SealError::Forged);
        }
        decode(bytes).ok_or(SealError::Malformed)
    }

    /// A datagram with its start written and all else zero, to be [sealed](seal) in the end.
    pub(crate) fn begin(self, kind: u8, key_id: u8) -> Bytes {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&self.magic);
        bytes[4..7].copy_from_slice(&[self.version, kind, key_id]);
        bytes
    }
}

/// Writes the MAC of all that stands before it.
pub(crate) fn seal(bytes: &mut Bytes, key: SipKey) {
    let mut hash = SipHash24::wide(key);
    for at in (0..SIGNED_LEN).step_by(8) {
        hash.word((&bytes[..]).word(at as u32).unwrap_or_default());
    }
    let [low, high] = hash.finish_wide(0, SIGNED_LEN as u64);
    bytes[96..104].copy_from_slice(&low.to_le_bytes());
    bytes[104..].copy_from_slice(&high.to_le_bytes());
}

/// The number of eight bytes that begins there.
pub(crate) fn be64(bytes: &[u8], at: u32) -> Option<u64> {
    bytes.word(at).map(u64::swap_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::KEYS;
    use proptest::prelude::*;

    const FORM: Form = Form {
        magic: *b"PMX1",
        version: 3,
    };

    fn sealed(kind: u8, key: NumberedKey) -> Bytes {
        let mut bytes = FORM.begin(kind, key.id);
        seal(&mut bytes, key.key);
        bytes
    }

    /// The kind, of which there are three.
    fn read(bytes: &[u8]) -> Result<u8, SealError> {
        let kind = |bytes: &[u8]| bytes.byte(5).filter(|kind| *kind < 3);
        FORM.read(bytes, &KEYS, kind)
    }

    #[test]
    fn every_valid_key_will_do() {
        for key in KEYS {
            assert_eq!(read(&sealed(2, key)), Ok(2));
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let good = sealed(1, KEYS[0]);
        assert_eq!(read(&good[1..]), Err(SealError::Foreign));
        let long = [&good[..], &[0]].concat();
        for other in [&good[..4], &good[..7], &good[..111], &long] {
            assert_eq!(read(other), Err(SealError::Malformed), "{}", other.len());
        }
        let mut newer = FORM.begin(1, KEYS[0].id);
        newer[4] += 1;
        seal(&mut newer, KEYS[0].key);
        assert_eq!(read(&newer), Err(SealError::Malformed));
        let unknown = NumberedKey { id: 2, ..KEYS[0] };
        assert_eq!(read(&sealed(1, unknown)), Err(SealError::UnknownKey));
        let swapped = NumberedKey {
            id: KEYS[0].id,
            ..KEYS[1]
        };
        assert_eq!(read(&sealed(1, swapped)), Err(SealError::Forged));
        assert_eq!(read(&sealed(3, KEYS[0])), Err(SealError::Malformed));
    }

    /// A kind that nobody has signed is forged, whatever it would have meant.
    #[test]
    fn what_is_not_genuine_is_not_decoded() {
        let mut other = sealed(1, KEYS[0]);
        other[5] = 3;
        let refused = FORM.read(&other, &KEYS, |_| -> Option<()> {
            panic!("decoded before it was verified")
        });
        assert_eq!(refused, Err(SealError::Forged));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in 0..LEN * 8) {
            let mut bytes = sealed(1, KEYS[0]);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&bytes).is_err());
        }

        #[test]
        fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes).is_err());
        }
    }
}
