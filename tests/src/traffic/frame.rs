//! Frames made by hand: Ethernet, VLAN tags, IPv4 or IPv6, UDP.

use std::net::{IpAddr, SocketAddr};

/// The link-layer part of a frame.
#[derive(Clone, Debug)]
pub struct Link {
    /// Whose port it is for.
    pub destination: [u8; 6],
    /// Whose port it is from.
    pub source: [u8; 6],
    /// Identifiers of VLAN tags, the outermost first.
    pub vlans: Vec<u16>,
}

/// A frame with one UDP datagram in it, checksums included.
///
/// # Panics
/// The addresses are of two families, or the payload is too long for a datagram.
pub fn udp(link: &Link, source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 70);
    frame.extend_from_slice(&link.destination);
    frame.extend_from_slice(&link.source);
    for (index, vlan) in link.vlans.iter().enumerate() {
        // IEEE 802.1ad: the outer of two tags is a service tag.
        let outer = index + 1 < link.vlans.len();
        frame.extend_from_slice(if outer { &[0x88, 0xa8] } else { &[0x81, 0x00] });
        frame.extend_from_slice(&vlan.to_be_bytes());
    }
    let udp_len = u16::try_from(payload.len() + 8).expect("a payload that fits a datagram");
    let mut udp = Vec::with_capacity(usize::from(udp_len));
    udp.extend_from_slice(&source.port().to_be_bytes());
    udp.extend_from_slice(&destination.port().to_be_bytes());
    udp.extend_from_slice(&udp_len.to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(payload);

    let mut pseudo = Vec::new();
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            pseudo.extend_from_slice(&from.octets());
            pseudo.extend_from_slice(&to.octets());
            frame.extend_from_slice(&[0x08, 0x00]);
            let mut ip = vec![0x45, 0];
            ip.extend_from_slice(&(udp_len + 20).to_be_bytes());
            // Identification 0, don't fragment, time to live 64, UDP, checksum to come.
            ip.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
            ip.extend_from_slice(&pseudo);
            let sum = checksum(&[&ip]);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend_from_slice(&ip);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            pseudo.extend_from_slice(&from.octets());
            pseudo.extend_from_slice(&to.octets());
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend_from_slice(&udp_len.to_be_bytes());
            frame.extend_from_slice(&[17, 64]);
            frame.extend_from_slice(&pseudo);
        }
        (from, to) => panic!("no datagram goes from {from} to {to}"),
    }
    // RFC 768 and RFC 8200 §8.1: addresses, protocol and length are part of the sum.
    pseudo.extend_from_slice(&[0, 17]);
    pseudo.extend_from_slice(&udp_len.to_be_bytes());
    let sum = match checksum(&[&pseudo, &udp]) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&udp);
    frame
}

/// The internet checksum (RFC 1071) of parts of even length, but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
