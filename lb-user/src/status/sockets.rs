//! The controller's sockets on the status plane.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use lb_net::interface::Interface;
use lb_net::multicast;
use tokio::net::UdpSocket;

use super::StatusError;
use crate::config::Config;

/// One for each group and interface, and one for each family.
pub(super) struct Sockets {
    listeners: Vec<UdpSocket>,
    /// They hear what is sent to this machine: answers, reports, and beacons to it alone.
    speakers: Vec<UdpSocket>,
}

impl Sockets {
    pub(super) fn open(config: &Config) -> Result<Self, StatusError> {
        let interfaces: Vec<Interface> = config
            .interfaces
            .iter()
            .map(|wanted| Interface::find(&wanted.name))
            .collect::<Result<_, _>>()?;
        let status = &config.status;
        let mut listeners = Vec::new();
        for interface in &interfaces {
            for group in &status.groups {
                listeners.push(multicast::listen(*group, status.port, interface)?);
            }
        }
        let mut speakers = Vec::new();
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        for local in any {
            let nodes = config.speaking_nodes().map(|node| node.address);
            let named = status.groups.iter().chain(&status.addresses).copied();
            let is_needed = nodes
                .chain(named)
                .any(|address| address.is_ipv4() == local.is_ipv4());
            let Some(interface) = interfaces.first() else {
                continue;
            };
            match multicast::speak(local, status.port, interface) {
                Ok(speaker) => speakers.push(speaker),
                Err(error) if is_needed => return Err(error.into()),
                // A machine without IPv6, say. Nodes that are added later may be of either family.
                Err(error) => tracing::debug!(%local, %error, "not heard on"),
            }
        }
        Ok(Self {
            listeners,
            speakers,
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &UdpSocket> {
        self.listeners.iter().chain(&self.speakers)
    }

    /// Waits until one of them has something.
    pub(super) async fn readable(&self) {
        poll_fn(|context| {
            // All are polled, so that all wake this task.
            let ready = self
                .all()
                .filter(|socket| socket.poll_recv_ready(context).is_ready());
            if ready.count() > 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    pub(super) fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let is_fit = |socket: &&UdpSocket| {
            socket
                .local_addr()
                .is_ok_and(|local| local.is_ipv4() == to.is_ipv4())
        };
        match self.speakers.iter().find(is_fit) {
            Some(speaker) => speaker.try_send_to(bytes, to).map(drop),
            None => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }
}
