//! A node that hears, is asked, and says.

use super::*;
use lb_common::siphash::SipKey;
use lb_proto::pin_report::{Known, Receiver, Taken};
use lb_proto::status::query::Query;
use std::path::Path;

const PERIOD: Duration = Duration::from_millis(100);

fn keys() -> KeyRing {
    KeyRing::generate(std::array::from_fn(|i| i as u8 + 1))
}

fn node() -> Node {
    let config = Config::read(Path::new("pointsman-redirect.toml")).expect("the example");
    Node::new(
        &config,
        keys(),
        5,
        [HERE.into(), Address::default()],
        Duration::ZERO,
        1,
    )
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// A controller's question about the node.
fn query() -> Query {
    Query {
        cluster: 1,
        node: 1,
        key_id: keys().sending().id,
        nonce: 9,
    }
}

/// The next beacon that is due, probes left out.
fn next_beacon(node: &mut Node, now: Duration) -> Option<Bytes> {
    loop {
        let (_, bytes) = node.poll_transmit(now)?;
        if Message::read(&bytes, keys().beacons()) == Err(SealError::Foreign) {
            return Some(bytes);
        }
    }
}

fn due(node: &mut Node, now: Duration) -> Option<(Admission, u32)> {
    let bytes = next_beacon(node, now)?;
    let beacon = Beacon::read(&bytes[..], 0, BEACON_LEN).expect("a beacon");
    Some((beacon.admission, beacon.headroom))
}

/// Every verdict after every other.
#[test]
fn beacons_follow_the_sip_server() {
    let overloaded = Verdict::Overloaded {
        until: PERIOD * 100,
    };
    let verdicts = [
        (Verdict::Unknown, None),
        (Verdict::Alive, Some((Admission::Idle, 1000))),
        (overloaded, Some((Admission::Busy, 1000))),
        (Verdict::Dead, None),
    ];
    for (before, said) in verdicts {
        for (after, says) in verdicts {
            if after == Verdict::Unknown && before != after {
                continue;
            }
            let mut node = node();
            assert!(node.follow(Duration::ZERO, before).is_empty());
            assert_eq!(due(&mut node, Duration::ZERO), said, "{before:?}");
            let farewell = node.follow(PERIOD * 2, after);
            let drains = said.is_some() && after == Verdict::Dead;
            assert_eq!(!farewell.is_empty(), drains, "{before:?}, {after:?}");
            assert_eq!(due(&mut node, PERIOD * 2), says, "{before:?}, {after:?}");
            let timeout = node.next_timeout(PERIOD * 2);
            assert!(timeout > PERIOD * 2 && timeout <= PERIOD * 3, "{timeout:?}");
        }
    }
}

#[test]
fn queries_are_answered_while_the_sip_server_is_there() {
    let mut node = node();
    let bytes = query().write(keys().sending().key);
    assert!(
        node.receive(Duration::ZERO, HERE, &bytes).is_none(),
        "nothing is known yet"
    );
    node.follow(Duration::ZERO, Verdict::Alive);
    assert!(node.receive(Duration::ZERO, HERE, &bytes).is_some());
    node.follow(PERIOD, Verdict::Dead);
    assert!(node.receive(PERIOD, HERE, &bytes).is_none());
}

#[test]
fn what_is_refused_is_counted_by_reason() {
    let mut node = node();
    let forged = query().write(SipKey { k0: 1, k1: 2 });
    for bytes in [
        &forged[..],
        &forged[..50],
        b"noise",
        &Query {
            key_id: 77,
            ..query()
        }
        .write(keys().sending().key),
    ] {
        assert!(node.receive(Duration::ZERO, HERE, bytes).is_none());
    }
    let names: Vec<_> = node
        .refused
        .iter()
        .map(|(name, count)| (*name, *count))
        .collect();
    let expected = [
        ("foreign-status", 1),
        ("query-forged", 1),
        ("query-malformed", 1),
        ("query-unknown-key", 1),
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_node_hears_itself_and_others() {
    let (mut node, mut other) = (node(), node());
    let now = PERIOD;
    for sender in [&mut node, &mut other] {
        sender.follow(now, Verdict::Alive);
    }
    let bytes = next_beacon(&mut node, now).expect("due");
    node.receive(now, HERE, &bytes);
    other.receive(now, HERE, &bytes);
    node.receive(now, HERE, &bytes);
    let server = SipServer {
        address: ([127, 0, 0, 1], 5060).into(),
        verdict: name(Verdict::Alive).to_owned(),
        overloaded_for_ms: None,
        last_status: None,
        last_answer_age_ms: None,
        answer_ms: None,
        missed: 0,
    };
    let report = node.report(now, server);
    assert_eq!(report.nodes.len(), 1);
    assert_eq!(
        (report.nodes[0].node, report.nodes[0].liveness.as_str()),
        (1, "Up")
    );
    assert_eq!(report.refused.get("beacon-replayed"), Some(&1));
    assert_eq!(other.summary(), "Node 1: Idle");
}

/// Comes back with an epoch that is too old: within two periods it is taken, and the epoch that
/// it must keep is the new one before the first beacon of it is handed out.
#[test]
fn a_lost_epoch_is_found_again() {
    let (mut reborn, mut other) = (node(), node());
    let ring = keys();
    let old_life = Identity {
        cluster: 1,
        node: 1,
        epoch: 9,
        key: ring.sending(),
        sip_port: 5060,
        redirect_port: 0,
        address_v4: HERE.into(),
        address_v6: Address::default(),
    };
    let report = reborn.sender.report();
    let mut sender = Sender::new(old_life, PERIOD, 1, report, Duration::ZERO, 3);
    let (_, last) = sender.poll_transmit(Duration::ZERO).expect("due");
    other.receive(Duration::ZERO, HERE, &last);
    reborn.follow(PERIOD, Verdict::Alive);
    let mut now = PERIOD;
    let taken_at = loop {
        assert!(now < PERIOD * 4, "{:?}", other.refused);
        while let Some((_, bytes)) = reborn.poll_transmit(now) {
            if let Some(answer) = other.receive(now, HERE, &bytes) {
                reborn.receive(now, HERE, &answer);
            }
            assert!(reborn.epoch() == 5 || reborn.epoch() == 10);
        }
        if other.map.stamp(1).is_some_and(|stamp| stamp >> 32 == 10) {
            break now;
        }
        now = reborn.next_timeout(now);
    };
    assert!(taken_at <= PERIOD * 3, "{taken_at:?}");
    assert_eq!(reborn.epoch(), 10);
    // Of its old life nothing is taken any more.
    other.receive(now, HERE, &last);
    assert_eq!(other.refused.get("beacon-old-epoch").copied(), Some(1));
}

#[test]
fn the_gate_governs_and_news_does_not_wait() {
    let mut node = node();
    node.follow(Duration::ZERO, Verdict::Alive);
    let says = |admission, headroom| {
        let mut report = self::node().sender.report();
        (report.admission, report.headroom) = (admission, headroom);
        Some(report)
    };
    node.govern(Duration::ZERO, says(Admission::Free, 900));
    assert_eq!(due(&mut node, Duration::ZERO), Some((Admission::Free, 900)));
    let soon = PERIOD / 2;
    assert_eq!(due(&mut node, soon), None, "nothing new");
    node.govern(soon, says(Admission::Busy, 0));
    assert_eq!(due(&mut node, soon), Some((Admission::Busy, 0)));
    assert!(
        node.follow(soon, Verdict::Dead).is_empty(),
        "the gate knows"
    );
    assert_eq!(node.govern(soon, None).len(), 1, "farewell");
    assert_eq!(due(&mut node, PERIOD * 5), None);
}

#[test]
fn beacons_from_elsewhere_are_counted() {
    let (mut node, mut other) = (node(), node());
    other.follow(Duration::ZERO, Verdict::Alive);
    let bytes = next_beacon(&mut other, Duration::ZERO).expect("due");
    let elsewhere = IpAddr::from([192, 0, 2, 99]);
    node.receive(Duration::ZERO, elsewhere, &bytes);
    assert_eq!(node.refused.get("beacon-origin"), Some(&1));
}

#[test]
fn what_a_stalled_daemon_missed_is_held_against_nobody() {
    let (mut node, mut other) = (node(), node());
    other.follow(Duration::ZERO, Verdict::Alive);
    let bytes = next_beacon(&mut other, Duration::ZERO).expect("due");
    node.receive(Duration::ZERO, HERE, &bytes);
    let late = PERIOD * 50;
    node.poll_transmit(late);
    let row = node.map().row(late, 1).expect("heard");
    assert_eq!(row.liveness, lb_common::choose::Liveness::Up);
}

#[test]
fn calls_away_from_home_are_reported() {
    let mut node = node();
    let lb = SocketAddr::from(([192, 0, 2, 200], 7700));
    node.set_lbs(&[lb]).expect("an address");
    let call = Call::from_key(77);
    node.report_away(PERIOD, call).expect("room");
    let (to, bytes) = node.poll_report(PERIOD).expect("due");
    let mut receiver = Receiver::new(1, keys().beacons().to_vec());
    let known = |_| {
        Some(Known {
            is_origin: true,
            stamp: Some(5 << 32),
        })
    };
    let Ok(Taken::New(report)) = receiver.receive(PERIOD, &bytes, known) else {
        panic!("not taken");
    };
    assert_eq!((to, report.node, report.call), (lb, 1, call));
    assert_eq!(node.poll_reported(PERIOD), None);
    let answer = receiver.settle(&report, wire::Verdict::Pinned);
    node.receive(PERIOD, lb.ip(), &answer);
    let over = node.poll_reported(PERIOD);
    assert_eq!(over, Some((call, Outcome::Everywhere)));
    node.report_away(PERIOD, call).expect("room");
    let over = node.poll_reported(PERIOD * 2);
    assert_eq!(over, Some((call, Outcome::TimedOut { lbs: 1 })));
    assert_eq!((node.sent.reports, node.sent.report_failures), (1, 1));
}
