//! The system calls that no safe library offers: messages with their IP headers' marks, frames out
//! of a port of choice, a port's MTU.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// A number that a socket option or control message goes by.
#[derive(Clone, Copy)]
pub(super) struct SocketOption {
    level: libc::c_int,
    name: libc::c_int,
}

impl SocketOption {
    /// Bind to an address that is not local yet.
    pub(super) const FREE_BIND_V4: Self = Self::new(libc::SOL_IP, libc::IP_FREEBIND);
    /// The same for IPv6.
    pub(super) const FREE_BIND_V6: Self = Self::new(libc::SOL_IPV6, libc::IPV6_FREEBIND);
    /// Tell the time to live.
    pub(super) const HOP_LIMIT_V4: Self = Self::new(libc::SOL_IP, libc::IP_RECVTTL);
    /// The same for IPv6.
    pub(super) const HOP_LIMIT_V6: Self = Self::new(libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT);
    /// Tell the type of service.
    pub(super) const CLASS_V4: Self = Self::new(libc::SOL_IP, libc::IP_RECVTOS);
    /// The same for IPv6.
    pub(super) const CLASS_V6: Self = Self::new(libc::SOL_IPV6, libc::IPV6_RECVTCLASS);
    /// Tell how many datagrams the full queue has lost so far.
    pub(super) const OVERFLOW: Self = Self::new(libc::SOL_SOCKET, libc::SO_RXQ_OVFL);
    /// Bytes that the queue may hold. The kernel's limit does not bind the privileged.
    pub(super) const QUEUE_FORCED: Self = Self::new(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE);
    /// Bytes that the queue may hold.
    pub(super) const QUEUE: Self = Self::new(libc::SOL_SOCKET, libc::SO_RCVBUF);

    const fn new(level: libc::c_int, name: libc::c_int) -> Self {
        Self { level, name }
    }

    /// Sets the option.
    pub(super) fn set(self, socket: &impl AsFd, value: libc::c_int) -> io::Result<()> {
        #[expect(unsafe_code, reason = "setsockopt(2)")]
        // SAFETY: the kernel reads one `c_int`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                self.level,
                self.name,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        check(result as isize).map(drop)
    }
}

/// What was read from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Bytes of payload.
    pub(super) len: usize,
    /// Where it came from.
    pub(super) source: SocketAddr,
    /// Time to live, or hop limit.
    pub(super) hop_limit: u8,
    /// Type of service, or traffic class.
    pub(super) traffic_class: u8,
    /// Datagrams that the full queue has lost since the socket was opened. Counts around.
    pub(super) overflow: u32,
}

/// Reads one datagram with what its headers said.
///
/// # Errors
/// What recvmsg(2) answers; `InvalidData` for a datagram that did not fit the buffer.
pub(super) fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut name = [0u8; size_of::<libc::sockaddr_storage>()];
    let mut control = [0u8; 128];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    #[expect(unsafe_code, reason = "msghdr has private padding on some platforms")]
    // SAFETY: all zeros is a message header without anything.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = name.len() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = control.len();
    #[expect(unsafe_code, reason = "recvmsg(2)")]
    // SAFETY: the header's pointers are to live buffers of the lengths given beside them.
    let result = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut header,
            libc::MSG_DONTWAIT,
        )
    };
    let len = check(result)?;
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let source = address(&name).ok_or(io::ErrorKind::InvalidData)?;
    // Without the option, which every kernel of this century has: as if it had just been sent.
    let mut received = Received {
        len,
        source,
        hop_limit: 64,
        traffic_class: 0,
        overflow: 0,
    };
    let control = control.get(..header.msg_controllen).unwrap_or_default();
    for message in Messages(control) {
        received.take(message);
    }
    Ok(received)
}

impl Received {
    fn take(&mut self, Message { level, kind, data }: Message<'_>) {
        let word = word(data, 0);
        let byte = data.first().copied();
        match (level, kind) {
            (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                self.hop_limit = word.map_or(self.hop_limit, |limit| limit as u8);
            }
            // A byte here, a word there.
            (libc::SOL_IP, libc::IP_TOS) => self.traffic_class = byte.unwrap_or(0),
            (libc::SOL_IPV6, libc::IPV6_TCLASS) => self.traffic_class = word.unwrap_or(0) as u8,
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.overflow = word.unwrap_or(0),
            _ => {}
        }
    }
}

/// A control message (cmsg(3)).
struct Message<'a> {
    level: libc::c_int,
    kind: libc::c_int,
    data: &'a [u8],
}

struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        const HEADER: usize = size_of::<libc::cmsghdr>();
        const ALIGN: usize = size_of::<usize>();
        let all = std::mem::take(&mut self.0);
        let (len, rest) = all.split_first_chunk()?;
        let len = usize::from_ne_bytes(*len);
        let message = Message {
            level: word(rest, 0)? as libc::c_int,
            kind: word(rest, 4)? as libc::c_int,
            data: all.get(HEADER..len)?,
        };
        self.0 = all.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(message)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Reads a `sockaddr`.
fn address(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    match libc::c_int::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let octets: [u8; 4] = *rest.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(octets), port).into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = *rest.get(4..)?.first_chunk()?;
            let scope = word(rest, 20)?;
            Some(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Sends a frame, link header included, out of a port.
///
/// # Errors
/// What sendto(2) answers; `WouldBlock` when the port's queue is full.
pub(super) fn send_frame(socket: &impl AsFd, ifindex: u32, frame: &[u8]) -> io::Result<()> {
    let kind = frame
        .get(12..14)
        .and_then(|kind| kind.try_into().ok())
        .unwrap_or_default();
    let mut link = [0; 8];
    for (to, from) in link.iter_mut().zip(frame).take(6) {
        *to = *from;
    }
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: u16::from_ne_bytes(kind),
        sll_ifindex: ifindex as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: link,
    };
    #[expect(unsafe_code, reason = "sendto(2), to a link address")]
    // SAFETY: frame and address outlive the call, and their lengths are given.
    let result = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

/// `struct ifreq`, as far as it is used here: a name, then a number.
#[repr(C)]
#[derive(Default)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    number: libc::c_int,
    rest: [u8; 20],
}

/// The MTU of an interface of the socket's network namespace, in bytes.
///
/// # Errors
/// What ioctl(2) answers: mostly that there is no such interface any more.
pub(super) fn mtu(socket: &impl AsFd, ifindex: u32) -> io::Result<u32> {
    let mut request = InterfaceRequest {
        number: ifindex as libc::c_int,
        ..InterfaceRequest::default()
    };
    for command in [libc::SIOCGIFNAME, libc::SIOCGIFMTU] {
        #[expect(unsafe_code, reason = "ioctl(2)")]
        // SAFETY: the request has the layout and the length of `struct ifreq`, of which both
        // commands read and write at most all.
        let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), command, &raw mut request) };
        check(result as isize)?;
    }
    Ok(u32::try_from(request.number).unwrap_or(0))
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

    /// Waits until the socket is readable, but not forever.
    fn wait(socket: &UdpSocket) {
        let mut poll = libc::pollfd {
            fd: socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        #[expect(unsafe_code, reason = "poll(2)")]
        // SAFETY: one descriptor to poll, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 5_000) };
        assert_eq!(ready, 1, "nothing came");
    }

    #[test]
    fn a_datagram_is_read_with_its_marks() {
        for (address, options) in [
            (
                "127.0.0.1:0",
                [SocketOption::HOP_LIMIT_V4, SocketOption::CLASS_V4],
            ),
            (
                "[::1]:0",
                [SocketOption::HOP_LIMIT_V6, SocketOption::CLASS_V6],
            ),
        ] {
            let to = UdpSocket::bind(address).unwrap();
            let from = UdpSocket::bind(address).unwrap();
            for option in options {
                option.set(&to, 1).unwrap();
            }
            SocketOption::OVERFLOW.set(&to, 1).unwrap();
            let (limit, class) = if from.local_addr().unwrap().is_ipv4() {
                (
                    SocketOption::new(libc::SOL_IP, libc::IP_TTL),
                    SocketOption::new(libc::SOL_IP, libc::IP_TOS),
                )
            } else {
                (
                    SocketOption::new(libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS),
                    SocketOption::new(libc::SOL_IPV6, libc::IPV6_TCLASS),
                )
            };
            limit.set(&from, 9).unwrap();
            class.set(&from, 0x60).unwrap();
            from.send_to(b"payload", to.local_addr().unwrap()).unwrap();
            wait(&to);
            let mut buffer = [0; 100];
            let received = receive(&to, &mut buffer).unwrap();
            let source = from.local_addr().unwrap();
            let expected = Received {
                len: 7,
                source,
                hop_limit: 9,
                traffic_class: 0x60,
                overflow: 0,
            };
            assert_eq!(received, expected);
            assert_eq!(&buffer[..7], b"payload");
            let empty = receive(&to, &mut buffer).unwrap_err();
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn losses_of_a_full_queue_are_told() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        SocketOption::OVERFLOW.set(&to, 1).unwrap();
        SocketOption::QUEUE.set(&to, 1).unwrap();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            from.send_to(&[0; 500], to.local_addr().unwrap()).unwrap();
        }
        let mut buffer = [0; 1_000];
        let mut read = 0;
        while receive(&to, &mut buffer).is_ok() {
            read += 1;
        }
        from.send_to(b"x", to.local_addr().unwrap()).unwrap();
        wait(&to);
        let received = receive(&to, &mut buffer).unwrap();
        assert_eq!(received.overflow, 100 - read);
        assert!(received.overflow > 0);
    }

    #[test]
    fn the_mtu_of_an_interface_is_told() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(mtu(&socket, 1).unwrap() >= 1_280);
        assert!(mtu(&socket, 0x7fff_0000).is_err());
    }

    #[test]
    fn broken_control_messages_end_the_walk() {
        assert!(Messages(&[]).next().is_none());
        assert!(Messages(&[255; 40]).next().is_none());
        assert!(Messages(&[0; 40]).next().is_none());
        assert!(address(&[0; 16]).is_none());
    }
}
