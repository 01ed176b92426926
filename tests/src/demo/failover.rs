//! The chapter on two load balancers: the main is lost with calls in progress, and the stand-by takes over.
//!
//! The main's controller is killed and its machine's cable is pulled, so that nothing of it is left: neither
//! what it knew of calls nor its data plane. No state was copied before; the nodes are asked.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::screen::{self, count};
use crate::daemons::{Pair, Redirecting, Settings};
use crate::dialogs::{Bustle, Callees, Callers, Phase};
use crate::homes::Homes;
use crate::lab::{Lab, realtime_ns};
use crate::pair::Service;
use crate::record::{Recorder, first_served};

/// Three keep-alives, 20 ms apart, and 100 ms.
pub(super) const DECIDED: Duration = Duration::from_millis(160);
/// Until a new call is answered.
pub(super) const SERVED: Duration = Duration::from_millis(300);

const NODES: u16 = 4;
/// Calls in progress.
const CALLS: usize = 2_000;
/// The node that has less room than its share, so that calls live away from home.
const SMALL: u16 = 1;
const ROOM: u32 = 300;
/// Requests of the switch's under way at a time.
const WINDOW: usize = 100;
const PORT: u16 = 5090;
/// From the flood of calls until the main is lost: a small machine's daemons may not hear each other in it.
const QUIET: Duration = Duration::from_millis(500);

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failover {
    /// Calls in progress.
    pub(super) calls: usize,
    /// Of these, calls away from their home.
    pub(super) away: usize,
    /// From the main's last sign of life until the stand-by had the leases.
    pub(super) decided: Duration,
    /// From the loss until a new call was answered.
    pub(super) served: Duration,
    /// From the takeover until dialogs were steered again.
    pub(super) gathered: Duration,
    /// Calls that did not survive it.
    pub(super) lost: usize,
    /// Requests that were sent again.
    pub(super) retransmissions: u32,
    /// The machine's longest stall meanwhile.
    pub(super) stall: Duration,
}

/// The lab with two LBs.
pub(super) fn lab() -> Result<Lab> {
    Lab::pair_of(NODES)
}

/// Loses the main.
pub(super) fn run(lab: &Lab) -> Result<Failover> {
    screen::step("Two load balancers: a main, and a stand-by that keeps no copy of its calls");
    let mut service = Service::start(
        lab,
        Settings {
            redirecting: Some(Redirecting {
                capacities: vec![(SMALL, ROOM)],
                ..Redirecting::default()
            }),
            pair: Some(Pair::default()),
            ..Settings::patient()
        },
    )?;
    let _callees = Callees::start(&service.daemons)?;

    let mut switch = Callers::open(lab, PORT)?;
    switch.establish("call", CALLS, WINDOW)?;
    switch.run_for(QUIET)?;
    let away = switch.away(&Homes::open(&service.daemons.pins_of(1))?)?;
    screen::line(format_args!(
        "{} calls in progress on {NODES} nodes, {} of them away from the home of their Call-ID; \
         re-INVITEs and new calls go on",
        count(CALLS as u64),
        count(away as u64),
    ));
    let recorder = Recorder::start(std::iter::once(&lab.switch).chain(&lab.nodes))?;
    screen::event("kill -9: the main's controller; and its machine's cable is pulled");
    let lost_ns = realtime_ns();
    service.controller(1).kill()?;
    lab.unplug(lab.balancer(1))?;
    let stall = switch.bustle(&Bustle {
        changes: (1_000, 1_000),
        calls: (200, 200),
        name: "new",
    })?;
    let tapes = recorder.finish()?;
    let report = service.wait_for_role(2, "main")?;
    let served = first_served(&tapes, lab.balancer(2), lost_ns).context("no call was served")?;
    let mut failover = Failover {
        calls: CALLS,
        away,
        served,
        stall,
        ..Failover::default()
    };
    tell(&report, &mut failover)?;
    screen::line(format_args!(
        "the switch has the answer to a new call {:.1} ms after the loss",
        served.as_secs_f64() * 1e3
    ));

    switch.prove_all(WINDOW)?;
    let calls = switch.calls();
    failover.lost = calls.len() - switch.count(Phase::Over);
    failover.retransmissions = calls.iter().map(|call| call.repeats).sum();
    screen::line(format_args!(
        "every call's own node has answered its re-INVITE and its BYE, new ones included: {} of {}; {} \
         requests met the gap and were sent again",
        count((calls.len() - failover.lost) as u64),
        count(calls.len() as u64),
        count(failover.retransmissions),
    ));
    Ok(failover)
}

/// What the stand-by did, step by step.
fn tell(report: &Value, failover: &mut Failover) -> Result<()> {
    let (switch, rebuild) = (&report["last_switch"], &report["rebuild"]);
    let ms = |value: &Value| value.as_f64().context("a step has no time");
    ensure!(switch["reason"] == "loss", "not a loss: {switch}");
    let missed = ms(&switch["silence_ms"])?;
    let asked = missed + ms(&switch["query_ms"])?;
    let granted = asked + ms(&switch["leases_ms"])?;
    let active = granted + ms(&switch["activation_ms"])?;
    let gathered = ms(&rebuild["gathered_ms"])?;
    let complete = ms(&rebuild["complete_ms"])?;
    let line = |at: f64, text: String| screen::line(format_args!("{at:>7.1} ms  {text}"));
    line(0.0, "the main's last keep-alive".to_owned());
    line(
        missed,
        "missed; the stand-by asks the main itself".to_owned(),
    );
    line(
        asked,
        "no answer; it asks the nodes for their leases".to_owned(),
    );
    line(
        granted,
        format!(
            "{} of {NODES} nodes miss the main as well and have granted: it is the main of term {}",
            report["needed"], switch["term"]
        ),
    );
    line(active, "it has the VIPs, and steers new calls".to_owned());
    line(
        granted + gathered,
        format!(
            "the nodes have said which calls they have: dialogs are steered, {} by pins",
            rebuild["pinned"]
        ),
    );
    line(
        granted + complete,
        "call state is rebuilt from the nodes' records".to_owned(),
    );
    failover.decided = Duration::from_secs_f64(granted / 1e3);
    failover.gathered = Duration::from_secs_f64(gathered / 1e3);
    Ok(())
}
