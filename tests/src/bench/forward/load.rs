//! Both ends of the calls, in one thread: the caller, and the sink that answers it.

use std::hint;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::messages::{Glance, Kind, MESSAGES_PER_CALL, Messages, Step};
use crate::lab::Host;

/// Calls at a time, each with up to three messages on their way. Enough that the subject always has
/// work, and few enough that a socket buffer of Linux's default size (212,992 bytes, of which a message
/// takes some 2,300) holds them all.
const WINDOW: u32 = 24;
/// Messages taken from a socket before the other one has its turn.
const BATCH: usize = 32;
/// Silence after which a message is lost. Nothing is sent again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Caller and sink.
pub(super) struct Load {
    caller: UdpSocket,
    sink: UdpSocket,
    addresses: [SocketAddr; 2],
    /// The number of the next call: no Call-ID comes twice.
    next: u32,
}

/// Messages that have arrived where they should.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) messages: u32,
    pub(super) took: Duration,
}

impl Load {
    /// Opens both ends on a machine, the sink at `sink`.
    pub(super) fn open(host: &Host, sink: SocketAddr) -> Result<Self> {
        let caller = SocketAddr::new(sink.ip(), 5080);
        let open = |address: SocketAddr| -> Result<UdpSocket> {
            let socket = host.namespace.inside(|| UdpSocket::bind(address))?;
            let socket = socket.with_context(|| format!("cannot bind {address}"))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Ok(Self {
            caller: open(caller)?,
            sink: open(sink)?,
            addresses: [caller, sink],
            next: 0,
        })
    }

    /// Makes calls by way of a subject, and returns when all their messages have arrived.
    pub(super) fn run(&mut self, subject: SocketAddr, calls: u32) -> Result<Passed> {
        let [caller, sink] = self.addresses;
        let messages = Messages::new(caller, subject, sink);
        let expected = calls * MESSAGES_PER_CALL;
        let end = self.next + calls;
        let (mut arrived, mut buffer, mut out) = (0, vec![0; 4096], Vec::with_capacity(4096));
        let begin = Instant::now();
        let mut last = begin;
        for _ in 0..WINDOW.min(calls) {
            messages.request(Step::Invite, self.next, &mut out);
            self.next += 1;
            send(&self.caller, &out, subject)?;
        }
        while arrived < expected {
            let before = arrived;
            for _ in 0..BATCH {
                let Some((glance, from)) = receive(&self.sink, &mut buffer)? else {
                    break;
                };
                arrived += 1;
                match glance.kind {
                    Kind::Request { is_ack: true } => {}
                    Kind::Request { is_ack: false } => {
                        if glance.cseq == 1 {
                            messages.ringing(&glance, &mut out);
                            send(&self.sink, &out, from)?;
                        }
                        messages.answer(&glance, &mut out);
                        send(&self.sink, &out, from)?;
                    }
                    Kind::Response { .. } => bail!("{subject} sent the sink a response"),
                }
            }
            for _ in 0..BATCH {
                let Some((glance, _)) = receive(&self.caller, &mut buffer)? else {
                    break;
                };
                arrived += 1;
                let (call, cseq) = (glance.call, glance.cseq);
                let steps: &[Step] = match (glance.kind, cseq) {
                    (Kind::Request { .. }, _) => bail!("{subject} sent the caller a request"),
                    (Kind::Response { is_final: false }, _) => &[],
                    (Kind::Response { is_final: true }, 1) => &[Step::Ack, Step::Reinvite],
                    (Kind::Response { is_final: true }, 2) => &[Step::AckAgain, Step::Bye],
                    (Kind::Response { is_final: true }, _) if self.next < end => {
                        messages.request(Step::Invite, self.next, &mut out);
                        self.next += 1;
                        send(&self.caller, &out, subject)?;
                        &[]
                    }
                    (Kind::Response { is_final: true }, _) => &[],
                };
                for step in steps {
                    messages.request(*step, call, &mut out);
                    send(&self.caller, &out, subject)?;
                }
            }
            if arrived > before {
                last = Instant::now();
            } else if last.elapsed() > PATIENCE {
                bail!("of {expected} messages by way of {subject} {arrived} arrived");
            } else {
                // Not given away: whoever else wants this CPU would keep it for milliseconds.
                hint::spin_loop();
            }
        }
        Ok(Passed {
            messages: arrived,
            took: begin.elapsed(),
        })
    }
}

/// The next message, if one is there.
fn receive<'b>(
    socket: &UdpSocket,
    buffer: &'b mut [u8],
) -> Result<Option<(Glance<'b>, SocketAddr)>> {
    let (len, from) = match socket.recv_from(buffer) {
        Ok(received) => received,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error).context("cannot receive"),
    };
    let bytes = &buffer[..len];
    let glance = Glance::of(bytes).with_context(|| {
        let text = String::from_utf8_lossy(bytes);
        format!("{from} sent what belongs to no call:\n{text}")
    })?;
    Ok(Some((glance, from)))
}

fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> Result<()> {
    loop {
        match socket.send_to(bytes, to) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => return Err(error).context("cannot send"),
        }
    }
}
