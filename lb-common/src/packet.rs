//! Frame headers, from Ethernet to UDP: is this a whole UDP datagram, and where is its payload?
//!
//! One decoder for kernel and userspace. It accepts up to two VLAN tags (IEEE 802.1Q, 802.1ad), IPv4
//! with options (RFC 791 §3.1) and IPv6 with a bounded walk over extension headers (RFC 8200 §4). A
//! frame is a datagram only if the lengths of IP, UDP and frame agree to the byte: what lies behind
//! a datagram (padding of short frames, or an attempt to smuggle) is never read as SIP.

use crate::{Reason, Window};

/// Extension headers walked before a datagram is left to the kernel.
///
/// Chosen, because no SIP stack sends more than one, and every step costs the verifier.
pub const MAX_EXTENSION_HEADERS: u32 = 4;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

const ETHERTYPE_ARP: u16 = 0x0806;

const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const HEADER_HOP_BY_HOP: u8 = 0;
const HEADER_ROUTING: u8 = 43;
const HEADER_FRAGMENT: u8 = 44;
const HEADER_DESTINATION: u8 = 60;

const UDP_LEN: u32 = 8;

/// An IPv6 address, or an IPv4 address in its mapped form (RFC 4291 §2.5.5.2), in two words.
///
/// `low` and `high` are the address's bytes 8–15 and 0–7 as they lie in memory on a little-endian
/// machine: good for comparing and for mixing, not for arithmetic.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// Bytes 0–7.
    pub high: u64,
    /// Bytes 8–15.
    pub low: u64,
}

impl Address {
    /// The mapped form of the IPv4 address whose four bytes, in wire order, make `word`.
    #[inline(always)]
    pub const fn mapped(word: u32) -> Self {
        Self {
            high: 0,
            low: 0xffff_0000 | (word as u64) << 32,
        }
    }

    /// The address as the sixteen bytes of its IPv6 form.
    pub const fn octets(self) -> [u8; 16] {
        ((self.high as u128) | (self.low as u128) << 64).to_le_bytes()
    }

    /// The address of sixteen bytes.
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let word = u128::from_le_bytes(octets);
        Self {
            high: word as u64,
            low: (word >> 64) as u64,
        }
    }

    /// Whether this is the mapped form of an IPv4 address.
    #[inline(always)]
    pub const fn is_mapped(self) -> bool {
        self.high == 0 && self.low as u32 == 0xffff_0000
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        Self::from_octets(match address {
            core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            core::net::IpAddr::V6(v6) => v6.octets(),
        })
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        core::net::Ipv6Addr::from(address.octets()).to_canonical()
    }
}

/// A whole UDP datagram in a frame.
///
/// The address stands where it stands in [`Odd`]: else the compiler moves it about in halves.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where the IP header begins, in bytes from the start of the frame.
    pub ip: u32,
    /// Where the payload of UDP begins.
    pub payload: u32,
    /// Bytes of payload; the frame ends where it ends.
    pub payload_len: u32,
    /// The destination port, in network order.
    pub port_be: u16,
    /// The destination.
    pub destination: Address,
}

/// The destination of an IP packet that is not a whole UDP datagram, with why it is not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd {
    /// What is odd about it.
    pub reason: Reason,
    /// Where the packet wanted to go, when the IP header told.
    pub destination: Option<Address>,
}

impl Odd {
    const fn unaddressed(reason: Reason) -> Self {
        Self {
            destination: None,
            reason,
        }
    }
}

/// Decodes the headers of a frame that is `frame_len` bytes long: by [`plain`] if they are, and otherwise
/// by all that the standards know.
///
/// # Errors
/// An [`Odd`] for all that is not one whole UDP datagram. Its `destination` lets the caller tell a
/// fragment for the VIP (to be deferred) from one for somebody else (to be passed).
#[inline(always)]
pub fn decode<W: Window>(frame: W, frame_len: u32) -> Result<Datagram, Odd> {
    plain(frame, frame_len).map_or_else(|| thorough(frame, frame_len), Ok)
}

/// The datagram behind plain headers: Ethernet without tags, IPv4 without options or IPv6 without
/// extensions, UDP, and not a byte behind them. Nearly every frame with SIP in it is such a one, and takes
/// a question for each word of its headers.
#[inline(always)]
fn plain<W: Window>(frame: W, frame_len: u32) -> Option<Datagram> {
    /// Ethernet, IPv4, UDP.
    const PAYLOAD_V4: u32 = 14 + 20 + UDP_LEN;
    /// Ethernet, IPv6, UDP.
    const PAYLOAD_V6: u32 = 14 + 40 + UDP_LEN;

    let headers = frame.block(0)?;
    // Bytes 12–15: EtherType, version and (IPv4) header length.
    let kind = frame.word_in(headers, 8) >> 32 & 0x00ff_ffff;
    let third = frame.word_in(headers, 16);
    let (destination, ports, payload) = if kind == 0x0045_0008 {
        // Bytes 20–23: the fragment word but for "don't fragment", time to live, protocol.
        if third & 0xff00_ff3f_0000_0000 != u64::from(PROTOCOL_UDP) << 56
            || u32::from((third as u16).swap_bytes()) + 14 != frame_len
        {
            return None;
        }
        let address = frame.word_in(headers, 28) >> 16;
        let destination = Address::mapped(address as u32);
        (destination, frame.word_in(headers, 34), PAYLOAD_V4)
    } else if kind & 0x00f0_ffff == 0x0060_dd86 {
        // Bytes 18–20: payload length, next header.
        if (third >> 32) as u8 != PROTOCOL_UDP
            || u32::from(((third >> 16) as u16).swap_bytes()) + 54 != frame_len
        {
            return None;
        }
        let destination = Address {
            high: frame.word_in(headers, 38),
            low: frame.word_in(headers, 46),
        };
        (destination, frame.word_in(headers, 54), PAYLOAD_V6)
    } else {
        return None;
    };
    let payload_len = frame_len - payload;
    if u32::from(((ports >> 32) as u16).swap_bytes()) != payload_len + UDP_LEN {
        return None;
    }
    Some(Datagram {
        ip: 14,
        payload: frame.forget(payload),
        payload_len,
        destination,
        port_be: (ports >> 16) as u16,
    })
}

#[inline(always)]
fn thorough<W: Window>(frame: W, frame_len: u32) -> Result<Datagram, Odd> {
    const SHORT: Odd = Odd::unaddressed(Reason::NotIp);
    let mut kind = frame.be16(12).ok_or(SHORT)?;
    let mut ip = 14;
    let mut tags = 0;
    while tags < 2 && (kind == ETHERTYPE_VLAN || kind == ETHERTYPE_SERVICE_VLAN) {
        kind = frame.be16(ip + 2).ok_or(SHORT)?;
        ip += 4;
        tags += 1;
    }
    match kind {
        ETHERTYPE_IPV4 => ipv4(frame, ip, frame_len),
        ETHERTYPE_IPV6 => ipv6(frame, ip, frame_len),
        _ => Err(SHORT),
    }
}

/// The address whose link address a frame asks for: an ARP request (RFC 826) or a neighbour solicitation
/// (RFC 4861 §4.3). None for everything else.
#[inline(always)]
pub fn asked_for<W: Window>(frame: W) -> Option<Address> {
    let mut kind = frame.be16(12)?;
    let mut at = 14;
    let mut tags = 0;
    while tags < 2 && (kind == ETHERTYPE_VLAN || kind == ETHERTYPE_SERVICE_VLAN) {
        kind = frame.be16(at + 2)?;
        at += 4;
        tags += 1;
    }
    if kind == ETHERTYPE_ARP {
        // Ethernet, IPv4, their lengths, request.
        let is_request = frame.word(at)?.swap_bytes() == 0x0001_0800_0604_0001;
        let target = frame.be32(at + 24)?;
        return is_request.then(|| Address::mapped(target.swap_bytes()));
    }
    let asks = kind == ETHERTYPE_IPV6
        && frame.byte(at + 6)? == PROTOCOL_ICMPV6
        && frame.byte(at + 40)? == NEIGHBOUR_SOLICITATION;
    if !asks {
        return None;
    }
    Some(Address {
        high: frame.word(at + 48)?,
        low: frame.word(at + 56)?,
    })
}

#[inline(always)]
fn ipv4<W: Window>(frame: W, ip: u32, frame_len: u32) -> Result<Datagram, Odd> {
    const SHORT: Odd = Odd::unaddressed(Reason::MalformedIp);
    // Bytes 0–7: version and header length, service, total length, identification, fragment word.
    let first = frame.word(ip).ok_or(SHORT)?;
    // Bytes 8–15: time to live, protocol, checksum, source.
    let second = frame.word(ip + 8).ok_or(SHORT)?;
    let destination = Address::mapped(frame.be32(ip + 16).ok_or(SHORT)?.swap_bytes());
    let odd = |reason| Odd {
        destination: Some(destination),
        reason,
    };

    let header_len = (first as u32 & 0x0f) * 4;
    let total_len = u32::from((first >> 16) as u16).swap_bytes() >> 16;
    if first as u8 >> 4 != 4 || header_len < 20 {
        return Err(odd(Reason::MalformedIp));
    }
    // RFC 791 §3.1: the more-fragments bit and the thirteen bits of offset.
    if (first >> 48) & 0xff3f != 0 {
        return Err(odd(Reason::Fragment));
    }
    if (second >> 8) as u8 != PROTOCOL_UDP {
        return Err(odd(Reason::NotUdp));
    }
    if total_len < header_len {
        return Err(odd(Reason::MalformedIp));
    }
    udp(
        frame,
        ip,
        ip + header_len,
        total_len - header_len,
        frame_len,
        destination,
    )
}

#[inline(always)]
fn ipv6<W: Window>(frame: W, ip: u32, frame_len: u32) -> Result<Datagram, Odd> {
    const SHORT: Odd = Odd::unaddressed(Reason::MalformedIp);
    let first = frame.word(ip).ok_or(SHORT)?;
    let destination = Address {
        high: frame.word(ip + 24).ok_or(SHORT)?,
        low: frame.word(ip + 32).ok_or(SHORT)?,
    };
    let odd = |reason| Odd {
        destination: Some(destination),
        reason,
    };
    if first as u8 >> 4 != 6 {
        return Err(odd(Reason::MalformedIp));
    }
    let mut remaining = u32::from((first >> 32) as u16).swap_bytes() >> 16;
    let mut next = (first >> 48) as u8;
    let mut at = ip + 40;
    let mut walked = 0;
    while next != PROTOCOL_UDP {
        if walked == MAX_EXTENSION_HEADERS {
            return Err(odd(Reason::ExtensionHeaders));
        }
        let head = frame.be32(at).ok_or(odd(Reason::MalformedIp))?;
        match next {
            HEADER_FRAGMENT => return Err(odd(Reason::Fragment)),
            // RFC 8200 §4.4: with segments left, the destination here is only the next hop.
            HEADER_ROUTING if head as u8 != 0 => return Err(odd(Reason::NotUdp)),
            HEADER_HOP_BY_HOP | HEADER_ROUTING | HEADER_DESTINATION => {}
            _ => return Err(odd(Reason::NotUdp)),
        }
        let len = (u32::from((head >> 16) as u8) + 1) * 8;
        if len > remaining {
            return Err(odd(Reason::MalformedIp));
        }
        next = (head >> 24) as u8;
        remaining -= len;
        at = frame.forget(at + len);
        walked += 1;
    }
    udp(frame, ip, at, remaining, frame_len, destination)
}

/// The UDP header at `at`, with `ip_payload` bytes left in the IP packet.
#[inline(always)]
fn udp<W: Window>(
    frame: W,
    ip: u32,
    at: u32,
    ip_payload: u32,
    frame_len: u32,
    destination: Address,
) -> Result<Datagram, Odd> {
    let odd = |reason| Odd {
        destination: Some(destination),
        reason,
    };
    let header = frame.word(at).ok_or(odd(Reason::MalformedUdp))?;
    let len = u32::from((header >> 32) as u16).swap_bytes() >> 16;
    if len < UDP_LEN || len > ip_payload || at + ip_payload > frame_len {
        return Err(odd(Reason::MalformedUdp));
    }
    if len != ip_payload || at + len != frame_len {
        return Err(odd(Reason::TrailingBytes));
    }
    Ok(Datagram {
        ip,
        payload: frame.forget(at + UDP_LEN),
        payload_len: len - UDP_LEN,
        destination,
        port_be: (header >> 16) as u16,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::net::IpAddr;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A frame with `payload_len` bytes of UDP payload for port 5060 of this address.
    fn frame(destination: IpAddr, payload_len: u16) -> Vec<u8> {
        let udp_len = payload_len + UDP_LEN as u16;
        let mut frame = std::vec![0x02; 12];
        match destination {
            IpAddr::V4(address) => {
                frame.extend([0x08, 0x00, 0x45, 0x00]);
                frame.extend((udp_len + 20).to_be_bytes());
                frame.extend([0x12, 0x34, 0x40, 0x00, 64, PROTOCOL_UDP, 0, 0]);
                frame.extend([192, 0, 2, 1]);
                frame.extend(address.octets());
            }
            IpAddr::V6(address) => {
                frame.extend([0x86, 0xdd, 0x6a, 0xbc, 0xde, 0xf0]);
                frame.extend(udp_len.to_be_bytes());
                frame.extend([PROTOCOL_UDP, 64]);
                frame.extend([0xfd; 16]);
                frame.extend(address.octets());
            }
        }
        frame.extend([0xc3, 0x50, 0x13, 0xc4]);
        frame.extend(udp_len.to_be_bytes());
        frame.extend([0, 0]);
        frame.resize(frame.len() + usize::from(payload_len), b'x');
        frame
    }

    fn addresses() -> [IpAddr; 2] {
        ["198.51.100.7", "2001:db8::5:7"].map(|address| address.parse().unwrap())
    }

    #[test]
    fn plain_headers_are_seen_as_plain() {
        for (address, payload) in addresses().into_iter().zip([42, 62]) {
            let frame = frame(address, 100);
            let seen = plain(&frame[..], frame.len() as u32).expect("nothing odd about it");
            assert_eq!(IpAddr::from(seen.destination), address);
            assert_eq!(u16::from_be(seen.port_be), 5060);
            assert_eq!((seen.payload, seen.payload_len), (payload, 100));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn plain_headers_are_read_as_all_others(
            which in 0usize..2,
            payload_len in 0u16..600,
            changes in proptest::collection::vec((12usize..64, any::<u8>()), 0..3),
            more in -3i32..4,
        ) {
            let mut frame = frame(addresses()[which], payload_len);
            frame.resize((frame.len() as i32 + more) as usize, 0);
            for (at, byte) in changes {
                if let Some(old) = frame.get_mut(at) {
                    *old = byte;
                }
            }
            if let Some(datagram) = plain(&frame[..], frame.len() as u32) {
                prop_assert_eq!(thorough(&frame[..], frame.len() as u32), Ok(datagram));
            }
        }
    }
}
