//! Two LBs at work at the same time, without a pair: the router shares the load among them, and it does not
//! matter which of them a packet comes by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::{Redirecting, Settings};
use pointsman_tests::dialogs::{Bustle, Callees, Callers};
use pointsman_tests::homes::Homes;
use pointsman_tests::lab::{CONTROLLERS, Lab, Process};
use pointsman_tests::record::{CallHash, Kind, Recorder, Tape};
use pointsman_tests::traffic::{CallLoad, Switch};

use crate::service::{PATIENCE, RoutedLab, Service, expect_all_over, expect_none_lost};

/// Of each of the two switches.
const CALLS: usize = 150;
/// What one node has room for: less than its share, so that calls live away from home.
const ROOM: u32 = 30;
const WINDOW: usize = 50;

/// The operator's part: without `[pair]` the VIPs are in each machine's own network configuration.
fn configure_vips(lab: &Lab) -> Result<()> {
    for controller in CONTROLLERS {
        let namespace = &lab.balancer(controller).namespace;
        for vip in [lab.vip_v4(), lab.vip_v6()].map(|vip| vip.ip()) {
            let len = if vip.is_ipv4() { 32 } else { 128 };
            namespace.ip(&format!("address add {vip}/{len} dev lo"))?;
        }
    }
    Ok(())
}

/// Both switches at once, each with new calls and re-INVITEs.
fn bustle(both: &mut [Callers; 2], names: [&'static str; 2]) -> Result<()> {
    let mut names = names.into_iter();
    thread::scope(|scope| {
        let switches = both.each_mut().map(|callers| {
            let work = Bustle {
                changes: (CALLS, 150),
                calls: (CALLS, 150),
                name: names.next().unwrap_or_default(),
            };
            scope.spawn(move || callers.bustle(&work))
        });
        for switch in switches {
            switch
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        anyhow::Ok(())
    })?;
    both.iter().try_for_each(expect_none_lost)
}

/// What a call's requests within its dialog, after the first INVITE, came by and where to.
#[derive(Debug, Default)]
struct Trace {
    by: BTreeSet<u16>,
    at: BTreeSet<u16>,
}

fn traces(lab: &Lab, tapes: &[Tape]) -> BTreeMap<CallHash, Trace> {
    let mut traces: BTreeMap<CallHash, Trace> = BTreeMap::new();
    for (node, tape) in (1..).zip(tapes) {
        for sighting in &tape.sightings {
            let steered = |id: &u16| lab.balancer(*id).mac == sighting.way.sender;
            let Some(by) = CONTROLLERS.into_iter().find(steered) else {
                continue;
            };
            let Kind::Request { in_dialog, .. } = sighting.kind else {
                continue;
            };
            // An INVITE that is offered elsewhere comes to two nodes, and so does what goes with it.
            if in_dialog && sighting.cseq > 1 {
                let trace = traces.entry(sighting.call).or_default();
                trace.by.insert(by);
                trace.at.insert(node);
            }
        }
    }
    traces
}

/// Calls come by both LBs, and whichever the packets of a call come by, they come to the same node: also
/// when the router chooses anew in the middle of the call, and when one of the machines is lost.
#[test]
fn a_call_is_steered_to_one_node_by_either_of_two() -> Result<()> {
    let at = RoutedLab::start()?;
    let (lab, router) = (&at.lab, &at.router);
    configure_vips(lab)?;
    let settings = Settings {
        redirecting: Some(Redirecting {
            capacities: vec![(1, ROOM)],
            ..Redirecting::default()
        }),
        // What a node has no room for it offers to others, and both LBs are told where the call is. A call
        // that an LB itself takes away from its home is known to that LB alone.
        silent: true,
        ..Settings::patient()
    };
    let service = Service::start(&at, settings)?;
    let _callees = Callees::start(&service.fleet.daemons)?;
    service.wait_for_ways(&[1, 2])?;
    let guard = service.fleet.daemons.controller_command("guard");
    let mut guard = Process::start(lab, "guard", guard)?;
    let (status, said) = (guard.wait(PATIENCE)?, guard.log());
    ensure!(
        !status.success() && said.contains("nothing to guard"),
        "{status}: {said}"
    );

    let recorder = Recorder::start(&lab.nodes)?;
    let mut both = service.callers()?;
    for (callers, name) in both.iter_mut().zip(["one", "two"]) {
        callers.establish(name, CALLS, WINDOW)?;
    }
    let homes = Homes::open(&service.fleet.daemons.pins_of(1))?;
    let calls = both.iter().flat_map(Callers::calls);
    let mut away = 0;
    for call in calls {
        let home = homes.of(&call.call_id)?;
        away += usize::from(call.node.is_some_and(|node| node != home));
    }
    ensure!(away > 0, "no call is away from home");

    // The router chooses by other means, and all calls come by one LB; then by ports again.
    router.choose_by_ports(false)?;
    bustle(&mut both, ["by-address-one", "by-address-two"])?;
    router.choose_by_ports(true)?;
    bustle(&mut both, ["by-port-one", "by-port-two"])?;
    let tapes = recorder.finish()?;
    let missed: u64 = tapes.iter().map(|tape| tape.dropped).sum();
    ensure!(missed == 0, "the recorders missed {missed} frames");
    let traced = traces(lab, &tapes);
    let torn: Vec<_> = traced.values().filter(|trace| trace.at.len() > 1).collect();
    ensure!(torn.is_empty(), "calls at several nodes: {torn:?}");
    let of = |ways: &[u16]| {
        let ways: BTreeSet<u16> = ways.iter().copied().collect();
        traced.values().filter(|trace| trace.by == ways).count()
    };
    println!(
        "{} calls changed: {} by the first LB only, {} by the second, {} by both; each at one node, {away} of \
         them away from home",
        traced.len(),
        of(&[1]),
        of(&[2]),
        of(&[1, 2]),
    );
    ensure!(of(&[1, 2]) > 0, "no call came by both");

    // A machine is lost.
    let begin = Instant::now();
    let lost = lab.lose(lab.balancer(1))?;
    let followed = thread::scope(|scope| -> Result<Duration> {
        let watch = scope.spawn(|| service.wait_for_ways(&[2]).map(|()| begin.elapsed()));
        bustle(&mut both, ["lost-one", "lost-two"])?;
        watch
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let calls = both.iter().flat_map(Callers::calls);
    let repeats: u32 = calls.map(|call| call.repeats).sum();
    println!(
        "a machine lost: no way leads there after {followed:?}; {repeats} requests sent again, 0 lost"
    );

    for callers in &mut both {
        callers.prove_all(WINDOW)?;
        expect_all_over(callers)?;
    }

    // It comes back, and has its share again.
    let begin = Instant::now();
    drop(lost);
    service.wait_for_ways(&[1, 2])?;
    println!("it is back on the way after {:?}", begin.elapsed());
    let recorder = Recorder::start(&lab.nodes)?;
    for (callers, name) in both.iter_mut().zip(["back-one", "back-two"]) {
        callers.establish(name, CALLS, WINDOW)?;
        callers.prove_all(WINDOW)?;
        expect_all_over(callers)?;
    }
    let by: BTreeSet<u16> = traces(lab, &recorder.finish()?)
        .into_values()
        .flat_map(|trace| trace.by)
        .collect();
    ensure!(by.len() == 2, "steered by {by:?} only");
    let calls = both.iter().map(|callers| callers.calls().len());
    println!("{} calls at the end, 0 lost", calls.sum::<usize>());
    over_ipv6(lab, lab.vip_v6())
}

/// What holds for one family holds for the other.
fn over_ipv6(lab: &Lab, target: SocketAddr) -> Result<()> {
    let load = CallLoad {
        target,
        calls: 100,
        rate: 200,
        talk: Duration::from_millis(50),
    };
    let recorder = Recorder::start(&lab.nodes)?;
    let switches = ["v6-a", "v6-b", "v6-c"].map(|name| Switch::start(lab, name, &load));
    for switch in switches {
        let stats = switch?.wait(PATIENCE)?;
        ensure!((stats.succeeded, stats.failed) == (100, 0), "{stats:?}");
    }
    let tapes = recorder.finish()?;
    let traces = traces(lab, &tapes);
    let torn = traces.values().filter(|trace| trace.at.len() > 1);
    ensure!(torn.count() == 0, "calls at several nodes");
    let by = traces.values().flat_map(|trace| &trace.by);
    let by: BTreeSet<_> = by.collect();
    println!("IPv6: 300 calls, by {by:?}");
    traces.values().next().context("no call was recorded")?;
    Ok(())
}
