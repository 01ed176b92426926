//! A node's ear: takes in what its network stack delivers for the VIP, and answers nothing.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::lab::Host;

/// A datagram, as an application gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it, by its source address.
    pub from: SocketAddr,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Sockets at the VIP, one on each node.
#[derive(Debug)]
pub struct Ears {
    sockets: Vec<UdpSocket>,
}

impl Ears {
    /// Opens them, on nodes 1, 2, 3 … in this order.
    ///
    /// # Errors
    /// Another server is there.
    pub fn open(nodes: &[Host], vip: SocketAddr) -> Result<Self> {
        let sockets = nodes.iter().map(|node| {
            let socket = node
                .namespace
                .inside(|| UdpSocket::bind(vip))?
                .with_context(|| format!("{} cannot listen at {vip}", node.namespace.name()))?;
            socket.set_read_timeout(Some(Duration::from_millis(2)))?;
            Ok(socket)
        });
        Ok(Self {
            sockets: sockets.collect::<Result<_>>()?,
        })
    }

    /// The next datagram that any node hears, and the node; `None` when none comes in time.
    ///
    /// # Errors
    /// A socket fails.
    pub fn next(&self, limit: Duration) -> Result<Option<(u16, Heard)>> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; 65_536];
        loop {
            for (node, socket) in (1..).zip(&self.sockets) {
                match socket.recv_from(&mut buffer) {
                    Ok((len, from)) => {
                        return Ok(Some((
                            node,
                            Heard {
                                from,
                                payload: buffer[..len].to_vec(),
                            },
                        )));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error).context("a node's socket fails"),
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }
}
