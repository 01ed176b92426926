//! Whole nodes wired together in memory: a switch, redirect servers, and their SIP servers.

mod call_state;
mod calls;
mod emptying;
mod offers;
mod passing;
mod reset;

use super::branch::reply_to;
use super::count::Count;
use super::ways::{Hop, Way, Ways};
use super::{Mode, Output, Overflow, Server, Settings, World};
use bytes::Bytes;
use lb_common::{Address, Admission};
use lb_proto::admission::Limits;
use lb_proto::admission::server::Server as SipServer;
use lb_proto::call::Call;
use lb_proto::keys::KeyRing;
use lb_proto::status::Timing;
use lb_proto::status::map::{AvailabilityMap, Membership};
use lb_proto::status::sender::{self, Identity, Sender};
use lb_sip::build::ResponseBuilder;
use lb_sip::dialog::liveness::Policy;
use lb_sip::{Message, Method, Name};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const CLUSTER: u32 = 7;
const START: Duration = Duration::from_secs(1_000);
const NOON: Duration = Duration::from_secs(1_700_000_000);
const PERIOD: Duration = Duration::from_millis(100);

fn switch() -> SocketAddr {
    "198.51.100.1:5060".parse().expect("an address")
}

fn vip() -> SocketAddr {
    "192.0.2.100:5060".parse().expect("an address")
}

/// A node's own address.
fn own(node: usize) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, 10 + node as u8), 5062).into()
}

/// A node's SIP server.
fn server_of(node: usize) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, node as u8), 5070).into()
}

/// A message that arrived at the switch or at a SIP server.
#[derive(Clone, Debug)]
struct Arrived {
    from: SocketAddr,
    at: SocketAddr,
    message: Message,
}

impl Arrived {
    fn status(&self) -> u16 {
        self.message.status().unwrap_or_default()
    }

    fn method(&self) -> Option<Method> {
        self.message.method()
    }

    fn uri(&self) -> String {
        let uri = self.message.request_uri().expect("a request");
        String::from_utf8_lossy(uri).into_owned()
    }

    fn header(&self, name: Name) -> String {
        let header = self.message.header(name);
        let value = header.map(|header| header.value().into_owned());
        String::from_utf8(value.unwrap_or_default()).expect("text")
    }
}

/// Nodes 1 to n, their SIP servers and one switch.
struct Scene {
    nodes: Vec<Server>,
    map: AvailabilityMap,
    senders: Vec<Sender>,
    /// The senders' time, in which a beacon is always due.
    sending: Duration,
    now: Duration,
    arrived: Vec<Arrived>,
    /// What passed, in order: `switch -> node 1: INVITE`.
    ladder: Vec<String>,
    reports: Vec<(usize, Call)>,
    drained: Vec<usize>,
}

impl Scene {
    fn new(count: usize, capacity: u32) -> Self {
        Self::with(count, capacity, |_| ())
    }

    fn with(count: usize, capacity: u32, change: impl Fn(&mut Settings)) -> Self {
        let keys = || KeyRing::generate(std::array::from_fn(|i| i as u8 + 1));
        let timing = Timing {
            period: PERIOD,
            hold_periods: 3,
            down_periods: 10,
        };
        let valid = keys().beacons().to_vec();
        let map = AvailabilityMap::new(CLUSTER, valid, timing, Membership::Learnt);
        let node = |node: usize| {
            let mut settings = Settings {
                cluster: CLUSTER,
                node: node as u16,
                keys: keys(),
                ways: Ways::new(vec![vip(), own(node)], own(node)),
                server: server_of(node),
                mode: Mode::Relay,
                overflow: Overflow::Redirect,
                hold: PERIOD * 3,
                has_reporter: false,
                policy: Policy::DEFAULT,
            };
            change(&mut settings);
            let mut server = Server::new(settings, Limits::calls(capacity), node as u64);
            server.set_probed(START, SipServer::Healthy);
            server
        };
        let sender = |node: usize| {
            let address = |address: SocketAddr| Address::from(address.ip());
            let identity = Identity {
                cluster: CLUSTER,
                node: node as u16,
                epoch: 1,
                key: keys().sending(),
                sip_port: 5070,
                redirect_port: own(node).port(),
                address_v4: address(own(node)),
                address_v6: Address::default(),
            };
            let report = sender::Report {
                admission: Admission::Idle,
                capacity,
                active: 0,
                headroom: capacity,
                calls_per_second: 0,
                oc_permille: 1000,
            };
            Sender::new(identity, PERIOD, 1, report, START, node as u64)
        };
        let mut scene = Self {
            nodes: (1..=count).map(node).collect(),
            map,
            senders: (1..=count).map(sender).collect(),
            sending: START,
            now: START,
            arrived: Vec::new(),
            ladder: Vec::new(),
            reports: Vec::new(),
            drained: Vec::new(),
        };
        for _ in 0..4 {
            scene.beacons();
        }
        scene
    }

    fn node(&mut self, node: usize) -> &mut Server {
        &mut self.nodes[node - 1]
    }

    fn count(&self, node: usize, count: Count) -> u64 {
        self.nodes[node - 1].counts().get(count)
    }

    /// A period passes, and all nodes say how they are.
    fn beacons(&mut self) {
        self.pass(PERIOD);
        self.say(|_, report| report);
    }

    /// All nodes say how they are, or what a test makes of it.
    fn say(&mut self, change: impl Fn(usize, sender::Report) -> sender::Report) {
        self.say_if(|_| true, change);
    }

    /// All but one say how they are.
    fn say_but(&mut self, silent: usize) {
        self.say_if(|node| node != silent, |_, report| report);
    }

    fn say_if(
        &mut self,
        speaks: impl Fn(usize) -> bool,
        change: impl Fn(usize, sender::Report) -> sender::Report,
    ) {
        self.sending += Duration::from_secs(10);
        for (index, sender) in self.senders.iter_mut().enumerate() {
            if !speaks(index + 1) {
                continue;
            }
            if let Some(report) = self.nodes[index].status(self.now) {
                sender.set_report(self.sending, change(index + 1, report));
                let (_, beacon) = sender.poll_transmit(self.sending).expect("long due");
                self.map.receive(self.now, &beacon).expect("genuine");
                for node in &mut self.nodes {
                    node.heard(self.now, index as u16 + 1);
                }
            }
        }
    }

    /// Lets time pass, with all that is due on the way.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let now = self.now;
            let due = self.nodes.iter().filter_map(|node| node.next_timeout(now));
            let Some(at) = due.min().filter(|at| *at <= until) else {
                break;
            };
            self.now = at.max(self.now);
            for index in 0..self.nodes.len() {
                let mut out = Vec::new();
                self.nodes[index].on_timeout(self.now, &mut out);
                self.carry(index + 1, out);
            }
            if at == now && self.now == now {
                // What is due at this very moment was done; go on from the next.
                self.now += Duration::from_nanos(1);
            }
        }
        self.now = self.now.max(until);
    }

    /// Something comes to a node's listener.
    fn deliver(&mut self, node: usize, at: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        self.log(from, own(node), bytes);
        let listener = if at == vip() { 0 } else { 1 };
        let hop = Hop {
            way: Way::Datagram(listener),
            address: from,
        };
        let out = self.receive(node, hop, bytes);
        self.carry(node, out);
    }

    /// Gives a message to a node: what it does then.
    fn receive(&mut self, node: usize, from: Hop, bytes: &[u8]) -> Vec<Output> {
        let mut out = Vec::new();
        let world = World {
            now: self.now,
            wall: NOON + self.now,
            map: &self.map,
        };
        let bytes = Bytes::copy_from_slice(bytes);
        self.nodes[node - 1].receive_datagram(world, from, bytes, &mut out);
        out
    }

    /// Carries out what a node asks for, and what others ask for then.
    fn carry(&mut self, node: usize, out: Vec<Output>) {
        let mut waiting: VecDeque<(usize, Output)> = out.into_iter().map(|o| (node, o)).collect();
        while let Some((node, output)) = waiting.pop_front() {
            let (to, bytes) = match output {
                Output::Send { to, bytes } => (to, bytes),
                Output::Report(call) => {
                    self.reports.push((node, call));
                    continue;
                }
                Output::Drained => {
                    self.drained.push(node);
                    continue;
                }
            };
            let from = match to.way {
                Way::Datagram(0) => vip(),
                Way::Datagram(_) => own(node),
                Way::Stream(_) => switch(),
            };
            let peer = (1..=self.nodes.len()).find(|node| own(*node) == to.address);
            let Some(peer) = peer else {
                self.log(from, to.address, &bytes);
                let message = Message::from_datagram(bytes).expect("own writing is SIP");
                self.arrived.push(Arrived {
                    from,
                    at: to.address,
                    message,
                });
                continue;
            };
            self.log(own(node), own(peer), &bytes);
            let hop = Hop {
                way: Way::Datagram(1),
                address: own(node),
            };
            let mut out = Vec::new();
            let world = World {
                now: self.now,
                wall: NOON + self.now,
                map: &self.map,
            };
            self.nodes[peer - 1].receive_datagram(world, hop, bytes, &mut out);
            waiting.extend(out.into_iter().map(|output| (peer, output)));
        }
    }

    fn log(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let count = self.nodes.len();
        let name = |address: SocketAddr| {
            let node = (1..=count).find(|node| own(*node) == address);
            let server = (1..=count).find(|node| server_of(*node) == address);
            match (node, server) {
                (Some(node), _) => format!("node {node}"),
                (_, Some(node)) => format!("server {node}"),
                _ if address == vip() => "VIP".to_owned(),
                _ => "switch".to_owned(),
            }
        };
        let line = bytes
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line).replace("SIP/2.0 ", "");
        let word = line.split(' ').next().unwrap_or_default();
        self.ladder
            .push(format!("{} -> {}: {word}", name(from), name(to)));
    }

    /// The switch sends to a node by way of the VIP, as the load balancer has it.
    fn by_vip(&mut self, node: usize, text: &str) {
        self.deliver(node, vip(), switch(), text.as_bytes());
    }

    /// All that arrived since the last time.
    fn take(&mut self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived)
    }

    /// The one message that arrived since the last time.
    fn one(&mut self) -> Arrived {
        let arrived = self.take();
        assert_eq!(arrived.len(), 1, "{:#?}", self.ladder);
        arrived.into_iter().next().expect("one")
    }

    /// A SIP server answers a request that arrived there.
    fn answer(&mut self, request: &Arrived, status: u16) {
        self.answer_with(request, status, &[]);
    }

    fn answer_with(&mut self, request: &Arrived, status: u16, headers: &[(Name, &str)]) {
        let node = (1..=self.nodes.len()).find(|node| server_of(*node) == request.at);
        let node = node.expect("it arrived at a SIP server");
        let mut response = ResponseBuilder::new(&request.message, status)
            .source(request.from)
            .to_tag("callee")
            .header(Name::Contact, format!("<sip:callee@{}>", vip()));
        for (name, value) in headers {
            response = response.header(*name, value);
        }
        let bytes = response.finish().expect("an answer");
        let via = request.message.top_via().expect("a Via");
        let to = reply_to(&via, Way::Datagram(0))
            .expect("an address")
            .address;
        self.deliver(node, to, request.at, &bytes);
    }
}

/// A request of the switch's. `branch` tells transactions apart, `to_tag` is empty outside of dialogs.
fn request(method: &str, call: &str, uri: &str, cseq: u32, branch: &str, to_tag: &str) -> String {
    let tag = if to_tag.is_empty() {
        String::new()
    } else {
        format!(";tag={to_tag}")
    };
    format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK{branch};rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Alice\" <sip:alice@198.51.100.1>;tag=caller\r\n\
         To: <sip:bob@192.0.2.100>{tag}\r\n\
         Call-ID: {call}\r\n\
         CSeq: {cseq} {method}\r\n\
         Contact: <sip:alice@198.51.100.1:5060>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

const CALLEE: &str = "sip:bob@192.0.2.100:5060";

fn invite(call: &str) -> String {
    request("INVITE", call, CALLEE, 1, &format!("inv{call}"), "")
}

/// The ACK of a refusal: it has the INVITE's branch.
fn ack_of_refusal(call: &str) -> String {
    request("ACK", call, CALLEE, 1, &format!("inv{call}"), "any")
}

/// A call that was answered by a node's SIP server and acknowledged.
fn answered(scene: &mut Scene, node: usize, call: &str) {
    scene.by_vip(node, &invite(call));
    let arrived = scene.one();
    scene.answer(&arrived, 200);
    assert_eq!(scene.one().status(), 200);
    scene.by_vip(
        node,
        &request("ACK", call, CALLEE, 1, &format!("ack{call}"), "callee"),
    );
    assert_eq!(scene.one().method(), Some(Method::Ack));
}
