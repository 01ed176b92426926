//! The daemon's sockets on the status plane: for each group one that listens, for each family one that
//! speaks.

use crate::config;
use lb_common::Address;
use lb_net::interface::Interface;
use lb_net::multicast::{self, MulticastError};
use lb_proto::status::sender::BeaconBytes;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

/// Longer than anything that is for us: what fills it is not.
const MAX_DATAGRAM: usize = 256;

pub(crate) struct Sockets {
    /// The listeners, then the speakers.
    all: Vec<UdpSocket>,
    /// The speaker of IPv4, and of IPv6.
    speakers: [Option<usize>; 2],
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
}

impl Sockets {
    /// Opens them. `lbs` are the controllers that are told of calls: they may be of a family that no
    /// beacon goes out by.
    pub(crate) fn open(
        config: config::Beacon,
        interface: Interface,
        lbs: &[SocketAddr],
    ) -> Result<Self, MulticastError> {
        let (mut all, mut groups) = (Vec::new(), Vec::new());
        for group in &config.groups {
            all.push(multicast::listen(*group, config.port, &interface)?);
            groups.push(multicast::destination(*group, config.port, &interface));
        }
        let mut speakers = [None; 2];
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        for (any, speaker) in any.into_iter().zip(&mut speakers) {
            let hosts = config.peers.iter().chain(lbs).map(SocketAddr::ip);
            let mut spoken_to = config.groups.iter().copied().chain(hosts);
            if spoken_to.any(|address| address.is_ipv4() == any.is_ipv4()) {
                let local = own_address(&config, any.is_ipv4()).unwrap_or(any);
                *speaker = Some(all.len());
                all.push(multicast::speak(local, config.port, &interface)?);
            }
        }
        let (turn, buffer) = (0, [0; MAX_DATAGRAM]);
        Ok(Self {
            all,
            speakers,
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
            let peer = config.peers.iter().find(|peer| peer.is_ipv4() == is_v4);
            let address = own_address(config, is_v4)
                .or_else(|| multicast::source_address(*group?, interface))
                .or_else(|| source_towards(*peer?).ok());
            address.map(Address::from).unwrap_or_default()
        })
    }

    /// A group, and the port that beacons to it go to; behind the groups, the first of the peers.
    pub(crate) fn group(&self, number: usize) -> Option<SocketAddr> {
        let peers = self.config.peers.first();
        self.groups.iter().chain(peers).nth(number).copied()
    }

    /// Groups that beacons go to, the list of peers being one of them.
    pub(crate) fn group_count(config: &config::Beacon) -> usize {
        config.groups.len() + usize::from(!config.peers.is_empty())
    }

    /// Waits for a datagram. Cancelling loses nothing.
    pub(crate) async fn receive(&mut self) -> io::Result<Datagram<'_>> {
        let received = multicast::receive(&self.all, &mut self.turn, &mut self.buffer).await;
        let (_, len, from) = received?;
        Ok(Datagram {
            bytes: self.buffer.get(..len).unwrap_or_default(),
            from,
        })
    }

    /// Sends a beacon to a group, the first being 0, or to all peers, which come behind the groups.
    ///
    /// A peer that cannot be sent to keeps nothing from the others.
    pub(crate) async fn announce(&self, group: usize, beacon: &BeaconBytes) -> io::Result<()> {
        match self.groups.get(group) {
            Some(to) => self.send(*to, beacon).await,
            None if group == self.groups.len() && !self.config.peers.is_empty() => {
                let mut result = Ok(());
                for peer in &self.config.peers {
                    let sent = self.send(*peer, beacon).await;
                    result = result.and(sent);
                }
                result
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Sends to one host, or to a group.
    pub(crate) async fn send(&self, to: SocketAddr, bytes: &BeaconBytes) -> io::Result<()> {
        let [v4, v6] = self.speakers;
        let speaker = if to.is_ipv4() { v4 } else { v6 };
        let speaker = speaker.and_then(|speaker| self.all.get(speaker));
        let speaker = speaker.ok_or(io::ErrorKind::AddrNotAvailable)?;
        speaker.send_to(bytes, to).await.map(drop)
    }
}

/// The configured address of a family.
fn own_address(config: &config::Beacon, is_v4: bool) -> Option<IpAddr> {
    let mut addresses = config.addresses.iter().copied();
    addresses.find(|address| address.is_ipv4() == is_v4)
}

/// The address that this host sends from to a peer: connecting sends nothing, but chooses it.
fn source_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Controller;
    use std::time::Duration;

    /// A controller at a host, told of a call by a node whose beacons go to the other host alone.
    async fn tell(controller: IpAddr, peer: IpAddr) {
        let listener = Controller::bind((controller, 0)).expect("a port");
        let to = listener.local_addr().expect("bound");
        let wait = Some(Duration::from_secs(5));
        listener.set_read_timeout(wait).expect("a wait");
        let config = config::Beacon {
            groups: Vec::new(),
            peers: vec![(peer, 7700).into()],
            // Any that is free.
            port: 0,
            interface: "lo".to_owned(),
            period: Duration::from_millis(100),
            hold_periods: 3,
            down_periods: 10,
            addresses: vec![peer],
        };
        let interface = Interface::find("lo").expect("every host has it");
        let sockets = Sockets::open(config, interface, &[to]).expect("sockets");
        let report = [7; size_of::<BeaconBytes>()];
        sockets.send(to, &report).await.expect("it is spoken to");
        let mut buffer = [0; MAX_DATAGRAM];
        let (len, _) = listener.recv_from(&mut buffer).expect("a report");
        assert_eq!(buffer[..len], report);
    }

    #[test]
    fn controllers_of_another_family_than_the_beacons_are_told_of_calls() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let hosts: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        runtime.block_on(tell(hosts[0], hosts[1]));
        runtime.block_on(tell(hosts[1], hosts[0]));
    }
}
