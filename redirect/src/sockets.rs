//! The daemon's sockets on the status plane: for each group one that listens and one that speaks.

use crate::config;
use lb_common::Address;
use lb_net::interface::Interface;
use lb_net::multicast::{self, MulticastError};
use lb_proto::status::sender::BeaconBytes;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::UdpSocket;

/// Longer than anything that is for us: what fills it is not.
const MAX_DATAGRAM: usize = 256;

pub(crate) struct Sockets {
    /// A listener and a speaker by turns, in the order of the groups.
    all: Vec<UdpSocket>,
    groups: Vec<SocketAddr>,
    config: config::Beacon,
    interface: Interface,
    turn: usize,
    buffer: [u8; MAX_DATAGRAM],
}

/// A datagram that came in.
pub(crate) struct Datagram<'a> {
    pub bytes: &'a [u8],
    pub from: SocketAddr,
    /// The group of the socket that it came in by.
    pub group: usize,
}

impl Sockets {
    pub(crate) fn open(
        config: config::Beacon,
        interface: Interface,
    ) -> Result<Self, MulticastError> {
        let (mut all, mut groups) = (Vec::new(), Vec::new());
        for group in &config.groups {
            all.push(multicast::listen(*group, config.port, &interface)?);
            let local = own_address(&config, *group);
            let local = local.unwrap_or_else(|| multicast::any_address(*group));
            all.push(multicast::speak(local, config.port, &interface)?);
            groups.push(multicast::destination(*group, config.port, &interface));
        }
        let (turn, buffer) = (0, [0; MAX_DATAGRAM]);
        Ok(Self {
            all,
            groups,
            config,
            interface,
            turn,
            buffer,
        })
    }

    /// The addresses that the node names in its beacons, of IPv4 and of IPv6: those configured, else
    /// those that its beacons are sent from; zero where there is none, or none yet.
    pub(crate) fn addresses(&self) -> [Address; 2] {
        let Self {
            config, interface, ..
        } = self;
        [true, false].map(|is_v4| {
            let group = config.groups.iter().find(|group| group.is_ipv4() == is_v4);
            let address = group.and_then(|group| {
                own_address(config, *group).or_else(|| multicast::source_address(*group, interface))
            });
            address.map(Address::from).unwrap_or_default()
        })
    }

    /// A group, and the port that beacons to it go to.
    pub(crate) fn group(&self, number: usize) -> Option<SocketAddr> {
        self.groups.get(number).copied()
    }

    /// Waits for a datagram. Cancelling loses nothing.
    pub(crate) async fn receive(&mut self) -> io::Result<Datagram<'_>> {
        let received = multicast::receive(&self.all, &mut self.turn, &mut self.buffer).await;
        let (index, len, from) = received?;
        Ok(Datagram {
            bytes: self.buffer.get(..len).unwrap_or_default(),
            from,
            group: index / 2,
        })
    }

    /// Sends a beacon to a group, the first being 0.
    pub(crate) async fn announce(&self, group: usize, beacon: &BeaconBytes) -> io::Result<()> {
        let to = self
            .groups
            .get(group)
            .copied()
            .ok_or(io::ErrorKind::NotFound)?;
        self.send(group, to, beacon).await
    }

    /// Sends a beacon to one host, of the family of a group.
    pub(crate) async fn send(
        &self,
        group: usize,
        to: SocketAddr,
        beacon: &BeaconBytes,
    ) -> io::Result<()> {
        let speaker = self.all.get(group * 2 + 1).ok_or(io::ErrorKind::NotFound)?;
        speaker.send_to(beacon, to).await.map(drop)
    }
}

/// The configured address of the group's family.
fn own_address(config: &config::Beacon, group: IpAddr) -> Option<IpAddr> {
    config
        .addresses
        .iter()
        .copied()
        .find(|address| address.is_ipv4() == group.is_ipv4())
}
