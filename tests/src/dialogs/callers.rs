//! The switch.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::text::{Text, address_of, bracketed};
use crate::homes::Homes;
use crate::lab::{Lab, grow_receive_buffer};

/// Time until a request without an answer is sent again (RFC 3261 §17.1.1.1), and the longest such time
/// for requests that are no INVITE.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// A request without an answer is given up after 64 × T1.
const GIVEN_UP: Duration = Duration::from_secs(32);
/// Redirections that are followed.
const MAX_REDIRECTS: u32 = 5;
/// Datagrams read at a stretch: what is due is sent in between.
const BATCH: usize = 256;
/// How long the switch waits when there is nothing to do.
const NAP: Duration = Duration::from_micros(300);

/// How a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its INVITE has no final answer.
    Calling,
    /// It was answered, and nothing is under way.
    Up,
    /// A re-INVITE has no answer.
    Changing,
    /// A BYE has no answer.
    Ending,
    /// The own BYE was answered.
    Over,
    /// The other side has ended it.
    HungUp,
    /// Its INVITE was refused.
    Refused(u16),
    /// A request had no answer, or one that says that the call is not there.
    Lost,
}

/// A call.
#[derive(Debug)]
pub struct Dialog {
    /// Its Call-ID.
    pub call_id: String,
    /// How it stands.
    pub phase: Phase,
    /// The node that answered it.
    pub node: Option<u16>,
    /// When its INVITE was sent first, and when that was answered.
    pub begun: Instant,
    /// See [`Self::begun`].
    pub answered: Option<Instant>,
    /// How often it was redirected.
    pub redirects: u32,
    /// Requests that were sent again.
    pub repeats: u32,
    /// Whether it rings, or has rung.
    pub has_rung: bool,
    /// Re-INVITEs that were answered by [`Self::node`].
    pub changes: u32,
    /// What went wrong.
    pub trouble: Option<String>,
    cseq: u32,
    /// The To field, with the callee's tag once that is known.
    to: String,
    routes: Vec<String>,
    target: String,
    request: Option<Request>,
}

/// A request without a final answer.
#[derive(Debug)]
struct Request {
    method: &'static str,
    cseq: u32,
    bytes: Vec<u8>,
    to: SocketAddr,
    due: Instant,
    interval: Duration,
    until: Instant,
}

/// A switch with its calls.
#[derive(Debug)]
pub struct Callers {
    socket: UdpSocket,
    own: SocketAddr,
    vip: SocketAddr,
    calls: Vec<Dialog>,
    by_id: HashMap<String, usize>,
    due: BTreeSet<(Instant, usize)>,
}

impl Callers {
    /// The switch's, at a port of its own.
    ///
    /// # Errors
    /// The port is taken.
    pub fn open(lab: &Lab, port: u16) -> Result<Self> {
        let vip = lab.vip_v4();
        let own = SocketAddr::new(lab.switch.address(vip.ip()), port);
        let socket = lab
            .switch
            .namespace
            .inside(|| UdpSocket::bind(own))?
            .with_context(|| format!("the switch cannot bind {own}"))?;
        grow_receive_buffer(&socket);
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            own,
            vip,
            calls: Vec::new(),
            by_id: HashMap::new(),
            due: BTreeSet::new(),
        })
    }

    /// All calls, in the order in which they were begun.
    pub fn calls(&self) -> &[Dialog] {
        &self.calls
    }

    /// Requests without a final answer.
    pub fn open_requests(&self) -> usize {
        self.due.len()
    }

    /// Calls in a phase.
    pub fn count(&self, phase: Phase) -> usize {
        self.calls.iter().filter(|call| call.phase == phase).count()
    }

    /// Calls that are not where their Call-ID is at home.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn away(&self, homes: &Homes) -> Result<usize> {
        let mut away = 0;
        for call in &self.calls {
            let home = homes.of(&call.call_id)?;
            away += usize::from(call.node.is_some_and(|node| node != home));
        }
        Ok(away)
    }

    /// Begins a call; `ring…` as Call-ID is one that is never answered. Its number.
    pub fn call(&mut self, call_id: String) -> usize {
        let number = self.calls.len();
        let (vip, now) = (self.vip, Instant::now());
        self.by_id.insert(call_id.clone(), number);
        self.calls.push(Dialog {
            call_id,
            phase: Phase::Calling,
            node: None,
            begun: now,
            answered: None,
            redirects: 0,
            repeats: 0,
            has_rung: false,
            changes: 0,
            trouble: None,
            cseq: 0,
            to: format!("<sip:service@{vip}>"),
            routes: Vec::new(),
            target: format!("sip:service@{vip}"),
            request: None,
        });
        self.request(number, "INVITE", vip);
        number
    }

    /// Sends a re-INVITE.
    pub fn change(&mut self, number: usize) {
        self.calls[number].phase = Phase::Changing;
        self.request(number, "INVITE", self.vip);
    }

    /// Sends a BYE.
    pub fn hang_up(&mut self, number: usize) {
        self.calls[number].phase = Phase::Ending;
        self.request(number, "BYE", self.vip);
    }

    /// Takes in what has come and sends what is due.
    ///
    /// # Errors
    /// The socket fails.
    pub fn step(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        let mut is_idle = true;
        for _ in 0..BATCH {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    is_idle = false;
                    if let Some(text) = Text::read(&buffer[..len]) {
                        self.take(&text, from);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error).context("the switch's socket fails"),
            }
        }
        let now = Instant::now();
        while let Some((_, number)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            is_idle = false;
            self.repeat(number, now);
        }
        if is_idle {
            thread::sleep(NAP);
        }
        Ok(())
    }

    /// Goes on for a while.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn run_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Goes on until something is so, which is asked after each step.
    ///
    /// # Errors
    /// It is not so in time; as [`Self::step`].
    pub fn run_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut is_so: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        while !is_so(self)? {
            if Instant::now() >= end {
                bail!("waited {limit:?} in vain for {what}");
            }
            self.step()?;
        }
        Ok(())
    }

    /// Begins calls `<name>-0@switch` and up, as fast as they are answered but `window` at a time, and
    /// waits until none is under way.
    ///
    /// # Errors
    /// One is refused or lost.
    pub fn establish(&mut self, name: &str, count: usize, window: usize) -> Result<()> {
        let (first, mut begun) = (self.calls.len(), 0);
        let limit = Duration::from_secs(30) + Duration::from_millis(10) * count as u32;
        self.run_until("calls to be answered", limit, |switch| {
            while begun < count && switch.open_requests() < window {
                switch.call(format!("{name}-{begun}@switch"));
                begun += 1;
            }
            Ok(begun == count && switch.open_requests() == 0)
        })?;
        let is_odd = |call: &&Dialog| call.phase != Phase::Up;
        if let Some(odd) = self.calls[first..].iter().find(is_odd) {
            bail!("a call was not answered: {odd:?}");
        }
        Ok(())
    }

    fn request(&mut self, number: usize, method: &'static str, to: SocketAddr) {
        let call = &mut self.calls[number];
        call.cseq += 1;
        let (cseq, now) = (call.cseq, Instant::now());
        let text = self.write(number, method, cseq, "");
        let _ = self.socket.send_to(text.as_bytes(), to);
        let due = now + T1;
        self.due.insert((due, number));
        self.calls[number].request = Some(Request {
            method,
            cseq,
            bytes: text.into_bytes(),
            to,
            due,
            interval: T1,
            until: now + GIVEN_UP,
        });
    }

    /// `variant` tells transactions of one CSeq number apart.
    fn write(&self, number: usize, method: &str, cseq: u32, variant: &str) -> String {
        let Self { own, .. } = self;
        let Dialog {
            call_id,
            to,
            routes,
            target,
            ..
        } = &self.calls[number];
        let routes: String = routes
            .iter()
            .map(|route| format!("Route: {route}\r\n"))
            .collect();
        format!(
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};branch=z9hG4bK-{cseq}{variant}-{call_id}\r\n\
             From: <sip:switch@{own}>;tag=s-{call_id}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:switch@{own}>\r\n{routes}\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn repeat(&mut self, number: usize, now: Instant) {
        let call = &mut self.calls[number];
        let Some(request) = &mut call.request else {
            return;
        };
        self.due.remove(&(request.due, number));
        if now >= request.until {
            let method = request.method;
            call.request = None;
            call.lose(format!("no answer to {method}"));
            return;
        }
        request.interval = match request.method {
            "INVITE" => request.interval * 2,
            _ => (request.interval * 2).min(T2),
        };
        request.due = (now + request.interval).min(request.until);
        if call.has_rung && request.method == "INVITE" && call.phase == Phase::Calling {
            // What rings is not asked again (RFC 3261 §17.1.1.2, state Proceeding).
            request.until = now + GIVEN_UP;
        } else {
            call.repeats += 1;
            let _ = self.socket.send_to(&request.bytes, request.to);
        }
        self.due.insert((request.due, number));
    }

    fn take(&mut self, text: &Text<'_>, from: SocketAddr) {
        let number = text.one("Call-ID").and_then(|id| self.by_id.get(id));
        let Some(number) = number.copied() else {
            return;
        };
        match text.status() {
            Some(status) => self.take_answer(number, text, status),
            None => self.take_request(number, text, from),
        }
    }

    fn take_request(&mut self, number: usize, text: &Text<'_>, from: SocketAddr) {
        let call = &mut self.calls[number];
        let status = match text.method() {
            Some("ACK") | None => return,
            Some("BYE") => {
                if call.phase != Phase::Over {
                    call.phase = Phase::HungUp;
                }
                if let Some(request) = call.request.take() {
                    self.due.remove(&(request.due, number));
                }
                "200 OK"
            }
            Some("OPTIONS") => "200 OK",
            Some(_) => "501 Not Implemented",
        };
        let answer = format!(
            "SIP/2.0 {status}\r\n{}Content-Length: 0\r\n\r\n",
            text.echo(None)
        );
        let _ = self.socket.send_to(answer.as_bytes(), from);
    }

    fn take_answer(&mut self, number: usize, text: &Text<'_>, status: u16) {
        let Some((cseq, method)) = text.cseq() else {
            return;
        };
        let call = &mut self.calls[number];
        let is_awaited = call
            .request
            .as_ref()
            .is_some_and(|request| request.cseq == cseq && request.method == method);
        if status < 200 {
            call.has_rung |= is_awaited && status > 100;
            return;
        }
        if !is_awaited {
            // A copy: what acknowledged it was lost, or it crossed a copy of the request.
            if method == "INVITE" && status < 300 {
                self.acknowledge(number, cseq);
            }
            return;
        }
        let Some(request) = call.request.take() else {
            return;
        };
        self.due.remove(&(request.due, number));
        match (call.phase, status) {
            (Phase::Calling, 200..300) => self.answered(number, text, cseq),
            (Phase::Calling, _) => self.refused(number, text, status, &request),
            (Phase::Changing, 200..300) => {
                call.phase = Phase::Up;
                call.changes += 1;
                call.expect(text);
                self.acknowledge(number, cseq);
            }
            (Phase::Ending, 200..300) => {
                call.phase = Phase::Over;
                call.expect(text);
            }
            (_, _) => {
                call.lose(format!("{status} to {method}"));
                if method == "INVITE" {
                    self.acknowledge_refusal(&request, text);
                }
            }
        }
    }

    fn answered(&mut self, number: usize, text: &Text<'_>, cseq: u32) {
        let call = &mut self.calls[number];
        call.phase = Phase::Up;
        call.answered = Some(Instant::now());
        call.node = node_of(text);
        if let Some(to) = text.one("To") {
            to.clone_into(&mut call.to);
        }
        if let Some(target) = text.one("Contact").and_then(bracketed) {
            target.clone_into(&mut call.target);
        }
        let routes = text.all("Record-Route").flat_map(|field| field.split(','));
        call.routes = routes.map(|route| route.trim().to_owned()).collect();
        call.routes.reverse();
        self.acknowledge(number, cseq);
    }

    fn refused(&mut self, number: usize, text: &Text<'_>, status: u16, request: &Request) {
        self.acknowledge_refusal(request, text);
        let call = &mut self.calls[number];
        let next = text.one("Contact").and_then(bracketed);
        match next.and_then(|uri| Some((uri, address_of(uri)?))) {
            Some((uri, at)) if status == 302 && call.redirects < MAX_REDIRECTS => {
                call.redirects += 1;
                uri.clone_into(&mut call.target);
                self.request(number, "INVITE", at);
            }
            _ => call.phase = Phase::Refused(status),
        }
    }

    /// A 2xx is acknowledged by a request of its own (RFC 3261 §13.2.2.4).
    fn acknowledge(&self, number: usize, cseq: u32) {
        let text = self.write(number, "ACK", cseq, "a");
        let _ = self.socket.send_to(text.as_bytes(), self.vip);
    }

    /// Anything else within the transaction of the INVITE (§17.1.1.3).
    fn acknowledge_refusal(&self, request: &Request, text: &Text<'_>) {
        let Ok(invite) = str::from_utf8(&request.bytes) else {
            return;
        };
        let ack = invite
            .replacen("INVITE", "ACK", 1)
            .replacen(" INVITE\r\n", " ACK\r\n", 1);
        let lines = ack.split("\r\n").map(|line| match text.one("To") {
            Some(to) if line.starts_with("To: ") => format!("To: {to}"),
            _ => line.to_owned(),
        });
        let ack = lines.collect::<Vec<_>>().join("\r\n");
        let _ = self.socket.send_to(ack.as_bytes(), request.to);
    }
}

impl Dialog {
    fn lose(&mut self, why: String) {
        self.phase = Phase::Lost;
        self.trouble = Some(why);
    }

    /// Whether the answer is the own node's.
    fn expect(&mut self, text: &Text<'_>) {
        let by = node_of(text);
        if by != self.node {
            self.lose(format!("answered by node {by:?}, not {:?}", self.node));
        }
    }
}

/// The node that has answered.
fn node_of(text: &Text<'_>) -> Option<u16> {
    text.one("Server")?.strip_prefix("node-")?.parse().ok()
}
