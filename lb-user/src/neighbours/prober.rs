//! Making the kernel look for a node's link address.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::config::NodeConfig;

/// The discard port (RFC 863): nothing is expected to listen.
const DISCARD: u16 = 9;

/// Makes the kernel resolve a node's address, by sending it an empty datagram.
#[derive(Default)]
pub(super) struct Prober {
    sockets: BTreeMap<(bool, Option<String>), UdpSocket>,
}

impl Prober {
    pub(super) fn ask(&mut self, node: &NodeConfig) {
        if let Err(error) = self.try_ask(node) {
            // The next round tries again; until then the kernel may learn it by itself.
            tracing::debug!(node = node.id, %error, "cannot ask for a link address");
        }
    }

    fn try_ask(&mut self, node: &NodeConfig) -> io::Result<()> {
        let key = (node.address.is_ipv4(), node.interface.clone());
        if !self.sockets.contains_key(&key) {
            let socket = open(node.address, node.interface.as_deref())?;
            self.sockets.insert(key.clone(), socket);
        }
        if let Some(socket) = self.sockets.get(&key) {
            socket.send_to(&[], SocketAddr::new(node.address, DISCARD))?;
        }
        Ok(())
    }
}

fn open(address: IpAddr, interface: Option<&str>) -> io::Result<UdpSocket> {
    use socket2::{Domain, Socket, Type};
    let domain = if address.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), None)?;
    // Without a capability this works as long as the socket is bound to no other (Linux 5.7).
    socket.bind_device(interface.map(str::as_bytes))?;
    Ok(socket.into())
}
