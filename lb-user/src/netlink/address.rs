//! Addresses of interfaces: which there are; giving and taking single ones.
//!
//! Giving and taking needs `CAP_NET_ADMIN` twice: of whoever opened the socket, and of whoever sends
//! the request (the kernel's `netlink_net_capable`). A socket that was opened with it is of no use to
//! a process that has dropped it.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};

use super::{Netlink, NetlinkError, family};

/// Lists that change under way are asked for this often at most.
const TRIES: u32 = 5;
/// `INFINITY_LIFE_TIME` of the kernel.
const FOREVER: u32 = u32::MAX;

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's number.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// Leading bits that the interface's neighbours share with it.
    pub prefix_len: u8,
}

impl Address {
    /// A single address: /32 or /128.
    pub fn single(ifindex: u32, address: IpAddr) -> Self {
        Self {
            ifindex,
            address,
            prefix_len: if address.is_ipv4() { 32 } else { 128 },
        }
    }
}

/// Who is to learn of an address that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Whoever asks on the interface's own link.
    Link,
    /// Routing daemons too, which announce the interface's connected routes.
    Routed,
}

impl Netlink {
    /// All addresses of all interfaces.
    ///
    /// # Errors
    /// [`NetlinkError`], also when the list would not hold still.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let mut tries = 0;
        let answers = loop {
            let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
            tries += 1;
            match self.exchange(request, NLM_F_DUMP) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && tries < TRIES => {}
                result => break result,
            }
        };
        let answers = answers.map_err(|error| NetlinkError::new("listing addresses", error))?;
        Ok(answers.into_iter().filter_map(read).collect())
    }

    /// Gives an interface an address that this machine answers at, but that it never chooses as the
    /// source of what it sends itself. `false`: the interface has it already, and it stays as it is.
    ///
    /// The kernel's choice of a source is kept off in two ways. IPv4 addresses have the scope `host`:
    /// with `global`, or with `link`, the kernel takes them for routes without a preferred source.
    /// IPv6 addresses are deprecated from the start (RFC 6724 §5, rule 3): rule 8 would else prefer a
    /// /128 to the machine's own address, whose prefix is shorter. A machine whose only IPv6 address
    /// beyond the link this is has no other choice.
    ///
    /// # Errors
    /// [`NetlinkError`]: no such interface, no capability, IPv6 turned off on it.
    pub fn add_address(&mut self, address: Address, reach: Reach) -> Result<bool, NetlinkError> {
        let mut message = message(address);
        if address.address.is_ipv4() {
            message.header.scope = AddressScope::Host;
        } else {
            // Duplicate address detection would take a second in which the address is not answered
            // for; that nobody else has it is what the caller knows better.
            let mut flags = AddressFlags::Nodad;
            if reach == Reach::Link {
                // Routing daemons go by the route (FRR's zebra reads this very flag); here it would
                // only be one more.
                flags |= AddressFlags::Noprefixroute;
            }
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_preferred = 0;
            lifetime.ifa_valid = FOREVER;
            message.attributes.push(AddressAttribute::Flags(flags));
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lifetime));
        }
        let request = RouteNetlinkMessage::NewAddress(message);
        match self.exchange(request, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(NetlinkError::new(
                format!("adding {}", address.address),
                error,
            )),
        }
    }

    /// Takes an address from an interface, if it has it with this very prefix length. `false`: it has
    /// not.
    ///
    /// # Errors
    /// [`NetlinkError`]: no such interface, no capability.
    pub fn remove_address(&mut self, address: Address) -> Result<bool, NetlinkError> {
        let request = RouteNetlinkMessage::DelAddress(message(address));
        match self.exchange(request, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            Err(error) => Err(NetlinkError::new(
                format!("removing {}", address.address),
                error,
            )),
        }
    }
}

/// With the address twice: IPv4 goes by the local one, and compares the prefix length only if the
/// other is there.
fn message(address: Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.address);
    message.header.prefix_len = address.prefix_len;
    message.header.index = address.ifindex;
    message.attributes = vec![
        AddressAttribute::Local(address.address),
        AddressAttribute::Address(address.address),
    ];
    message
}

fn read(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => found = Some(*address),
            // The far end's, where there is a local one too.
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    found.map(|address| Address {
        ifindex: message.header.index,
        address,
        prefix_len: message.header.prefix_len,
    })
}
