//! The beacon: what a node multicasts about itself, in 112 bytes that the kernel can verify.
//!
//! ```text
//!  0  "PMB1"                       32  headroom, calls           u32
//!  4  version = 1          u8      36  calls in the last second  u32
//!  5  admission            u8      40  oc fraction, 0..=1000     u16
//!  6  key id               u8      42  period, ms                u16
//!  7  reserved             u8      44  SIP port                  u16
//!  8  cluster              u32     46  redirect port             u16
//! 12  node                 u16     48  IPv4 address (mapped)     16 bytes
//! 14  flags                u16     64  IPv6 address (or zero)    16 bytes
//! 16  epoch                u32     80  reserved                  16 bytes
//! 20  sequence             u32     96  MAC: SipHash-2-4-128 of   16 bytes
//! 24  capacity, calls      u32         bytes 0..96
//! 28  active, calls        u32
//! ```
//! Numbers are in network order. The MAC is as the reference code writes it: low word first, each
//! little-endian. Epoch and sequence form one number that only grows: the epoch with every boot of
//! the node, the sequence with every beacon. Reserved bytes are zero when sent and ignored when read.

use crate::siphash::{SipHash24, SipKey};
use crate::{Address, Window};

/// Bytes of a beacon.
pub const BEACON_LEN: u32 = 112;
const SIGNED_LEN: u32 = 96;
const MAGIC: u32 = u32::from_be_bytes(*b"PMB1");
const VERSION: u8 = 1;

/// Does the node take calls?
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Admission {
    /// Up, without calls (seed 1, claim 9).
    #[default]
    Idle = 0,
    /// Up, with calls, and room for more (seed 1, claim 9).
    Free = 1,
    /// Takes no new calls, but other requests.
    Busy = 2,
    /// Takes nothing new; what it has stays.
    Draining = 3,
}

impl Admission {
    /// The admission with this number.
    #[inline(always)]
    pub const fn from_index(index: u8) -> Option<Self> {
        match index {
            0 => Some(Self::Idle),
            1 => Some(Self::Free),
            2 => Some(Self::Busy),
            3 => Some(Self::Draining),
            _ => None,
        }
    }

    /// The word of the vocabulary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Free => "Free",
            Self::Busy => "Busy",
            Self::Draining => "Draining",
        }
    }
}

/// A beacon's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Does the node take calls?
    pub admission: Admission,
    /// The key that it is authenticated with.
    pub key_id: u8,
    /// The cluster.
    pub cluster: u32,
    /// The node.
    pub node: u16,
    /// Which life of the node: grows with every boot.
    pub epoch: u32,
    /// Grows with every beacon of an epoch.
    pub sequence: u32,
    /// Calls that the node can take in all.
    pub capacity: u32,
    /// Calls that it has.
    pub active: u32,
    /// Calls that it can still take.
    pub headroom: u32,
    /// Calls that came in the last second.
    pub calls_per_second: u32,
    /// The share of new calls that it can take, in thousandths (the idea of RFC 7339's oc).
    pub oc_permille: u16,
    /// Time to its next beacon, in milliseconds.
    pub period_ms: u16,
    /// The UDP port of its SIP server.
    pub sip_port: u16,
    /// The UDP port of its redirect server.
    pub redirect_port: u16,
    /// Its IPv4 address, mapped; zero when it has none.
    pub address_v4: Address,
    /// Its IPv6 address; zero when it has none.
    pub address_v6: Address,
}

/// Why bytes are no beacon of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeaconError {
    /// Something else that came to this port.
    Foreign,
    /// Starts like a beacon, but has another length, version or admission.
    Malformed,
}

impl core::fmt::Display for BeaconError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Foreign => "not a beacon",
            Self::Malformed => "a beacon of another length, version or admission",
        })
    }
}

impl core::error::Error for BeaconError {}

impl Beacon {
    /// Epoch and sequence as one number: a beacon is accepted only if it is greater than the last.
    #[inline(always)]
    pub const fn stamp(&self) -> u64 {
        (self.epoch as u64) << 32 | self.sequence as u64
    }

    /// Reads the beacon at `at` in a packet, without looking at its MAC.
    ///
    /// # Errors
    /// [`BeaconError`] for what is none.
    #[inline(always)]
    pub fn read<W: Window>(packet: W, at: u32, len: u32) -> Result<Self, BeaconError> {
        if len < 8 || packet.be32(at) != Some(MAGIC) {
            return Err(BeaconError::Foreign);
        }
        const SHORT: BeaconError = BeaconError::Malformed;
        if len != BEACON_LEN || packet.byte(at + 4) != Some(VERSION) {
            return Err(SHORT);
        }
        let u32_at = |offset| packet.be32(at + offset).ok_or(SHORT);
        let u16_at = |offset| packet.be16(at + offset).ok_or(SHORT);
        let u8_at = |offset| packet.byte(at + offset).ok_or(SHORT);
        let word_at = |offset| packet.word(at + offset).ok_or(SHORT);
        Ok(Self {
            admission: Admission::from_index(u8_at(5)?).ok_or(SHORT)?,
            key_id: u8_at(6)?,
            cluster: u32_at(8)?,
            node: u16_at(12)?,
            epoch: u32_at(16)?,
            sequence: u32_at(20)?,
            capacity: u32_at(24)?,
            active: u32_at(28)?,
            headroom: u32_at(32)?,
            calls_per_second: u32_at(36)?,
            oc_permille: u16_at(40)?,
            period_ms: u16_at(42)?,
            sip_port: u16_at(44)?,
            redirect_port: u16_at(46)?,
            address_v4: Address {
                high: word_at(48)?,
                low: word_at(56)?,
            },
            address_v6: Address {
                high: word_at(64)?,
                low: word_at(72)?,
            },
        })
    }

    /// Writes the beacon and its MAC.
    pub fn write(&self, key: SipKey) -> [u8; BEACON_LEN as usize] {
        let mut bytes = [0; BEACON_LEN as usize];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC.to_be_bytes());
        put(4, &[VERSION, self.admission as u8, self.key_id]);
        put(8, &self.cluster.to_be_bytes());
        put(12, &self.node.to_be_bytes());
        put(16, &self.epoch.to_be_bytes());
        put(20, &self.sequence.to_be_bytes());
        put(24, &self.capacity.to_be_bytes());
        put(28, &self.active.to_be_bytes());
        put(32, &self.headroom.to_be_bytes());
        put(36, &self.calls_per_second.to_be_bytes());
        put(40, &self.oc_permille.to_be_bytes());
        put(42, &self.period_ms.to_be_bytes());
        put(44, &self.sip_port.to_be_bytes());
        put(46, &self.redirect_port.to_be_bytes());
        put(48, &self.address_v4.octets());
        put(64, &self.address_v6.octets());
        if let Some([low, high]) = mac(&bytes[..], 0, key) {
            bytes[96..104].copy_from_slice(&low.to_le_bytes());
            bytes[104..].copy_from_slice(&high.to_le_bytes());
        }
        bytes
    }
}

/// Whether the MAC of the beacon at `at` is right under `key`. In constant time.
#[inline(always)]
pub fn is_authentic<W: Window>(packet: W, at: u32, key: SipKey) -> bool {
    let (Some([low, high]), Some(sent_low), Some(sent_high)) = (
        mac(packet, at, key),
        packet.word(at + SIGNED_LEN),
        packet.word(at + SIGNED_LEN + 8),
    ) else {
        return false;
    };
    (low ^ sent_low) | (high ^ sent_high) == 0
}

#[inline(always)]
fn mac<W: Window>(packet: W, at: u32, key: SipKey) -> Option<[u64; 2]> {
    let mut hash = SipHash24::wide(key);
    let mut read = 0;
    while read < SIGNED_LEN {
        hash.word(packet.word(at + read)?);
        read += 8;
    }
    Some(hash.finish_wide(0, SIGNED_LEN.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: SipKey = SipKey { k0: 1, k1: 2 };

    fn sample() -> Beacon {
        Beacon {
            admission: Admission::Free,
            key_id: 3,
            cluster: 0xdead_beef,
            node: 7,
            epoch: 1_700_000_000,
            sequence: 42,
            capacity: 1000,
            active: 10,
            headroom: 990,
            calls_per_second: 5,
            oc_permille: 1000,
            period_ms: 100,
            sip_port: 5060,
            redirect_port: 5070,
            address_v4: core::net::IpAddr::from([10, 0, 0, 7]).into(),
            address_v6: Address::default(),
        }
    }

    proptest! {
        #[test]
        fn round_trip(node: u16, epoch: u32, sequence: u32, headroom: u32, period_ms: u16, key_id: u8) {
            let beacon = Beacon { node, epoch, sequence, headroom, period_ms, key_id, ..sample() };
            let bytes = beacon.write(KEY);
            prop_assert_eq!(Beacon::read(&bytes[..], 0, BEACON_LEN), Ok(beacon));
            prop_assert!(is_authentic(&bytes[..], 0, KEY));
        }

        #[test]
        fn any_flipped_bit_is_noticed(bit in 0usize..BEACON_LEN as usize * 8) {
            let mut bytes = sample().write(KEY);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!is_authentic(&bytes[..], 0, KEY));
        }

        #[test]
        fn noise_is_never_a_beacon(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!is_authentic(&bytes[..], 0, KEY));
            let _ = Beacon::read(&bytes[..], 0, bytes.len() as u32);
        }
    }

    #[test]
    fn other_lengths_and_versions_are_malformed() {
        let bytes = sample().write(KEY);
        assert_eq!(
            Beacon::read(&bytes[..111], 0, 111),
            Err(BeaconError::Malformed)
        );
        assert_eq!(
            Beacon::read(&b"PMB0...."[..], 0, 8),
            Err(BeaconError::Foreign)
        );
        let mut newer = bytes;
        newer[4] = 2;
        assert_eq!(
            Beacon::read(&newer[..], 0, BEACON_LEN),
            Err(BeaconError::Malformed)
        );
        assert!(!is_authentic(&bytes[..], 0, SipKey { k0: 1, k1: 3 }));
    }
}
