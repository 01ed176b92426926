//! Waiting for changes.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::io::unix::AsyncFd;

use super::{NetlinkError, messages, receive};

/// Something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A neighbour's entry.
    Neighbour {
        /// Whose.
        address: IpAddr,
    },
    /// An interface, a route, an address, or so much at once that the kernel lost count.
    Other,
}

/// Waits for changes: to links, neighbours and routes, or to links and addresses.
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
    /// Watches links, neighbours and routes. Within a tokio runtime only.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn open() -> Result<Self, NetlinkError> {
        // <linux/rtnetlink.h>: RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE.
        Self::join(&[1, 3, 7, 11])
    }

    /// Watches links and addresses. Within a tokio runtime only.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn open_for_addresses() -> Result<Self, NetlinkError> {
        // <linux/rtnetlink.h>: RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR.
        Self::join(&[1, 5, 9])
    }

    fn join(groups: &[u32]) -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            for group in groups {
                socket.add_membership(*group)?;
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
        Message::NewLink(_)
        | Message::DelLink(_)
        | Message::NewRoute(_)
        | Message::DelRoute(_)
        | Message::NewAddress(_)
        | Message::DelAddress(_) => Some(Change::Other),
        _ => None,
    }
}
