//! Calls that a node cannot take are taken by another (seed 1, claim 5).
//!
//! The load balancer is told nothing of the nodes here and steers by Call-ID alone, as the seed document
//! has it: whatever a node has no room for is its redirect server's business.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use lb_common::sip::Method;
use pointsman_tests::daemons::{Redirecting, Settings};
use pointsman_tests::lab::{Host, Lab};
use pointsman_tests::record::{CallHash, Kind, Ladder, Recorder, Sighting, Tape};
use pointsman_tests::stall::{self, StallWitness};
use pointsman_tests::traffic::{CallLoad, CallStats, MAX_REDIRECTS, Switch};

use crate::service::{Service, redirecting};

/// The home of many calls, which has room for one.
const FULL: u16 = 1;

fn lab() -> Result<Lab> {
    Lab::of(3)
}

/// Node [`FULL`] is full nearly at once, the others never.
fn one_full(mode: &'static str) -> Settings {
    Settings {
        silent: true,
        ..redirecting(Redirecting {
            mode,
            capacities: vec![(FULL, 1)],
            ..Redirecting::default()
        })
    }
}

/// Calls that follow 302, and what came to the switch and to each node.
fn call(lab: &Lab, load: &CallLoad) -> Result<(CallStats, Vec<Tape>)> {
    let recorder = Recorder::start(std::iter::once(&lab.switch).chain(&lab.nodes))?;
    let stats = Switch::start_following(lab, "following", load)?.wait(Duration::from_secs(120))?;
    let tapes = recorder.finish()?;
    if stats.failed > 0 {
        let hung_up = |tape: &Tape, call| {
            let ok = Kind::Response {
                status: 200,
                to: Method::Bye,
            };
            of(tape, call).any(|s| s.kind == ok) || of(tape, call).any(|s| is_status(s, 503))
        };
        let seen = tapes[1..].iter().flat_map(|tape| &tape.sightings);
        let failed = seen.map(|s| s.call).find(|call| !hung_up(&tapes[0], *call));
        if let Some(call) = failed {
            println!("{}", Ladder::of(lab, &tapes, call));
        }
    }
    assert!(tapes.iter().all(|tape| tape.dropped == 0), "frames missed");
    Ok((stats, tapes))
}

fn is_status(sighting: &Sighting, wanted: u16) -> bool {
    sighting.kind
        == Kind::Response {
            status: wanted,
            to: Method::Invite,
        }
}

fn of(tape: &Tape, call: CallHash) -> impl Iterator<Item = &Sighting> {
    tape.sightings.iter().filter(move |s| s.call == call)
}

/// Every call that was redirected: by whom, and where its second INVITE and its later requests came.
fn check_redirected(lab: &Lab, service: &Service<'_>, tapes: &[Tape], by_second: bool) -> usize {
    let (switch, nodes) = (&tapes[0], &tapes[1..]);
    let own = |host: &Host, port: u16| std::net::SocketAddr::new(host.v4.into(), port);
    let moved: Vec<&Sighting> = switch
        .sightings
        .iter()
        .filter(|s| is_status(s, 302))
        .collect();
    for redirect in &moved {
        let second = lab
            .node_ids()
            .find(|node| {
                of(&nodes[usize::from(*node) - 1], redirect.call)
                    .any(|s| s.is_new_call() && s.cseq == 2)
            })
            .expect("a second INVITE came to a node");
        assert_ne!(second, FULL);
        let at_second = &nodes[usize::from(second) - 1];
        let expected = if by_second {
            own(lab.node(second), 5062)
        } else {
            lab.vip_v4()
        };
        assert_eq!(redirect.way.source, expected, "who says 302");
        let invite = of(at_second, redirect.call)
            .find(|s| s.is_new_call() && s.cseq == 2)
            .expect("as just found");
        assert_eq!(
            invite.way.destination,
            service.daemons.redirect_server(second)
        );
        assert_eq!(
            invite.way.source.ip(),
            lab.switch.v4,
            "straight from the switch"
        );
        // The rest of the dialog goes to the VIP, and finds the second node by the call's pin.
        for method in [Method::Invite, Method::Bye] {
            let later = of(at_second, redirect.call).find(
                |s| matches!(s.kind, Kind::Request { method: m, in_dialog: true } if m == method),
            );
            let later = later.expect("the rest of the dialog comes to the second node");
            assert_eq!(later.way.destination, lab.vip_v4());
        }
    }
    moved.len()
}

fn calls_move(mode: &'static str) -> Result<()> {
    let lab = lab()?;
    let service = Service::start(&lab, one_full(mode))?;
    let load = CallLoad {
        target: lab.vip_v4(),
        calls: 300,
        rate: 100,
        talk: Duration::from_millis(300),
    };
    let witness = StallWitness::start();
    let (stats, tapes) = call(&lab, &load)?;
    let full = service.daemons.ask_redirect(FULL, "status")?;
    assert_eq!(
        (stats.succeeded, stats.failed),
        (300, 0),
        "{stats:?} {full}"
    );
    let refused = tapes[0].sightings.iter().filter(|s| is_status(s, 503));
    assert_eq!(refused.count(), 0);
    let moved = check_redirected(&lab, &service, &tapes, mode == "relay");
    // A third of the calls are at home at the full node, which has room for one in 300 ms.
    assert!(moved > 50, "{moved} calls were redirected");
    let (offered, taken) = match mode {
        "relay" => ("call-relayed", "call-promised"),
        _ => ("call-redirected", "call-taken-offered"),
    };
    assert_eq!(service.daemons.counted(FULL, offered)?, moved as u64);
    assert_eq!(service.counted_by_all(taken)?, moved as u64);
    assert_eq!(service.counted_by_all("call-taken-offered")?, moved as u64);
    assert_eq!(service.counted_by_all("call-taken")?, 300 - moved as u64);
    // The LB has 50 ms to say that it knows, of which a stall may take more.
    let unreported = service.counted_by_all("answer-unreported")?;
    assert!(unreported == 0 || witness.longest() > stall::LIMIT);
    Ok(())
}

#[test]
fn the_second_node_redirects_and_takes_the_call() -> Result<()> {
    calls_move("relay")
}

#[test]
fn the_first_node_redirects_and_the_second_takes_the_call() -> Result<()> {
    calls_move("direct")
}

/// Every node is full: each call ends within three redirects and two seconds, with 503.
#[test]
fn no_call_runs_in_circles_when_all_nodes_are_full() -> Result<()> {
    const CALLS: u32 = 10_000;
    let lab = lab()?;
    let settings = Settings {
        silent: true,
        capacity: 1,
        ..redirecting(Redirecting::default())
    };
    let service = Service::start(&lab, settings)?;
    let load = CallLoad {
        target: lab.vip_v4(),
        calls: CALLS,
        rate: 500,
        talk: Duration::from_secs(5),
    };
    let (stats, tapes) = call(&lab, &load)?;
    assert_eq!((stats.succeeded, stats.failed), (CALLS, 0), "{stats:?}");
    let mut begun = HashMap::new();
    let mut invites = HashMap::new();
    for sighting in tapes[1..].iter().flat_map(|tape| &tape.sightings) {
        if sighting.is_new_call() && sighting.way.source.ip() == lab.switch.v4 {
            let begin = begun.entry(sighting.call).or_insert(sighting.time_ns);
            *begin = (*begin).min(sighting.time_ns);
            let highest = invites.entry(sighting.call).or_insert(0);
            *highest = sighting.cseq.max(*highest);
        }
    }
    assert_eq!(begun.len(), CALLS as usize);
    let most = invites.values().max().copied().unwrap_or_default();
    assert!(
        most as usize <= MAX_REDIRECTS + 1,
        "{most} INVITEs for a call"
    );
    let mut refused = HashSet::new();
    for answer in tapes[0].sightings.iter().filter(|s| is_status(s, 503)) {
        refused.insert(answer.call);
        let took = Duration::from_nanos(answer.time_ns - begun[&answer.call]);
        assert!(took < Duration::from_secs(2), "503 after {took:?}");
    }
    // Three calls at a time find room, for five seconds each.
    let refused = refused.len();
    assert!(
        refused >= CALLS as usize - 60,
        "{refused} of {CALLS} refused"
    );
    assert_eq!(refused as u64, service.counted_by_all("call-unavailable")?);
    Ok(())
}

/// For a switch that does not follow 302, a full node forwards the call, and all of it, to another.
#[test]
fn a_call_is_proxied_for_who_does_not_follow() -> Result<()> {
    let lab = lab()?;
    let settings = Settings {
        silent: true,
        ..redirecting(Redirecting {
            overflow: "proxy",
            capacities: vec![(FULL, 1)],
            ..Redirecting::default()
        })
    };
    let service = Service::start(&lab, settings)?;
    let load = CallLoad {
        target: lab.vip_v4(),
        calls: 300,
        rate: 100,
        talk: Duration::from_millis(300),
    };
    let stats = Switch::start(&lab, "switch", &load)?.wait(Duration::from_secs(60))?;
    assert_eq!((stats.succeeded, stats.failed), (300, 0), "{stats:?}");
    let proxied = service.daemons.counted(FULL, "call-proxied")?;
    assert!(proxied > 50, "{proxied} calls were proxied");
    assert_eq!(service.counted_by_all("call-taken-offered")?, proxied);
    for node in lab.node_ids() {
        let status = service.daemons.ask_redirect(node, "status")?;
        let left = [&status["active"], &status["redirect"]["confirmed"]];
        assert_eq!(left, [0, 0], "records are left: {status}");
    }
    Ok(())
}
