//! The frames that tell a link where an address is now.
//!
//! **IPv4**: a gratuitous ARP packet, in both forms that there are (RFC 5944 §4.6): as a request, which
//! is what RFC 5227 §3 asks for and what stacks that go by the operation expect, and as a reply, because
//! there are those that only take replies for an entry that they hold already. Linux takes either at
//! once, without the second for which it otherwise keeps an entry that has just been updated; of a reply
//! it asks besides that both link addresses be the same.
//!
//! **IPv6**: an unsolicited neighbour advertisement to all nodes (RFC 4861 §7.2.6), with the override
//! flag, without which a cached link address stays.
//!
//! Neither makes an entry where there is none, and none is needed: whoever has no entry asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::deferred::Sum;
use crate::netlink::Mac;

const BROADCAST: Mac = [0xff; 6];
/// Where frames for `ff02::1` go (RFC 2464 §7).
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// ICMPv6 (RFC 4443).
const NEXT_HEADER: u8 = 58;
/// Neighbour discovery is believed only with this hop limit: no router has sent it on (RFC 4861 §7.1.2).
const HOP_LIMIT: u8 = 255;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// The flags: override; neither solicited nor, since nobody routes by way of a VIP, router.
const OVERRIDE: u8 = 0x20;
/// The option "target link-layer address", and its length in units of eight bytes.
const TARGET_LINK_ADDRESS: [u8; 2] = [2, 1];
const ADVERTISEMENT_LEN: u8 = 32;

/// Everything to send, in order, so that the link finds `vip` at `mac`.
pub(super) fn announcement(mac: Mac, vip: IpAddr) -> Vec<Vec<u8>> {
    match vip {
        IpAddr::V4(v4) => vec![arp(REQUEST, mac, v4), arp(REPLY, mac, v4)],
        IpAddr::V6(v6) => vec![neighbour_advertisement(mac, v6)],
    }
}

/// A gratuitous ARP packet (RFC 826): sender and target are the same.
fn arp(operation: u8, mac: Mac, vip: Ipv4Addr) -> Vec<u8> {
    let target = if operation == REPLY { mac } else { [0; 6] };
    let mut frame = header(BROADCAST, mac, ETHERTYPE_ARP);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(vip.octets());
    frame.extend(target);
    frame.extend(vip.octets());
    frame
}

fn neighbour_advertisement(mac: Mac, vip: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(vip.octets());
    message.extend(TARGET_LINK_ADDRESS);
    message.extend(mac);
    // Over the pseudo-header (RFC 8200 §8.1), the message's own field being zero.
    let checksum = Sum::default()
        .add(&vip.octets())
        .add(&ALL_NODES.octets())
        .add(&[0, 0, 0, ADVERTISEMENT_LEN, 0, 0, 0, NEXT_HEADER])
        .add(&message)
        .finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = header(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, ADVERTISEMENT_LEN, NEXT_HEADER, HOP_LIMIT]);
    frame.extend(vip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

fn header(to: Mac, from: Mac, kind: [u8; 2]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(to);
    frame.extend(from);
    frame.extend(kind);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x02, 0, 0, 0, 0x4d, 0x0a];

    /// Bytes written as people write them.
    fn bytes(text: &str) -> Vec<u8> {
        text.split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    }

    #[test]
    fn an_ipv4_address_is_announced_in_both_forms() {
        let request = bytes(
            "ff ff ff ff ff ff  02 00 00 00 4d 0a  08 06 \
             00 01  08 00  06 04  00 01 \
             02 00 00 00 4d 0a  0a 4d 00 64 \
             00 00 00 00 00 00  0a 4d 00 64",
        );
        let reply = bytes(
            "ff ff ff ff ff ff  02 00 00 00 4d 0a  08 06 \
             00 01  08 00  06 04  00 02 \
             02 00 00 00 4d 0a  0a 4d 00 64 \
             02 00 00 00 4d 0a  0a 4d 00 64",
        );
        let frames = announcement(MAC, "10.77.0.100".parse().unwrap());
        assert_eq!(frames, [request, reply]);
    }

    #[test]
    fn an_ipv6_address_is_announced_with_the_override_flag() {
        // The checksum: the words sum to 3f556, folded f559, and that inverted.
        let advertisement = bytes(
            "33 33 00 00 00 01  02 00 00 00 4d 0a  86 dd \
             60 00 00 00  00 20  3a ff \
             fd 77 00 00 00 00 00 00 00 00 00 00 00 00 01 00 \
             ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 01 \
             88 00 0a a6  20 00 00 00 \
             fd 77 00 00 00 00 00 00 00 00 00 00 00 00 01 00 \
             02 01  02 00 00 00 4d 0a",
        );
        let frames = announcement(MAC, "fd77::100".parse().unwrap());
        assert_eq!(frames, [advertisement]);
    }
}
