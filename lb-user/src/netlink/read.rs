//! The kernel's messages in our own terms.

use std::net::IpAddr;

use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};

use super::{Link, Neighbour, Route, XdpProgram};

pub(super) fn link(message: LinkMessage) -> Link {
    let header = &message.header;
    let is_ethernet = header.link_layer_type == LinkLayerType::Ether;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: None,
        is_running: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        lower: None,
        xdp: Vec::new(),
    };
    let is_vlan = message.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(facts)
            if facts.contains(&LinkInfo::Kind(InfoKind::Vlan)))
    });
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(address) if is_ethernet => {
                link.mac = address.as_slice().try_into().ok();
            }
            LinkAttribute::Link(lower) if is_vlan => link.lower = Some(lower),
            LinkAttribute::Xdp(attributes) => link.xdp = read_xdp(&attributes),
            _ => {}
        }
    }
    link
}

fn read_xdp(attributes: &[LinkXdp]) -> Vec<XdpProgram> {
    let is_generic = attributes.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer));
    let mut programs: Vec<XdpProgram> = attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkXdp::SkbProgId(id) => Some(XdpProgram {
                id: *id,
                is_generic: true,
            }),
            LinkXdp::DrvProgId(id) | LinkXdp::HwProgId(id) => Some(XdpProgram {
                id: *id,
                is_generic: false,
            }),
            LinkXdp::ProgId(id) => Some(XdpProgram {
                id: *id,
                is_generic,
            }),
            _ => None,
        })
        .filter(|program| program.id != 0)
        .collect();
    programs.sort_unstable_by_key(|program| (program.id, program.is_generic));
    programs.dedup();
    programs
}

pub(super) fn route(message: &RouteMessage, to: IpAddr) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut ifindex = None;
    let mut next_hop = to;
    let mut source = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => source = Some((*v4).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => source = Some((*v6).into()),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => next_hop = (*v4).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => next_hop = (*v6).into(),
            RouteAttribute::Via(RouteVia::Inet(v4)) => next_hop = (*v4).into(),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => next_hop = (*v6).into(),
            _ => {}
        }
    }
    ifindex.map(|ifindex| Route {
        ifindex,
        next_hop,
        source,
    })
}

pub(super) fn neighbour(message: &NeighbourMessage) -> Neighbour {
    use NeighbourState as State;
    let state = message.header.state;
    let is_known = !matches!(state, State::Incomplete | State::Failed | State::None);
    let mac = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) if is_known => {
                bytes.as_slice().try_into().ok()
            }
            _ => None,
        });
    Neighbour {
        mac,
        is_fresh: matches!(state, State::Reachable | State::Permanent | State::Noarp),
    }
}
