//! Calls that pass real daemons, by real sockets.

use crate::ear::Ear;
use crate::fixture::{Daemon, Fixture, KEY_ID, Setup, beacon_key, eventually};
use crate::phone::{Callee, Phone, request};
use lb_common::Admission;
use lb_proto::keys::NumberedKey;
use lb_proto::pin_report::wire::Verdict;
use lb_proto::pin_report::{Known, Receiver, Taken};
use lb_sip::headers::NameAddr;
use lb_sip::{Message, Method, Name};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// An address of a node's own at which nobody listens yet.
fn free(ip: IpAddr) -> SocketAddr {
    let probe = std::net::TcpListener::bind((ip, 0)).expect("a free port");
    probe.local_addr().expect("bound")
}

/// A daemon with a redirect server, in front of this SIP server.
fn setup(fixture: &Fixture, node: u16, listen: &[SocketAddr], callee: &Callee) -> Setup {
    let own = listen.last().expect("the own address comes last");
    let listen: Vec<String> = listen.iter().map(|own| format!("\"{own}\"")).collect();
    let listen = format!(
        "listen = [{}]\nadvertise = \"{own}\"\nserver = ",
        listen.join(", ")
    );
    let setup = fixture.daemon_beside(node, callee.address());
    setup.with("server = ", &listen)
}

fn counted(daemon: &Daemon, what: &str) -> u64 {
    let status = daemon.status().expect("it answers");
    let count = status["redirect"]["counts"][what].as_u64();
    count.unwrap_or_else(|| panic!("no counter `{what}`: {status}"))
}

/// Calls, and is answered.
fn answered(phone: &Phone, at: SocketAddr, call: &str) -> Message {
    let (by, uri) = (("UDP", phone.address()), format!("sip:bob@{at}"));
    phone.send(at, &request("INVITE", &uri, by, call, (1, "inv"), ""));
    let ok = phone.final_from(at);
    assert_eq!(ok.status(), Some(200));
    phone.send(at, &request("ACK", &uri, by, call, (1, "ack"), "callee"));
    ok
}

/// INVITE, 180, 200, ACK and BYE, what people see of the call meanwhile, and a CANCEL.
async fn a_call_passes(name: &str, ip: IpAddr) {
    let fixture = Fixture::new(name);
    let (callee, phone) = (Callee::start(ip), Phone::open(ip));
    // The first stands for the VIP. Answers leave with the address that the request came to.
    let (vip, at) = (free(ip), free(ip));
    let daemon = setup(&fixture, 1, &[vip, at], &callee).start();
    let mut ear = Ear::open(&fixture);
    ear.until(|beacon| beacon.admission == Admission::Idle)
        .await;

    let ok = answered(&phone, at, "one");
    assert_eq!(ok.elements(Name::Via).count(), 1);
    let arrived = callee.next(Method::Invite);
    assert_eq!(arrived.elements(Name::Via).count(), 2);
    let route = format!("<sip:{at};lr>");
    let recorded = arrived.header(Name::RecordRoute).expect("recorded");
    assert_eq!(recorded.raw.trim_ascii(), route.as_bytes());
    callee.next(Method::Ack);

    let calls = daemon.say("calls", &["--json"]);
    let calls: serde_json::Value = serde_json::from_str(&calls).expect("JSON");
    assert_eq!(calls[0]["call_id"], "one", "{calls}");
    assert_eq!(calls[0]["state"], "confirmed");
    let early = daemon.say("calls", &["--state", "early", "--json"]);
    assert_eq!(early, "[]\n");
    let calls = daemon.say("calls", &[]);
    assert!(calls.contains("sip:bob@example.com"), "{calls}");
    assert_eq!(daemon.status().expect("it answers")["active"], 1);
    let screen = daemon.screen();
    assert!(
        screen.contains("1 confirmed") && screen.contains("1 call-taken"),
        "{screen}"
    );
    let told = ear.until(|beacon| beacon.active == 1).await;
    assert_eq!(told.redirect_port, at.port());

    let by = ("UDP", phone.address());
    let uri = format!("sip:callee@{}", callee.address());
    let bye = request("BYE", &uri, by, "one", (2, "bye"), "callee");
    let bye = bye.replacen("Call-ID", &format!("Route: {route}\r\nCall-ID"), 1);
    phone.send(at, &bye);
    assert_eq!(phone.final_from(at).status(), Some(200));
    assert!(callee.next(Method::Bye).header(Name::Route).is_none());
    assert_eq!(daemon.status().expect("it answers")["active"], 0);

    let uri = format!("sip:slow@{vip}");
    phone.send(vip, &request("INVITE", &uri, by, "two", (1, ""), ""));
    assert_eq!(phone.next().0.status(), Some(180));
    let invite = callee.next(Method::Invite);
    phone.send(vip, &request("CANCEL", &uri, by, "two", (1, ""), ""));
    let statuses = [phone.final_from(vip), phone.final_from(vip)].map(|answer| answer.status());
    assert_eq!(statuses, [Some(200), Some(487)]);
    phone.send(vip, &request("ACK", &uri, by, "two", (1, ""), "callee"));
    let ack = callee.next(Method::Ack);
    let branch = |message: &Message| {
        message
            .top_via()
            .expect("a Via")
            .branch()
            .map(<[u8]>::to_vec)
    };
    assert_eq!(branch(&ack), branch(&invite), "RFC 3261 §17.1.1.3");
    assert_eq!(daemon.status().expect("it answers")["active"], 0);
}

#[tokio::test]
async fn a_call_passes_over_ipv4() {
    a_call_passes("calls4", Ipv4Addr::LOCALHOST.into()).await;
}

#[tokio::test]
async fn a_call_passes_over_ipv6() {
    a_call_passes("calls6", Ipv6Addr::LOCALHOST.into()).await;
}

/// Seed 1, claim 5, between real daemons: the second node's own 302, and then the call.
#[tokio::test]
async fn a_call_refused_is_offered_by_the_second_node_itself() {
    let fixture = Fixture::new("relay");
    let ip = Ipv4Addr::LOCALHOST.into();
    let callees = [Callee::start(ip), Callee::start(ip)];
    let own = [1, 2].map(|node| free(fixture.address(node)));
    let lb = UdpSocket::bind((fixture.address(98), 0)).expect("a free port");
    lb.set_read_timeout(Some(crate::fixture::PATIENCE))
        .expect("a socket");
    let lbs = format!(
        "[lb]\nstatus = [\"{}\"]\n[admin]",
        lb.local_addr().expect("bound")
    );
    let first = setup(&fixture, 1, &own[..1], &callees[0]);
    let first = first.with("calls = 500", "calls = 1").start();
    let second = setup(&fixture, 2, &own[1..], &callees[1]);
    let second = second.with("[admin]", &lbs).start();
    eventually("the first hears the second", || {
        let nodes = first.status()?["nodes"].clone();
        (nodes[1]["liveness"] == "Up" && first.status()?["speaking"] == true).then_some(())
    });
    let phone = Phone::open(ip);
    answered(&phone, own[0], "first");

    let by = ("UDP", phone.address());
    let uri = format!("sip:bob@{}", own[0]);
    phone.send(own[0], &request("INVITE", &uri, by, "a", (1, "inv"), ""));
    let moved = phone.final_from(own[1]);
    assert_eq!(moved.status(), Some(302));
    let contact = moved.header(Name::Contact).expect("an offer");
    let contact = NameAddr::parse(contact.raw).expect("a name-addr").uri;
    let contact = String::from_utf8(contact.to_vec()).expect("text");
    assert!(
        contact.starts_with(&format!("sip:bob@{};", own[1])) && contact.contains(";pm-hop="),
        "{contact}"
    );
    phone.send(own[0], &request("ACK", &uri, by, "a", (1, "inv"), "any"));
    assert_eq!(
        second.status().expect("it answers")["redirect"]["promised"],
        1
    );

    // The call's second INVITE goes to the second node, which tells the load balancer before any
    // answer goes out that could draw a request.
    phone.send(
        own[1],
        &request("INVITE", &contact, by, "a", (2, "inv2"), ""),
    );
    let mut bytes = [0; 200];
    let (len, from) = lb.recv_from(&mut bytes).expect("a report in time");
    assert_eq!(from.ip(), fixture.address(2));
    let key = NumberedKey {
        id: KEY_ID,
        key: beacon_key(),
    };
    let mut receiver = Receiver::new(fixture.cluster(), vec![key]);
    let known = |_| {
        Some(Known {
            is_origin: true,
            stamp: None,
        })
    };
    let taken = receiver.receive(Duration::ZERO, &bytes[..len], known);
    let Ok(Taken::New(report)) = taken else {
        panic!("{taken:?}");
    };
    assert_eq!(report.node, 2);
    let answer = receiver.settle(&report, Verdict::Pinned);
    lb.send_to(&answer, from).expect("the loopback");
    assert_eq!(phone.final_from(own[1]).status(), Some(200));
    let arrived = callees[1].next(Method::Invite);
    assert_eq!(
        arrived.request_uri(),
        Some(uri.as_bytes()),
        "as it was at first"
    );
    for (daemon, what) in [
        (&first, "call-relayed"),
        (&first, "ack-absorbed"),
        (&second, "call-promised"),
        (&second, "call-taken-offered"),
    ] {
        eventually(what, || (counted(daemon, what) == 1).then_some(()));
    }
    assert!(second.say("calls", &[]).contains("yes"), "away from home");
}

#[tokio::test]
async fn an_emptied_node_offers_new_calls_elsewhere_and_hangs_up_in_the_end() {
    let fixture = Fixture::new("drain");
    let ip = Ipv4Addr::LOCALHOST.into();
    let callees = [Callee::start(ip), Callee::start(ip)];
    let own = [1, 2].map(|node| free(fixture.address(node)));
    let mut first = setup(&fixture, 1, &own[..1], &callees[0]).start();
    let second = setup(&fixture, 2, &own[1..], &callees[1]).start();
    eventually("the first hears the second", || {
        let status = first.status()?;
        (status["nodes"][1]["liveness"] == "Up" && status["speaking"] == true).then_some(())
    });
    let phone = Phone::open(ip);
    answered(&phone, own[0], "old");

    assert!(first.say("drain", &[]).contains("elsewhere"));
    let by = ("UDP", phone.address());
    let uri = format!("sip:bob@{}", own[0]);
    phone.send(own[0], &request("INVITE", &uri, by, "new", (1, ""), ""));
    assert_eq!(phone.final_from(own[1]).status(), Some(302));
    phone.send(own[0], &request("ACK", &uri, by, "new", (1, ""), "any"));
    let mut ear = Ear::open(&fixture);
    let told = ear.until(|beacon| beacon.node == 1).await;
    assert_eq!((told.admission, told.active), (Admission::Draining, 1));
    assert!(first.screen().contains(", draining"));

    first.say("drain", &["--deadline", "0s"]);
    let (bye, from) = phone.next();
    assert_eq!((bye.method(), from), (Some(Method::Bye), own[0]));
    phone.accept(&bye, from);
    callees[0].next(Method::Bye);
    assert!(first.screen().contains("drained: the last call has gone"));
    assert_eq!(
        first.status().expect("it answers")["redirect"]["drained"],
        true
    );
    let told = ear
        .until(|beacon| beacon.node == 1 && beacon.active == 0)
        .await;
    assert_eq!(told.admission, Admission::Draining);

    first.say("undrain", &[]);
    answered(&phone, own[0], "newer");
    first.terminate();
    let (status, log) = first.end();
    assert!(status.success() && log.contains("drained: the last call has gone"));
    drop(second);
}

/// Messages of a stream, one after the other.
struct StreamPhone {
    stream: TcpStream,
    framer: lb_sip::Framer,
}

impl StreamPhone {
    fn next(&mut self) -> Message {
        loop {
            if let Some(lb_sip::framer::StreamEvent::Message(message)) =
                self.framer.next_event().expect("SIP")
            {
                return message;
            }
            let mut bytes = [0; 2000];
            let len = self.stream.read(&mut bytes).expect("in time");
            assert!(len > 0, "the stream has ended");
            assert_eq!(self.framer.feed(&bytes[..len]), len);
        }
    }
}

#[tokio::test]
async fn a_call_passes_over_tcp() {
    let fixture = Fixture::new("tcp");
    let ip = Ipv4Addr::LOCALHOST.into();
    let (callee, at) = (Callee::start(ip), free(ip));
    let daemon = setup(&fixture, 1, &[at], &callee).start();
    eventually("it takes calls", || {
        (daemon.status()?["speaking"] == true).then_some(())
    });
    let stream = TcpStream::connect(at).expect("a listener");
    stream
        .set_read_timeout(Some(crate::fixture::PATIENCE))
        .expect("a socket");
    let by = ("TCP", stream.local_addr().expect("connected"));
    let mut phone = StreamPhone {
        stream,
        framer: lb_sip::Framer::new(),
    };
    let uri = format!("sip:bob@{at};transport=tcp");
    let texts = [
        request("INVITE", &uri, by, "a", (1, "inv"), ""),
        request("ACK", &uri, by, "a", (1, "ack"), "callee"),
        request("BYE", &uri, by, "a", (2, "bye"), "callee"),
    ];
    // In pieces, and two in one.
    let (head, tail) = texts[0].split_at(100);
    phone.stream.write_all(head.as_bytes()).expect("it reads");
    phone.stream.write_all(tail.as_bytes()).expect("it reads");
    assert_eq!(phone.next().status(), Some(180));
    let ok = phone.next();
    assert_eq!(ok.status(), Some(200));
    assert!(ok.top_via().expect("a Via").branch().is_some());
    let arrived = callee.next(Method::Invite);
    let own = arrived.top_via().expect("a Via");
    assert_eq!(own.transport, b"UDP", "between daemon and SIP server");
    phone
        .stream
        .write_all((texts[1].clone() + &texts[2]).as_bytes())
        .expect("it reads");
    assert_eq!(phone.next().status(), Some(200));
    callee.next(Method::Bye);
    assert_eq!(counted(&daemon, "call-taken"), 1);

    // Line ends between messages are a question whether anybody is there (RFC 5626 §4.4.1), and what
    // is no SIP ends the stream, and nothing else.
    phone.stream.write_all(b"\r\n\r\n").expect("it reads");
    let mut pong = [0; 2];
    phone.stream.read_exact(&mut pong).expect("in time");
    assert_eq!(&pong, b"\r\n");
    phone
        .stream
        .write_all(b"\0nonsense\r\n\r\n")
        .expect("it reads");
    let ended = phone.stream.read(&mut pong);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert_eq!(daemon.status().expect("it answers")["speaking"], true);
}
