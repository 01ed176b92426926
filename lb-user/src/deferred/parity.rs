//! Kernel and userspace steer alike: the same messages, over maps in the same state, go to the same
//! nodes for the same reasons and leave the same pins. Needs root.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lb_common::maps::{Event, Node, NodeStatus, StatusPlane, Turnout};
use lb_common::{Admission, Reason};
use lb_proto::table::{self, Share};

use super::frame::{Headers, Link, build};
use super::steer_by_maps;
use crate::apply;
use crate::explain::Scene;
use crate::plan::Plan;
use crate::plane::clock::Clock;
use crate::plane::{LoadOptions, Plane};

const NODES: u16 = 6;
const LOOPBACK: u32 = 1;

/// Numbers without a pattern, the same in every run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// One of the two: a plane of its own.
struct Side {
    plane: Plane,
    clock: Clock,
}

impl Side {
    fn new(max_pins: u32) -> Self {
        let plane = Plane::load(&LoadOptions { max_pins }).expect("loading takes root");
        let clock = Clock::measure(&plane).unwrap();
        let vip = vip();
        let mut scene = Scene::plain(&[vip], NODES);
        scene.config.status.timing.period = Duration::from_secs(10);
        for node in &mut scene.config.nodes {
            node.is_silent = false;
        }
        let mut plan = Plan::of(
            &scene.config,
            &scene.keys,
            clock.jiffy_ns(),
            &BTreeSet::new(),
        );
        plan.settings.sample = 1;
        apply::apply(plane.maps(), &plan).unwrap();
        let other: Vec<Share> = (1..=NODES / 2)
            .map(|node| Share { node, weight: 1 })
            .collect();
        plane.maps().set_table(1, &table::fill(&other));
        Self { plane, clock }
    }

    fn set(&self, state: &State) {
        let maps = self.plane.maps();
        let now = self.clock.now();
        for (id, (admission, age_s)) in (1..).zip(state.nodes) {
            let node = Node {
                flags: Node::PLAIN,
                ifindex: LOOPBACK,
                destination_mac: [2, 0, 0, 0, 0, id as u8],
                ..Node::default()
            };
            maps.set_node(id, node).unwrap();
            let status = NodeStatus {
                stamp: 1,
                last_seen: now - self.clock.jiffies(Duration::from_secs(age_s)),
                up_since: 1,
                // Far enough apart that what the kernel counts meanwhile makes no difference.
                headroom: u32::from(id) * 100_000,
                admission: admission as u8,
                ready: 1,
                ..NodeStatus::default()
            };
            maps.set_status(id, status).unwrap();
        }
        let last_beacon = now - self.clock.jiffies(Duration::from_secs(state.plane_age_s));
        maps.set_plane_status(StatusPlane {
            last_beacon,
            ..StatusPlane::default()
        })
        .unwrap();
        maps.set_turnout(Turnout {
            word: state.turnout,
            term: 0,
        })
        .unwrap();
    }

    fn in_kernel(&self, payload: &[u8]) -> (u16, Option<Reason>) {
        let link = Link {
            destination: [2; 6],
            source: [4; 6],
            mtu: 1_500,
        };
        let headers = Headers {
            client: client(),
            vip: vip(),
            hop_limit: 64,
            traffic_class: 0,
            identification: 0,
        };
        let frame = build(&link, &headers, payload).unwrap().remove(0);
        self.plane.test_run(&frame, LOOPBACK).unwrap();
        let event: Event = self.plane.maps().next_event().unwrap();
        (event.node, Reason::from_index(event.reason))
    }

    fn in_userspace(&self, payload: &[u8]) -> (u16, Option<Reason>) {
        let maps = self.plane.maps();
        let steering = steer_by_maps(maps, self.clock.now(), client(), payload).unwrap();
        (steering.node, Some(steering.reason))
    }

    fn pins(&self) -> BTreeMap<u64, (u16, u16)> {
        let pins = self.plane.maps().pins().map(Result::unwrap);
        pins.map(|(key, pin)| (key, (pin.node, pin.flags)))
            .collect()
    }
}

fn vip() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 10], 5060))
}

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5060))
}

#[derive(Debug)]
struct State {
    /// Admission, and seconds since the last beacon: 30 make it `Stale`, 100 `Down`.
    nodes: [(Admission, u64); NODES as usize],
    plane_age_s: u64,
    turnout: u64,
}

impl State {
    fn any(numbers: &mut Numbers) -> Self {
        let admissions = [
            Admission::Idle,
            Admission::Free,
            Admission::Busy,
            Admission::Draining,
        ];
        let ages = [0, 0, 0, 60, 200];
        let mut node = || {
            let admission = admissions[numbers.below(4) as usize];
            (admission, ages[numbers.below(5) as usize])
        };
        let nodes = [node(), node(), node(), node(), node(), node()];
        Self {
            nodes,
            plane_age_s: [0, 0, 0, 50][numbers.below(4) as usize],
            turnout: numbers.below(4) | [0, 0, 0, Turnout::GATHERING][numbers.below(4) as usize],
        }
    }
}

fn message(numbers: &mut Numbers, calls: u64) -> Vec<u8> {
    let start = [
        "INVITE sip:a@b SIP/2.0",
        "INVITE sip:a@b SIP/2.0",
        "REGISTER sip:b SIP/2.0",
        "ACK sip:a@b SIP/2.0",
        "BYE sip:a@b SIP/2.0",
        "CANCEL sip:a@b SIP/2.0",
        "INFO sip:a@b SIP/2.0",
        "SIP/2.0 200 OK",
    ][numbers.below(8) as usize];
    let tag = ["", ";tag=1"][numbers.below(2) as usize];
    let call = numbers.below(calls);
    format!("{start}\r\nVia: x\r\nTo: <sip:a@b>{tag}\r\nCall-ID: call-{call}@c\r\n\r\n")
        .into_bytes()
}

/// Runs both sides through the same rounds; returns which reasons came up.
fn compare(max_pins: u32, calls: u64, seed: u64) -> BTreeSet<Reason> {
    let (kernel, userspace) = (Side::new(max_pins), Side::new(max_pins));
    let mut numbers = Numbers(seed);
    let mut reasons = BTreeSet::new();
    for round in 0..60 {
        let state = State::any(&mut numbers);
        kernel.set(&state);
        userspace.set(&state);
        for step in 0..12 {
            let message = message(&mut numbers, calls);
            let there = kernel.in_kernel(&message);
            let here = userspace.in_userspace(&message);
            let text = String::from_utf8_lossy(&message);
            assert_eq!(there, here, "round {round}, step {step}, {state:?}\n{text}");
            reasons.extend(here.1);
        }
        assert_eq!(kernel.pins(), userspace.pins(), "round {round}, {state:?}");
    }
    reasons
}

#[test]
fn the_same_messages_go_to_the_same_nodes() {
    let reasons = compare(4_096, 200, 1);
    for reason in [
        Reason::Home,
        Reason::Pinned,
        Reason::Remembered,
        Reason::InDialog,
        Reason::HomeDown,
        Reason::HomeUnwilling,
        Reason::OldTable,
    ] {
        assert!(
            reasons.contains(&reason),
            "{reason:?} never came up: {reasons:?}"
        );
    }
}

#[test]
fn full_pins_are_the_same_to_both() {
    assert!(compare(8, 2_000, 2).contains(&Reason::PinsFull));
}
