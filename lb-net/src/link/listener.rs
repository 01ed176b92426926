//! The side of a link that waits for the other.

use super::{Endpoint, Link, LinkError, Roster, handshake};
use socket2::{Domain, Protocol, Socket, Type};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Connections that the kernel keeps while all handshakes are taken.
const BACKLOG: i32 = 64;

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for links at {address}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    source: io::Error,
}

/// The open port, and the handshakes under way. Dropping it ends them; links that were accepted stay.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    listeners: Vec<TcpListener>,
    roster: watch::Receiver<Roster>,
    handshakes: JoinSet<Result<Link, (SocketAddr, LinkError)>>,
    /// Where those under way come from; some may have ended.
    sources: Vec<(IpAddr, AbortHandle)>,
}

impl Listener {
    pub(super) fn bind(
        endpoint: Endpoint,
        addresses: &[SocketAddr],
        roster: watch::Receiver<Roster>,
    ) -> Result<Self, ListenError> {
        let listeners = addresses.iter().map(|address| {
            open(*address).map_err(|source| ListenError {
                address: *address,
                source,
            })
        });
        Ok(Self {
            listeners: listeners.collect::<Result<_, _>>()?,
            endpoint,
            roster,
            handshakes: JoinSet::new(),
            sources: Vec::new(),
        })
    }

    /// Where it listens, in the order of the addresses that it was given.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// The next link. Who is refused is counted, and not told why.
    ///
    /// Connections are taken only while this is waited for, so wait for it always. Cancelling it
    /// loses nothing.
    pub async fn accept(&mut self) -> Link {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Ok(link)) => return link,
                    Ok(Err((from, error))) => self.refuse(from, &error),
                    Err(error) => tracing::error!(%error, "a handshake did not end as it should"),
                },
                accepted = next(&self.listeners) => match accepted {
                    Ok((stream, from)) => self.begin(stream, from),
                    Err(error) => {
                        // Out of descriptors, most likely: no use in trying again at once.
                        tracing::warn!(%error, "cannot accept a link");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    /// Begins a handshake, or closes the connection without a word.
    fn begin(&mut self, stream: TcpStream, from: SocketAddr) {
        let address = from.ip().to_canonical();
        if !self.roster.borrow().knows(address) {
            return self.refuse(from, &LinkError::UnknownSource);
        }
        self.sources
            .retain(|(_, handshake)| !handshake.is_finished());
        let of_one = self.sources.iter().filter(|(of, _)| *of == address).count();
        let limits = &self.endpoint.limits;
        if self.sources.len() >= limits.handshakes || of_one >= limits.handshakes_of_one {
            return self.refuse(from, &LinkError::Busy);
        }
        let (endpoint, roster) = (self.endpoint.clone(), self.roster.clone());
        let handshake = self.handshakes.spawn(async move {
            let answering = timeout(
                endpoint.limits.handshake,
                answer(&endpoint, stream, from, &roster),
            );
            let link = answering.await.unwrap_or(Err(LinkError::HandshakeTimeout));
            link.map_err(|error| (from, error))
        });
        self.sources.push((address, handshake));
    }

    fn refuse(&self, from: SocketAddr, error: &LinkError) {
        self.endpoint.counts.note(error);
        tracing::debug!(%from, %error, "refused a link");
    }
}

async fn answer(
    endpoint: &Endpoint,
    mut stream: TcpStream,
    from: SocketAddr,
    roster: &watch::Receiver<Roster>,
) -> Result<Link, LinkError> {
    endpoint.prepare(&stream)?;
    let may_be = |member| roster.borrow().has(member, from.ip());
    let agreed = handshake::respond(&mut stream, endpoint, may_be).await?;
    Ok(endpoint.link(stream, from, agreed))
}

/// The next connection to any of them.
async fn next(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the connections of the life before.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that both families can have the port at their unspecified addresses.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
