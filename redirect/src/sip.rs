//! The sockets of the redirect server: they move messages between the network and the
//! [core](crate::server).
//!
//! UDP is read in batches, so that a busy node takes one turn of the daemon's loop for many messages,
//! and yet beacons never wait for more than one batch. Each TCP stream has a task of its own, which
//! ends with the stream, with the daemon, after [`FIRST_MESSAGE`] without a message, or after [`IDLE`]
//! without a byte.

use crate::clock::Clock;
use crate::server::call_state::CallsAt;
use crate::server::ways::{Hop, Way};
use crate::server::{Output, Server, World};
use crate::streams::Streams;
use anyhow::Context;
use bytes::Bytes;
use lb_proto::call::Call;
use lb_proto::status::map::AvailabilityMap;
use lb_sip::framer::StreamEvent;
use lb_sip::{Framer, Message};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Datagrams read from one socket in a turn.
const BATCH: usize = 64;
/// Longest datagram.
const MAX_DATAGRAM: usize = 65_536;
/// What the kernel is asked to keep for us: a tenth of a second of 20,000 messages of 2 kB.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Messages of all streams that wait for the daemon. A stream with one more waits, and so does its
/// peer.
const FROM_STREAMS: usize = 256;
/// Silence after which a stream is closed; a phone's keep-alives come every two minutes (RFC 5626
/// §4.4.1), and a call's switch opens another when it needs one.
const IDLE: Duration = Duration::from_secs(3600);
/// How long a stream may be open before its first whole message has come: SIP's longest wait for
/// anything (64 · T1: timer F, RFC 3261 §17.1.2.2). Who opens one has something to say.
const FIRST_MESSAGE: Duration = Duration::from_secs(32);
/// How long a write may take.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// News of a stream.
enum News {
    Message {
        stream: u32,
        peer: SocketAddr,
        message: Box<Message>,
    },
    Closed {
        stream: u32,
    },
}

/// What the core wants that is not the sockets' business.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Report(Call),
    Drained,
}

/// Sockets and core.
pub(crate) struct Sip {
    pub(crate) core: Server,
    datagrams: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
    streams: Streams,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    arrived: Option<News>,
    buffer: Vec<u8>,
    /// Empty between calls.
    outputs: Vec<Output>,
    wishes: Vec<Wish>,
    pub(crate) not_sent: u64,
}

impl Sip {
    /// Opens a socket for UDP and one for TCP at each address where the core listens.
    pub(crate) fn open(core: Server) -> anyhow::Result<Self> {
        let (mut datagrams, mut listeners) = (Vec::new(), Vec::new());
        for address in core.ways().listeners() {
            let why = || {
                format!(
                    "cannot listen at {address}; does this host have the address, on lo perhaps?"
                )
            };
            datagrams.push(open_datagram(*address).with_context(why)?);
            listeners.push(open_listener(*address).with_context(why)?);
        }
        Ok(Self {
            core,
            datagrams,
            listeners,
            streams: Streams::default(),
            news: mpsc::channel(FROM_STREAMS),
            arrived: None,
            buffer: vec![0; MAX_DATAGRAM],
            outputs: Vec::new(),
            wishes: Vec::new(),
            not_sent: 0,
        })
    }

    /// Waits until there is something to do. Cancelling loses nothing.
    pub(crate) async fn ready(&mut self) {
        let Self {
            datagrams,
            listeners,
            news: (_, news),
            arrived,
            streams,
            ..
        } = self;
        let sender = &self.news.0;
        std::future::poll_fn(|context| {
            if arrived.is_some() {
                return Poll::Ready(());
            }
            if let Poll::Ready(Some(one)) = news.poll_recv(context) {
                *arrived = Some(one);
                return Poll::Ready(());
            }
            for listener in listeners.iter() {
                while let Poll::Ready(accepted) = listener.poll_accept(context) {
                    // Out of descriptors, or a peer that is gone already: the next poll tries again.
                    let Ok((stream, peer)) = accepted else { break };
                    match streams.open(peer.ip()) {
                        Some((number, bytes)) => {
                            tokio::spawn(serve(stream, peer, number, bytes, sender.clone()));
                        }
                        None => tracing::debug!(%peer, "one stream too many"),
                    }
                }
            }
            // Each of them, so that each wakes this task.
            let mut is_any_readable = false;
            for socket in datagrams.iter() {
                is_any_readable |= socket.poll_recv_ready(context).is_ready();
            }
            if is_any_readable {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Takes in what is there, a batch of each socket at most, and lets time pass.
    pub(crate) fn turn(&mut self, clock: &Clock, map: &AvailabilityMap) {
        let world = World {
            now: clock.now(),
            wall: time_of_day(),
            map,
        };
        for number in 0..self.datagrams.len() {
            for _ in 0..BATCH {
                let received = self.datagrams[number].try_recv_from(&mut self.buffer);
                let (len, address) = match received {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // News of a datagram sent earlier: its receiver is gone.
                    Err(_) => continue,
                };
                let bytes = Bytes::copy_from_slice(self.buffer.get(..len).unwrap_or_default());
                // There are 16 at most.
                let way = Way::Datagram(number as u8);
                self.core
                    .receive_datagram(world, Hop { way, address }, bytes, &mut self.outputs);
                self.carry_out();
            }
        }
        for _ in 0..BATCH {
            let Some(news) = self.arrived.take().or_else(|| self.news.1.try_recv().ok()) else {
                break;
            };
            match news {
                News::Message {
                    stream,
                    peer,
                    message,
                } => {
                    let hop = Hop {
                        way: Way::Stream(stream),
                        address: peer,
                    };
                    self.core.receive(world, hop, &message, &mut self.outputs);
                    self.carry_out();
                }
                News::Closed { stream } => {
                    self.streams.close(stream);
                }
            }
        }
        self.pass(clock.now());
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, now: Duration) {
        if self.core.next_timeout(now).is_some_and(|at| at <= now) {
            self.core.on_timeout(now, &mut self.outputs);
            self.carry_out();
        }
    }

    /// The load balancers know of a call.
    pub(crate) fn reported(&mut self, call: Call) {
        self.core.reported(call, &mut self.outputs);
        self.carry_out();
    }

    /// Empties the node.
    pub(crate) fn drain(&mut self, now: Duration, deadline: Option<Duration>) {
        self.core.drain(now, deadline, &mut self.outputs);
        self.carry_out();
    }

    /// Lets a controller ask for the calls, or reset them.
    pub(crate) fn ask_for_calls<T>(
        &mut self,
        now: Duration,
        ask: impl FnOnce(&mut CallsAt<'_>) -> T,
    ) -> T {
        let answer = ask(&mut self.core.calls_at(now, &mut self.outputs));
        self.carry_out();
        answer
    }

    /// What the core wishes since this was asked last.
    pub(crate) fn take_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    fn carry_out(&mut self) {
        for output in self.outputs.drain(..) {
            match output {
                Output::Send { to, bytes } => {
                    let is_sent = match to.way {
                        Way::Datagram(number) => {
                            let socket = self.datagrams.get(usize::from(number));
                            socket.is_some_and(|socket| send(socket, &bytes, to.address))
                        }
                        Way::Stream(stream) => self.streams.write(stream, bytes),
                    };
                    self.not_sent += u64::from(!is_sent);
                }
                Output::Report(call) => self.wishes.push(Wish::Report(call)),
                Output::Drained => self.wishes.push(Wish::Drained),
            }
        }
    }
}

/// Sends, or drops as a network would. An error of an earlier datagram is told in place of sending
/// this one, so it is tried twice.
fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> bool {
    let mut sent = socket.try_send_to(bytes, to);
    if let Err(error) = &sent
        && error.kind() != io::ErrorKind::WouldBlock
    {
        sent = socket.try_send_to(bytes, to);
    }
    sent.is_ok()
}

fn open_datagram(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The system may give less.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn open_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// The time of day since 1970; zero with a clock before that, which makes tickets useless and harms
/// nothing else.
fn time_of_day() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// One stream, until it ends. Its last word is [`News::Closed`].
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    number: u32,
    bytes: mpsc::Receiver<Bytes>,
    news: mpsc::Sender<News>,
) {
    let conversation = converse(stream, peer, number, bytes, &news, FIRST_MESSAGE);
    if let Err(error) = conversation.await {
        tracing::debug!(%error, %peer, "a stream ended");
    }
    // Nobody is there to hear when the daemon stops.
    let _ = news.send(News::Closed { stream: number }).await;
}

async fn converse(
    mut stream: TcpStream,
    peer: SocketAddr,
    number: u32,
    mut bytes: mpsc::Receiver<Bytes>,
    news: &mpsc::Sender<News>,
    first_message: Duration,
) -> anyhow::Result<()> {
    let mut framer = Framer::new();
    let mut is_silent = true;
    let first_message = tokio::time::sleep(first_message);
    tokio::pin!(first_message);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            () = &mut first_message, if is_silent => {
                anyhow::bail!("no message came on it");
            }
            read = timeout(IDLE, stream.read(&mut buffer)) => {
                let len = read??;
                if len == 0 {
                    return Ok(());
                }
                let mut fresh = buffer.get(..len).unwrap_or_default();
                loop {
                    let taken = framer.feed(fresh);
                    fresh = fresh.get(taken..).unwrap_or_default();
                    while let Some(event) = framer.next_event()? {
                        match event {
                            StreamEvent::Message(message) => {
                                is_silent = false;
                                let message = Box::new(message);
                                news.send(News::Message { stream: number, peer, message }).await?;
                            }
                            // RFC 5626 §4.4.1.
                            StreamEvent::Ping => {
                                timeout(WRITE_PATIENCE, stream.write_all(b"\r\n")).await??;
                            }
                        }
                    }
                    if fresh.is_empty() {
                        break;
                    }
                }
            }
            message = bytes.recv() => match message {
                Some(message) => timeout(WRITE_PATIENCE, stream.write_all(&message)).await??,
                None => return Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "OPTIONS sip:a@192.0.2.1 SIP/2.0\r\n\
        Via: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:b@c>;tag=1\r\nTo: <sip:a@c>\r\n\
        Call-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

    /// A conversation in which one message may come within 50 ms, on whose other side this is sent at
    /// first; why it ended, if it did within a second, and how many messages came.
    async fn conversation(sent: &str) -> (Option<anyhow::Result<()>>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut other = TcpStream::connect(address).await.expect("it listens");
        other.write_all(sent.as_bytes()).await.expect("room");
        let (stream, peer) = listener.accept().await.expect("connected");
        let (_writer, bytes) = mpsc::channel(1);
        let (sender, mut news) = mpsc::channel(8);
        let first = Duration::from_millis(50);
        let talk = converse(stream, peer, 1, bytes, &sender, first);
        let end = timeout(Duration::from_secs(1), talk).await.ok();
        (end, std::iter::from_fn(|| news.try_recv().ok()).count())
    }

    #[test]
    fn a_stream_on_which_no_message_comes_is_closed() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        // Pings and halves of a message are none.
        for sent in ["", "\r\n\r\n", &OPTIONS[..100]] {
            let (end, messages) = runtime.block_on(conversation(sent));
            let error = end.expect("an end").expect_err("no message");
            assert_eq!(error.to_string(), "no message came on it", "{sent:?}");
            assert_eq!(messages, 0);
        }
        let (end, messages) = runtime.block_on(conversation(OPTIONS));
        assert!(end.is_none(), "it goes on");
        assert_eq!(messages, 1);
    }
}
