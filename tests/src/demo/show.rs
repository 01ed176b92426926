//! The run itself: calls through the LB, a node's death and return, the controller's death and
//! return. What happens is recorded; what it means is found out in [`super::fates`].

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::baseline::TALK;
use super::{Args, KAMAILIO, KILLED, NODES, screen};
use crate::daemons::{Daemons, PATIENCE};
use crate::lab::{Process, Signal, realtime_ns};
use crate::record::{CallHash, Recorder, Tape};
use crate::stall::StallWitness;
use crate::traffic::{BaselineRun, CallLoad, CallStats, Switch, start_kamailio, start_sipp_server};

/// When things happen, in thousandths of the time that the calls take.
const KILL_NODE: u32 = 200;
const REVIVE_NODE: u32 = 450;
const KILL_CONTROLLER: u32 = 650;
const REVIVE_CONTROLLER: u32 = 800;

/// Everything that was seen.
#[derive(Debug)]
pub(super) struct Evidence {
    /// Calls that were to be made.
    pub(super) calls: u32,
    /// What SIPp counted.
    pub(super) stats: CallStats,
    /// What came to the switch.
    pub(super) switch: Tape,
    /// What came to the nodes.
    pub(super) nodes: Vec<Tape>,
    /// When the node's daemons were killed, and when they were back, in nanoseconds since 1970.
    pub(super) node_killed_ns: u64,
    pub(super) node_back_ns: u64,
    /// The same of the controller.
    pub(super) controller_killed_ns: u64,
    pub(super) controller_back_ns: u64,
    /// The machine's longest stall around the node's death, and in all.
    pub(super) stall_at_kill: Duration,
    pub(super) stall: Duration,
    /// Frames by reason.
    pub(super) reasons: Vec<(String, u64)>,
    /// What a node's silence may last at most.
    pub(super) detection_limit: Duration,
}

/// The daemons of one node.
pub(super) struct NodeDaemons {
    server: Process,
    redirect: Process,
}

impl NodeDaemons {
    pub(super) fn start(daemons: &Daemons<'_>, node: u16) -> Result<Self> {
        let (lab, host) = (daemons.lab(), daemons.lab().node(node));
        let name = format!("server-{node}");
        let listen = daemons.sip_server(node);
        let server = if node == KAMAILIO {
            start_kamailio(lab, host, &name, listen)?
        } else {
            start_sipp_server(lab, host, &name, listen)?
        };
        let redirect = daemons.start_redirect(node)?;
        Ok(Self { server, redirect })
    }

    /// Kills both at once, as a power cut would.
    fn kill(&mut self) -> Result<()> {
        self.server.signal(Signal::Kill)?;
        self.redirect.signal(Signal::Kill)?;
        self.server.wait(PATIENCE)?;
        self.redirect.wait(PATIENCE)?;
        Ok(())
    }

    pub(super) fn expect_running(&mut self) -> Result<()> {
        self.server.expect_running()?;
        self.redirect.expect_running()
    }
}

/// Runs the calls and everything that happens to them.
pub(super) fn run(daemons: &Daemons<'_>, args: &Args, baseline: &BaselineRun) -> Result<Evidence> {
    let lab = daemons.lab();
    screen::step("Starting the fleet");
    let mut controller = daemons.start_controller()?;
    let mut nodes = Vec::new();
    for node in 1..=NODES {
        nodes.push(NodeDaemons::start(daemons, node)?);
    }
    let all: Vec<u16> = (1..=NODES).collect();
    daemons.wait_for_nodes(&mut controller, &all)?;
    screen::line("the controller has attached its program; all nodes are Up");

    let (calls, rate) = (args.calls(), baseline.rate);
    screen::step(&format!(
        "{} calls through the LB at {}/s",
        screen::count(calls),
        screen::count(rate)
    ));
    let recorder = Recorder::start(std::iter::once(&lab.switch).chain(&lab.nodes))?;
    let witness = StallWitness::start();
    let load = CallLoad {
        target: lab.vip_v4(),
        calls,
        rate,
        talk: TALK,
    };
    let mut switch = Switch::start(lab, "switch", &load)?;
    let length = Duration::from_secs_f64(f64::from(calls) / f64::from(rate));
    let mut clock = Clock::start(length, daemons, &recorder);

    clock.run_to(KILL_NODE, &switch)?;
    let mut stall = witness.take();
    screen::event(&format!(
        "kill -9: node {KILLED}'s SIP server and its redirect server"
    ));
    let node_killed_ns = realtime_ns();
    nodes[usize::from(KILLED) - 1].kill()?;
    // Long enough for the kernel's own `Down`, at ten periods.
    clock.run_for(daemons.settings().period * 20, &switch)?;
    let stall_at_kill = witness.take();
    stall = stall.max(stall_at_kill);

    clock.run_to(REVIVE_NODE, &switch)?;
    screen::event(&format!("node {KILLED}'s daemons start again"));
    let node_back_ns = realtime_ns();
    nodes[usize::from(KILLED) - 1] = NodeDaemons::start(daemons, KILLED)?;

    clock.run_to(KILL_CONTROLLER, &switch)?;
    screen::event("kill -9: the controller (the program stays where it is, and judges by itself)");
    let controller_killed_ns = realtime_ns();
    controller.kill()?;
    clock.run_to(REVIVE_CONTROLLER, &switch)?;
    screen::event("the controller starts again, and adopts what it finds");
    controller = daemons.start_controller()?;
    let patience = Instant::now() + PATIENCE;
    while !controller.is_ready()? {
        ensure!(
            Instant::now() < patience,
            "the controller does not come back"
        );
        clock.tick(&switch)?;
    }
    let controller_back_ns = realtime_ns();

    while !switch.is_finished()? {
        clock.tick(&switch)?;
        if clock.is_overdue() {
            switch.stop().context("SIPp does not come to its end")?;
            break;
        }
    }
    let stats = switch.wait(Duration::from_secs(60))?;
    controller.expect_running()?;
    for node in &mut nodes {
        node.expect_running()?;
    }
    let mut tapes = recorder.finish()?;
    let switch = tapes.remove(0);
    let settings = daemons.settings();
    Ok(Evidence {
        calls,
        stats,
        switch,
        nodes: tapes,
        node_killed_ns,
        node_back_ns,
        controller_killed_ns,
        controller_back_ns,
        stall_at_kill,
        stall: stall.max(witness.longest()),
        reasons: daemons.reasons()?,
        // One period in which the next beacon would have been due at the latest.
        detection_limit: settings.hold() + settings.period,
    })
}

/// Waits for moments of the run, and meanwhile says every second how things are.
struct Clock<'a> {
    daemons: &'a Daemons<'a>,
    recorder: &'a Recorder,
    begin: Instant,
    length: Duration,
    next_line: Duration,
    /// Messages of each tape that have been counted.
    counted: Vec<usize>,
    /// Calls that they are of.
    calls: HashSet<CallHash>,
}

impl<'a> Clock<'a> {
    fn start(length: Duration, daemons: &'a Daemons<'a>, recorder: &'a Recorder) -> Self {
        Self {
            daemons,
            recorder,
            begin: Instant::now(),
            length,
            next_line: Duration::from_secs(1),
            counted: vec![0; usize::from(NODES) + 1],
            calls: HashSet::new(),
        }
    }

    /// Goes on to a moment, in thousandths of the run's length.
    fn run_to(&mut self, mille: u32, switch: &Switch) -> Result<()> {
        self.run_until(self.begin + self.length * mille / 1000, switch)
    }

    fn run_for(&mut self, time: Duration, switch: &Switch) -> Result<()> {
        self.run_until(Instant::now() + time, switch)
    }

    fn run_until(&mut self, moment: Instant, switch: &Switch) -> Result<()> {
        while Instant::now() < moment {
            self.tick(switch)?;
        }
        Ok(())
    }

    fn is_overdue(&self) -> bool {
        self.begin.elapsed() > self.length * 2 + Duration::from_secs(90)
    }

    /// Waits a little, and says how things are when it is time to.
    fn tick(&mut self, switch: &Switch) -> Result<()> {
        thread::sleep(Duration::from_millis(10));
        let elapsed = self.begin.elapsed();
        if elapsed < self.next_line {
            return Ok(());
        }
        // The full seconds that a busy machine skips are skipped here, too.
        self.next_line = Duration::from_secs(elapsed.as_secs() + 1);
        let before = self.calls.len();
        for (tape, counted) in self.counted.iter_mut().enumerate() {
            self.recorder.look(tape, |tape| {
                let fresh = tape.sightings[*counted..].iter();
                self.calls
                    .extend(fresh.filter(|s| s.is_new_call()).map(|s| s.call));
                *counted = tape.sightings.len();
            });
        }
        let nodes = match self.daemons.nodes() {
            Ok(states) => {
                let states = states.iter().map(|s| format!("{} {}", s.node, s.liveness));
                states.collect::<Vec<_>>().join("  ")
            }
            Err(error) => format!("unknown: {error:#}"),
        };
        screen::line(format_args!(
            "{:>3} s  {:>9} calls  {:>6}/s  {:>5} failed   nodes  {nodes}",
            elapsed.as_secs(),
            screen::count(self.calls.len() as u64),
            screen::count((self.calls.len() - before) as u64),
            screen::count(switch.stats()?.failed),
        ));
        Ok(())
    }
}
