//! The sockets: one on each VIP for what comes in, one for frames that go out.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::system::{self, Received, SocketOption};

/// Bytes that a VIP's queue may hold, the kernel's own of each datagram included. Chosen: some
/// thousand datagrams, a tenth of a second's work for one core.
const QUEUE_LEN: libc::c_int = 4 << 20;

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The VIP's.
    #[error("a socket on VIP {vip}, for what the program defers{}", hint(source))]
    Vip {
        /// The VIP.
        vip: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The one for frames.
    #[error("a packet socket, to send frames to nodes (this takes root, or CAP_NET_RAW)")]
    Packet(#[source] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (something else on this machine listens there)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 take root, or CAP_NET_BIND_SERVICE)",
        _ => "",
    }
}

/// The socket on a VIP.
#[derive(Debug)]
pub(super) struct VipSocket {
    vip: SocketAddr,
    socket: UdpSocket,
    /// What the socket last said that its full queue has lost.
    overflow: u32,
}

impl VipSocket {
    /// Opens it; the VIP need not be an address of this machine yet. Needs a tokio runtime around it.
    pub(super) fn open(vip: SocketAddr) -> Result<Self, OpenError> {
        let open = || {
            let socket = Socket::new(Domain::for_address(vip), Type::DGRAM.nonblocking(), None)?;
            if vip.is_ipv6() {
                socket.set_only_v6(true)?;
                SocketOption::FREE_BIND_V6.set(&socket, 1)?;
                SocketOption::HOP_LIMIT_V6.set(&socket, 1)?;
                SocketOption::CLASS_V6.set(&socket, 1)?;
            } else {
                SocketOption::FREE_BIND_V4.set(&socket, 1)?;
                SocketOption::HOP_LIMIT_V4.set(&socket, 1)?;
                SocketOption::CLASS_V4.set(&socket, 1)?;
            }
            SocketOption::OVERFLOW.set(&socket, 1)?;
            // Less will do where more is not allowed.
            if SocketOption::QUEUE_FORCED.set(&socket, QUEUE_LEN).is_err() {
                SocketOption::QUEUE.set(&socket, QUEUE_LEN)?;
            }
            socket.bind(&vip.into())?;
            Ok(Self {
                vip,
                socket: UdpSocket::from_std(socket.into())?,
                overflow: 0,
            })
        };
        open().map_err(|source| OpenError::Vip { vip, source })
    }

    pub(super) fn vip(&self) -> SocketAddr {
        self.vip
    }

    /// Reads one datagram if there is one. The waker is called when there may be another.
    pub(super) fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Received>> {
        loop {
            ready!(self.socket.poll_recv_ready(context))?;
            let receive = || system::receive(&self.socket, buffer);
            match self.socket.try_io(Interest::READABLE, receive) {
                // Not ready any more: the next round leaves the waker.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// How many datagrams the queue has lost since this was last asked.
    pub(super) fn newly_lost(&mut self, received: &Received) -> u64 {
        let lost = received.overflow.wrapping_sub(self.overflow);
        self.overflow = received.overflow;
        lost.into()
    }
}

/// The socket that frames go out of.
#[derive(Debug)]
pub(crate) struct FrameSocket(Socket);

impl FrameSocket {
    /// Opens it. It receives nothing: no protocol is asked for.
    pub(crate) fn open() -> Result<Self, OpenError> {
        Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)
            .map(Self)
            .map_err(OpenError::Packet)
    }

    pub(crate) fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        system::send_frame(&self.0, ifindex, frame)
    }

    pub(super) fn mtu(&self, ifindex: u32) -> io::Result<u32> {
        system::mtu(&self.0, ifindex)
    }
}
