//! What the kernel says of links, routes and neighbours (rtnetlink).
//!
//! Requests are answered within the system call that sends them, so they are made directly, also
//! from asynchronous code; only [`Watch`], which waits for changes, is asynchronous.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;

/// More than any single message needs.
const BUFFER: usize = 64 * 1024;

/// A link address.
pub type Mac = [u8; 6];

/// The kernel refused a request, or answered in a way that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("netlink: {what}")]
pub struct NetlinkError {
    what: String,
    #[source]
    source: io::Error,
}

impl NetlinkError {
    fn new(what: impl Into<String>, source: io::Error) -> Self {
        Self {
            what: what.into(),
            source,
        }
    }

    /// The kernel's error number.
    fn number(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in this network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its link address, if it is an Ethernet.
    pub mac: Option<Mac>,
    /// Administratively up, and with a carrier.
    pub is_running: bool,
    /// For a VLAN, the interface that its frames come and go by, tagged.
    pub lower: Option<u32>,
    /// The XDP programs on it.
    pub xdp: Vec<XdpProgram>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    /// Its id.
    pub id: u32,
    /// Run by the network stack instead of the driver.
    pub is_generic: bool,
}

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Out of this interface.
    pub ifindex: u32,
    /// To this neighbour: a router, or the address itself.
    pub next_hop: IpAddr,
    /// From this address of the machine.
    pub source: Option<IpAddr>,
}

/// A neighbour's entry in the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its link address, if known.
    pub mac: Option<Mac>,
    /// Confirmed not long ago, or permanent.
    pub is_fresh: bool,
}

/// A socket to ask the kernel by.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|error| NetlinkError::new("opening a socket", error))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The interface of a name, if there is one.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn link_named(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut request = LinkMessage::default();
        request
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        self.link(request, || format!("interface {name}"))
    }

    /// The interface of a number, if there is one.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn link_at(&mut self, ifindex: u32) -> Result<Option<Link>, NetlinkError> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        self.link(request, || format!("interface number {ifindex}"))
    }

    fn link(
        &mut self,
        request: LinkMessage,
        what: impl Fn() -> String,
    ) -> Result<Option<Link>, NetlinkError> {
        match self.ask(RouteNetlinkMessage::GetLink(request), &what) {
            Ok(Some(RouteNetlinkMessage::NewLink(found))) => Ok(Some(read_link(found))),
            Ok(_) => Ok(None),
            Err(error) if error.number() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The way to an address, out of a given interface if one is given. `None`: there is no route.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn route(
        &mut self,
        to: IpAddr,
        out_of: Option<u32>,
    ) -> Result<Option<Route>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(to);
        request.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
        request
            .attributes
            .push(RouteAttribute::Destination(to.into()));
        if let Some(ifindex) = out_of {
            request.attributes.push(RouteAttribute::Oif(ifindex));
        }
        let unreachable = [
            libc::ENETUNREACH,
            libc::EHOSTUNREACH,
            libc::ENODEV,
            libc::EACCES,
        ];
        match self.ask(RouteNetlinkMessage::GetRoute(request), || {
            format!("route to {to}")
        }) {
            Ok(Some(RouteNetlinkMessage::NewRoute(found))) => Ok(read_route(&found, to)),
            Ok(_) => Ok(None),
            Err(error)
                if error
                    .number()
                    .is_some_and(|number| unreachable.contains(&number)) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A neighbour's entry, if there is one.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn neighbour(
        &mut self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<Option<Neighbour>, NetlinkError> {
        let mut request = NeighbourMessage::default();
        request.header.family = family(address);
        request.header.ifindex = ifindex;
        request
            .attributes
            .push(NeighbourAttribute::Destination(address.into()));
        let what = || format!("neighbour {address}");
        match self.ask(RouteNetlinkMessage::GetNeighbour(request), what) {
            Ok(Some(RouteNetlinkMessage::NewNeighbour(found))) => Ok(Some(read_neighbour(&found))),
            Ok(_) => Ok(None),
            Err(error) if error.number() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one request and reads its one answer.
    fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        what: impl Fn() -> String,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(request)
            .map_err(|error| NetlinkError::new(what(), error))
    }

    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answer = None;
        loop {
            let received = receive(&self.socket)?;
            for message in messages(&received) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answer = Some(inner),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answer),
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                        };
                    }
                    _ => return Ok(answer),
                }
            }
        }
    }
}

/// Something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A neighbour's entry.
    Neighbour {
        /// Whose.
        address: IpAddr,
    },
    /// An interface, a route, or so much at once that the kernel lost count.
    Other,
}

/// Waits for changes to links, neighbours and routes.
///
/// Cancelling a wait loses nothing.
pub struct Watch {
    socket: AsyncFd<Watched>,
}

struct Watched(Socket);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Watch {
    /// Joins the kernel's groups. Within a tokio runtime only.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn open() -> Result<Self, NetlinkError> {
        // <linux/rtnetlink.h>: RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE.
        const GROUPS: [u32; 4] = [1, 3, 7, 11];
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            socket.set_non_blocking(true)?;
            // SAFETY: the socket owns its descriptor, and nothing replaces or closes it while it is
            // registered.
            #[expect(unsafe_code, reason = "tokio asks for the promise above")]
            let socket = unsafe { AsyncFd::register(Watched(socket)) }?;
            Ok(socket)
        };
        let socket = open().map_err(|error| NetlinkError::new("watching for changes", error))?;
        Ok(Self { socket })
    }

    /// The next changes: at least one.
    ///
    /// # Errors
    /// [`NetlinkError`]: the socket itself is broken.
    pub async fn changes(&self) -> Result<Vec<Change>, NetlinkError> {
        let failed = |error| NetlinkError::new("watching for changes", error);
        loop {
            let mut ready = self.socket.readable().await.map_err(failed)?;
            let received = match ready.try_io(|watched| receive(&watched.get_ref().0)) {
                Ok(Ok(received)) => received,
                // More changes than the socket's buffer holds: all must be looked at again.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(vec![Change::Other]);
                }
                Ok(Err(error)) => return Err(failed(error)),
                Err(_would_block) => continue,
            };
            let mut changes: Vec<Change> = messages(&received).filter_map(change).collect();
            changes.dedup();
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

fn change(message: io::Result<NetlinkMessage<RouteNetlinkMessage>>) -> Option<Change> {
    use RouteNetlinkMessage as Message;
    // What cannot be read may be anything.
    let Ok(message) = message else {
        return Some(Change::Other);
    };
    let NetlinkPayload::InnerMessage(inner) = message.payload else {
        return None;
    };
    match inner {
        Message::NewNeighbour(neighbour) | Message::DelNeighbour(neighbour) => neighbour
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    Some(Change::Neighbour {
                        address: (*v4).into(),
                    })
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    Some(Change::Neighbour {
                        address: (*v6).into(),
                    })
                }
                _ => None,
            }),
        Message::NewLink(_) | Message::DelLink(_) | Message::NewRoute(_) | Message::DelRoute(_) => {
            Some(Change::Other)
        }
        _ => None,
    }
}

fn receive(socket: &Socket) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(BUFFER);
    socket.recv(&mut buffer, 0)?;
    Ok(buffer)
}

/// The messages of one datagram.
fn messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> + '_ {
    std::iter::from_fn(move || {
        let header: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        let len = u32::from_ne_bytes(header) as usize;
        let Some(message) = bytes.get(..len).filter(|message| message.len() >= 16) else {
            bytes = &[];
            return Some(Err(io::ErrorKind::InvalidData.into()));
        };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkMessage::deserialize(message).map_err(io::Error::other))
    })
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn read_link(message: LinkMessage) -> Link {
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

fn read_route(message: &RouteMessage, to: IpAddr) -> Option<Route> {
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

fn read_neighbour(message: &NeighbourMessage) -> Neighbour {
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
