//! Somebody on the status plane who listens, asks, and shouts.

use crate::fixture::{Fixture, KEY_ID, PATIENCE, beacon_key};
use lb_common::beacon::{BEACON_LEN, Beacon, is_authentic};
use lb_net::interface::Interface;
use lb_net::multicast;
use lb_proto::status::query::Query;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

pub(crate) struct Ear {
    listener: UdpSocket,
    speaker: UdpSocket,
    group: SocketAddr,
    cluster: u32,
    last_stamp: u64,
}

impl Ear {
    /// One on the fixture's group, by the loopback.
    pub(crate) fn open(fixture: &Fixture) -> Self {
        Self::open_at(fixture, "lo", fixture.group().into(), fixture.address(99))
    }

    pub(crate) fn open_at(fixture: &Fixture, interface: &str, group: IpAddr, own: IpAddr) -> Self {
        let interface = Interface::find(interface).expect("an interface");
        let port = fixture.port();
        Self {
            listener: multicast::listen(group, port, &interface).expect("a listener"),
            speaker: multicast::speak(own, 0, &interface).expect("a speaker"),
            group: multicast::destination(group, port, &interface),
            cluster: fixture.cluster(),
            last_stamp: 0,
        }
    }

    /// The next beacon of a node.
    pub(crate) async fn beacon_of(&mut self, node: u16) -> Beacon {
        self.until(|beacon| beacon.node == node).await
    }

    /// The next beacon that is as wanted.
    pub(crate) async fn until(&mut self, is_wanted: impl Fn(&Beacon) -> bool) -> Beacon {
        let search = async {
            loop {
                if let Some(beacon) = self.next().await
                    && is_wanted(&beacon)
                {
                    return beacon;
                }
            }
        };
        timeout(PATIENCE, search)
            .await
            .expect("such a beacon in time")
    }

    /// Expects that no beacon comes for a while.
    pub(crate) async fn silence(&mut self, long: Duration) {
        let end = Instant::now() + long;
        while let Ok(beacon) = tokio::time::timeout_at(end, self.next()).await {
            assert_eq!(beacon, None, "a beacon in what should be silence");
        }
    }

    /// The next beacon of this cluster, if that is what comes next; it must be genuine.
    async fn next(&mut self) -> Option<Beacon> {
        let mut bytes = [0; 200];
        let (len, _) = self
            .listener
            .recv_from(&mut bytes)
            .await
            .expect("a datagram");
        let beacon = Beacon::read(&bytes[..len], 0, len as u32).ok()?;
        if beacon.cluster != self.cluster || !is_authentic(&bytes[..len], 0, beacon_key()) {
            return None;
        }
        self.last_stamp = self.last_stamp.max(beacon.stamp());
        Some(beacon)
    }

    /// Sends to the group.
    pub(crate) async fn shout(&self, bytes: &[u8]) {
        self.speaker.send_to(bytes, self.group).await.expect("sent");
    }

    /// Sends to the group from an address of this host.
    pub(crate) async fn shout_from(&self, from: IpAddr, bytes: &[u8]) {
        let lo = Interface::find("lo").expect("a loopback");
        let speaker = multicast::speak(from, 0, &lo).expect("a speaker");
        speaker.send_to(bytes, self.group).await.expect("sent");
    }

    /// Sends to one address, at the status port.
    pub(crate) async fn tell(&self, bytes: &[u8], address: IpAddr) {
        self.speaker
            .send_to(bytes, (address, self.group.port()))
            .await
            .expect("sent");
    }

    /// Asks for a node's beacon at an address.
    pub(crate) async fn ask(&self, node: u16, address: IpAddr) {
        let query = Query {
            cluster: self.cluster,
            node,
            key_id: KEY_ID,
            nonce: 7,
        };
        self.tell(&query.write(beacon_key()), address).await;
    }

    /// What came back for a question.
    pub(crate) async fn answer(&self) -> Beacon {
        let mut bytes = [0; 200];
        let received = timeout(PATIENCE, self.speaker.recv_from(&mut bytes)).await;
        let (len, _) = received.expect("an answer in time").expect("a datagram");
        assert!(is_authentic(&bytes[..len], 0, beacon_key()));
        Beacon::read(&bytes[..len], 0, BEACON_LEN).expect("a beacon")
    }

    /// Whether anything came back for a question that nobody has taken.
    pub(crate) fn has_answer(&self) -> bool {
        self.speaker.try_recv(&mut [0; 200]).is_ok()
    }
}
