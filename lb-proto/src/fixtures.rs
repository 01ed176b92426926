//! Keys that the tests of several protocols sign with.

use crate::keys::NumberedKey;
use lb_common::siphash::SipKey;

/// Two that are valid at once, as while keys are changed.
pub(crate) const KEYS: [NumberedKey; 2] = [
    NumberedKey {
        id: 1,
        key: SipKey { k0: 1, k1: 2 },
    },
    NumberedKey {
        id: 9,
        key: SipKey { k0: 3, k1: 4 },
    },
];

/// Where one is enough.
pub(crate) const KEY: NumberedKey = KEYS[0];
