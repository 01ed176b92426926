//! A pair that announces its VIPs: the router follows the reign, whatever the old main's routing daemon does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_user::plane::Maps;
use pointsman_tests::daemons::{Pair, Redirecting, Settings};
use pointsman_tests::dialogs::{Bustle, Callees, Callers, Phase};
use pointsman_tests::lab::{Lab, Process, wait_until};
use pointsman_tests::record::{Recorder, Tape};

use crate::service::{PATIENCE, RoutedLab, Service, expect_all_over, expect_none_lost};

const CALLS: usize = 300;
/// What one node has room for: less than its share, so that calls live away from home.
const ROOM: u32 = 30;
const WINDOW: usize = 50;
const BUSTLE: Bustle = Bustle {
    changes: (300, 300),
    calls: (300, 300),
    name: "",
};
/// Longer than BIRD takes to act on an address that came or went, many times over.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// The pair, with a switch that has calls going.
struct Scene<'lab> {
    service: Service<'lab>,
    _callees: Callees,
    callers: Callers,
}

impl<'lab> Scene<'lab> {
    fn start(at: &'lab RoutedLab) -> Result<Self> {
        let settings = Settings {
            redirecting: Some(Redirecting {
                capacities: vec![(1, ROOM)],
                ..Redirecting::default()
            }),
            pair: Some(Pair {
                vip: "announce",
                vip_interface: "lo",
                ..Pair::patient()
            }),
            ..Settings::patient()
        };
        let service = Service::start(at, settings)?;
        let callees = Callees::start(&service.fleet.daemons)?;
        service.wait_for_ways(&[1])?;
        let mut callers = Callers::open(&at.lab, 6000)?;
        callers.establish("call", CALLS, WINDOW)?;
        Ok(Self {
            service,
            _callees: callees,
            callers,
        })
    }

    /// Does something to the main while the switch is busy, and waits until the other is the main to which
    /// the router's routes lead. Says what it took.
    fn switch_over(
        &mut self,
        name: &'static str,
        from: u16,
        act: impl FnOnce(&mut Service<'lab>) -> Result<()>,
    ) -> Result<()> {
        let to = 3 - from;
        let recorder = Recorder::start(&self.service.lab.nodes)?;
        let known = self.callers.calls().len();
        // The last call before belongs to the old one.
        self.callers.establish(&format!("{name}-before"), 5, 1)?;
        let begin = Instant::now();
        act(&mut self.service)?;
        let acted = begin.elapsed();
        let (service, callers) = (&self.service, &mut self.callers);
        // The routes are watched while calls are made.
        let followed = std::thread::scope(|scope| -> Result<Duration> {
            let watch = scope.spawn(|| {
                service.fleet.wait_for_role(to, "main")?;
                service.wait_for_ways(&[to])?;
                Ok(begin.elapsed())
            });
            callers.bustle(&Bustle { name, ..BUSTLE })?;
            watch
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let tapes = recorder.finish()?;
        expect_none_lost(&self.callers)?;
        let calls = &self.callers.calls()[known..];
        let waits = calls
            .iter()
            .filter_map(|call| Some(call.answered?.duration_since(call.begun)));
        let repeats: u32 = calls.iter().map(|call| call.repeats).sum();
        println!(
            "{name}: done in {acted:?}, routes to the new main alone {followed:?} after; no new call was \
             steered for {:?}; {repeats} requests of {} new calls were sent again, the longest wait for an \
             answer was {:?}; 0 lost",
            pause(self.service.lab, &tapes, from, to)?,
            calls.len(),
            waits.max().unwrap_or_default(),
        );
        Ok(())
    }

    fn guard(&self, controller: u16) -> Result<Process> {
        let lab = self.service.lab;
        let command = self
            .service
            .fleet
            .daemons
            .controller_command_of(controller, "guard");
        let mut guard = Process::start_daemon(lab, &format!("guard-{controller}"), command)?;
        guard.wait_until_ready(PATIENCE)?;
        Ok(guard)
    }
}

/// From the last new call that came to a node by way of one LB to the first by way of the other.
fn pause(lab: &Lab, tapes: &[Tape], from: u16, to: u16) -> Result<Duration> {
    let times = |id: u16| {
        let mac = lab.balancer(id).mac;
        let all = tapes.iter().flat_map(|tape| &tape.sightings);
        let own = all.filter(move |s| s.is_new_call() && s.way.sender == mac);
        own.map(|sighting| sighting.time_ns)
    };
    let last = times(from)
        .max()
        .context("the old one steered no new call")?;
    let first = times(to).min().context("the new one steered no new call")?;
    Ok(Duration::from_nanos(first.saturating_sub(last)))
}

/// The first data plane gives way to a later term in which nobody reigns: until its controller, the main, has
/// raised its own, the guard leaves the VIPs to it.
fn expect_spared(scene: &Scene, guard: &Process) -> Result<()> {
    let maps = Maps::open(&scene.service.fleet.daemons.pins_of(1))?;
    let mut plane = maps.plane_status()?;
    plane.term_heard = maps.turnout()?.term + 1;
    let (heard, begin) = (plane.term_heard, Instant::now());
    maps.set_plane_status(plane)?;
    wait_until("the main to raise its term", PATIENCE, || {
        Ok(maps.turnout()?.is_active(heard).then_some(()))
    })?;
    println!("outbid: the term was raised after {:?}", begin.elapsed());
    let log = guard.log();
    ensure!(!log.contains("has given way"), "{log}");
    scene.service.wait_for_ways(&[1])
}

/// On request the VIPs move, and the router follows: the old main's machine announces them no more.
/// A killed main's machine goes on announcing them, and calls that the router sends there are dropped as
/// soon as another reigns; until the guard takes the VIPs away. A machine that is gone announces nothing.
#[test]
fn the_router_follows_the_reign() -> Result<()> {
    let at = RoutedLab::start()?;
    let mut scene = Scene::start(&at)?;

    scene.switch_over("wish", 1, |service| {
        let mut command = service.fleet.daemons.controller_command_of(1, "failover");
        let output = command.args(["--to", "2"]).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    })?;

    // Nobody guards: the killed main's machine announces what its data plane drops.
    scene.service.fleet.controller(2).kill()?;
    scene.service.fleet.wait_for_role(1, "main")?;
    scene.service.wait_for_ways(&[1, 2])?;
    let mut both = scene.service.callers()?;
    let answered = |callers: &mut Callers| Ok(callers.open_requests() == 0);
    let [served, dropped] = &mut both;
    served.call("unguarded-1@switch".to_owned());
    served.run_until("its call to be answered", PATIENCE, answered)?;
    dropped.call("unguarded-2@switch".to_owned());
    dropped.run_for(LONG_ENOUGH)?;
    let up = both.each_ref().map(|callers| callers.count(Phase::Up));
    ensure!(up == [1, 0], "{up:?} answered");
    scene.service.wait_for_ways(&[1, 2])?;
    let begin = Instant::now();
    let _second = scene.guard(2)?;
    scene.service.wait_for_ways(&[1])?;
    println!(
        "unguarded: the guard, started late, sets it right in {:?}",
        begin.elapsed()
    );
    for callers in &mut both {
        callers.run_until("its call to be answered", PATIENCE, answered)?;
        callers.prove_all(1)?;
        expect_all_over(callers)?;
    }
    scene.service.restart(2)?;

    let first = scene.guard(1)?;
    expect_spared(&scene, &first)?;
    scene.switch_over("killed", 1, |service| service.fleet.controller(1).kill())?;
    scene.service.restart(1)?;
    let mut lost = None;
    scene.switch_over("machine", 2, |service| {
        lost = Some(service.lab.lose(service.lab.balancer(2))?);
        Ok(())
    })?;

    scene.callers.prove_all(WINDOW)?;
    println!("{} calls at the end", scene.callers.calls().len());
    expect_all_over(&scene.callers)?;

    // The end of steering is the end of announcing, with the controller dead and unguarded, too.
    drop(first);
    scene.service.fleet.controller(1).kill()?;
    scene.service.expect_ways_stay(&[1], LONG_ENOUGH)?;
    let output = scene
        .service
        .fleet
        .daemons
        .controller_command_of(1, "detach")
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    scene.service.wait_for_ways(&[])
}
