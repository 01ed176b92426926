//! Maps whose keys are outputs of a keyed hash already: hashing them again would add nothing but time.
//!
//! Nobody who does not know the key can make such values collide, and that is all that the standard
//! hasher is for.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by a key that is one word out of SipHash: [`Call`](lb_proto::call::Call),
/// [`Transaction`](super::branch::Transaction).
pub(crate) type KeyedMap<Key, Value> = HashMap<Key, Value, BuildHasherDefault<Word>>;

/// Takes a word as it is.
#[derive(Debug, Default)]
pub(crate) struct Word(u64);

impl Hasher for Word {
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    /// For keys of other types, of which there are none here: right, if not as good.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
