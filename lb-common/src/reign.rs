//! The head of a control datagram: what the kernel reads of a main's keep-alive.
//!
//! ```text
//!  0  "PMC1"                        8  cluster      u32    16  term                      u64
//!  4  version = 1          u8      12  from         u16    24  … by kind                 72 bytes
//!  5  kind                 u8      14  to           u16    96  MAC: SipHash-2-4-128 of   16 bytes
//!  6  key id               u8                                  bytes 0..96
//!  7  flags                u8
//! ```
//! In the form of the beacon, under the same keys. A machine may hold the VIP's addresses and run the
//! program while its controller is dead or stopped; it must not steer on when another LB has become the
//! main. So the program itself believes a keep-alive that says so: it is genuine, its term is later
//! than the own, and terms never go back, so that one which was caught earlier says nothing new.

use crate::Window;
use crate::beacon::BEACON_LEN;

/// Bytes of a control datagram.
pub const CONTROL_LEN: u32 = BEACON_LEN;
/// What each begins with.
pub const MAGIC: u32 = u32::from_be_bytes(*b"PMC1");
/// The version of the form.
pub const VERSION: u8 = 1;
/// The kind of keep-alives.
pub const KEEP_ALIVE: u8 = 0;
/// The flag that says: the sender is a controller.
pub const BY_CONTROLLER: u8 = 1;
/// The flag that says: the sender is the main of the term.
pub const REIGNS: u8 = 2;

/// A term that is further ahead of all that was heard before is not believed by a program: counted up by
/// takeovers it is never reached, and no single datagram uses up all terms.
pub const MOST_AHEAD: u64 = 1 << 32;

/// A main's claim, not verified yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// The key that it is authenticated with.
    pub key_id: u8,
    /// The cluster.
    pub cluster: u32,
    /// The term that the sender is the main of.
    pub term: u64,
}

impl Reign {
    /// Reads the keep-alive at `at` in a packet, without looking at its MAC. `None` for anything but
    /// a main's keep-alive.
    #[inline(always)]
    pub fn read<W: Window>(packet: W, at: u32, len: u32) -> Option<Self> {
        if len != CONTROL_LEN || packet.be32(at)? != MAGIC {
            return None;
        }
        let kind = packet.be32(at + 4)?;
        let is_claim = kind >> 16 == (VERSION as u32) << 8 | KEEP_ALIVE as u32
            && kind as u8 & (BY_CONTROLLER | REIGNS) == BY_CONTROLLER | REIGNS;
        if !is_claim {
            return None;
        }
        Some(Self {
            key_id: (kind >> 8) as u8,
            cluster: packet.be32(at + 8)?,
            term: packet.word(at + 16)?.swap_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep_alive() -> [u8; CONTROL_LEN as usize] {
        let mut bytes = [0; CONTROL_LEN as usize];
        bytes[..8].copy_from_slice(b"PMC1\x01\x00\x07\x03");
        bytes[8..12].copy_from_slice(&77u32.to_be_bytes());
        bytes[16..24].copy_from_slice(&9u64.to_be_bytes());
        bytes
    }

    #[test]
    fn a_mains_keep_alive_is_read() {
        let expected = Reign {
            key_id: 7,
            cluster: 77,
            term: 9,
        };
        assert_eq!(Reign::read(&keep_alive()[..], 0, 112), Some(expected));
    }

    #[test]
    fn nothing_else_is() {
        assert_eq!(Reign::read(&keep_alive()[..], 0, 111), None);
        assert_eq!(Reign::read(&keep_alive()[..111], 8, 112), None);
        // Another magic, version, kind; not by a controller, not by a main.
        for (place, value) in [(3, b'2'), (4, 2), (5, 1), (7, 2), (7, 1)] {
            let mut bytes = keep_alive();
            bytes[place] = value;
            assert_eq!(Reign::read(&bytes[..], 0, 112), None, "{place} {value}");
        }
    }
}
