//! The typed maps over real ones. Needs root: it loads the program, and attaches it to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::Address;
use lb_common::choose::{Liveness, judge};
use lb_common::maps::{
    MAX_VIPS, Node, NodeStatus, PIN_HINTS, Pin, Settings, TABLE_SLOTS, Turnout, VIP_PROBES, Vip,
    VipUse, vip_slot,
};
use lb_proto::keys::KeyRing;
use lb_user::apply::{Applied, TableChange, apply, apply_services, finish_drain};
use lb_user::config::Config;
use lb_user::pins::{Limits, Sweeper};
use lb_user::plan::{CANDIDATE, Plan, Service};
use lb_user::plane::clock::Clock;
use lb_user::plane::maps::Insertion;
use lb_user::plane::{LoadOptions, Plane};

const JIFFY_NS: u64 = 4_000_000;

fn plane(max_pins: u32) -> Plane {
    Plane::load(&LoadOptions { max_pins }).expect("a loadable program, and root")
}

fn pin(node: u16) -> Pin {
    Pin {
        node,
        ..Pin::default()
    }
}

/// Spreads numbers over the hints and the buckets of the map.
fn key(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let plane = plane(16);
    let maps = plane.maps();
    let table: Vec<u16> = (0..TABLE_SLOTS)
        .map(|slot| (slot % 251) as u16 + 1)
        .collect();
    let other: Vec<u16> = table.iter().rev().copied().collect();
    maps.set_table(0, &table);
    maps.set_table(1, &other);
    assert_eq!(maps.table(0), table);
    assert_eq!(maps.table(1), other);
    for slot in [0, 1, 2, 3, 4, 32_768, TABLE_SLOTS - 1] {
        assert_eq!(maps.home(0, slot).expect("read"), table[slot as usize]);
        assert_eq!(maps.home(1, slot).expect("read"), other[slot as usize]);
    }
    maps.set_table(0, &[7]);
    let homes = maps.table(0);
    assert_eq!(
        (homes[0], homes.iter().filter(|home| **home != 0).count()),
        (7, 1)
    );
}

#[test]
fn pins_are_counted_exactly_and_never_overwritten() {
    let plane = plane(100);
    let maps = plane.maps();
    assert_eq!(maps.max_pins(), 100);
    for n in 0..100 {
        assert_eq!(
            maps.insert_pin(key(n), pin(n as u16)).expect("no error"),
            Insertion::Made
        );
    }
    assert_eq!(
        maps.insert_pin(key(5), pin(200)).expect("no error"),
        Insertion::Exists
    );
    assert_eq!(
        maps.insert_pin(key(100), pin(200)).expect("no error"),
        Insertion::Full
    );
    assert_eq!(maps.pin(key(5)).expect("read"), Some(pin(5)));
    assert_eq!(maps.pin_count(), 100);
    assert!(maps.pin_hint(key(5)) >= 1);
    assert!(maps.update_pin(key(5), pin(9)).expect("no error"));
    assert!(!maps.update_pin(key(100), pin(9)).expect("no error"));
    for n in 0..100 {
        assert!(maps.remove_pin(key(n)).expect("no error"));
        assert!(!maps.remove_pin(key(n)).expect("no error"));
    }
    assert_eq!(maps.pin_count(), 0);
    assert!((0..u64::from(PIN_HINTS)).all(|place| maps.pin_hint(place << 40) == 0));
}

#[test]
fn a_walk_sees_every_pin_once() {
    let plane = plane(20_000);
    let maps = plane.maps();
    for n in 0..20_000 {
        maps.insert_pin(key(n), pin(n as u16)).expect("room");
    }
    let mut seen = BTreeMap::new();
    for entry in maps.pins() {
        let (key, pin) = entry.expect("read");
        assert_eq!(seen.insert(key, pin.node), None);
    }
    assert_eq!(seen.len(), 20_000);
    assert!((0..20_000).all(|n| seen.get(&key(n)) == Some(&(n as u16))));
}

#[test]
fn what_is_over_is_swept_and_the_rest_stays() {
    let plane = plane(40_000);
    let maps = plane.shared_maps();
    let clock = Arc::new(Clock::measure(&plane).expect("a clock"));
    let now = clock.now();
    let limits = Limits {
        transaction: 1_000,
        session: 100_000,
    };
    for n in 0..30_000u64 {
        let flags = if n.is_multiple_of(3) {
            Pin::CONFIRMED
        } else {
            0
        };
        let created = now - 2_000 * (n % 2);
        maps.insert_pin(
            key(n),
            Pin {
                flags,
                created,
                last_seen: created,
                ..pin(1)
            },
        )
        .expect("room");
    }
    let over = |n: u64| n % 2 == 1 && !n.is_multiple_of(3);
    let mut sweeper = Sweeper::new(maps.clone(), clock);
    let mut removed = 0;
    // More steps than one walk takes.
    for _ in 0..64 {
        removed += sweeper.step(limits).expect("no error");
    }
    assert_eq!(removed, (0..30_000).filter(|n| over(*n)).count() as u64);
    assert_eq!(sweeper.counts().expired(), removed);
    assert_eq!(maps.pin_count(), 30_000 - removed);
    let left: BTreeSet<u64> = maps.pins().map(|entry| entry.expect("read").0).collect();
    assert!((0..30_000).all(|n| left.contains(&key(n)) != over(n)));
}

#[test]
fn a_full_map_is_an_alarm_until_there_is_room() {
    let plane = plane(200);
    let maps = plane.shared_maps();
    let clock = Arc::new(Clock::measure(&plane).expect("a clock"));
    let limits = Limits {
        transaction: u64::MAX,
        session: u64::MAX,
    };
    let mut sweeper = Sweeper::new(maps.clone(), clock);
    let counts = sweeper.counts();
    let mut is_full = || {
        sweeper.step(limits).expect("no error");
        counts.is_full()
    };
    for n in 0..200 {
        assert!(!is_full());
        maps.insert_pin(key(n), pin(1)).expect("room");
    }
    assert!(is_full());
    // Not with the first gap: an alarm that comes and goes with every call says nothing.
    for n in 0..11 {
        assert!(is_full(), "{n} gone");
        maps.remove_pin(key(n)).expect("no error");
    }
    assert!(!is_full());
}

#[test]
fn vips_that_share_a_slot_are_all_found() {
    let plane = plane(16);
    let maps = plane.maps();
    let port_be = 5060u16.to_be();
    let address = |n: u32| Address::from(IpAddr::from(n.to_be_bytes()));
    let slot = vip_slot(address(0x0a00_0001), port_be);
    let crowd: Vec<Address> = (0x0a00_0001..)
        .map(address)
        .filter(|address| vip_slot(*address, port_be) == slot)
        .take(VIP_PROBES as usize + 1)
        .collect();
    let vip = |address, index| Vip {
        address,
        port_be,
        purpose: VipUse::Sip as u8,
        reserved: 0,
        index,
    };
    let (last, crowd) = crowd.split_last().expect("several");
    for (index, address) in (0..).zip(crowd) {
        maps.insert_vip(vip(*address, index)).expect("room");
    }
    assert_eq!(maps.vips().expect("read").len(), crowd.len());
    assert!(
        maps.insert_vip(vip(*last, 99)).is_err(),
        "no room within the probes"
    );
    // One in the middle goes: those behind it are still found, and its place can be had.
    assert!(maps.remove_vip(crowd[3], port_be).expect("no error"));
    assert!(!maps.remove_vip(crowd[3], port_be).expect("no error"));
    maps.insert_vip(vip(crowd[5], 50)).expect("there already");
    maps.insert_vip(vip(*last, 99))
        .expect("the place that was left");
    let vips = maps.vips().expect("read");
    assert_eq!(vips.len(), crowd.len());
    assert!(vips.contains(&vip(crowd[5], 50)) && vips.contains(&vip(*last, 99)));
}

#[test]
fn the_clock_tells_the_kernels_time() {
    let plane = plane(16);
    let clock = Clock::measure(&plane).expect("a clock");
    let hertz = 1_000_000_000 / clock.jiffy_ns();
    assert!([100, 250, 300, 1_000].contains(&hertz), "{hertz} Hz");
    // Each reading with a moment before and one after it, since this thread may be kept waiting.
    let read = || (Instant::now(), clock.now(), Instant::now());
    let check = |from: (Instant, u64, Instant), to: (Instant, u64, Instant)| {
        let (least, most) = (to.0 - from.2, to.2 - from.0);
        let told = clock.duration(to.1 - from.1);
        let tolerance = clock.duration(2);
        assert!(
            told + tolerance >= least && told <= most + tolerance,
            "{told:?} in {most:?}"
        );
    };
    let first = read();
    while first.0.elapsed() < Duration::from_millis(300) {
        std::hint::spin_loop();
    }
    let second = read();
    check(first, second);
    clock.calibrate(&plane).expect("a reading");
    check(second, read());
}

const TWO_NODES: &str = "
    cluster = 7
    keys = \"k\"
    [status]
    groups = [\"239.255.77.1\"]
    [[interface]]
    name = \"eth0\"
    [[vip]]
    address = \"192.0.2.10\"
    [[node]]
    id = 1
    address = \"192.0.2.11\"
    [[node]]
    id = 2
    address = \"192.0.2.12\"
";

const THIRD: &str = "
    [[node]]
    id = 3
    address = \"192.0.2.13\"
";

fn plan(text: &str) -> Plan {
    let config = Config::parse(Path::new("test"), text).expect("a good file");
    let keys = KeyRing::generate(std::array::from_fn(|i| i as u8 + 1));
    Plan::of(&config, &keys, JIFFY_NS, &BTreeSet::new())
}

/// Where nodes are learnt, every other id is one that a node may be learnt under: the program takes
/// its beacons, and sends it nothing. Who is forgotten keeps its dialogs first.
#[test]
fn candidates_become_nodes_and_nodes_candidates() {
    let plane = plane(16);
    let maps = plane.maps();
    let text = TWO_NODES.replace("[status]\n", "[status]\ndiscover = true\n");
    let first = apply(maps, &plan(&text)).expect("applied");
    assert_eq!(first.added, [1, 2]);
    let node = |id| maps.node(id).expect("read");
    assert!((3..=255).all(|id| node(id) == CANDIDATE));
    let settings = maps.settings().expect("read");
    assert_eq!(settings.node_end, 3, "searches pass candidates by");
    let heard = NodeStatus {
        last_seen: 100,
        up_since: 90,
        ready: 1,
        ..NodeStatus::default()
    };
    for reference in [0, 100, u64::MAX - 1] {
        let liveness = judge(&CANDIDATE, &heard, &settings, reference);
        assert_eq!(liveness, Liveness::Down);
    }
    let alone = text.replace("[[node]]\n    id = 2\n", "[[node]]\n    id = 7\n");
    let other = plan(&alone);
    let applied = apply(maps, &other).expect("applied");
    assert_eq!((applied.added, applied.removed), (vec![7], vec![2]));
    assert_eq!(node(7).flags, Node::CONFIGURED);
    assert_eq!((node(7).blocked_until, node(3)), (0, CANDIDATE));
    assert_eq!(node(2).flags & Node::LEAVING, Node::LEAVING);
    // Again, while it drains: nothing is new.
    assert_eq!(apply(maps, &other).expect("applied"), Applied::default());
    finish_drain(maps, &other).expect("applied");
    assert_eq!(node(2), CANDIDATE);
    // Without learning, there are no candidates.
    let plain = plan(TWO_NODES);
    let applied = apply(maps, &plain).expect("applied");
    assert_eq!((applied.added, applied.removed), (vec![2], vec![7]));
    assert!((8..=255).all(|id| node(id) == Node::default()));
}

#[test]
fn a_plan_is_applied_once_and_for_all() {
    let plane = plane(16);
    let maps = plane.maps();
    let plan = plan(TWO_NODES);
    let first = apply(maps, &plan).expect("applied");
    assert_eq!(
        first,
        Applied {
            table: TableChange::First,
            added: vec![1, 2],
            removed: vec![]
        }
    );
    assert_eq!(maps.settings().expect("read"), plan.settings);
    assert_eq!(maps.table(0), plan.table);
    assert_eq!(maps.turnout().expect("read"), Turnout::default());
    assert_eq!(maps.key(1).expect("read").valid, 1);
    assert_eq!(maps.vips().expect("read").len(), 2);
    assert_eq!(apply(maps, &plan).expect("applied"), Applied::default());
}

#[test]
fn what_others_say_of_a_node_survives_a_reload() {
    let plane = plane(16);
    let maps = plane.maps();
    apply(maps, &plan(TWO_NODES)).expect("applied");
    let known = Node {
        destination_mac: [2, 0, 0, 0, 0, 1],
        flags: Node::CONFIGURED | Node::REACHABLE | Node::JUDGED,
        ifindex: 5,
        down_at: 77,
        ..Node::default()
    };
    maps.set_node(1, known).expect("written");
    let silent = TWO_NODES.replace("id = 1\n", "id = 1\n    silent = true\n");
    apply(maps, &plan(&silent)).expect("applied");
    let expected = Node {
        flags: known.flags | Node::SILENT,
        ..known
    };
    assert_eq!(maps.node(1).expect("read"), expected);
    apply(maps, &plan(TWO_NODES)).expect("applied");
    assert_eq!(maps.node(1).expect("read"), known);
}

#[test]
fn a_node_that_leaves_keeps_its_dialogs_until_the_drain_is_over() {
    let plane = plane(16);
    let maps = plane.maps();
    let (all, fewer) = (plan(&format!("{TWO_NODES}{THIRD}")), plan(TWO_NODES));
    apply(maps, &all).expect("applied");
    let node = |id| maps.node(id).expect("read").flags;
    let end = || maps.settings().expect("read").node_end;

    let change = apply(maps, &fewer).expect("applied");
    assert_eq!(change.table, TableChange::Flipped { cut_short: false });
    assert_eq!(change.removed, [3]);
    assert_eq!(maps.turnout().expect("read").word, 1 | Turnout::DRAINING);
    assert_eq!(maps.table(1), fewer.table);
    assert_eq!(maps.table(0), all.table, "the old one keeps its dialogs");
    assert_ne!(node(3) & Node::LEAVING, 0);
    assert_eq!(end(), 4, "found by those who look for it");

    // A reload of the same meanwhile changes nothing.
    assert_eq!(
        apply(maps, &fewer).expect("applied").table,
        TableChange::Same
    );
    assert_ne!(node(3) & Node::LEAVING, 0);

    finish_drain(maps, &fewer).expect("finished");
    assert_eq!(maps.turnout().expect("read").word, 1);
    assert_eq!((node(3), end()), (0, 3));
}

#[test]
fn a_node_that_comes_back_while_it_leaves_stays() {
    let plane = plane(16);
    let maps = plane.maps();
    let (all, fewer) = (plan(&format!("{TWO_NODES}{THIRD}")), plan(TWO_NODES));
    apply(maps, &all).expect("applied");
    apply(maps, &fewer).expect("applied");
    let back = apply(maps, &all).expect("applied");
    assert_eq!(back.table, TableChange::Flipped { cut_short: true });
    assert_eq!(maps.turnout().expect("read").word, Turnout::DRAINING);
    finish_drain(maps, &all).expect("finished");
    assert_eq!(maps.node(3).expect("read").flags, Node::CONFIGURED);
}

#[test]
fn settings_are_whole_and_reserved_bits_stay_clear() {
    let plane = plane(16);
    let maps = plane.maps();
    assert_eq!(
        maps.settings().expect("read"),
        Settings::default(),
        "fresh maps are empty"
    );
    let settings = Settings {
        cluster: 9,
        hold: 3,
        node_end: 2,
        ..plan(TWO_NODES).settings
    };
    maps.set_settings(settings).expect("written");
    assert_eq!(maps.settings().expect("read"), settings);
}

#[test]
fn an_address_that_stays_keeps_its_counter() {
    let plane = plane(16);
    let maps = plane.maps();
    let service = |n: u8| Service {
        address: SocketAddr::from(([192, 0, 2, n], 5060)),
        purpose: VipUse::Sip,
    };
    let indexes = || -> BTreeMap<IpAddr, u32> {
        let vips = maps.vips().expect("read");
        vips.iter()
            .map(|vip| (vip.address.into(), vip.index))
            .collect()
    };
    apply_services(maps, &[service(1), service(2), service(3)]).expect("applied");
    let before = indexes();
    apply_services(maps, &[service(4), service(3), service(1)]).expect("applied");
    let after = indexes();
    assert_eq!(after.len(), 3);
    for n in [1, 3] {
        let address = IpAddr::from([192, 0, 2, n]);
        assert_eq!(before[&address], after[&address]);
    }
    let unlike: BTreeSet<u32> = after.values().copied().collect();
    assert!(unlike.len() == 3 && unlike.iter().all(|index| *index < MAX_VIPS));
}
