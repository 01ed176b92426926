//! How calls spread over nodes, and what one node's death does to the others' calls: the real
//! program, run on frames in the kernel without a network.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_common::maps::{Node, NodeStatus, Settings, StatusPlane, Turnout, Vip, VipUse};
use lb_common::{Address, Admission};
use lb_proto::table::{self, Share};
use lb_user::plane::clock::Clock;
use lb_user::plane::{LoadOptions, Plane};
use pointsman_tests::daemons::call_secret;
use pointsman_tests::traffic::{Call, frame};

const NODES: u16 = 4;
const DEAD: u16 = 3;
const CALLS: u32 = 100_000;
const HOUR: Duration = Duration::from_secs(3600);
const XDP_TX: u32 = 3;
/// Where frames come in and go out: a port that every network namespace has.
const LOOPBACK: u32 = 1;

/// A data plane with four nodes; `dead` has not been heard for a day.
fn plane(dead: Option<u16>) -> Result<Plane> {
    let plane = Plane::load(&LoadOptions {
        max_pins: 2 * CALLS,
    })?;
    let clock = Clock::measure(&plane)?;
    let maps = plane.maps();
    let now = clock.now();
    maps.set_settings(Settings {
        call_secret: call_secret(),
        hold: clock.jiffies(HOUR),
        down: clock.jiffies(HOUR * 2),
        epoch_shift: lb_common::memory::epoch_shift(clock.jiffy_ns()),
        jiffy_ns: clock.jiffy_ns(),
        cluster: 1,
        sample: 0,
        good_beacons: 1,
        node_end: u32::from(NODES) + 1,
    })?;
    let shares: Vec<_> = (1..=NODES).map(|node| Share { node, weight: 1 }).collect();
    maps.set_table(0, &table::fill(&shares));
    maps.set_turnout(Turnout::default())?;
    for id in 1..=NODES {
        let mut node = maps.node(id)?;
        node.flags = Node::PLAIN;
        node.destination_mac = [2, 0, 0, 0, 1, id as u8];
        node.source_mac = [2, 0, 0, 0, 0, 1];
        node.ifindex = LOOPBACK;
        maps.set_node(id, node)?;
        let silent_for = if dead == Some(id) {
            HOUR * 24
        } else {
            Duration::ZERO
        };
        let last_seen = now.saturating_sub(clock.jiffies(silent_for)).max(1);
        maps.set_status(
            id,
            NodeStatus {
                last_seen,
                up_since: last_seen,
                beacons: 1,
                headroom: 1_000_000,
                capacity: 1_000_000,
                admission: Admission::Free as u8,
                run: 1,
                needed: 1,
                ready: 1,
                ..maps.status(id)?
            },
        )?;
    }
    maps.set_plane_status(StatusPlane {
        last_beacon: now,
        ..StatusPlane::default()
    })?;
    maps.insert_vip(Vip {
        address: Address::from(call(0).vip.ip()),
        port_be: call(0).vip.port().to_be(),
        purpose: VipUse::Sip as u8,
        reserved: 0,
        index: 0,
    })?;
    Ok(plane)
}

fn call(number: u32) -> Call {
    // Random enough for any hash: the golden ratio's multiples, and a counter.
    let scattered = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Call {
        call_id: format!("{scattered:016x}{number:08x}@192.0.2.1"),
        client: ([192, 0, 2, 1], 5060).into(),
        vip: ([192, 0, 2, 100], 5060).into(),
    }
}

/// The node that a call's INVITE is sent to.
fn steer(plane: &Plane, call: &Call) -> Result<u16> {
    let link = frame::Link {
        destination: [2, 0, 0, 0, 0, 1],
        source: [2, 0, 0, 0, 0, 2],
        vlans: vec![],
    };
    let frame = frame::udp(&link, call.client, call.vip, &call.invite());
    let run = plane.test_run(&frame, LOOPBACK)?;
    if run.action != XDP_TX {
        bail!(
            "{} is not steered: frames by reason {:?}",
            call.call_id,
            plane.maps().counts()?.reasons
        );
    }
    let mac = run
        .frame
        .first_chunk::<6>()
        .context("a frame without a link header")?;
    Ok(u16::from(mac[5]))
}

fn spread(nodes: impl IntoIterator<Item = u16>) -> Vec<u32> {
    let mut spread = vec![0; usize::from(NODES) + 1];
    for node in nodes {
        spread[usize::from(node)] += 1;
    }
    spread
}

/// The largest share in proportion to the mean.
fn max_to_mean(shares: &[u32]) -> f64 {
    let max = shares.iter().max().copied().unwrap_or(0);
    f64::from(max) * shares.len() as f64 / f64::from(shares.iter().sum::<u32>())
}

#[test]
fn calls_spread_evenly_and_a_death_moves_only_the_dead_nodes_calls() -> Result<()> {
    let whole = plane(None)?;
    let before: Vec<u16> = (0..CALLS)
        .map(|number| steer(&whole, &call(number)))
        .collect::<Result<_>>()?;
    let shares = spread(before.iter().copied());
    assert!(max_to_mean(&shares[1..]) <= 1.05, "all live: {shares:?}");

    // A data plane that remembers nothing of these calls, so that only the table speaks.
    let bereft = plane(Some(DEAD))?;
    let after: Vec<u16> = (0..CALLS)
        .map(|number| steer(&bereft, &call(number)))
        .collect::<Result<_>>()?;
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(was, is)| **was != DEAD && was != is)
        .count();
    assert_eq!(moved, 0, "calls of living nodes moved");

    let heirs = before
        .iter()
        .zip(&after)
        .filter(|(was, _)| **was == DEAD)
        .map(|(_, is)| *is);
    let inherited = spread(heirs);
    assert_eq!(
        inherited[usize::from(DEAD)],
        0,
        "calls went to the dead node"
    );
    let living: Vec<u32> = (1..=NODES)
        .filter(|node| *node != DEAD)
        .map(|n| inherited[usize::from(n)])
        .collect();
    assert!(
        max_to_mean(&living) <= 1.10,
        "the dead node's share: {inherited:?}"
    );
    println!(
        "all live: {:?}; the dead node's share: {living:?}",
        &shares[1..]
    );
    Ok(())
}
