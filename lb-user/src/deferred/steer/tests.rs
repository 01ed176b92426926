//! The rules of `steer`, over a fleet and records that are plain values.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;

use lb_common::Admission;
use lb_common::maps::{Node, NodeStatus, Settings, StatusPlane, slot_of};
use lb_common::memory::MEMORY_WORDS;
use proptest::prelude::*;

use super::*;

const NODES: u16 = 4;
const NOW: u64 = 1 << 30;

struct Cluster {
    settings: Settings,
    now: u64,
    nodes: Vec<Node>,
    status: Vec<NodeStatus>,
}

impl Cluster {
    fn free() -> Self {
        let node = Node {
            flags: Node::PLAIN,
            ..Node::default()
        };
        let status = NodeStatus {
            last_seen: NOW,
            up_since: 1,
            ready: 1,
            headroom: 100,
            admission: Admission::Free as u8,
            ..NodeStatus::default()
        };
        Self {
            settings: Settings {
                call_secret: SipKey { k0: 1, k1: 2 },
                hold: 75,
                down: 250,
                epoch_shift: 14,
                node_end: u32::from(NODES) + 1,
                ..Settings::default()
            },
            now: NOW,
            nodes: vec![node; usize::from(NODES) + 1],
            status: vec![status; usize::from(NODES) + 1],
        }
    }

    fn admit(&mut self, node: u16, admission: Admission) {
        self.status[usize::from(node)].admission = admission as u8;
    }

    fn take_down(&mut self, node: u16) {
        self.status[usize::from(node)].last_seen = NOW - 251;
    }
}

impl Fleet for Cluster {
    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn now(&self) -> u64 {
        self.now
    }
    fn plane(&self) -> StatusPlane {
        StatusPlane {
            last_beacon: NOW,
            ..StatusPlane::default()
        }
    }
    fn node(&self, id: u16) -> Option<&Node> {
        self.nodes.get(usize::from(id)).filter(|_| id != NO_NODE)
    }
    fn status(&self, id: u16) -> Option<&NodeStatus> {
        self.status.get(usize::from(id))
    }
    fn home(&self, generation: u32, slot: u32) -> u16 {
        1 + ((slot + generation) % u32::from(NODES)) as u16
    }
    fn started(&self, _: u16) -> u64 {
        0
    }
}

#[derive(Default)]
struct Book {
    pins: RefCell<HashMap<u64, Pin>>,
    memory: RefCell<HashMap<u32, u64>>,
    full: bool,
}

impl Records for Book {
    type Error = Infallible;

    fn pin(&self, key: u64) -> Result<Option<Pin>, Infallible> {
        Ok(self.pins.borrow().get(&key).copied())
    }
    fn insert_pin(&self, key: u64, pin: Pin) -> Result<bool, Infallible> {
        if self.full || self.pins.borrow().contains_key(&key) {
            return Ok(false);
        }
        self.pins.borrow_mut().insert(key, pin);
        Ok(true)
    }
    fn update_pin(&self, key: u64, pin: Pin) -> Result<(), Infallible> {
        self.pins.borrow_mut().insert(key, pin);
        Ok(())
    }
    fn memory(&self, index: u32) -> Result<u64, Infallible> {
        assert!(index < 2 * MEMORY_WORDS);
        Ok(self
            .memory
            .borrow()
            .get(&index)
            .copied()
            .unwrap_or_default())
    }
    fn set_memory(&self, index: u32, word: u64) -> Result<(), Infallible> {
        self.memory.borrow_mut().insert(index, word);
        Ok(())
    }
}

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5060))
}

fn message(start: &str, call_id: &str, to: &str) -> Vec<u8> {
    format!("{start} SIP/2.0\nTo: <sip:b@c>{to}\nCall-ID: {call_id}\n\n").into_bytes()
}

fn go(cluster: &Cluster, book: &Book, payload: &[u8]) -> Steering {
    let Ok(steering) = steer(cluster, book, Turnout::default(), client(), payload);
    steering
}

fn home_of(steering: &Steering) -> u16 {
    1 + (slot_of(steering.key) % u32::from(NODES)) as u16
}

#[test]
fn a_call_goes_home_and_its_request_is_remembered() {
    let (mut cluster, book) = (Cluster::free(), Book::default());
    let first = go(&cluster, &book, &message("INVITE x", "a", ""));
    assert_eq!(
        (first.outcome(), first.reason),
        (Outcome::SteerCallId, Reason::Home)
    );
    assert_eq!(first.node, home_of(&first));
    assert_eq!(first.key, siphash13(cluster.settings.call_secret, b"a"));
    cluster.admit(first.node, Admission::Busy);
    let again = go(&cluster, &book, &message("INVITE x", "a", ""));
    assert_eq!((again.node, again.reason), (first.node, Reason::Remembered));
    assert!(book.pins.borrow().is_empty());
}

#[test]
fn the_kernels_memory_of_this_very_moment_counts_even_if_its_clock_is_ahead() {
    let (mut cluster, book) = (Cluster::free(), Book::default());
    let key = siphash13(cluster.settings.call_secret, b"a");
    // The first moment of an epoch there, the last of the one before here.
    let Ok(()) = remember(&cluster, &book, key);
    cluster.now = NOW - 1;
    let home = home_of(&go(
        &cluster,
        &Book::default(),
        &message("INVITE x", "a", ""),
    ));
    cluster.admit(home, Admission::Busy);
    let steering = go(&cluster, &book, &message("INVITE x", "a", ""));
    assert_eq!((steering.node, steering.reason), (home, Reason::Remembered));
}

#[test]
fn a_new_call_away_from_home_is_pinned_and_the_pin_followed() {
    let (mut cluster, book) = (Cluster::free(), Book::default());
    let home = home_of(&go(
        &cluster,
        &Book::default(),
        &message("INVITE x", "a", ""),
    ));
    cluster.take_down(home);
    let first = go(&cluster, &book, &message("INVITE x", "a", ""));
    assert_ne!(first.node, home);
    assert_eq!(first.reason, Reason::HomeDown);
    cluster.status[usize::from(home)].last_seen = NOW;
    for (start, to, flags) in [
        ("INVITE x", "", 0),
        ("ACK x", ";tag=1", Pin::CONFIRMED),
        ("INFO x", ";tag=1", Pin::CONFIRMED),
        ("BYE x", ";tag=1", Pin::CONFIRMED | Pin::ENDED),
    ] {
        let next = go(&cluster, &book, &message(start, "a", to));
        assert_eq!(
            (next.node, next.reason),
            (first.node, Reason::Pinned),
            "{start}"
        );
        assert_eq!(book.pins.borrow()[&first.key].flags, flags, "{start}");
    }
}

#[test]
fn an_unwilling_home_keeps_its_dialogs_and_other_requests() {
    let (mut cluster, book) = (Cluster::free(), Book::default());
    let home = home_of(&go(
        &cluster,
        &Book::default(),
        &message("INVITE x", "a", ""),
    ));
    cluster.admit(home, Admission::Busy);
    for (start, to, reason) in [
        ("INVITE x", ";tag=1", Reason::InDialog),
        ("REGISTER x", "", Reason::Home),
        ("BYE x", ";tag=1", Reason::InDialog),
    ] {
        let steering = go(&cluster, &Book::default(), &message(start, "a", to));
        assert_eq!((steering.node, steering.reason), (home, reason), "{start}");
    }
    let new = go(&cluster, &book, &message("INVITE x", "a", ""));
    assert_ne!(new.node, home);
    assert_eq!(new.reason, Reason::HomeUnwilling);
    assert_eq!(book.pins.borrow()[&new.key].node, new.node);
}

#[test]
fn full_pins_leave_new_calls_at_home() {
    let (mut cluster, book) = (
        Cluster::free(),
        Book {
            full: true,
            ..Book::default()
        },
    );
    let home = home_of(&go(
        &cluster,
        &Book::default(),
        &message("INVITE x", "a", ""),
    ));
    cluster.admit(home, Admission::Busy);
    let new = go(&cluster, &book, &message("INVITE x", "a", ""));
    assert_eq!((new.node, new.reason), (home, Reason::PinsFull));
    cluster.take_down(home);
    let down = go(
        &cluster,
        &Book {
            full: true,
            ..Book::default()
        },
        &message("INVITE x", "a", ""),
    );
    assert_ne!(down.node, home);
}

#[test]
fn what_names_no_call_goes_by_the_client() {
    let (mut cluster, book) = (Cluster::free(), Book::default());
    let no_call_id = message("INVITE x", "", "");
    for payload in [
        &b"\r\n\r\n"[..],
        b"\x00\x01\x00\x00\x21\x12\xa4\x42",
        b"",
        &no_call_id,
    ] {
        let steering = go(&cluster, &book, payload);
        assert_eq!(steering.outcome(), Outcome::SteerFallback);
        assert_eq!(
            steering.key,
            client_key(client(), cluster.settings.call_secret)
        );
        assert_eq!(steering.node, home_of(&steering));
    }
    let home = go(&cluster, &book, b"\r\n\r\n").node;
    cluster.admit(home, Admission::Draining);
    assert_eq!(go(&cluster, &book, b"\r\n\r\n").node, home);
    cluster.take_down(home);
    assert_ne!(go(&cluster, &book, b"\r\n\r\n").node, home);
    assert!(book.pins.borrow().is_empty() && book.memory.borrow().is_empty());
}

#[test]
fn a_client_is_the_same_however_its_address_is_written() {
    let secret = SipKey { k0: 1, k1: 2 };
    let mapped: SocketAddr = "[::ffff:192.0.2.1]:5060".parse().unwrap();
    assert_eq!(client_key(client(), secret), client_key(mapped, secret));
    let other = SocketAddr::from(([192, 0, 2, 1], 5061));
    assert_ne!(client_key(client(), secret), client_key(other, secret));
}

#[test]
fn while_tables_change_the_old_one_keeps_dialogs() {
    let (cluster, book) = (Cluster::free(), Book::default());
    let draining = Turnout {
        word: 1 | Turnout::DRAINING,
        term: 0,
    };
    let Ok(dialog) = steer(
        &cluster,
        &book,
        draining,
        client(),
        &message("BYE x", "a", ";tag=1"),
    );
    assert_eq!(
        (dialog.node, dialog.reason),
        (home_of(&dialog), Reason::OldTable)
    );
    let Ok(new) = steer(
        &cluster,
        &book,
        draining,
        client(),
        &message("INVITE x", "a", ""),
    );
    assert_ne!(new.node, dialog.node);
    assert_eq!(book.pins.borrow()[&new.key].node, new.node);
}

proptest! {
    #[test]
    fn everything_reaches_a_live_node(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        down in 0u16..=NODES,
        word in 0u64..4,
    ) {
        let turnout = Turnout { word, term: 0 };
        let (mut cluster, book) = (Cluster::free(), Book::default());
        cluster.take_down(down);
        let Ok(steering) = steer(&cluster, &book, turnout, client(), &payload);
        prop_assert!((1..=NODES).contains(&steering.node));
        prop_assert_ne!(steering.node, down);
    }
}
