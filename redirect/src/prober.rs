//! Asks the SIP server how it is: the socket around the [health](crate::health) machine.

use crate::clock::Clock;
use crate::health::{Health, Last, Verdict};
use crate::options::Series;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Longest answer read; its header is what counts, and that comes first.
const MAX_ANSWER: usize = 8192;

/// Asks, or takes the SIP server for well without asking.
pub(crate) enum Prober {
    Trusting,
    Asking(Box<Asking>),
}

/// The parts of a prober that asks.
pub(crate) struct Asking {
    /// Connected, so that only the server's datagrams come in, and the news that its port is closed.
    socket: UdpSocket,
    series: Series,
    health: Health,
}

/// Why the SIP server cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a socket towards the SIP server {server}")]
pub(crate) struct ProberError {
    server: SocketAddr,
    source: io::Error,
}

impl Prober {
    /// One that asks `server` every `interval`, from now on.
    pub(crate) async fn asking(
        server: SocketAddr,
        interval: Duration,
        now: Duration,
        id: u64,
    ) -> Result<Self, ProberError> {
        let failed = |source| ProberError { server, source };
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
        socket.connect(server).await.map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let series = Series::new(server, local, id);
        let health = Health::new(interval, now);
        Ok(Self::Asking(Box::new(Asking {
            socket,
            series,
            health,
        })))
    }

    /// What is known of the SIP server.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Trusting => Verdict::Alive,
            Self::Asking(asking) => asking.health.verdict(),
        }
    }

    /// Its last answer, and the questions missed since.
    pub(crate) fn last(&self) -> (Option<Last>, u32) {
        match self {
            Self::Trusting => (None, 0),
            Self::Asking(asking) => (asking.health.last(), asking.health.misses()),
        }
    }

    /// When to call [`Prober::advance`] next, if ever.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        match self {
            Self::Trusting => None,
            Self::Asking(asking) => Some(asking.health.next_timeout()),
        }
    }

    /// Lets time pass, and asks what is to be asked.
    pub(crate) async fn advance(&mut self, now: Duration) {
        let Self::Asking(asking) = self else { return };
        let Some(number) = asking.health.poll(now) else {
            return;
        };
        let question = asking.series.question(number);
        let mut sent = asking.socket.send(question.as_bytes()).await;
        if let Err(error) = &sent
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            // News of an earlier question, told in place of sending this one.
            sent = asking.socket.send(question.as_bytes()).await;
        }
        // A question that did not get out will be missed like one without an answer.
        if let Err(error) = sent {
            tracing::debug!(%error, "cannot ask the SIP server");
        }
    }

    /// Waits for something to come from the SIP server and takes it in. Cancelling loses nothing.
    pub(crate) async fn listen(&mut self, clock: &Clock) {
        let Self::Asking(asking) = self else {
            return std::future::pending().await;
        };
        let mut bytes = [0; MAX_ANSWER];
        match asking.socket.recv(&mut bytes).await {
            Ok(len) => {
                let answer = bytes.get(..len).and_then(|bytes| asking.series.read(bytes));
                if let Some(answer) = answer {
                    asking.health.answered(clock.now(), answer);
                }
            }
            // Port, host or network unreachable: there is nobody to answer.
            Err(error) => {
                tracing::debug!(%error, "the SIP server cannot be reached");
                asking.health.refused(clock.now());
            }
        }
    }
}
