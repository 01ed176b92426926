//! Links: encrypted TCP connections between controllers and nodes, for what may not be lost or read.
//!
//! The status plane's datagrams say who lives; what controllers and nodes tell each other of calls goes
//! over links, because calls are personal data and come by the megabyte. Both sides listen on the
//! status port's number in TCP; controllers connect.
//!
//! ```text
//! initiator → responder   hello    63   0 "PML1" | 4 version=1 u8 | 5 key id u8 | 6 reserved u16
//!                                       8 cluster u32 | 12 Noise message 1: e, {identity}
//! responder → initiator   answer   51   Noise message 2: e, {identity}
//! initiator → responder   proof    16   an empty message of the link: {}
//! both, from then on      message       length of what follows u16 | {at most 60,000 bytes}
//! identity                 3            0 kind u8 (0 controller, 1 node) | 1 id u16
//! ```
//! Numbers are in network order; `{…}` is encrypted and 16 bytes longer for it. The handshake is
//! `Noise_NNpsk0_25519_ChaChaPoly_SHA256`, with the clear first 12 bytes as its prologue and, as the
//! pre-shared key, what HKDF-SHA256 (RFC 5869) makes of a beacon key with the label `pointsman link 1`
//! and no salt. After every 65,536th message of a direction its cipher goes on with another key
//! (Noise §4.2, `Rekey`).
//!
//! What that gives:
//! - **Members only.** Both sides prove that they have the beacon key, before either believes a byte.
//!   A hello can be played back, but not the proof, which needs the ephemeral key that was made for it:
//!   until the proof has come, the responder hands out no link.
//! - **Secrecy, also later.** Every link has keys of its own, made with ephemeral keys that are
//!   forgotten: who records a link and gets hold of the beacon key next year cannot read it.
//! - **Whole and in order.** A bit that was changed, a message left out, repeated or moved ends the
//!   link ([`LinkError::Tampered`]).
//!
//! What it does not give:
//! - **One member can pose as another**, since all have the same key. That is why the source address
//!   is checked against the [`Roster`], before a byte is answered and again when the identity is known:
//!   to pose as another a member must have its address, too.
//! - **An end that is nobody's invention**: who can put segments into the TCP connection can end it.
//!   What must be known to be complete says so itself.
//! - **Secrecy of lengths and times.**
//!
//! Keys are those of the key file, so links change them as beacons do: new links go under the first
//! beacon key; a link lives for as long as its key is in the ring, and then ends with
//! [`LinkError::KeyRemoved`].
//!
//! Nothing here waits for the other side for ever, and nothing grows without bound: see [`Limits`].
//! A member that leaves the roster keeps the links that it has: whoever holds them ends them.

mod error;
mod handshake;
mod listener;
mod roster;
mod stream;
#[cfg(test)]
mod tests;

pub use error::{LinkCounts, LinkError};
pub use listener::{ListenError, Listener};
pub use roster::{Identity, Roster};
pub use stream::{Link, Receiver, Sender};

use handshake::Agreed;
use lb_proto::keys::KeyRing;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Bytes of a message, at most.
pub const MAX_MESSAGE: usize = 60_000;

/// What a link may take of time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For connecting and the handshake, together.
    pub handshake: Duration,
    /// How long bytes may wait without one of them getting on, in either direction: those that are to
    /// be sent, and the rest of a message that has begun to come.
    pub progress: Duration,
    /// How long the peer may say nothing. `None`: for ever, as where a link is used now and then.
    pub idle: Option<Duration>,
    /// Bytes that wait to be sent. One message more, and the link ends with [`LinkError::Full`]: a
    /// peer that does not read costs its own link, not its sender's memory or time.
    pub queue: usize,
    /// Handshakes under way at a time with all who connect.
    pub handshakes: usize,
    /// Handshakes under way with one address, so that none can keep all others out.
    pub handshakes_of_one: usize,
}

impl Default for Limits {
    /// Chosen, because: a handshake in one site takes milliseconds, and a TCP retransmission of its
    /// first segment a second; the largest burst is the keys of a node's calls, which comes in pages
    /// that wait for room ([`Sender::room`]).
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(3),
            progress: Duration::from_secs(5),
            idle: None,
            queue: 4 << 20,
            handshakes: 64,
            handshakes_of_one: 4,
        }
    }
}

/// One member's end of all its links: who it is, its keys and limits, and what became of the links.
///
/// Clones are the same endpoint.
#[derive(Clone)]
pub struct Endpoint {
    cluster: u32,
    identity: Identity,
    keys: watch::Receiver<KeyRing>,
    limits: Limits,
    counts: Arc<LinkCounts>,
}

impl Endpoint {
    /// The endpoint of a member. Links follow what becomes of the keys; when nobody can change them
    /// any more, they stay as they are.
    pub fn new(
        cluster: u32,
        identity: Identity,
        keys: watch::Receiver<KeyRing>,
        limits: Limits,
    ) -> Self {
        Self {
            cluster,
            identity,
            keys,
            limits,
            counts: Arc::default(),
        }
    }

    /// What became of this endpoint's links and of attempts at them.
    pub fn counts(&self) -> &LinkCounts {
        &self.counts
    }

    /// Connects to a member, from an own address if one is given: the one that the other side expects.
    ///
    /// Takes at most [`Limits::handshake`]. Cancelling it closes the connection.
    ///
    /// # Errors
    /// [`LinkError`], counted: nobody answers, or who does is no such member of this cluster.
    pub async fn connect(
        &self,
        peer: Identity,
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> Result<Link, LinkError> {
        let connecting = timeout(self.limits.handshake, self.try_connect(peer, to, from));
        let link = connecting.await.unwrap_or(Err(LinkError::HandshakeTimeout));
        link.inspect_err(|error| self.counts.note(error))
    }

    /// Opens the port on these addresses for the members of the roster, which may change later.
    ///
    /// # Errors
    /// [`ListenError`], which names the address that cannot be had.
    pub fn listen(
        &self,
        addresses: &[SocketAddr],
        roster: watch::Receiver<Roster>,
    ) -> Result<Listener, ListenError> {
        Listener::bind(self.clone(), addresses, roster)
    }

    async fn try_connect(
        &self,
        peer: Identity,
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> Result<Link, LinkError> {
        let failed = |error: std::io::Error| LinkError::Connect { kind: error.kind() };
        let socket = if to.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }
        .map_err(failed)?;
        if let Some(from) = from {
            socket.bind((from, 0).into()).map_err(failed)?;
        }
        let mut stream = socket.connect(to).await.map_err(failed)?;
        self.prepare(&stream)?;
        let key = self.keys.borrow().sending();
        let agreed = handshake::initiate(&mut stream, self, key, peer).await?;
        Ok(self.link(stream, to, agreed))
    }

    /// Small messages go at once. A host that is gone is noticed also where nothing waits here, but
    /// all in the system, or nothing at all; later than one that does not read, so that each of the
    /// two has its own name.
    fn prepare(&self, stream: &TcpStream) -> Result<(), LinkError> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        let patience = self.limits.progress * 2;
        socket.set_tcp_user_timeout(Some(patience))?;
        // The system counts in seconds. The time-out above says how many probes there are.
        let probes = patience.max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(probes);
        socket.set_tcp_keepalive(&keepalive.with_interval(Duration::from_secs(1)))?;
        Ok(())
    }

    fn link(&self, stream: TcpStream, remote: SocketAddr, agreed: Agreed) -> Link {
        stream::open(self, stream, remote, agreed)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("cluster", &self.cluster)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
