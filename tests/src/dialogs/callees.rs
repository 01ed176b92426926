//! SIP servers, one on each node.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::text::Text;
use crate::daemons::Daemons;
use crate::lab::grow_receive_buffer;

/// Calls whose Call-ID begins like this are not answered: they ring.
pub(super) const RINGING: &str = "ring";
/// How soon a server notices that it is to end.
const PATIENCE: Duration = Duration::from_millis(50);

/// What became of a call, as its SIP server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It rings.
    Rings,
    /// It was answered, and goes on.
    Up,
    /// A BYE has ended it.
    Ended,
    /// A CANCEL has ended it.
    Cancelled,
}

type Book = Arc<Mutex<HashMap<String, (Fate, String)>>>;

/// The SIP servers of all nodes of a lab.
#[derive(Debug)]
pub struct Callees {
    stop: Arc<AtomicBool>,
    /// By node, less one.
    books: Vec<Book>,
    threads: Vec<JoinHandle<()>>,
}

impl Callees {
    /// Starts one on each node, where the redirect server looks for it.
    ///
    /// # Errors
    /// Another server is there.
    pub fn start(daemons: &Daemons<'_>) -> Result<Self> {
        let lab = daemons.lab();
        let mut all = Self {
            stop: Arc::new(AtomicBool::new(false)),
            books: Vec::new(),
            threads: Vec::new(),
        };
        for node in lab.node_ids() {
            let own = daemons.sip_server(node);
            let namespace = &lab.node(node).namespace;
            let socket = namespace.inside(|| UdpSocket::bind(own))?;
            let socket = socket.with_context(|| format!("node {node} cannot listen at {own}"))?;
            grow_receive_buffer(&socket);
            socket.set_read_timeout(Some(PATIENCE))?;
            let book = Book::default();
            let (stop, kept) = (all.stop.clone(), book.clone());
            let server = Server { node, own, socket };
            all.threads
                .push(thread::spawn(move || server.serve(&stop, &kept)));
            all.books.push(book);
        }
        Ok(all)
    }

    /// How many calls of a node have come to this.
    pub fn count(&self, node: u16, fate: Fate) -> usize {
        let book = self.books[usize::from(node) - 1].lock();
        let book = book.unwrap_or_else(PoisonError::into_inner);
        book.values().filter(|(own, _)| *own == fate).count()
    }

    /// The same, of all nodes.
    pub fn count_all(&self, fate: Fate) -> usize {
        (1..)
            .zip(&self.books)
            .map(|(node, _)| self.count(node, fate))
            .sum()
    }

    /// What became of a call at a node, if it came there.
    pub fn fate(&self, node: u16, call_id: &str) -> Option<Fate> {
        let book = self.books[usize::from(node) - 1].lock();
        let book = book.unwrap_or_else(PoisonError::into_inner);
        book.get(call_id).map(|(fate, _)| *fate)
    }
}

impl Drop for Callees {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Server {
    node: u16,
    own: SocketAddr,
    socket: UdpSocket,
}

impl Server {
    fn serve(&self, stop: &AtomicBool, book: &Book) {
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Acquire) {
            let (len, from) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                // News of a datagram sent earlier: its receiver is gone.
                Err(_) => continue,
            };
            let Some(request) = Text::read(&buffer[..len]) else {
                continue;
            };
            for answer in self.answer(&request, book).into_iter().flatten() {
                let _ = self.socket.send_to(answer.as_bytes(), from);
            }
        }
    }

    fn answer(&self, request: &Text<'_>, book: &Book) -> [Option<String>; 2] {
        let (Some(method), Some(call_id)) = (request.method(), request.one("Call-ID")) else {
            return [None, None];
        };
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let known = book.get_mut(call_id);
        let in_dialog = request.to_tag().is_some();
        let status = match (method, known) {
            ("ACK", _) => return [None, None],
            ("INVITE", None) if !in_dialog => {
                let rings = call_id.starts_with(RINGING);
                let fate = if rings { Fate::Rings } else { Fate::Up };
                // What a CANCEL will have it answered with.
                let refusal = self.response("487 Request Terminated", request);
                book.insert(call_id.to_owned(), (fate, refusal));
                if rings { "180 Ringing" } else { "200 OK" }
            }
            ("INVITE", Some((Fate::Rings, _))) => "180 Ringing",
            ("INVITE", Some((Fate::Up, _))) => "200 OK",
            ("CANCEL", Some((fate, refusal))) => {
                let first = (*fate == Fate::Rings).then(|| refusal.clone());
                if first.is_some() {
                    *fate = Fate::Cancelled;
                }
                return [Some(self.response("200 OK", request)), first];
            }
            ("BYE", Some((fate @ (Fate::Up | Fate::Ended), _))) => {
                *fate = Fate::Ended;
                "200 OK"
            }
            ("OPTIONS", Some((Fate::Up | Fate::Rings, _))) => "200 OK",
            ("OPTIONS", None) if !in_dialog => "200 OK",
            _ => "481 Call/Transaction Does Not Exist",
        };
        [Some(self.response(status, request)), None]
    }

    fn response(&self, status: &str, request: &Text<'_>) -> String {
        let (node, own) = (self.node, self.own);
        let mut text = format!("SIP/2.0 {status}\r\n");
        text += &request.echo(Some(&format!("node-{node}")));
        for route in request.all("Record-Route") {
            text += &format!("Record-Route: {route}\r\n");
        }
        text + &format!(
            "Contact: <sip:node@{own}>\r\nServer: node-{node}\r\nContent-Length: 0\r\n\r\n"
        )
    }
}
