//! The unicast question that a receiver asks before it says `Down`: send me a beacon, now.
//!
//! ```text
//!  0  "PMQ1"                       16  nonce                     u64
//!  4  version = 1          u8      24  reserved                  72 bytes
//!  5  reserved             u8      96  MAC: SipHash-2-4-128 of   16 bytes
//!  6  key id               u8          bytes 0..96
//!  7  reserved             u8
//!  8  cluster              u32
//! 12  node asked           u16
//! 14  reserved             u16
//! ```
//! In the form of the beacon, under the same keys: numbers in network order, the MAC low word first.
//! The answer is a beacon to the address that the question came from, with the node's next stamp.
//! The nonce makes every question another one; the answer does not repeat it, because a beacon with a
//! stamp never seen before is proof enough that the node is there. As long as the answer, so that
//! nobody gains anything by asking in another's name.

use crate::keys::NumberedKey;
use lb_common::Window;
use lb_common::beacon::{BEACON_LEN, is_authentic};
use lb_common::siphash::{SipHash24, SipKey};

/// Bytes of a query.
pub const QUERY_LEN: u32 = BEACON_LEN;
const SIGNED_LEN: usize = 96;
const MAGIC: [u8; 4] = *b"PMQ1";
const VERSION: u8 = 1;

/// A query's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The cluster.
    pub cluster: u32,
    /// The node asked.
    pub node: u16,
    /// The key that it is authenticated with.
    pub key_id: u8,
    /// Random, so that no two queries are alike.
    pub nonce: u64,
}

/// Why bytes are no query to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Something else.
    #[error("not a query")]
    Foreign,
    /// Starts like a query, but has another length or version.
    #[error("a query of another length or version")]
    Malformed,
    /// Under a key that is not valid here.
    #[error("a query under an unknown key")]
    UnknownKey,
    /// Its authentication code is wrong.
    #[error("a forged query")]
    Forged,
}

impl Query {
    /// Reads a query and verifies it under one of `keys`. Whom it is for, the sender looks at.
    ///
    /// # Errors
    /// [`QueryError`] for what is none, or not genuine.
    pub fn read(bytes: &[u8], keys: &[NumberedKey]) -> Result<Self, QueryError> {
        let Some(rest) = bytes.strip_prefix(&MAGIC) else {
            return Err(QueryError::Foreign);
        };
        if bytes.len() != QUERY_LEN as usize || rest.first() != Some(&VERSION) {
            return Err(QueryError::Malformed);
        }
        let short = QueryError::Malformed;
        let key_id = bytes.byte(6).ok_or(short)?;
        let key = keys
            .iter()
            .find(|key| key.id == key_id)
            .ok_or(QueryError::UnknownKey)?;
        if !is_authentic(bytes, 0, key.key) {
            return Err(QueryError::Forged);
        }
        Ok(Self {
            cluster: bytes.be32(8).ok_or(short)?,
            node: bytes.be16(12).ok_or(short)?,
            key_id,
            nonce: bytes.word(16).ok_or(short)?.swap_bytes(),
        })
    }

    /// Writes the query and its MAC. `key` must be the one that `key_id` names.
    pub fn write(&self, key: SipKey) -> [u8; QUERY_LEN as usize] {
        let mut bytes = [0; QUERY_LEN as usize];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(4, &[VERSION, 0, self.key_id]);
        put(8, &self.cluster.to_be_bytes());
        put(12, &self.node.to_be_bytes());
        put(16, &self.nonce.to_be_bytes());
        let mut hash = SipHash24::wide(key);
        for at in (0..SIGNED_LEN).step_by(8) {
            hash.word((&bytes[..]).word(at as u32).unwrap_or_default());
        }
        let [low, high] = hash.finish_wide(0, SIGNED_LEN as u64);
        bytes[96..104].copy_from_slice(&low.to_le_bytes());
        bytes[104..].copy_from_slice(&high.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::beacon::{Beacon, BeaconError};
    use proptest::prelude::*;

    const KEYS: [NumberedKey; 2] = [
        NumberedKey {
            id: 1,
            key: SipKey { k0: 1, k1: 2 },
        },
        NumberedKey {
            id: 9,
            key: SipKey { k0: 3, k1: 4 },
        },
    ];

    proptest! {
        #[test]
        fn round_trip(cluster: u32, node: u16, nonce: u64, which in 0usize..2) {
            let query = Query { cluster, node, key_id: KEYS[which].id, nonce };
            prop_assert_eq!(Query::read(&query.write(KEYS[which].key), &KEYS), Ok(query));
        }

        #[test]
        fn any_flipped_bit_is_noticed(bit in 0usize..QUERY_LEN as usize * 8) {
            let query = Query { cluster: 1, node: 2, key_id: 1, nonce: 3 };
            let mut bytes = query.write(KEYS[0].key);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Query::read(&bytes, &KEYS).is_err());
        }

        #[test]
        fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Query::read(&bytes, &KEYS).is_err());
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let query = Query {
            cluster: 1,
            node: 2,
            key_id: 1,
            nonce: 3,
        };
        let bytes = query.write(KEYS[0].key);
        assert_eq!(Query::read(&bytes[1..], &KEYS), Err(QueryError::Foreign));
        assert_eq!(
            Query::read(&bytes[..111], &KEYS),
            Err(QueryError::Malformed)
        );
        assert_eq!(Query::read(&bytes, &KEYS[1..]), Err(QueryError::UnknownKey));
        assert_eq!(
            Query::read(&query.write(KEYS[1].key), &KEYS),
            Err(QueryError::Forged)
        );
        let mut newer = bytes;
        newer[4] = 2;
        assert_eq!(Query::read(&newer, &KEYS), Err(QueryError::Malformed));
    }

    /// Neither is ever taken for the other, though they share keys and form.
    #[test]
    fn a_query_is_no_beacon() {
        let bytes = Query {
            cluster: 1,
            node: 2,
            key_id: 1,
            nonce: 3,
        }
        .write(KEYS[0].key);
        assert_eq!(
            Beacon::read(&bytes[..], 0, QUERY_LEN),
            Err(BeaconError::Foreign)
        );
    }
}
