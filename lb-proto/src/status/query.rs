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
//! All are [sealed], and unicast, but the probe, which goes where beacons go; answers go to the address
//! that the question came from. A query's nonce makes every question another one; the beacon does not
//! repeat it, because a stamp never seen before is proof enough that the node is there. A `Held`
//! repeats the nonce of its probe, or else one from an earlier life could be played back.

use crate::keys::NumberedKey;
use crate::sealed::{self, Form, SealError, be64, seal};
use lb_common::Window;
use lb_common::siphash::SipKey;

/// Bytes of a query, a probe and its answer.
pub const QUERY_LEN: usize = sealed::LEN;
const FORM: Form = Form {
    magic: *b"PMQ1",
    version: 1,
};

/// The bytes of one of them.
pub type QueryBytes = [u8; QUERY_LEN];

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

impl Message {
    /// Reads any of them and verifies it under one of `keys`. Whom it is for, the machines look at.
    ///
    /// # Errors
    /// [`SealError`] for what is none, or not genuine.
    pub fn read(bytes: &[u8], keys: &[NumberedKey]) -> Result<Self, SealError> {
        FORM.read(bytes, keys, Self::decode)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let key_id = bytes.byte(6)?;
        let cluster = bytes.be32(8)?;
        let node = bytes.be16(12)?;
        let nonce = be64(bytes, 16)?;
        let stamp = be64(bytes, 24)?;
        match bytes.byte(5)? {
            QUERY => Some(Self::Query(Query {
                cluster,
                node,
                key_id,
                nonce,
            })),
            PROBE => Some(Self::Probe(Probe {
                cluster,
                node,
                key_id,
                nonce,
                stamp,
            })),
            HELD => Some(Self::Held(Held {
                cluster,
                node,
                key_id,
                nonce,
                stamp,
            })),
            _ => None,
        }
    }
}

const QUERY: u8 = 0;
const PROBE: u8 = 1;
const HELD: u8 = 2;

impl Query {
    /// Reads a query and verifies it under one of `keys`. Whom it is for, the sender looks at.
    ///
    /// # Errors
    /// [`SealError`] for what is none, or not genuine; `Foreign` for a probe and its answer.
    pub fn read(bytes: &[u8], keys: &[NumberedKey]) -> Result<Self, SealError> {
        match Message::read(bytes, keys)? {
            Message::Query(query) => Ok(query),
            Message::Probe(_) | Message::Held(_) => Err(SealError::Foreign),
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
    let mut bytes = FORM.begin(kind, key_id);
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(8, &cluster.to_be_bytes());
    put(12, &node.to_be_bytes());
    put(16, &nonce.to_be_bytes());
    put(24, &stamp.to_be_bytes());
    seal(&mut bytes, key);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::KEYS;
    use lb_common::beacon::{Beacon, BeaconError};
    use proptest::prelude::*;

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

        /// Genuine, but of whatever contents: what is read is of one of the three kinds.
        #[test]
        fn whatever_is_signed_is_read_or_refused(kind: u8, contents: [u8; 32]) {
            let mut bytes = FORM.begin(kind, KEYS[0].id);
            bytes[7..39].copy_from_slice(&contents);
            seal(&mut bytes, KEYS[0].key);
            let refused = (kind > HELD).then_some(SealError::Malformed);
            prop_assert_eq!(Message::read(&bytes, &KEYS).err(), refused);
        }
    }

    /// Neither is ever taken for the other, though they share keys and form.
    #[test]
    fn none_of_them_is_a_beacon() {
        for (_, bytes) in all(1, 2, KEYS[0], 3, 4) {
            assert_eq!(
                Beacon::read(&bytes[..], 0, QUERY_LEN as u32),
                Err(BeaconError::Foreign)
            );
        }
    }
}
