//! The questions of the status plane and the one answer that is no beacon.
//!
//! ```text
//!  0  "PMQ1"                       16  nonce                     u64
//!  4  version = 1          u8      24  stamp                     u64
//!  5  kind                 u8      32  reserved                  64 bytes
//!  6  key id               u8      96  MAC: SipHash-2-4-128 of   16 bytes
//!  7  reserved             u8          bytes 0..96
//!  8  cluster              u32
//! 12  node                 u16
//! 14  reserved             u16
//! ```
//! | kind | from → to | says | answered by |
//! |---|---|---|---|
//! | 0, [`Query`] | receiver → node | a beacon, please, now | a beacon with the node's next stamp |
//! | 1, [`Probe`] | node → everybody | this is my next stamp: would you take it? | a `Held` of those who would not |
//! | 2, [`Held`] | receiver → node | no: this is the stamp that I hold for you | nothing |
//!
//! In the form of the beacon, under the same keys: numbers in network order, the MAC low word first.
//! All are unicast, but the probe, which goes where beacons go; answers go to the address that the
//! question came from. A query's nonce makes every question another one; the beacon does not repeat
//! it, because a stamp never seen before is proof enough that the node is there. A `Held` repeats the
//! nonce of its probe, or else one from an earlier life could be played back. All are as long as their
//! answers, so that nobody gains anything by asking in another's name.

use crate::keys::NumberedKey;
use lb_common::Window;
use lb_common::beacon::{BEACON_LEN, is_authentic};
use lb_common::siphash::{SipHash24, SipKey};

/// Bytes of a query, a probe and its answer.
pub const QUERY_LEN: u32 = BEACON_LEN;
const SIGNED_LEN: usize = 96;
const MAGIC: [u8; 4] = *b"PMQ1";
const VERSION: u8 = 1;

/// The bytes of one of them.
pub type QueryBytes = [u8; QUERY_LEN as usize];

/// A query's contents: a receiver asks a silent node for a beacon before it says `Down`.
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

/// A probe's contents: a node asks whether its beacons are new enough for those who hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The cluster.
    pub cluster: u32,
    /// The node that asks.
    pub node: u16,
    /// The key that it is authenticated with.
    pub key_id: u8,
    /// Random, to be repeated in the answer.
    pub nonce: u64,
    /// Epoch and sequence of the node's next beacon.
    pub stamp: u64,
}

/// The answer to a probe: the receiver holds a stamp that the node's next beacon would not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The cluster.
    pub cluster: u32,
    /// The node that asked.
    pub node: u16,
    /// The key that it is authenticated with.
    pub key_id: u8,
    /// The probe's.
    pub nonce: u64,
    /// Epoch and sequence of the last beacon of the node that the receiver took.
    pub stamp: u64,
}

/// Any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// See [`Query`].
    Query(Query),
    /// See [`Probe`].
    Probe(Probe),
    /// See [`Held`].
    Held(Held),
}

/// Why bytes are no question or answer that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Something else.
    #[error("not a query")]
    Foreign,
    /// Starts like a query, but has another length, version or kind.
    #[error("a query of another length, version or kind")]
    Malformed,
    /// Under a key that is not valid here.
    #[error("a query under an unknown key")]
    UnknownKey,
    /// Its authentication code is wrong.
    #[error("a forged query")]
    Forged,
}

impl Message {
    /// Reads any of them and verifies it under one of `keys`. Whom it is for, the machines look at.
    ///
    /// # Errors
    /// [`QueryError`] for what is none, or not genuine.
    pub fn read(bytes: &[u8], keys: &[NumberedKey]) -> Result<Self, QueryError> {
        let Some(rest) = bytes.strip_prefix(&MAGIC) else {
            return Err(QueryError::Foreign);
        };
        let (Some(&VERSION), Some(&kind)) = (rest.first(), rest.get(1)) else {
            return Err(QueryError::Malformed);
        };
        if bytes.len() != QUERY_LEN as usize || kind > HELD {
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
        let cluster = bytes.be32(8).ok_or(short)?;
        let node = bytes.be16(12).ok_or(short)?;
        let nonce = bytes.word(16).ok_or(short)?.swap_bytes();
        let stamp = bytes.word(24).ok_or(short)?.swap_bytes();
        Ok(match kind {
            QUERY => Self::Query(Query {
                cluster,
                node,
                key_id,
                nonce,
            }),
            PROBE => Self::Probe(Probe {
                cluster,
                node,
                key_id,
                nonce,
                stamp,
            }),
            _ => Self::Held(Held {
                cluster,
                node,
                key_id,
                nonce,
                stamp,
            }),
        })
    }
}

const QUERY: u8 = 0;
const PROBE: u8 = 1;
const HELD: u8 = 2;

impl Query {
    /// Reads a query and verifies it under one of `keys`. Whom it is for, the sender looks at.
    ///
    /// # Errors
    /// [`QueryError`] for what is none, or not genuine; `Foreign` for a probe and its answer.
    pub fn read(bytes: &[u8], keys: &[NumberedKey]) -> Result<Self, QueryError> {
        match Message::read(bytes, keys)? {
            Message::Query(query) => Ok(query),
            Message::Probe(_) | Message::Held(_) => Err(QueryError::Foreign),
        }
    }

    /// Writes the query and its MAC. `key` must be the one that `key_id` names.
    pub fn write(&self, key: SipKey) -> QueryBytes {
        write(
            QUERY,
            self.cluster,
            self.node,
            self.key_id,
            self.nonce,
            0,
            key,
        )
    }
}

impl Probe {
    /// Writes the probe and its MAC. `key` must be the one that `key_id` names.
    pub fn write(&self, key: SipKey) -> QueryBytes {
        let Self {
            cluster,
            node,
            key_id,
            nonce,
            stamp,
        } = *self;
        write(PROBE, cluster, node, key_id, nonce, stamp, key)
    }
}

impl Held {
    /// Writes the answer and its MAC. `key` must be the one that `key_id` names.
    pub fn write(&self, key: SipKey) -> QueryBytes {
        let Self {
            cluster,
            node,
            key_id,
            nonce,
            stamp,
        } = *self;
        write(HELD, cluster, node, key_id, nonce, stamp, key)
    }
}

fn write(
    kind: u8,
    cluster: u32,
    node: u16,
    key_id: u8,
    nonce: u64,
    stamp: u64,
    key: SipKey,
) -> QueryBytes {
    let mut bytes = [0; QUERY_LEN as usize];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &MAGIC);
    put(4, &[VERSION, kind, key_id]);
    put(8, &cluster.to_be_bytes());
    put(12, &node.to_be_bytes());
    put(16, &nonce.to_be_bytes());
    put(24, &stamp.to_be_bytes());
    seal(&mut bytes, key);
    bytes
}

/// Writes the MAC of all that stands before it.
pub(crate) fn seal(bytes: &mut QueryBytes, key: SipKey) {
    let mut hash = SipHash24::wide(key);
    for at in (0..SIGNED_LEN).step_by(8) {
        hash.word((&bytes[..]).word(at as u32).unwrap_or_default());
    }
    let [low, high] = hash.finish_wide(0, SIGNED_LEN as u64);
    bytes[96..104].copy_from_slice(&low.to_le_bytes());
    bytes[104..].copy_from_slice(&high.to_le_bytes());
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

    fn all(
        cluster: u32,
        node: u16,
        key: NumberedKey,
        nonce: u64,
        stamp: u64,
    ) -> [(Message, QueryBytes); 3] {
        let key_id = key.id;
        let query = Query {
            cluster,
            node,
            key_id,
            nonce,
        };
        let probe = Probe {
            cluster,
            node,
            key_id,
            nonce,
            stamp,
        };
        let held = Held {
            cluster,
            node,
            key_id,
            nonce,
            stamp,
        };
        [
            (Message::Query(query), query.write(key.key)),
            (Message::Probe(probe), probe.write(key.key)),
            (Message::Held(held), held.write(key.key)),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(cluster: u32, node: u16, nonce: u64, stamp: u64, which in 0usize..2) {
            for (message, bytes) in all(cluster, node, KEYS[which], nonce, stamp) {
                prop_assert_eq!(Message::read(&bytes, &KEYS), Ok(message));
                let query = Query::read(&bytes, &KEYS);
                prop_assert_eq!(query.map(Message::Query).ok(), matches!(message, Message::Query(_)).then_some(message));
            }
        }

        #[test]
        fn any_flipped_bit_is_noticed(bit in 0usize..QUERY_LEN as usize * 8) {
            for (_, mut bytes) in all(1, 2, KEYS[0], 3, 4) {
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(Message::read(&bytes, &KEYS).is_err());
            }
        }

        #[test]
        fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Message::read(&bytes, &KEYS).is_err());
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
        for len in [4, 5, 6, 7, 111] {
            assert_eq!(
                Query::read(&bytes[..len], &KEYS),
                Err(QueryError::Malformed)
            );
        }
        assert_eq!(Query::read(&bytes, &KEYS[1..]), Err(QueryError::UnknownKey));
        assert_eq!(
            Query::read(&query.write(KEYS[1].key), &KEYS),
            Err(QueryError::Forged)
        );
        for (place, value) in [(4, 2), (5, 3)] {
            let mut newer = bytes;
            newer[place] = value;
            assert_eq!(Query::read(&newer, &KEYS), Err(QueryError::Malformed));
        }
    }

    /// Neither is ever taken for the other, though they share keys and form.
    #[test]
    fn none_of_them_is_a_beacon() {
        for (_, bytes) in all(1, 2, KEYS[0], 3, 4) {
            assert_eq!(
                Beacon::read(&bytes[..], 0, QUERY_LEN),
                Err(BeaconError::Foreign)
            );
        }
    }
}
