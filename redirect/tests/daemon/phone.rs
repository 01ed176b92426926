//! Both ends of calls: a switch that calls, and a SIP server that is called.

use crate::fixture::PATIENCE;
use bytes::Bytes;
use lb_sip::build::ResponseBuilder;
use lb_sip::{Message, Method, Name};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A SIP server that answers: OPTIONS and BYE with 200, INVITE with 180 and 200. For `sip:slow@…` it
/// only rings, until CANCEL.
pub(crate) struct Callee {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    arrived: Receiver<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Callee {
    pub(crate) fn start(ip: IpAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a free port");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("a socket");
        let address = socket.local_addr().expect("bound");
        let stop = Arc::new(AtomicBool::new(false));
        let (told, (sender, arrived)) = (stop.clone(), channel());
        let thread = std::thread::spawn(move || serve(&socket, &told, &sender));
        Self {
            address,
            stop,
            arrived,
            thread: Some(thread),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request of a method that arrived.
    pub(crate) fn next(&self, method: Method) -> Message {
        loop {
            let message = self.arrived.recv_timeout(PATIENCE);
            let message = message.unwrap_or_else(|_| panic!("no {method:?} in time"));
            if message.method() == Some(method) {
                return message;
            }
        }
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool, arrived: &Sender<Message>) {
    let mut bytes = [0; 4000];
    let mut ringing = None;
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut bytes) else {
            continue;
        };
        let message = Message::from_datagram(Bytes::copy_from_slice(&bytes[..len])).expect("SIP");
        if message.is_request() {
            let answer = |request: &Message, status: u16| {
                let contact = socket.local_addr().expect("bound");
                let bytes = ResponseBuilder::new(request, status)
                    .to_tag("callee")
                    .header(Name::Contact, format!("<sip:callee@{contact}>"))
                    .finish();
                let _ = socket.send_to(&bytes.expect("an answer"), from);
            };
            let is_slow = message
                .request_uri()
                .is_some_and(|uri| uri.starts_with(b"sip:slow@"));
            match message.method() {
                Some(Method::Ack) => {}
                Some(Method::Invite) if message.to().expect("To").tag().is_none() => {
                    answer(&message, 180);
                    if is_slow {
                        ringing = Some(message.clone());
                    } else {
                        answer(&message, 200);
                    }
                }
                Some(Method::Cancel) => {
                    answer(&message, 200);
                    if let Some(invite) = ringing.take() {
                        answer(&invite, 487);
                    }
                }
                _ => answer(&message, 200),
            }
        }
        // The test may have seen enough.
        let _ = arrived.send(message);
    }
}

/// A switch at a UDP port of its own.
pub(crate) struct Phone {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Phone {
    pub(crate) fn open(ip: IpAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a free port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let address = socket.local_addr().expect("bound");
        Self { socket, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request of ours; see [`request`].
    pub(crate) fn send(&self, to: SocketAddr, text: &str) {
        self.socket
            .send_to(text.as_bytes(), to)
            .expect("the loopback");
    }

    /// What comes next, and who it is from.
    pub(crate) fn next(&self) -> (Message, SocketAddr) {
        let mut bytes = [0; 4000];
        let (len, from) = self.socket.recv_from(&mut bytes).expect("in time");
        let bytes = Bytes::copy_from_slice(&bytes[..len]);
        (Message::from_datagram(bytes).expect("SIP"), from)
    }

    /// The next response that is final, which `from` is to have sent.
    pub(crate) fn final_from(&self, from: SocketAddr) -> Message {
        loop {
            let (message, sender) = self.next();
            assert_eq!(sender, from, "{:?}", message.status());
            if message.status().is_some_and(|status| status >= 200) {
                return message;
            }
        }
    }

    /// Answers a request with 200.
    pub(crate) fn accept(&self, request: &Message, from: SocketAddr) {
        let bytes = ResponseBuilder::new(request, 200).finish();
        self.socket
            .send_to(&bytes.expect("an answer"), from)
            .expect("the loopback");
    }
}

/// A request: `cseq` counts transactions, so INVITE, CANCEL and the ACK of a refusal have the same, and
/// the ACK of a 200 has another `branch`.
pub(crate) fn request(
    method: &str,
    uri: &str,
    by: (&str, SocketAddr),
    call: &str,
    (cseq, branch): (u32, &str),
    to_tag: &str,
) -> String {
    let (transport, by) = by;
    let tag = if to_tag.is_empty() {
        String::new()
    } else {
        format!(";tag={to_tag}")
    };
    format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {by};branch=z9hG4bK{call}{branch};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=caller\r\nTo: <sip:bob@example.com>{tag}\r\n\
         Call-ID: {call}\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:alice@{by};transport={transport}>\r\nContent-Length: 0\r\n\r\n"
    )
}
