//! What the network stack makes of a frame that the program passes on: the datagram that a socket
//! would read, fragments put together.
//!
//! Like Linux, it walks all extension headers of IPv6, cuts off what lies behind a datagram, and
//! throws a datagram away whose fragments overlap (RFC 5722). Unlike Linux it does not verify
//! checksums: captures taken on the sending machine have partial ones. It does not forget fragments
//! after a time either, as frames have none, but when too many datagrams are incomplete.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Incomplete datagrams that are kept; the oldest gives way. Chosen: Linux keeps 4 MiB of fragments,
/// which is this many of usual size.
const MAX_INCOMPLETE: usize = 1_024;
/// No IP packet is longer.
const MAX_LEN: usize = 65_535;

const PROTOCOL_UDP: u8 = 17;

/// A datagram, as a socket reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where it came from.
    pub client: SocketAddr,
    /// Where it was sent.
    pub destination: SocketAddr,
    /// The hop limit, or time to live, of its first fragment to come.
    pub hop_limit: u8,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// The stack, with the datagrams that are not complete yet.
#[derive(Debug, Default)]
pub struct Stack {
    incomplete: VecDeque<Incomplete>,
}

impl Stack {
    /// Takes a frame; returns the datagram that it is, or that it completes.
    pub fn receive(&mut self, frame: &[u8]) -> Option<Delivery> {
        let packet = Packet::read(frame)?;
        let ends = Ends {
            source: packet.source,
            destination: packet.destination,
        };
        let hop_limit = packet.hop_limit;
        match packet.fragment {
            None => ends.deliver(hop_limit, packet.payload),
            Some(fragment) => {
                let whole = self.put(ends, hop_limit, &fragment, packet.payload)?;
                ends.deliver(whole.hop_limit, &whole.payload())
            }
        }
    }

    /// Adds a fragment; returns the datagram once it is complete.
    fn put(
        &mut self,
        ends: Ends,
        hop_limit: u8,
        fragment: &Fragment,
        bytes: &[u8],
    ) -> Option<Incomplete> {
        let known = |datagram: &Incomplete| {
            datagram.ends == ends && datagram.identification == fragment.identification
        };
        let place = match self.incomplete.iter().position(known) {
            Some(place) => place,
            None => {
                if self.incomplete.len() == MAX_INCOMPLETE {
                    self.incomplete.pop_front();
                }
                self.incomplete.push_back(Incomplete::new(
                    ends,
                    hop_limit,
                    fragment.identification,
                ));
                self.incomplete.len() - 1
            }
        };
        match self.incomplete.get_mut(place)?.put(fragment, bytes) {
            Progress::Waiting => None,
            Progress::Broken => {
                self.incomplete.remove(place);
                None
            }
            Progress::Complete => self.incomplete.remove(place),
        }
    }
}

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    source: IpAddr,
    destination: IpAddr,
}

impl Ends {
    /// The datagram in an IP payload.
    fn deliver(self, hop_limit: u8, payload: &[u8]) -> Option<Delivery> {
        let port = |at| be16(payload, at);
        let len = match be16(payload, 4)? {
            // RFC 2675 §4: the length is that of the packet.
            0 if self.source.is_ipv6() => payload.len(),
            len => usize::from(len),
        };
        Some(Delivery {
            client: (self.source, port(0)?).into(),
            destination: (self.destination, port(2)?).into(),
            hop_limit,
            payload: payload.get(8..len)?.to_vec(),
        })
    }
}

/// A datagram of which fragments are missing.
#[derive(Debug)]
struct Incomplete {
    ends: Ends,
    hop_limit: u8,
    identification: u32,
    /// In order of their offsets, without overlap.
    parts: Vec<(usize, Vec<u8>)>,
    /// Known once the last fragment is here.
    len: Option<usize>,
}

enum Progress {
    Waiting,
    Complete,
    /// Fragments contradict each other.
    Broken,
}

impl Incomplete {
    fn new(ends: Ends, hop_limit: u8, identification: u32) -> Self {
        Self {
            ends,
            hop_limit,
            identification,
            parts: Vec::new(),
            len: None,
        }
    }

    fn put(&mut self, fragment: &Fragment, bytes: &[u8]) -> Progress {
        let (start, end) = (fragment.offset, fragment.offset + bytes.len());
        if self
            .parts
            .iter()
            .any(|(at, part)| *at == start && part.len() == bytes.len())
        {
            return Progress::Waiting;
        }
        let overlaps = self
            .parts
            .iter()
            .any(|(at, part)| *at < end && start < at + part.len());
        let last = if fragment.more { None } else { Some(end) };
        let contradicts = last.is_some() && self.len.is_some();
        self.len = self.len.or(last);
        let reaches = self
            .parts
            .iter()
            .map(|(at, part)| at + part.len())
            .max()
            .unwrap_or(0)
            .max(end);
        let past_end = self.len.is_some_and(|len| reaches > len);
        let ragged = fragment.more && (!bytes.len().is_multiple_of(8) || bytes.is_empty());
        if overlaps || contradicts || past_end || ragged || end > MAX_LEN {
            return Progress::Broken;
        }
        let place = self.parts.partition_point(|(at, _)| *at < start);
        self.parts.insert(place, (start, bytes.to_vec()));
        let held: usize = self.parts.iter().map(|(_, part)| part.len()).sum();
        if self.len == Some(held) {
            Progress::Complete
        } else {
            Progress::Waiting
        }
    }

    fn payload(self) -> Vec<u8> {
        self.parts.into_iter().flat_map(|(_, part)| part).collect()
    }
}

/// A packet's place in a datagram.
struct Fragment {
    identification: u32,
    /// In bytes.
    offset: usize,
    more: bool,
}

/// An IP packet with (a part of) a UDP datagram.
struct Packet<'a> {
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    fragment: Option<Fragment>,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    fn read(frame: &'a [u8]) -> Option<Self> {
        let mut at = 12;
        while matches!(be16(frame, at)?, 0x8100 | 0x88a8) {
            at += 4;
        }
        let packet = frame.get(at + 2..)?;
        match be16(frame, at)? {
            0x0800 => Self::ipv4(packet),
            0x86dd => Self::ipv6(packet),
            _ => None,
        }
    }

    fn ipv4(packet: &'a [u8]) -> Option<Self> {
        let first = *packet.first()?;
        let header_len = usize::from(first & 0x0f) * 4;
        let total_len = usize::from(be16(packet, 2)?);
        if first >> 4 != 4 || header_len < 20 || packet.get(9) != Some(&PROTOCOL_UDP) {
            return None;
        }
        let word = be16(packet, 6)?;
        let more = word & 0x2000 != 0;
        let offset = usize::from(word & 0x1fff) * 8;
        let identification = be16(packet, 4)?.into();
        Some(Self {
            source: Ipv4Addr::from(bytes::<4>(packet, 12)?).into(),
            destination: Ipv4Addr::from(bytes::<4>(packet, 16)?).into(),
            hop_limit: *packet.get(8)?,
            fragment: (more || offset != 0).then_some(Fragment {
                identification,
                offset,
                more,
            }),
            payload: packet.get(header_len..total_len)?,
        })
    }

    fn ipv6(packet: &'a [u8]) -> Option<Self> {
        const HEADER_LEN: usize = 40;
        if *packet.first()? >> 4 != 6 {
            return None;
        }
        let end = HEADER_LEN + usize::from(be16(packet, 4)?);
        let packet = packet.get(..end)?;
        let mut next = *packet.get(6)?;
        let mut at = HEADER_LEN;
        let mut fragment = None;
        while next != PROTOCOL_UDP {
            match (next, packet.get(at + 3)?) {
                // Hop-by-hop options, destination options, a route that has come to its end.
                (0 | 60, _) | (43, 0) => {
                    next = *packet.get(at)?;
                    at += (usize::from(*packet.get(at + 1)?) + 1) * 8;
                }
                (44, _) if fragment.is_none() => {
                    let word = be16(packet, at + 2)?;
                    let (offset, more) = (usize::from(word & 0xfff8), word & 1 != 0);
                    let identification = u32::from_be_bytes(bytes::<4>(packet, at + 4)?);
                    fragment = Some(Fragment {
                        identification,
                        offset,
                        more,
                    });
                    next = *packet.get(at)?;
                    at += 8;
                    if offset != 0 {
                        // What follows is not a header.
                        if next != PROTOCOL_UDP {
                            return None;
                        }
                        break;
                    }
                }
                _ => return None,
            }
        }
        Some(Self {
            source: Ipv6Addr::from(bytes::<16>(packet, 8)?).into(),
            destination: Ipv6Addr::from(bytes::<16>(packet, 24)?).into(),
            hop_limit: *packet.get(7)?,
            // RFC 6946: a fragment that is the whole is none.
            fragment: fragment.filter(|fragment| fragment.more || fragment.offset != 0),
            payload: packet.get(at..)?,
        })
    }
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at + N)?.try_into().ok()
}

fn be16(from: &[u8], at: usize) -> Option<u16> {
    bytes(from, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deferred::frame::{Headers, Link, build};
    use proptest::prelude::*;

    fn headers(v6: bool) -> Headers {
        let (client, vip) = if v6 {
            ("[2001:db8::1]:5060", "[2001:db8::2]:5061")
        } else {
            ("192.0.2.1:5060", "192.0.2.2:5061")
        };
        Headers {
            client: client.parse().unwrap(),
            vip: vip.parse().unwrap(),
            hop_limit: 64,
            traffic_class: 0,
            identification: 77,
        }
    }

    fn frames(v6: bool, payload: &[u8]) -> Vec<Vec<u8>> {
        let link = Link {
            destination: [2; 6],
            source: [4; 6],
            mtu: 1_280,
        };
        build(&link, &headers(v6), payload).unwrap()
    }

    #[test]
    fn fragments_make_the_datagram_in_any_order() {
        let payload: Vec<u8> = (0..5_000u32).map(|i| i as u8).collect();
        for v6 in [false, true] {
            let mut frames = frames(v6, &payload);
            frames.reverse();
            frames.swap(0, 2);
            let mut stack = Stack::default();
            let last = frames.pop().unwrap();
            for frame in &frames {
                assert_eq!(stack.receive(frame), None);
                assert_eq!(stack.receive(frame), None, "a copy changes nothing");
            }
            let delivery = stack.receive(&last).unwrap();
            assert_eq!(delivery.payload, payload);
            assert_eq!(delivery.client, headers(v6).client);
            assert_eq!(delivery.destination, headers(v6).vip);
            assert_eq!(delivery.hop_limit, headers(v6).hop_limit - 1);
            assert!(stack.incomplete.is_empty());
        }
    }

    #[test]
    fn overlapping_fragments_are_thrown_away() {
        let frames = frames(false, &[1; 3_000]);
        let mut overlapping = frames[1].clone();
        // One unit of eight bytes earlier.
        overlapping[14 + 7] -= 1;
        let mut stack = Stack::default();
        assert_eq!(stack.receive(&frames[0]), None);
        assert_eq!(stack.receive(&overlapping), None);
        assert!(stack.incomplete.is_empty());
    }

    #[test]
    fn what_lies_behind_a_datagram_is_cut_off() {
        for v6 in [false, true] {
            let mut frame = frames(v6, b"payload").remove(0);
            frame.extend(b"behind the packet");
            assert_eq!(
                Stack::default().receive(&frame).unwrap().payload,
                b"payload"
            );
        }
    }

    #[test]
    fn long_chains_of_extension_headers_are_walked() {
        let mut frame = frames(true, b"payload").remove(0);
        let chain: Vec<u8> = (0..7)
            .flat_map(|i| [if i == 6 { PROTOCOL_UDP } else { 60 }, 0, 1, 4, 0, 0, 0, 0])
            .collect();
        frame[14 + 6] = 60;
        let len = be16(&frame, 14 + 4).unwrap() + chain.len() as u16;
        frame[14 + 4..14 + 6].copy_from_slice(&len.to_be_bytes());
        frame.splice(14 + 40..14 + 40, chain);
        assert_eq!(
            Stack::default().receive(&frame).unwrap().payload,
            b"payload"
        );
    }

    #[test]
    fn incomplete_datagrams_are_bounded() {
        let mut stack = Stack::default();
        for id in 0..2_000 {
            let link = Link {
                destination: [2; 6],
                source: [4; 6],
                mtu: 1_280,
            };
            let headers = Headers {
                identification: id,
                ..headers(true)
            };
            let frames = build(&link, &headers, &[0; 2_000]).unwrap();
            assert_eq!(stack.receive(&frames[0]), None);
        }
        assert_eq!(stack.incomplete.len(), MAX_INCOMPLETE);
    }

    proptest! {
        #[test]
        fn noise_does_no_harm(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..8),
            kind in proptest::sample::select(&[[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00]][..]),
            version in proptest::sample::select(&[0x45, 0x46, 0x60][..]),
        ) {
            let mut stack = Stack::default();
            for mut frame in frames {
                if frame.len() > 24 {
                    frame[12..14].copy_from_slice(&kind);
                    frame[14] = version;
                    frame[if version == 0x60 { 20 } else { 23 }] = PROTOCOL_UDP;
                }
                let _ = stack.receive(&frame);
            }
        }
    }
}
