//! The status task over real maps, with nodes on the loopback. Needs root: it loads the program, and
//! attaches it to nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use lb_common::beacon::{BEACON_LEN, Beacon};
use lb_common::choose::{Liveness, judge};
use lb_common::maps::{Node, NodeStatus, Pin, Settings, Turnout, slot_of};
use lb_common::siphash::SipKey;
use lb_common::{Address, Admission};
use lb_proto::call::Call;
use lb_proto::keys::{KeyRing, NumberedKey};
use lb_proto::pin_report::wire::{Message, Verdict};
use lb_proto::pin_report::{Outcome, Reporter, Signer};
use lb_proto::status::damping::FIRST_HOLD_DOWN;
use lb_proto::status::query;
use lb_user::config::Config;
use lb_user::plan::CANDIDATE;
use lb_user::plane::clock::Clock;
use lb_user::plane::{LoadOptions, Maps, Plane};
use lb_user::status::{Learnt, Reported, Roster, StatusCounts, StatusTask, end_away, pin_away};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(10);
const OLD: NumberedKey = NumberedKey {
    id: 3,
    key: SipKey::from_bytes([0x22; 16]),
};
const NEW: NumberedKey = NumberedKey {
    id: 4,
    key: SipKey::from_bytes([0x44; 16]),
};

fn keys(text: &str) -> KeyRing {
    KeyRing::parse(&format!("call {}\n{text}", "11".repeat(16))).expect("good keys")
}

fn old_keys() -> String {
    format!("beacon 3 {}\n", "22".repeat(16))
}

/// A controller's status task, and where it is.
struct Lab {
    maps: Arc<Maps>,
    counts: Arc<StatusCounts>,
    roster: watch::Sender<Roster>,
    learnt: watch::Sender<Learnt>,
    config: Config,
    at: SocketAddr,
    /// Each test's nodes have addresses of their own.
    number: u8,
    _plane: Plane,
}

impl Lab {
    fn new(max_pins: u32) -> Self {
        Self::prepared(max_pins, |_| {})
    }

    fn prepared(max_pins: u32, prepare: impl FnOnce(&Maps)) -> Self {
        static TESTS: AtomicU8 = AtomicU8::new(1);
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        let plane = Plane::load(&LoadOptions { max_pins }).expect("a loadable program, and root");
        let maps = plane.shared_maps();
        prepare(&maps);
        let probe = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let at = probe.local_addr().expect("bound");
        drop(probe);
        let text = format!(
            "cluster = 7\nkeys = \"k\"\n[status]\naddresses = [\"127.0.0.1\"]\ndiscover = true\nport = {}\n\
             period_ms = 20\n[[interface]]\nname = \"lo\"\n[[vip]]\naddress = \"192.0.2.10\"\n\
             [[node]]\nid = 1\naddress = \"{}\"\n[[node]]\nid = 2\naddress = \"{}\"\n",
            at.port(),
            address(number, 1),
            address(number, 2),
        );
        let config = Config::parse(Path::new("test"), &text).expect("a good file");
        let (roster, changes) =
            watch::channel(Roster::of(&config, &Learnt::new(), &keys(&old_keys())));
        let (learnt, _) = watch::channel(Learnt::new());
        let clock = Arc::new(Clock::measure(&plane).expect("a clock"));
        let counts = Arc::new(StatusCounts::default());
        let task = StatusTask::open(
            &config,
            changes,
            (learnt.clone(), None),
            (maps.clone(), clock),
            counts.clone(),
        );
        tokio::spawn(task.expect("sockets").run());
        Self {
            maps,
            counts,
            roster,
            learnt,
            config,
            at,
            number,
            _plane: plane,
        }
    }

    async fn node(&self, id: u16) -> TestNode {
        let socket = UdpSocket::bind((address(self.number, id as u8), 0)).await;
        TestNode {
            socket: socket.expect("a loopback address"),
            id,
            at: self.at,
        }
    }

    fn reported(&self, which: Reported) -> u64 {
        let mut all = self.counts.reported();
        all.find(|(reported, _)| *reported == which)
            .map_or(0, |(_, count)| count)
    }

    fn refused(&self, name: &str) -> u64 {
        let mut all = self.counts.report_refusals();
        all.find(|(refusal, _)| refusal.name() == name)
            .map_or(0, |(_, count)| count)
    }
}

fn address(number: u8, node: u8) -> IpAddr {
    IpAddr::from([127, 60, number, node])
}

struct TestNode {
    socket: UdpSocket,
    id: u16,
    at: SocketAddr,
}

impl TestNode {
    fn signer(&self, key: NumberedKey) -> Signer {
        Signer {
            cluster: 7,
            node: self.id,
            key,
        }
    }

    fn reporter(&self, key: NumberedKey) -> Reporter {
        Reporter::new(self.signer(key), &[self.at]).expect("an LB")
    }

    fn beacon(&self, epoch: u32, sequence: u32, key: NumberedKey) -> [u8; BEACON_LEN as usize] {
        let local = self.socket.local_addr().expect("bound").ip();
        Beacon {
            admission: Admission::Free,
            key_id: key.id,
            cluster: 7,
            node: self.id,
            epoch,
            sequence,
            capacity: 100,
            active: 1,
            headroom: 99,
            calls_per_second: 0,
            oc_permille: 1000,
            period_ms: 20,
            sip_port: 5060,
            redirect_port: 0,
            address_v4: local.into(),
            address_v6: Address::default(),
        }
        .write(key.key)
    }

    async fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.at).await.expect("sent");
    }

    async fn receive(&self) -> Vec<u8> {
        let mut bytes = [0; 200];
        let received = timeout(PATIENCE, self.socket.recv_from(&mut bytes)).await;
        let (len, _) = received.expect("in time").expect("a datagram");
        bytes[..len].to_vec()
    }

    /// Reports a call as a node does, until it is over.
    async fn report(&self, reporter: &mut Reporter, call: Call, beacon: (u32, u32)) -> Outcome {
        let began = Instant::now();
        reporter.report(Duration::ZERO, call, beacon).expect("room");
        loop {
            let now = began.elapsed();
            while let Some((to, bytes)) = reporter.poll_transmit(now) {
                self.socket.send_to(&bytes, to).await.expect("sent");
            }
            if let Some((_, outcome)) = reporter.poll_outcome(now) {
                return outcome;
            }
            let until = began + reporter.next_timeout().expect("it is not over");
            let mut bytes = [0; 200];
            let received = tokio::time::timeout_at(until, self.socket.recv_from(&mut bytes)).await;
            if let Ok(Ok((len, _))) = received
                && let Ok(Message::Answer(answer)) = Message::read(&bytes[..len], &[OLD, NEW])
            {
                reporter.answered(&answer);
            }
        }
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A call whose home, by a table of node 1 alone in even slots, is as wanted.
fn call_at(home: u16, from: u64) -> Call {
    let is_there = |key: &u64| u16::from(slot_of(*key) % 2 == 1) + 1 == home;
    let mut spread = (from..).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Call::from_key(spread.find(is_there).expect("every other"))
}

fn fill(maps: &Maps) {
    let table: Vec<u16> = (0..65_537u32).map(|slot| (slot % 2) as u16 + 1).collect();
    maps.set_table(0, &table);
}

#[tokio::test]
async fn a_reported_call_is_pinned_before_the_answer_comes() {
    let lab = Lab::prepared(64, fill);
    let node = lab.node(2).await;
    let mut reporter = node.reporter(OLD);
    let away = call_at(1, 1);
    let outcome = node.report(&mut reporter, away, (5, 0)).await;
    assert_eq!(outcome, Outcome::Everywhere);
    let pin = lab.maps.pin(away.key()).expect("read").expect("a pin");
    assert_eq!((pin.node, pin.flags), (2, Pin::BY_CONTROLLER));
    assert!(pin.created != 0 && lab.maps.pin_hint(away.key()) == 1);
    // Its own home needs none.
    let outcome = node.report(&mut reporter, call_at(2, 1), (5, 0)).await;
    assert_eq!(outcome, Outcome::Everywhere);
    assert_eq!(lab.maps.pin_count(), 1);
    assert_eq!(lab.reported(Reported::New(Verdict::Pinned)), 1);
    assert_eq!(lab.reported(Reported::New(Verdict::AtHome)), 1);
}

#[tokio::test]
async fn a_full_map_is_answered_and_counted() {
    let lab = Lab::prepared(2, fill);
    let node = lab.node(2).await;
    let mut reporter = node.reporter(OLD);
    let mut outcomes = Vec::new();
    for n in 0..3 {
        let call = call_at(1, n * 100 + 1);
        outcomes.push(node.report(&mut reporter, call, (5, 0)).await);
    }
    let expected = [
        Outcome::Everywhere,
        Outcome::Everywhere,
        Outcome::Refused { lbs: 1 },
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(lab.reported(Reported::New(Verdict::Full)), 1);
    assert_eq!(lab.maps.pin_count(), 2);
}

#[tokio::test]
async fn reports_that_are_not_to_be_taken_change_nothing() {
    let lab = Lab::prepared(64, fill);
    let (node, other) = (lab.node(2).await, lab.node(1).await);
    node.send(&node.beacon(5, 10, OLD)).await;
    eventually("the beacon is taken", || lab.counts.accepted() == 1).await;
    let report = |key: NumberedKey, epoch| {
        let mut reporter = node.reporter(key);
        reporter
            .report(Duration::ZERO, call_at(1, 7), (epoch, 10))
            .expect("room");
        reporter.poll_transmit(Duration::ZERO).expect("due").1
    };
    let forged = NumberedKey { id: 3, ..NEW };
    other.send(&report(OLD, 5)).await;
    node.send(&report(forged, 5)).await;
    node.send(&report(NEW, 5)).await;
    node.send(&report(OLD, 4)).await;
    for reason in ["origin", "forged", "unknown-key", "old-epoch"] {
        eventually(reason, || lab.refused(reason) == 1).await;
    }
    assert_eq!(lab.maps.pin_count(), 0);
    // Genuine, twice: one pin, two answers.
    let genuine = report(OLD, 5);
    for _ in 0..2 {
        node.send(&genuine).await;
        let answer = node.receive().await;
        assert!(matches!(
            Message::read(&answer, &[OLD]),
            Ok(Message::Answer(_))
        ));
    }
    assert_eq!(
        (lab.maps.pin_count(), lab.reported(Reported::Again)),
        (1, 1)
    );
}

/// What the program has taken is held against a node that comes back with less, and the node is told.
#[tokio::test]
async fn a_node_with_an_old_epoch_is_told_what_is_held() {
    let stamp = 9 << 32 | 1234;
    let lab = Lab::prepared(64, |maps| {
        let status = NodeStatus {
            stamp,
            ..NodeStatus::default()
        };
        maps.set_status(2, status).expect("written");
    });
    let node = lab.node(2).await;
    node.send(&node.beacon(5, 0, OLD)).await;
    eventually("it is refused", || lab.counts.refused() == 1).await;
    let probe = query::Probe {
        cluster: 7,
        node: 2,
        key_id: OLD.id,
        nonce: 77,
        stamp: 5 << 32 | 1,
    };
    node.send(&probe.write(OLD.key)).await;
    let answer = node.receive().await;
    let Ok(query::Message::Held(held)) = query::Message::read(&answer, &[OLD]) else {
        panic!("{answer:?}");
    };
    assert_eq!((held.nonce, held.stamp, held.node), (77, stamp, 2));
    assert_eq!(lab.counts.held(), 1);
    node.send(&node.beacon(10, 0, OLD)).await;
    eventually("its new life is taken", || lab.counts.accepted() == 1).await;
}

#[tokio::test]
async fn beacons_come_from_their_node() {
    let lab = Lab::new(64);
    let (node, other) = (lab.node(2).await, lab.node(1).await);
    other.send(&node.beacon(5, 0, OLD)).await;
    eventually("it is refused", || lab.counts.origins() == 1).await;
    node.send(&node.beacon(5, 0, OLD)).await;
    eventually("it is taken", || lab.counts.accepted() == 1).await;
}

/// Keys change while beacons come: none is refused, and nothing that was known is forgotten.
#[tokio::test]
async fn keys_change_without_a_missed_beacon() {
    let lab = Lab::new(64);
    let node = lab.node(2).await;
    let both = format!("{}beacon 4 {}\n", old_keys(), "44".repeat(16));
    let turned = format!("beacon 4 {}\n{}", "44".repeat(16), old_keys());
    for (sequence, ring, key) in [
        (0, old_keys(), OLD),
        (1, both, OLD),
        (2, turned, NEW),
        (3, format!("beacon 4 {}\n", "44".repeat(16)), NEW),
    ] {
        let roster = Roster::of(&lab.config, &Learnt::new(), &keys(&ring));
        lab.roster.send_replace(roster);
        let taken = u64::from(sequence) + 1;
        // The task turns to the roster when it is woken; a beacon that it wakes for comes after.
        tokio::task::yield_now().await;
        node.send(&node.beacon(5, sequence, key)).await;
        eventually("it is taken", || lab.counts.accepted() == taken).await;
    }
    node.send(&node.beacon(5, 4, OLD)).await;
    eventually("the old key is gone", || lab.counts.refused() == 1).await;
}

/// A silent node is asked, then declared `Down`, and waits before it is `Up` again: what it sends
/// meanwhile does not bring it back, for the program either.
#[tokio::test]
async fn who_falls_waits() {
    let lab = Lab::new(64);
    let (node, witness) = (lab.node(2).await, lab.node(1).await);
    let row = || lab.maps.node(2).expect("read");
    let is_down = || row().flags & Node::JUDGED != 0;
    let mut sequence = 0;
    node.send(&node.beacon(5, 0, OLD)).await;
    let began = Instant::now();
    while !is_down() {
        assert!(began.elapsed() < PATIENCE);
        sequence += 1;
        witness.send(&witness.beacon(5, sequence, OLD)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let fell = Instant::now();
    // Who has the task alone has no plan applied.
    let down = Node {
        flags: row().flags | Node::CONFIGURED,
        ..row()
    };
    assert!(down.blocked_until > down.down_at && down.down_at != 0);
    assert!(lab.counts.queries() >= 3 && lab.counts.downs() == 1);
    // Back at once, and well by its beacons alone.
    let well = NodeStatus {
        last_seen: down.down_at + 1,
        up_since: down.down_at + 1,
        ready: 1,
        ..NodeStatus::default()
    };
    let settings = Settings {
        hold: u64::MAX / 4,
        down: u64::MAX / 4,
        ..Settings::default()
    };
    let judged = |moment| judge(&down, &well, &settings, moment);
    assert_eq!(
        judged(down.blocked_until - 1),
        Liveness::Stale,
        "it keeps its calls"
    );
    assert_eq!(judged(down.blocked_until), Liveness::Up);
    while is_down() {
        assert!(fell.elapsed() < PATIENCE);
        sequence += 1;
        for node in [&node, &witness] {
            node.send(&node.beacon(5, sequence, OLD)).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waited = fell.elapsed();
    assert!(waited >= FIRST_HOLD_DOWN / 2, "{waited:?}");
    assert_eq!((row().down_at, row().blocked_until), (0, 0));
}

/// A node that nobody named, with our key, is learnt with its address; one with another is not.
#[tokio::test]
async fn nodes_are_learnt_from_their_beacons() {
    let lab = Lab::new(64);
    let (node, stranger) = (lab.node(9).await, lab.node(8).await);
    let mut learnt = lab.learnt.subscribe();
    stranger.send(&stranger.beacon(5, 0, NEW)).await;
    node.send(&node.beacon(5, 0, OLD)).await;
    timeout(PATIENCE, learnt.changed())
        .await
        .expect("in time")
        .expect("it serves");
    let expected = Learnt::from([(9, Some(address(lab.number, 9)))]);
    assert_eq!(*learnt.borrow(), expected);
    assert_eq!(lab.counts.refused(), 1);
}

/// A learnt node that an earlier controller has declared `Down` is so until it has shown otherwise,
/// although it is not known where it is before it is heard.
#[tokio::test]
async fn a_learnt_node_that_was_down_stays_so() {
    let was_down = Node {
        flags: Node::PLAIN | Node::JUDGED,
        down_at: 1,
        blocked_until: 2,
        ..Node::default()
    };
    let lab = Lab::prepared(64, |maps| maps.set_node(9, was_down).expect("written"));
    let learnt = Learnt::from([(9, Some(address(lab.number, 9)))]);
    let roster = Roster::of(&lab.config, &learnt, &keys(&old_keys()));
    assert_eq!(roster.nodes.len(), 3);
    lab.roster.send_replace(roster);
    let node = lab.node(9).await;
    let flags = || lab.maps.node(9).expect("read").flags;
    let began = Instant::now();
    let mut sequence = 0;
    while flags() != Node::PLAIN {
        assert!(began.elapsed() < PATIENCE);
        sequence += 1;
        node.send(&node.beacon(5, sequence, OLD)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(lab.counts.accepted() >= 3, "it has shown it");
}

/// A call at a node that is not in the table yet is not pinned: the pin would hold nobody.
#[tokio::test]
async fn who_is_not_learnt_yet_reports_in_vain() {
    let lab = Lab::prepared(64, |maps| {
        fill(maps);
        maps.set_node(9, CANDIDATE).expect("written");
    });
    let node = lab.node(9).await;
    node.send(&node.beacon(5, 0, OLD)).await;
    eventually("it is heard", || lab.counts.accepted() == 1).await;
    let mut reporter = node.reporter(OLD);
    let outcome = node.report(&mut reporter, call_at(1, 1), (5, 1)).await;
    assert_eq!(outcome, Outcome::TimedOut { lbs: 1 });
    assert!(lab.refused("unknown-node") > 0);
    lab.maps.set_node(9, Node::default()).expect("written");
    let outcome = node.report(&mut reporter, call_at(1, 1), (5, 1)).await;
    assert_eq!(outcome, Outcome::Everywhere);
}

#[test]
fn pins_are_made_moved_and_renewed() {
    let plane = Plane::load(&LoadOptions { max_pins: 1 }).expect("root");
    let maps = plane.maps();
    fill(maps);
    let call = call_at(1, 1);
    let made = |now, node| pin_away(maps, now, call, node, false).expect("no error");
    let pin = || maps.pin(call.key()).expect("read");
    assert_eq!((made(10, 1), pin()), (Some(Verdict::AtHome), None));
    assert_eq!(made(10, 2), Some(Verdict::Pinned));
    let first = pin().expect("a pin");
    assert_eq!((first.node, first.created), (2, 10));
    // Confirmed meanwhile: stays so, and its time starts over.
    let confirmed = Pin {
        flags: first.flags | Pin::CONFIRMED,
        ..first
    };
    maps.update_pin(call.key(), confirmed).expect("written");
    assert_eq!(made(20, 2), Some(Verdict::Pinned));
    let renewed = pin().expect("a pin");
    assert_eq!((renewed.flags, renewed.created), (confirmed.flags, 20));
    // Another node has it now; even when that is the home, the pin must not say otherwise.
    for node in [3, 1] {
        assert_eq!(made(30, node), Some(Verdict::Pinned));
        let moved = pin().expect("a pin");
        assert_eq!((moved.node, moved.flags), (node, Pin::BY_CONTROLLER));
    }
    assert_eq!((maps.pin_count(), maps.pin_hint(call.key())), (1, 1));
    // Answered, as its node says; then over, but not with a node that does not have it.
    pin_away(maps, 31, call, 1, true).expect("no error");
    assert_eq!(
        pin().expect("a pin").flags,
        Pin::BY_CONTROLLER | Pin::CONFIRMED
    );
    end_away(maps, 35, call, 2).expect("no error");
    assert_eq!(pin().expect("a pin").flags & Pin::ENDED, 0);
    end_away(maps, 36, call, 1).expect("no error");
    let ended = pin().expect("a pin");
    assert_eq!(
        (ended.flags & Pin::ENDED, ended.last_seen),
        (Pin::ENDED, 36)
    );
    let other = pin_away(maps, 40, call_at(1, 500), 2, false).expect("no error");
    assert_eq!(other, Some(Verdict::Full));
    assert_eq!(maps.pin_count(), 1);
    // While the tables change, dialogs go by the old one: home is where both say.
    maps.remove_pin(call.key()).expect("written");
    maps.set_table(1, &[2; 65_537]);
    let word = Turnout::DRAINING;
    maps.set_turnout(Turnout { word, term: 0 })
        .expect("written");
    assert_eq!(made(50, 1), Some(Verdict::Pinned));
}
