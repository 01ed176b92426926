//! By what name the cluster's machines know a call: the call key of its Call-ID.

use lb_common::siphash::{SipKey, siphash13};

/// A call: SipHash-1-3 of its exact Call-ID under the cluster's secret, as the steering table uses it.
///
/// Two Call-IDs of a hundred thousand share one with a probability of 3 · 10⁻¹⁰, and nobody without
/// the secret can look for such two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call(u64);

impl Call {
    /// The call of a Call-ID. `secret` is [`KeyRing::call_secret`](crate::keys::KeyRing::call_secret).
    pub fn of(secret: SipKey, call_id: &[u8]) -> Self {
        Self(siphash13(secret, call_id))
    }

    /// The call of a key that was computed already.
    pub const fn from_key(key: u64) -> Self {
        Self(key)
    }

    /// The call key.
    pub const fn key(self) -> u64 {
        self.0
    }
}
