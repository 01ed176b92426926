//! The sockets of the status plane.
//!
//! - A **listener** per group: bound to the group's own address, so that it gets that group's
//!   datagrams and no others, from the one interface it joined on. Several on one host share the port.
//! - A **speaker** per family: sends beacons to the group, queries and answers to single hosts, and
//!   gets what is sent to this host's own addresses. Its source port is the status port, because that
//!   is where the answer to a query must go.
//!
//! Datagrams to a group travel one hop: the status plane is one link.

use crate::interface::Interface;
use rustix::net::sockopt::set_ip_multicast_if_with_ifindex;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::task::Poll;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// Datagrams to a group go no farther than the link.
const HOPS: u32 = 1;

/// Why a socket of the status plane is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum MulticastError {
    /// The address is not a group's.
    #[error("{0} is no multicast address (224.0.0.0/4 or ff00::/8)")]
    NotAGroup(IpAddr),
    /// The group cannot be joined.
    #[error("cannot join group {group}, port {port}, on interface {interface}")]
    Join {
        /// The group.
        group: IpAddr,
        /// The UDP port.
        port: u16,
        /// The interface.
        interface: String,
        /// What the system says.
        source: io::Error,
    },
    /// The address and port cannot be had.
    #[error("cannot send from {address} on interface {interface}")]
    Speak {
        /// The local address.
        address: SocketAddr,
        /// The interface.
        interface: String,
        /// What the system says.
        source: io::Error,
    },
}

/// A socket that gets what is sent to `group` and `port` and comes in by `interface`.
///
/// Datagrams that this host itself sends to the group are among them. Must be called within a tokio
/// runtime.
///
/// # Errors
/// [`MulticastError`] when the address is no group's or the system refuses.
pub fn listen(
    group: IpAddr,
    port: u16,
    interface: &Interface,
) -> Result<UdpSocket, MulticastError> {
    if !group.is_multicast() {
        return Err(MulticastError::NotAGroup(group));
    }
    try_listen(group, port, interface).map_err(|source| MulticastError::Join {
        group,
        port,
        interface: interface.name().to_owned(),
        source,
    })
}

/// A socket that sends to groups by `interface`, and to and from single hosts, at `port`.
///
/// `local` binds it to one of this host's addresses, which tells several daemons on one host apart; an
/// unspecified address (`0.0.0.0`, `::`) gets what is sent to any. It never gets what is sent to a
/// group. Must be called within a tokio runtime.
///
/// # Errors
/// [`MulticastError`] when the system refuses.
pub fn speak(local: IpAddr, port: u16, interface: &Interface) -> Result<UdpSocket, MulticastError> {
    try_speak(local, port, interface).map_err(|source| MulticastError::Speak {
        address: SocketAddr::new(local, port),
        interface: interface.name().to_owned(),
        source,
    })
}

/// Waits for a datagram on any of the sockets: which one, how long, and from whom.
///
/// None of them is favoured for long: the one after the last that had something is asked first, which
/// `turn` remembers from call to call. Cancelling loses nothing.
///
/// # Errors
/// What a socket says, as with [`UdpSocket::recv_from`]; the others are good as before. Never returns
/// when there are no sockets.
pub async fn receive(
    sockets: &[UdpSocket],
    turn: &mut usize,
    buffer: &mut [u8],
) -> io::Result<(usize, usize, SocketAddr)> {
    poll_fn(|context| {
        let mut buffer = ReadBuf::new(buffer);
        for step in 0..sockets.len() {
            let index = (*turn + step) % sockets.len();
            if let Poll::Ready(result) = sockets[index].poll_recv_from(context, &mut buffer) {
                *turn = index + 1;
                return Poll::Ready(result.map(|from| (index, buffer.filled().len(), from)));
            }
        }
        Poll::Pending
    })
    .await
}

/// Where to send what is meant for a group: for IPv6 with the interface as its scope.
pub fn destination(group: IpAddr, port: u16, interface: &Interface) -> SocketAddr {
    match group {
        IpAddr::V4(group) => (group, port).into(),
        IpAddr::V6(group) => SocketAddrV6::new(group, port, 0, interface.index()).into(),
    }
}

/// The address that this host sends from to `group` by `interface`; `None` while it has none there that
/// means anything to others, which a link-local IPv6 address does not.
pub fn source_address(group: IpAddr, interface: &Interface) -> Option<IpAddr> {
    // Connecting a UDP socket sends nothing, but chooses the source address.
    const ANY_PORT: u16 = 9;
    let socket = socket(group).ok()?;
    send_by(&socket, group, interface).ok()?;
    socket
        .connect(&destination(group, ANY_PORT, interface).into())
        .ok()?;
    let address = socket.local_addr().ok()?.as_socket()?.ip();
    let is_link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    (!address.is_unspecified() && !is_link_local).then_some(address)
}

fn try_listen(group: IpAddr, port: u16, interface: &Interface) -> io::Result<UdpSocket> {
    let socket = socket(group)?;
    socket.set_reuse_address(true)?;
    match group {
        IpAddr::V4(group) => {
            socket.set_multicast_all_v4(false)?;
            let index = InterfaceIndexOrAddress::Index(interface.index());
            socket.join_multicast_v4_n(&group, &index)?;
        }
        IpAddr::V6(group) => {
            // IPv6 asks whether the socket has joined the group, but not where (inet6_mc_check).
            socket.bind_device(Some(interface.name().as_bytes()))?;
            socket.set_multicast_all_v6(false)?;
            socket.join_multicast_v6(&group, interface.index())?;
        }
    }
    bind(&socket, destination(group, port, interface).into())
}

fn try_speak(local: IpAddr, port: u16, interface: &Interface) -> io::Result<UdpSocket> {
    let socket = socket(local)?;
    socket.set_reuse_address(true)?;
    send_by(&socket, local, interface)?;
    match local {
        IpAddr::V4(_) => {
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_ttl_v4(HOPS)?;
            socket.set_multicast_loop_v4(true)?;
        }
        IpAddr::V6(_) => {
            socket.set_multicast_all_v6(false)?;
            socket.set_multicast_hops_v6(HOPS)?;
            socket.set_multicast_loop_v6(true)?;
        }
    }
    // Only a link-local address has, and needs, a scope.
    let address = match local {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, port, 0, interface.index()).into()
        }
        _ => SocketAddr::new(local, port),
    };
    bind(&socket, address.into())
}

fn socket(family: IpAddr) -> io::Result<Socket> {
    let domain = if family.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if family.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn send_by(socket: &Socket, family: IpAddr, interface: &Interface) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => {
            let any = Ipv4Addr::UNSPECIFIED;
            Ok(set_ip_multicast_if_with_ifindex(
                socket,
                &any,
                &any,
                interface.index(),
            )?)
        }
        IpAddr::V6(_) => socket.set_multicast_if_v6(interface.index()),
    }
}

fn bind(socket: &Socket, address: SockAddr) -> io::Result<UdpSocket> {
    socket.bind(&address)?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket.try_clone()?))
}

/// The unspecified address of the group's family: a speaker for it that is not particular.
pub fn any_address(group: IpAddr) -> IpAddr {
    match group {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(5);

    /// A group of this test's own: other tests run at the same time.
    fn group(is_v6: bool, test: u8) -> IpAddr {
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        if is_v6 {
            IpAddr::from([
                0xff05,
                0,
                0,
                0,
                0,
                0x706d,
                u16::from(test),
                u16::from_be_bytes([high, low]),
            ])
        } else {
            IpAddr::from([239, 255, high, low ^ test])
        }
    }

    fn lo() -> Interface {
        Interface::find("lo").expect("a loopback")
    }

    async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut bytes = [0; 100];
        let received = timeout(SOON, socket.recv_from(&mut bytes))
            .await
            .expect("in time");
        let (len, from) = received.expect("a datagram");
        (bytes[..len].to_vec(), from)
    }

    async fn a_group_is_heard_by_all(is_v6: bool, interface: &Interface) {
        let (group, other) = (group(is_v6, 1), group(is_v6, 2));
        let speaker = speak(any_address(group), 0, interface).expect("a speaker");
        let port = 20_000 + std::process::id() as u16 % 20_000;
        let first = listen(group, port, interface).expect("a listener");
        let second = listen(group, port, interface).expect("another on the same port");
        let stranger = listen(other, port, interface).expect("one of another group");
        let elsewhere = Interface::find("pm1").ok();
        let elsewhere = elsewhere.map(|it| listen(other, port, &it).expect("one elsewhere"));
        let to = destination(group, port, interface);
        speaker.send_to(b"all", to).await.expect("sent");
        speaker
            .send_to(b"others", destination(other, port, interface))
            .await
            .expect("sent");
        assert_eq!(receive(&first).await.0, b"all");
        assert_eq!(receive(&second).await.0, b"all");
        // What it gets first is its own group's: it got nothing of the other's.
        assert_eq!(receive(&stranger).await.0, b"others");
        if let Some(elsewhere) = elsewhere {
            let mut bytes = [0; 10];
            let nothing = elsewhere
                .try_recv(&mut bytes)
                .expect_err("joined where nothing comes");
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[tokio::test]
    async fn a_group_is_heard_by_all_on_the_loopback() {
        a_group_is_heard_by_all(false, &lo()).await;
    }

    /// Says to the inner run of [`real_interfaces_of_both_families`] that it is one.
    const INSIDE: &str = "POINTSMAN_TEST_INSIDE";

    /// In a network namespace of its own, because the loopback has no IPv6 multicast: runs itself
    /// there.
    #[tokio::test]
    async fn real_interfaces_of_both_families() {
        if std::env::var_os(INSIDE).is_none() {
            let test = "multicast::tests::real_interfaces_of_both_families";
            let run = std::process::Command::new("unshare")
                .args(["--net", "--map-root-user", "--"])
                .arg(std::env::current_exe().expect("this test"))
                .args(["--exact", test, "--nocapture"])
                .env(INSIDE, "1")
                .output()
                .expect("unshare of util-linux");
            let told = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success() && told.contains("1 passed"), "{told}");
            return;
        }
        let setup = "ip link add pm0 type dummy || ip link add pm0 type veth peer name pm9
            ip link add pm1 type veth peer name pm2
            for port in pm0 pm1 pm2 pm9; do ip link set $port up; done
            ip address add 192.0.2.7/24 dev pm0
            ip address add fd00::7/64 dev pm0 nodad";
        let run = std::process::Command::new("sh")
            .args(["-c", setup])
            .output()
            .expect("sh");
        let pm0 = Interface::find("pm0").unwrap_or_else(|error| panic!("{error}: {run:?}"));
        for (is_v6, address) in [(false, "192.0.2.7"), (true, "fd00::7")] {
            a_group_is_heard_by_all(is_v6, &pm0).await;
            let source = source_address(group(is_v6, 4), &pm0);
            assert_eq!(source, Some(address.parse().expect("an address")));
        }
        let pm1 = Interface::find("pm1").expect("set up");
        assert_eq!(
            source_address(group(false, 4), &pm1),
            Some([192, 0, 2, 7].into())
        );
    }

    #[tokio::test]
    async fn a_speaker_hears_what_is_meant_for_it_alone() {
        let group = group(false, 3);
        let [one, two] =
            [[127, 0, 0, 11], [127, 0, 0, 12]].map(|ip| speak(ip.into(), 0, &lo()).expect("one"));
        let port = one.local_addr().expect("bound").port();
        let other = speak([127, 0, 0, 13].into(), port, &lo()).expect("the same port");
        let listener = listen(group, port, &lo()).expect("a listener");
        two.send_to(b"group", destination(group, port, &lo()))
            .await
            .expect("sent");
        two.send_to(b"one", one.local_addr().expect("bound"))
            .await
            .expect("sent");
        two.send_to(b"other", other.local_addr().expect("bound"))
            .await
            .expect("sent");
        let (bytes, from) = receive(&one).await;
        assert_eq!(
            (bytes, from),
            (b"one".to_vec(), two.local_addr().expect("bound"))
        );
        assert_eq!(receive(&other).await.0, b"other");
        assert_eq!(receive(&listener).await.0, b"group");
    }

    #[tokio::test]
    async fn all_sockets_have_their_turn() {
        let sockets = [1, 2, 3].map(|i| speak([127, 0, 0, 20 + i].into(), 0, &lo()).expect("one"));
        let sender = speak([127, 0, 0, 20].into(), 0, &lo()).expect("another");
        for socket in &sockets {
            for bytes in [b"first" as &[u8], b"last"] {
                let to = socket.local_addr().expect("bound");
                sender.send_to(bytes, to).await.expect("sent");
            }
        }
        let (mut turn, mut buffer, mut order) = (0, [0; 100], Vec::new());
        for _ in 0..6 {
            let received = timeout(SOON, super::receive(&sockets, &mut turn, &mut buffer)).await;
            let (index, len, from) = received.expect("in time").expect("a datagram");
            assert_eq!(from, sender.local_addr().expect("bound"));
            order.push((index, len));
        }
        assert_eq!(order, [(0, 5), (1, 5), (2, 5), (0, 4), (1, 4), (2, 4)]);
    }

    #[tokio::test]
    async fn what_is_no_group_or_not_ours_is_refused() {
        let error = listen([10, 0, 0, 1].into(), 7700, &lo()).expect_err("no group");
        assert!(matches!(error, MulticastError::NotAGroup(_)));
        let error = speak([192, 0, 2, 1].into(), 0, &lo()).expect_err("not our address");
        assert!(
            error.to_string().contains("192.0.2.1:0 on interface lo"),
            "{error}"
        );
    }
}
