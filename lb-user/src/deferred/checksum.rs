//! The Internet checksum (RFC 1071), and the two pseudo-headers that UDP's covers.

use std::net::{IpAddr, SocketAddr};

/// A sum under way, of 16-bit words in network order.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Takes in bytes. Only the last slice may have an odd length: it is filled up with a zero.
    pub(crate) fn add(mut self, bytes: &[u8]) -> Self {
        let mut pairs = bytes.chunks_exact(2);
        for pair in &mut pairs {
            self.0 += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        if let [last] = pairs.remainder() {
            self.0 += u64::from(*last) << 8;
        }
        self
    }

    /// The checksum.
    pub(crate) fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

/// The checksum of a UDP datagram, its header's own field being zero (RFC 768, RFC 8200 §8.1).
pub(crate) fn udp(source: SocketAddr, destination: SocketAddr, datagram: &[u8]) -> u16 {
    const PROTOCOL: u32 = 17;
    let mut sum = Sum::default();
    for address in [source.ip(), destination.ip()] {
        sum = match address {
            IpAddr::V4(v4) => sum.add(&v4.octets()),
            IpAddr::V6(v6) => sum.add(&v6.octets()),
        };
    }
    // IPv6 writes length and protocol in four bytes each, IPv4 in two: the sum is the same.
    let checksum = sum
        .add(&(datagram.len() as u32).to_be_bytes())
        .add(&PROTOCOL.to_be_bytes())
        .add(datagram)
        .finish();
    // Zero would mean: no checksum.
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_nothing() {
        // The example of RFC 1071 §3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().add(&bytes).finish(), !0xddf2);
        assert_eq!(
            Sum::default()
                .add(&bytes)
                .add(&(!0xddf2u16).to_be_bytes())
                .finish(),
            0
        );
        assert_eq!(
            Sum::default().add(&[1, 2, 3]).finish(),
            Sum::default().add(&[1, 2, 3, 0]).finish()
        );
    }
}
