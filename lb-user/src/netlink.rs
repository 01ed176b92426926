//! What the kernel says of links, routes and neighbours (rtnetlink).
//!
//! Requests are answered within the system call that sends them, so they are made directly, also
//! from asynchronous code; only [`Watch`], which waits for changes, is asynchronous.

mod address;
mod read;
mod watch;

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

pub use address::{Address, Reach};
pub use watch::{Change, Watch};

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

    pub(crate) fn no_interface(name: &str) -> Self {
        let source = io::Error::from_raw_os_error(libc::ENODEV);
        Self::new(format!("interface {name}"), source)
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
            Ok(Some(RouteNetlinkMessage::NewLink(found))) => Ok(Some(read::link(found))),
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
            Ok(Some(RouteNetlinkMessage::NewRoute(found))) => Ok(read::route(&found, to)),
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
            Ok(Some(RouteNetlinkMessage::NewNeighbour(found))) => Ok(Some(read::neighbour(&found))),
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
        self.exchange(request, 0)
            .map(|mut answers| answers.pop())
            .map_err(|error| NetlinkError::new(what(), error))
    }

    /// Sends one request, with these flags besides the usual ones, and reads all its answers.
    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        let mut is_torn = false;
        loop {
            let received = receive(&self.socket)?;
            for message in messages(&received) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                is_torn |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answers),
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                        };
                    }
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    // What was listed has changed under way, and something may be missing.
                    _ if is_torn => return Err(io::ErrorKind::Interrupted.into()),
                    _ => return Ok(answers),
                }
            }
        }
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
