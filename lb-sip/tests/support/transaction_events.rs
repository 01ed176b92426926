//! Turns any bytes into events for a table of transactions, and watches what it asks for.
//!
//! Apart from the seeded test beside it, it is a fuzz target as it stands: [`run`] panics when a
//! promise is broken, and takes any bytes.

use bytes::Bytes;
use lb_sip::transaction::key::{ClientKey, RequestFacts};
use lb_sip::transaction::table::{
    Answer, Capacity, ClientId, Incoming, Output, SendError, ServerId, Transactions,
};
use lb_sip::transaction::{
    Class, ClientAction, ClientEnd, Response, ServerAction, ServerEnd, Status, Timing, Transport,
};
use std::collections::BTreeMap;
use std::time::Duration;

const TIMING: Timing = Timing::DEFAULT;
/// Few, so that the table is full now and then.
const CAPACITY: Capacity = Capacity {
    clients: 6,
    servers: 6,
};
const CODES: [u16; 8] = [100, 180, 183, 200, 202, 302, 486, 503];
/// How long any transaction may live once nothing happens any more: patience, which is longer than
/// timer C and a CANCEL's wait.
const LONGEST: Duration = Duration::from_secs(241);

/// Runs the events that the bytes stand for, lets what is left end, and returns all that was asked
/// for, by time.
pub(crate) fn run(bytes: &[u8]) -> Vec<(Duration, Output)> {
    let mut world = World::new();
    let mut bytes = Source(bytes);
    while let Some(kind) = bytes.next() {
        world.step(kind, &mut bytes);
        world.check();
    }
    world.settle();
    world.trace
}

/// The bytes that are left; zeroes when none are.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn transport(&mut self) -> Transport {
        if self.byte().is_multiple_of(4) {
            Transport::Reliable
        } else {
            Transport::Unreliable
        }
    }

    fn status(&mut self) -> Status {
        let code = CODES[usize::from(self.byte()) % CODES.len()];
        Status::new(code).expect("each of them is one")
    }

    /// One of many, if there are any.
    fn pick<Id: Copy, T>(&mut self, from: &BTreeMap<Id, T>) -> Option<Id> {
        let index = usize::from(self.byte()) % from.len().max(1);
        from.keys().nth(index).copied()
    }
}

/// What is known of a request of ours without asking the table.
struct Client {
    key: ClientKey,
    transport: Transport,
    sent: Vec<Duration>,
    provisionals: usize,
    finals: Vec<Class>,
    cancels: usize,
    is_over: bool,
}

impl Client {
    fn is_invite(&self) -> bool {
        self.key.method() == b"INVITE"
    }
}

/// What is known of a request of others without asking the table.
struct Server {
    number: u32,
    method: &'static [u8],
    has_branch: bool,
    transport: Transport,
    /// The last answer that counted.
    last: Option<Bytes>,
    finals: Vec<Class>,
    is_acknowledged: bool,
    is_over: bool,
}

struct World {
    now: Duration,
    table: Transactions,
    clients: BTreeMap<ClientId, Client>,
    servers: BTreeMap<ServerId, Server>,
    count: u32,
    trace: Vec<(Duration, Output)>,
    out: Vec<Output>,
}

impl World {
    fn new() -> Self {
        Self {
            now: Duration::from_secs(50),
            table: Transactions::new(TIMING, CAPACITY),
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            count: 0,
            trace: Vec::new(),
            out: Vec::new(),
        }
    }

    fn step(&mut self, kind: u8, bytes: &mut Source<'_>) {
        match kind % 13 {
            0 => self.send(bytes),
            1 | 2 => self.response(bytes),
            3 => self.cancel(bytes),
            4 => self.new_request(bytes),
            5 => self.copy(bytes),
            6 => self.ack(bytes),
            7 | 8 => self.respond(bytes),
            9 => self.transport_failed(bytes),
            10 => {
                if let Some(at) = self.table.next_timeout() {
                    self.pass(at);
                }
            }
            11 => {
                let until = self.now + Duration::from_millis(u64::from(bytes.byte()) * 8);
                while let Some(at) = self.table.next_timeout().filter(|at| *at <= until) {
                    self.pass(at);
                }
                self.now = until;
            }
            // A caller that was kept from running: everything is late.
            _ => {
                let late = Duration::from_millis(u64::from(bytes.byte()) * 200);
                self.pass(self.now + late);
            }
        }
    }

    fn pass(&mut self, at: Duration) {
        self.now = at;
        while self.table.next_timeout().is_some_and(|due| due <= at) {
            self.table.on_timeout(at, &mut self.out);
            self.take_outputs();
        }
    }

    fn send(&mut self, bytes: &mut Source<'_>) {
        let method: &[u8] = if bytes.flag() { b"INVITE" } else { b"OPTIONS" };
        self.count += 1;
        let key = ClientKey::new(format!("z9hG4bK{}", self.count).as_bytes(), method);
        let transport = bytes.transport();
        let request = Bytes::copy_from_slice(method);
        let result = self
            .table
            .send(self.now, key.clone(), transport, request, &mut self.out);
        let is_full = live(self.clients.values().map(|client| client.is_over)) == CAPACITY.clients;
        match result {
            Ok(id) => {
                assert!(!is_full, "one too many");
                self.clients.insert(
                    id,
                    Client {
                        key,
                        transport,
                        sent: Vec::new(),
                        provisionals: 0,
                        finals: Vec::new(),
                        cancels: 0,
                        is_over: false,
                    },
                );
            }
            Err(error) => assert!(error == SendError::Full && is_full, "{error}"),
        }
        self.take_outputs();
    }

    fn response(&mut self, bytes: &mut Source<'_>) {
        let Some(id) = bytes.pick(&self.clients) else {
            return;
        };
        let status = bytes.status();
        let response = Response {
            status,
            message: Bytes::from(status.code().to_string()),
        };
        let client = &self.clients[&id];
        let result = self
            .table
            .response(self.now, &client.key, response, &mut self.out);
        assert_eq!(result.is_ok(), !client.is_over);
        self.take_outputs();
    }

    fn cancel(&mut self, bytes: &mut Source<'_>) {
        if let Some(id) = bytes.pick(&self.clients) {
            let result = self.table.cancel(self.now, id, &mut self.out);
            assert_eq!(result.is_ok(), !self.clients[&id].is_over);
            self.take_outputs();
        }
    }

    fn transport_failed(&mut self, bytes: &mut Source<'_>) {
        if bytes.flag() {
            if let Some(id) = bytes.pick(&self.clients) {
                let result = self
                    .table
                    .client_transport_failed(self.now, id, &mut self.out);
                assert_eq!(result.is_ok(), !self.clients[&id].is_over);
            }
        } else if let Some(id) = bytes.pick(&self.servers) {
            let result = self
                .table
                .server_transport_failed(self.now, id, &mut self.out);
            assert_eq!(result.is_ok(), !self.servers[&id].is_over);
        }
        self.take_outputs();
    }

    fn new_request(&mut self, bytes: &mut Source<'_>) {
        self.count += 1;
        let server = Server {
            number: self.count,
            method: if bytes.flag() { b"INVITE" } else { b"BYE" },
            has_branch: !bytes.byte().is_multiple_of(4),
            transport: bytes.transport(),
            last: None,
            finals: Vec::new(),
            is_acknowledged: false,
            is_over: false,
        };
        let is_full = live(self.servers.values().map(|server| server.is_over)) == CAPACITY.servers;
        match self.request(&server, server.method, None) {
            Incoming::New(id) => {
                assert!(!is_full, "one too many");
                assert!(self.servers.insert(id, server).is_none(), "an id again");
            }
            Incoming::Full => assert!(is_full),
            other => panic!("a new request is {other:?}"),
        }
        self.take_outputs();
    }

    /// The request comes again. One whose transaction is over is new, and is left alone.
    fn copy(&mut self, bytes: &mut Source<'_>) {
        let Some(id) = bytes.pick(&self.servers) else {
            return;
        };
        if let Some(server) = self.servers.remove(&id) {
            if !server.is_over {
                let incoming = self.request(&server, server.method, None);
                assert_eq!(incoming, Incoming::Known(id));
            }
            self.servers.insert(id, server);
        }
        self.take_outputs();
    }

    fn ack(&mut self, bytes: &mut Source<'_>) {
        let Some(id) = bytes.pick(&self.servers) else {
            return;
        };
        let is_right_tag = bytes.flag();
        let Some(mut server) = self.servers.remove(&id) else {
            return;
        };
        if server.method == b"INVITE" {
            let tag: &[u8] = if is_right_tag { b"answer" } else { b"other" };
            let is_known =
                !server.is_over && (server.has_branch || is_right_tag && !server.finals.is_empty());
            let incoming = self.request(&server, b"ACK", Some(tag));
            if is_known {
                assert_eq!(incoming, Incoming::Known(id));
                server.is_acknowledged |= !server.finals.is_empty();
            } else {
                assert_eq!(incoming, Incoming::Ack);
            }
        }
        self.servers.insert(id, server);
        self.take_outputs();
    }

    fn request(&mut self, server: &Server, method: &[u8], to_tag: Option<&[u8]>) -> Incoming {
        let branch = format!("z9hG4bK{}", server.number);
        let facts = RequestFacts {
            method,
            request_uri: b"sip:bob@example.com",
            branch: server.has_branch.then_some(branch.as_bytes()),
            sent_by: b"192.0.2.1",
            top_via: b"SIP/2.0/UDP 192.0.2.1",
            call_id: b"call",
            cseq: server.number,
            from_tag: Some(b"caller"),
            to_tag,
        };
        let message = Bytes::copy_from_slice(method);
        let trying = || Some(Bytes::from_static(b"100"));
        self.table.request(
            self.now,
            &facts,
            server.transport,
            &message,
            trying,
            &mut self.out,
        )
    }

    fn respond(&mut self, bytes: &mut Source<'_>) {
        let Some(id) = bytes.pick(&self.servers) else {
            return;
        };
        let status = bytes.status();
        self.count += 1;
        let response = Response {
            status,
            message: Bytes::from(format!("{} {}", status.code(), self.count)),
        };
        let server = self.servers.get_mut(&id).expect("picked");
        let class = status.class();
        let is_first = server.finals.is_empty();
        let is_one_more_success = server.method == b"INVITE"
            && class == Class::Success
            && server.finals.first() == Some(&Class::Success);
        if is_first || is_one_more_success {
            server.last = Some(response.message.clone());
            if class != Class::Provisional && !server.is_over {
                server.finals.push(class);
            }
        }
        let answer = Answer {
            to_tag: Some(b"answer"),
            response: &response,
        };
        let result = self.table.respond(self.now, id, answer, &mut self.out);
        assert_eq!(result.is_ok(), !server.is_over);
        self.take_outputs();
    }

    fn take_outputs(&mut self) {
        for output in std::mem::take(&mut self.out) {
            match &output {
                Output::Client(id, action) => {
                    let client = self.clients.get_mut(id).expect("a transaction of ours");
                    watch_client(self.now, client, action);
                }
                Output::Server(id, action) => {
                    let server = self.servers.get_mut(id).expect("a transaction of others");
                    watch_server(server, action);
                }
            }
            self.trace.push((self.now, output));
        }
    }

    fn check(&self) {
        let clients = live(self.clients.values().map(|client| client.is_over));
        let servers = live(self.servers.values().map(|server| server.is_over));
        assert_eq!(self.table.clients(), clients);
        assert_eq!(self.table.servers(), servers);
        assert!(clients <= CAPACITY.clients && servers <= CAPACITY.servers);
        // Whatever is not over will end by itself.
        assert_eq!(self.table.next_timeout().is_some(), clients + servers > 0);
    }

    fn settle(&mut self) {
        let begin = self.now;
        while let Some(at) = self.table.next_timeout() {
            self.pass(at.max(self.now));
            self.check();
        }
        assert!(self.now <= begin + LONGEST, "it took too long to end");
    }
}

fn live(are_over: impl Iterator<Item = bool>) -> usize {
    are_over.filter(|is_over| !is_over).count()
}

fn watch_client(now: Duration, client: &mut Client, action: &ClientAction) {
    assert!(!client.is_over, "{action:?} after the end");
    let has_failed = client.finals.contains(&Class::Failure);
    match action {
        ClientAction::Send(_) => {
            assert!(
                client.finals.is_empty(),
                "sent again after the final response"
            );
            if let [first, .., last] | [first @ last] = client.sent[..] {
                assert_eq!(client.transport, Transport::Unreliable);
                assert!(now - last >= TIMING.t1, "intervals are T1 at least");
                assert!(now - first < TIMING.give_up());
            }
            assert!(!client.is_invite() || client.provisionals == 0);
            client.sent.push(now);
            assert!(client.sent.len() <= if client.is_invite() { 7 } else { 11 });
        }
        ClientAction::Respond(response) => match response.status.class() {
            Class::Provisional => {
                assert!(client.finals.is_empty(), "provisional after final");
                client.provisionals += 1;
            }
            class => {
                assert!(!has_failed, "two final responses to the user");
                let is_fork = client.is_invite() && class == Class::Success;
                assert!(client.finals.is_empty() || is_fork);
                client.finals.push(class);
            }
        },
        ClientAction::Acknowledge { response, .. } => {
            assert!(client.is_invite() && response[0] >= b'3');
            assert!(client.finals.is_empty() || has_failed);
        }
        ClientAction::Cancel { .. } => {
            assert!(client.is_invite() && client.provisionals > 0 && client.finals.is_empty());
            client.cancels += 1;
            assert_eq!(client.cancels, 1);
        }
        ClientAction::Ended(end) => {
            match end {
                ClientEnd::Answered => assert!(!client.finals.is_empty()),
                ClientEnd::AckFailed => assert!(has_failed),
                ClientEnd::TimedOut | ClientEnd::TransportFailed => {
                    assert!(client.finals.is_empty());
                }
            }
            client.is_over = true;
        }
    }
}

fn watch_server(server: &mut Server, action: &ServerAction) {
    assert!(!server.is_over, "{action:?} after the end");
    match action {
        ServerAction::Send(message) => {
            assert!(
                server.last.as_ref().is_none_or(|last| last == message),
                "not the last answer"
            );
            assert!(server.last.is_some() || **message == *b"100");
            if server.finals.first() == Some(&Class::Failure) {
                assert!(!server.is_acknowledged, "sent again after its ACK");
            }
        }
        ServerAction::Acknowledged(_) => {
            assert_eq!(server.finals.first(), Some(&Class::Success));
        }
        ServerAction::TransportFailed => {}
        ServerAction::Ended(end) => {
            match end {
                ServerEnd::Answered => assert!(!server.finals.is_empty()),
                ServerEnd::Unacknowledged => {
                    assert_eq!(server.finals.first(), Some(&Class::Failure));
                    assert!(!server.is_acknowledged);
                }
                ServerEnd::Abandoned => assert!(server.finals.is_empty()),
            }
            server.is_over = true;
        }
    }
}
