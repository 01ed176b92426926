//! A pair in service with calls in progress: what is asked of them, and what became of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::{Pair, Redirecting, Settings};
use pointsman_tests::dialogs::{Bustle, Callees, Callers, Dialog, Phase};
use pointsman_tests::homes::Homes;
use pointsman_tests::lab::Lab;
use pointsman_tests::pair::Service;
use pointsman_tests::record::{Recorder, Tape, first_served};

use crate::lab::settings;

/// The node that has not enough room, so that calls live away from home.
const SMALL: u16 = 1;
/// Requests of the switch's under way at a time, where nothing else says how many.
const WINDOW: usize = 200;
const PORT: u16 = 5090;
/// From the last call that is established until something happens to the main.
const QUIET: Duration = Duration::from_millis(500);
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Controllers, redirect servers, SIP servers, and a switch. The lab outlives it.
pub(crate) struct Scene<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) service: Service<'lab>,
    pub(crate) callees: Callees,
    pub(crate) callers: Callers,
}

impl<'lab> Scene<'lab> {
    /// Starts everything, with room for `room` calls at one node, and has `calls` calls answered.
    pub(crate) fn start(lab: &'lab Lab, pair: Pair, calls: usize, room: u32) -> Result<Self> {
        let settings = Settings {
            redirecting: Some(Redirecting {
                capacities: vec![(SMALL, room)],
                ..Redirecting::default()
            }),
            ..settings(pair)
        };
        let service = Service::start(lab, settings)?;
        let callees = Callees::start(&service.daemons)?;
        let callers = Callers::open(lab, PORT)?;
        let mut scene = Self {
            lab,
            service,
            callees,
            callers,
        };
        let begin = Instant::now();
        scene.callers.establish("call", calls, WINDOW)?;
        println!(
            "{calls} calls answered in {:?}, {} of them away from home ({} redirected)",
            begin.elapsed(),
            scene.away()?,
            scene.redirected(),
        );
        // A flood of calls on a small machine may keep daemons from hearing each other for a moment.
        scene.callers.run_for(QUIET)?;
        let main = scene.service.cluster(1)?;
        ensure!(main["role"] == "main", "{main:#}");
        Ok(scene)
    }

    /// Calls that are not where their Call-ID is at home.
    pub(crate) fn away(&self) -> Result<usize> {
        let homes = Homes::open(&self.service.daemons.pins_of(1))?;
        self.callers.away(&homes)
    }

    /// Calls that followed a 302.
    pub(crate) fn redirected(&self) -> usize {
        let calls = self.callers.calls().iter();
        calls.filter(|call| call.redirects > 0).count()
    }

    /// Records at the switch and at the nodes, in this order.
    pub(crate) fn record(&self) -> Result<Recorder> {
        Recorder::start(std::iter::once(&self.lab.switch).chain(&self.lab.nodes))
    }

    /// Keeps the switch busy; see [`Callers::bustle`].
    pub(crate) fn bustle(&mut self, bustle: &Bustle) -> Result<Duration> {
        let stalled = self.callers.bustle(bustle)?;
        self.expect_none_lost()?;
        Ok(stalled)
    }

    fn expect_none_lost(&self) -> Result<()> {
        let calls = self.callers.calls().iter();
        let odd = |call: &&Dialog| matches!(call.phase, Phase::Lost | Phase::Refused(_));
        let lost: Vec<_> = calls.filter(odd).collect();
        let some = &lost[..lost.len().min(3)];
        ensure!(lost.is_empty(), "{} calls are lost: {some:#?}", lost.len());
        Ok(())
    }

    /// What `pointsman calls` lists: the node of each, by Call-ID.
    pub(crate) fn listed(&self, controller: u16) -> Result<BTreeMap<String, u16>> {
        let daemons = &self.service.daemons;
        let mut command = daemons.controller_command_of(controller, "calls");
        let output = command.args(["--limit", "0", "--json"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`calls` failed: {said}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let calls = answer["calls"].as_array().context("no list")?;
        let calls = calls.iter().map(|call| {
            let id = call["call_id"].as_str().unwrap_or("not known yet");
            let node = call["node"].as_u64().and_then(|node| node.try_into().ok());
            Ok((id.to_owned(), node.context("no node")?))
        });
        calls.collect()
    }

    /// Waits until a controller lists exactly the calls that there are.
    pub(crate) fn expect_list(&mut self, controller: u16) -> Result<()> {
        let begin = Instant::now();
        let up = self.callers.up();
        let calls = up.map(|number| &self.callers.calls()[number]);
        let there: BTreeMap<String, u16> = calls
            .filter_map(|call| Some((call.call_id.clone(), call.node?)))
            .collect();
        loop {
            let listed = self.listed(controller)?;
            if listed == there {
                break;
            }
            let missing = there.iter().find(|(id, _)| !listed.contains_key(*id));
            let surplus = listed.iter().find(|(id, _)| !there.contains_key(*id));
            ensure!(
                begin.elapsed() < PATIENCE,
                "controller {controller} lists {} of {} calls; missing: {missing:?}, too many: {surplus:?}",
                listed.len(),
                there.len()
            );
            self.callers.run_for(Duration::from_millis(100))?;
        }
        println!(
            "controller {controller} lists exactly the {} calls there are, {:?} after they were counted",
            there.len(),
            begin.elapsed()
        );
        Ok(())
    }

    /// Every call that goes on proves itself: by a re-INVITE, if it has not yet, and a BYE, answered by its
    /// own node. None may be lost.
    pub(crate) fn expect_all_alive(&mut self) -> Result<()> {
        self.callers.prove_all(WINDOW)?;
        let calls = self.callers.calls();
        let repeats: u32 = calls.iter().map(|call| call.repeats).sum();
        let lost: Vec<_> = calls
            .iter()
            .filter(|call| call.phase != Phase::Over)
            .collect();
        println!(
            "{} calls, {} lost, {repeats} requests were sent again",
            calls.len(),
            lost.len()
        );
        ensure!(lost.is_empty(), "lost: {:#?}", &lost[..lost.len().min(5)]);
        ensure!(
            calls.iter().all(|call| call.changes > 0),
            "a call has not proved itself"
        );
        Ok(())
    }

    /// From a moment, in nanoseconds since 1970, to the first new call that came to a node by way of this
    /// controller's data plane and was answered.
    pub(crate) fn served(&self, tapes: &[Tape], by: u16, since: u64) -> Result<Duration> {
        let missed: u64 = tapes.iter().map(|tape| tape.dropped).sum();
        ensure!(missed == 0, "the recorders missed {missed} frames");
        let served = first_served(tapes, self.lab.balancer(by), since);
        served.context("no new call was served")
    }
}

/// How long the stand-by took to decide, from the last sign of life of the main.
pub(crate) fn decided(report: &serde_json::Value) -> Result<Duration> {
    let switch = &report["last_switch"];
    let steps = ["silence_ms", "query_ms", "leases_ms"];
    let steps = steps.map(|step| switch[step].as_f64());
    let [Some(silence), Some(query), Some(leases)] = steps else {
        anyhow::bail!("no steps: {report:#}");
    };
    println!(
        "{}: silence {silence} ms, query {query} ms, leases {leases} ms, activation {} ms; dialogs steered \
         after {} ms, call state complete after {} ms, {} pins",
        switch["reason"],
        switch["activation_ms"],
        report["rebuild"]["gathered_ms"],
        report["rebuild"]["complete_ms"],
        report["rebuild"]["pinned"],
    );
    Ok(Duration::from_secs_f64((silence + query + leases) / 1e3))
}
