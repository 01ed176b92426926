//! The frames that bring a deferred datagram to its node: Ethernet, IP, UDP.
//!
//! The client's address and port stay the source and the VIP the destination, so that the node
//! answers the client directly, exactly as when the kernel program steers. What the network stack
//! has taken apart is put together anew: checksums, and fragments where the port's MTU asks for
//! them. IP options and extension headers do not come back: SIP servers never see them.
//!
//! **Loops.** The network stack hands over what arrived, not how often it has been round. A node
//! that does not hold the VIP may route a datagram back; so the hop limit goes on from what arrived,
//! less one, and such a datagram dies out as it would between routers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum::{self, Sum};

const ETHERNET_LEN: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const FRAGMENT_LEN: usize = 8;
const UDP_LEN: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const HEADER_FRAGMENT: u8 = 44;

/// Most bytes of an IPv4 packet.
const MAX_IPV4: usize = 65_535;
/// RFC 791 §3.2: every link carries this much.
const MIN_MTU_IPV4: u32 = 68;
/// RFC 8200 §5.
const MIN_MTU_IPV6: u32 = 1_280;

/// The link to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The node's link address, or its next hop's.
    pub destination: [u8; 6],
    /// The link address of the port that leads there.
    pub source: [u8; 6],
    /// The port's MTU, in bytes.
    pub mtu: u32,
}

/// What the datagram's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The source.
    pub client: SocketAddr,
    /// The destination.
    pub vip: SocketAddr,
    /// Time to live, or hop limit, as it arrived.
    pub hop_limit: u8,
    /// Type of service, or traffic class: the marking that voice networks order their queues by.
    pub traffic_class: u8,
    /// Tells this datagram's fragments from another's of the same client.
    pub identification: u32,
}

/// Why there are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Client and VIP are of different address families.
    #[error("client and VIP are of different address families")]
    MixedFamilies,
    /// Longer than any UDP datagram.
    #[error("a payload of {0} bytes does not fit a datagram")]
    TooLong(usize),
    /// A smaller MTU than IP allows.
    #[error("an MTU of {0} bytes is too small for IP")]
    SmallMtu(u32),
    /// The hop limit is used up.
    #[error("the hop limit is used up")]
    HopLimit,
}

/// Builds the frames of one datagram, in the order they are to be sent.
///
/// # Errors
/// [`FrameError`].
pub fn build(link: &Link, headers: &Headers, payload: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
    let hop_limit = match headers.hop_limit {
        0 | 1 => return Err(FrameError::HopLimit),
        limit => limit - 1,
    };
    let udp = udp(headers, payload)?;
    match (headers.client, headers.vip) {
        (SocketAddr::V4(client), SocketAddr::V4(vip)) => {
            let ip = Ipv4 {
                source: *client.ip(),
                destination: *vip.ip(),
                hop_limit,
                service: headers.traffic_class,
                identification: headers.identification as u16,
            };
            ipv4(link, &ip, &udp)
        }
        (SocketAddr::V6(client), SocketAddr::V6(vip)) => {
            let ip = Ipv6 {
                source: *client.ip(),
                destination: *vip.ip(),
                hop_limit,
                traffic_class: headers.traffic_class,
                identification: headers.identification,
            };
            ipv6(link, &ip, &udp)
        }
        _ => Err(FrameError::MixedFamilies),
    }
}

fn udp(headers: &Headers, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let too_long = FrameError::TooLong(payload.len());
    let len = UDP_LEN + payload.len();
    let field = u16::try_from(len).map_err(|_| too_long)?;
    if headers.vip.is_ipv4() && len > MAX_IPV4 - IPV4_LEN {
        return Err(too_long);
    }
    let mut udp = Vec::with_capacity(len);
    udp.extend(headers.client.port().to_be_bytes());
    udp.extend(headers.vip.port().to_be_bytes());
    udp.extend(field.to_be_bytes());
    udp.extend([0; 2]);
    udp.extend(payload);
    let checksum = checksum::udp(headers.client, headers.vip, &udp);
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    Ok(udp)
}

/// One part of an IP packet's payload.
struct Part<'a> {
    /// Where it belongs, in bytes; a multiple of eight.
    offset: usize,
    /// More follow.
    more: bool,
    bytes: &'a [u8],
}

/// Cuts a payload into parts of at most `room` bytes, all but the last a multiple of eight long
/// (RFC 791 §3.2, RFC 8200 §4.5).
fn parts(payload: &[u8], room: usize) -> impl Iterator<Item = Part<'_>> {
    let size = (room & !7).max(8);
    payload.chunks(size).enumerate().map(move |(index, bytes)| {
        let offset = index * size;
        Part {
            offset,
            more: offset + bytes.len() < payload.len(),
            bytes,
        }
    })
}

fn ethernet(link: &Link, kind: u16, ip_len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_LEN + ip_len);
    frame.extend(link.destination);
    frame.extend(link.source);
    frame.extend(kind.to_be_bytes());
    frame
}

struct Ipv4 {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    hop_limit: u8,
    service: u8,
    identification: u16,
}

fn ipv4(link: &Link, ip: &Ipv4, payload: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
    if link.mtu < MIN_MTU_IPV4 {
        return Err(FrameError::SmallMtu(link.mtu));
    }
    let room = (link.mtu as usize).min(MAX_IPV4) - IPV4_LEN;
    if payload.len() <= room {
        return Ok(vec![ip.packet(
            link,
            &Part {
                offset: 0,
                more: false,
                bytes: payload,
            },
        )]);
    }
    Ok(parts(payload, room)
        .map(|part| ip.packet(link, &part))
        .collect())
}

impl Ipv4 {
    fn packet(&self, link: &Link, part: &Part<'_>) -> Vec<u8> {
        const MORE: u16 = 0x2000;
        let len = IPV4_LEN + part.bytes.len();
        let mut header = [0; IPV4_LEN];
        header[0] = 0x45;
        header[1] = self.service;
        header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        header[4..6].copy_from_slice(&self.identification.to_be_bytes());
        let fragment = (part.offset / 8) as u16 | if part.more { MORE } else { 0 };
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        header[8] = self.hop_limit;
        header[9] = PROTOCOL_UDP;
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..20].copy_from_slice(&self.destination.octets());
        let checksum = Sum::default().add(&header).finish();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());

        let mut frame = ethernet(link, ETHERTYPE_IPV4, len);
        frame.extend(header);
        frame.extend(part.bytes);
        frame
    }
}

struct Ipv6 {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    traffic_class: u8,
    identification: u32,
}

fn ipv6(link: &Link, ip: &Ipv6, payload: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
    if link.mtu < MIN_MTU_IPV6 {
        return Err(FrameError::SmallMtu(link.mtu));
    }
    let room = link.mtu as usize - IPV6_LEN;
    if payload.len() <= room {
        return Ok(vec![ip.packet(link, PROTOCOL_UDP, &[], payload)]);
    }
    let packet = |part: Part<'_>| {
        let mut header = [0; FRAGMENT_LEN];
        header[0] = PROTOCOL_UDP;
        let fragment = part.offset as u16 | u16::from(part.more);
        header[2..4].copy_from_slice(&fragment.to_be_bytes());
        header[4..8].copy_from_slice(&ip.identification.to_be_bytes());
        ip.packet(link, HEADER_FRAGMENT, &header, part.bytes)
    };
    Ok(parts(payload, room - FRAGMENT_LEN).map(packet).collect())
}

impl Ipv6 {
    fn packet(&self, link: &Link, next: u8, extension: &[u8], payload: &[u8]) -> Vec<u8> {
        let len = extension.len() + payload.len();
        let first = 6 << 28 | u32::from(self.traffic_class) << 20;
        let mut frame = ethernet(link, ETHERTYPE_IPV6, IPV6_LEN + len);
        frame.extend(first.to_be_bytes());
        frame.extend((len as u16).to_be_bytes());
        frame.extend([next, self.hop_limit]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(extension);
        frame.extend(payload);
        frame
    }
}

#[cfg(test)]
mod tests;
