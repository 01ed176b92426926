//! Real calls through a real load balancer: SIPp on either end, IPv4 and IPv6, one arm and two.

use std::time::Duration;

use anyhow::Result;
use pointsman_tests::daemons::Settings;
use pointsman_tests::fleet::Fleet;
use pointsman_tests::lab::{Arms, Lab, Plan, Process};
use pointsman_tests::record::{Calls, Recorder, Tape};
use pointsman_tests::traffic::{CallLoad, CallStats, Switch, start_kamailio, start_sipp_server};

const CALLS: u32 = 900;
const LOAD: (u32, Duration) = (450, Duration::from_millis(50));

/// A server on every node, calls to the VIP, and nothing may go wrong.
fn carry_calls(lab: &Lab, vip: std::net::SocketAddr) -> Result<()> {
    let fleet = Fleet::start(lab, Settings::patient())?;
    let servers: Vec<Process> = lab
        .node_ids()
        .map(|node| start_sipp_server(lab, lab.node(node), &format!("server-{node}"), vip))
        .collect::<Result<_>>()?;
    let recorder = Recorder::start(lab.nodes.iter().chain([&lab.lb]))?;
    let (rate, talk) = LOAD;
    let load = CallLoad {
        target: vip,
        calls: CALLS,
        rate,
        talk,
    };
    let stats = Switch::start(lab, "switch", &load)?.wait(Duration::from_secs(60))?;
    let mut tapes = recorder.finish()?;
    let beside = tapes.pop().unwrap_or_default();
    drop((servers, fleet));
    check(&stats, &tapes, &beside)
}

fn check(stats: &CallStats, nodes: &[Tape], beside: &Tape) -> Result<()> {
    assert_eq!((stats.succeeded, stats.failed), (CALLS, 0), "{stats:?}");
    assert!(
        nodes.iter().all(|tape| tape.dropped == 0),
        "the recorder missed frames"
    );
    let calls = Calls::read(nodes);
    assert_eq!(calls.len(), CALLS as usize);
    let split: Vec<_> = calls.split().collect();
    assert!(
        split.is_empty(),
        "calls that reached several nodes: {split:?}"
    );
    // Even shares would be a third each; a table that forgot a node would give it nothing.
    let spread = calls.spread(nodes.len() as u16);
    let mean = u64::from(CALLS) / nodes.len() as u64;
    assert!(
        spread
            .iter()
            .all(|share| (mean / 2..mean * 2).contains(share)),
        "{spread:?}"
    );
    let unsteered = beside.sightings.len();
    assert_eq!(
        unsteered, 0,
        "SIP messages reached the load balancer's own network stack"
    );
    Ok(())
}

#[test]
fn calls_over_ipv4() -> Result<()> {
    let lab = Lab::of(3)?;
    carry_calls(&lab, lab.vip_v4())
}

#[test]
fn calls_over_ipv6() -> Result<()> {
    let lab = Lab::of(3)?;
    carry_calls(&lab, lab.vip_v6())
}

#[test]
fn calls_through_two_arms() -> Result<()> {
    let lab = Lab::start(Plan {
        nodes: 3,
        arms: Arms::Two,
    })?;
    carry_calls(&lab, lab.vip_v4())
}

/// What every figure of the other tests stands on: the lab itself loses nothing.
#[test]
fn the_lab_carries_calls_without_a_load_balancer() -> Result<()> {
    let lab = Lab::of(2)?;
    for node in lab.node_ids() {
        let host = lab.node(node);
        let target = std::net::SocketAddr::new(host.v4.into(), 5060);
        let _server = if node == 1 {
            start_sipp_server(&lab, host, "sipp", target)?
        } else {
            start_kamailio(&lab, host, "kamailio", target)?
        };
        let (rate, talk) = LOAD;
        let load = CallLoad {
            target,
            calls: CALLS,
            rate,
            talk,
        };
        let stats = Switch::start(&lab, "switch", &load)?.wait(Duration::from_secs(60))?;
        assert_eq!(
            (stats.succeeded, stats.failed),
            (CALLS, 0),
            "node {node}: {stats:?}"
        );
    }
    Ok(())
}
