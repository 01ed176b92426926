//! The controller as a daemon: it comes, goes, is killed and replaced, and traffic does not notice.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::{Admission, Outcome, Reason};
use pointsman_tests::daemons::{Daemons, KernelObjects, PATIENCE, Settings};
use pointsman_tests::fleet::Fleet;
use pointsman_tests::lab::{Lab, PassProgram, Process, Signal, eventually};
use pointsman_tests::record::{Calls, Recorder};
use pointsman_tests::traffic::{CallLoad, Client, Stream, Switch, clean_rate, start_sipp_server};

const NODES: u16 = 3;

fn lab() -> Result<Lab> {
    Lab::of(NODES)
}

/// How a controller ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Stopped,
    Killed,
}

/// Ends the controller and starts another, which adopts what is there and puts its own program into
/// the link.
fn replace(fleet: &mut Fleet<'_>, end: End) -> Result<()> {
    match end {
        End::Stopped => {
            fleet.controller.signal(Signal::Terminate)?;
            let exit = fleet.controller.wait(PATIENCE)?;
            ensure!(exit.success(), "a stopped controller says {exit}");
        }
        End::Killed => fleet.controller.kill()?,
    }
    fleet.controller = fleet.daemons.start_controller()?;
    fleet.controller.wait_until_ready(PATIENCE)
}

/// Calls at up to 2,000 a second while the controller is replaced forty times: half of the times it
/// is stopped, half of the times killed. No call fails, no message takes another way than through
/// the program, and nothing is left behind in the kernel.
#[test]
fn forty_upgrades_under_load_lose_nothing() -> Result<()> {
    const EACH: usize = 20;
    let lab = lab()?;
    let rate = clean_rate(
        &lab,
        &[2_000, 1_500, 1_000, 500, 250],
        Duration::from_secs(2),
    )?;
    let mut fleet = Fleet::start(&lab, Settings::default())?;
    let vip = lab.vip_v4();
    let servers: Vec<Process> = lab
        .node_ids()
        .map(|node| start_sipp_server(&lab, lab.node(node), &format!("server-{node}"), vip))
        .collect::<Result<_>>()?;
    // The first replacement is not counted: whatever it takes once, it may take.
    replace(&mut fleet, End::Stopped)?;
    let objects = |fleet: &Fleet<'_>| {
        KernelObjects::of(&lab.lb.namespace, &fleet.daemons.pins(), &fleet.controller)
    };
    let before = objects(&fleet)?;
    let left_before = left_to_others(&fleet.daemons)?;

    let recorder = Recorder::start(lab.nodes.iter().chain([&lab.lb]))?;
    let load = CallLoad {
        target: vip,
        calls: 1_000_000,
        rate,
        talk: Duration::from_millis(50),
    };
    let mut switch = Switch::start(&lab, "switch", &load)?;
    eventually("calls", PATIENCE, || {
        Ok(recorder.look(0, |tape| tape.sightings.len() > 100))
    })?;
    for _ in 0..EACH {
        replace(&mut fleet, End::Stopped)?;
        replace(&mut fleet, End::Killed)?;
    }
    switch.stop()?;
    let stats = switch.wait(Duration::from_secs(60))?;
    let mut tapes = recorder.finish()?;
    let beside = tapes.pop().context("no tape")?;
    drop(servers);
    println!(
        "{} calls at {rate}/s, {} retransmissions",
        stats.started, stats.retransmissions
    );
    assert_eq!(stats.failed, 0, "{stats:?}");
    assert_eq!(beside.sightings.len(), 0, "messages went past the program");
    assert_eq!(
        left_to_others(&fleet.daemons)?,
        left_before,
        "the program left messages to others"
    );
    assert!(
        tapes.iter().all(|tape| tape.dropped == 0),
        "the recorder missed frames"
    );
    let calls = Calls::read(&tapes);
    assert_eq!(calls.split().count(), 0, "calls that reached two nodes");
    assert_eq!(calls.len(), stats.started as usize);

    // The kernel frees a program a moment after its last user is gone.
    eventually("the kernel to hold no more than before", PATIENCE, || {
        Ok(objects(&fleet)? == before)
    })
    .with_context(|| format!("{before:?} before, {:?} now", objects(&fleet)))
}

/// Messages for the VIP that the program did not steer itself.
fn left_to_others(daemons: &Daemons<'_>) -> Result<u64> {
    let deferred = |name: &str| {
        let mut reasons = Reason::ALL.iter();
        reasons.any(|reason| reason.name() == name && reason.outcome() == Outcome::Defer)
    };
    let reasons = daemons.reasons()?;
    Ok(reasons
        .iter()
        .filter(|(name, _)| deferred(name))
        .map(|(_, count)| count)
        .sum())
}

/// What the data plane knows outlives the controller: calls away from home stay where they are.
#[test]
fn a_new_controller_adopts_calls_away_from_home() -> Result<()> {
    const BUSY: u16 = 1;
    let lab = lab()?;
    let mut fleet = Fleet::start(&lab, Settings::patient())?;
    let program = fs::metadata(fleet.daemons.pins().join("program"))?.ino();
    let link = fs::metadata(fleet.daemons.pins().join("link-eth0"))?.ino();
    let client = Client::open(&lab, lab.vip_v4())?;
    let recorder = Recorder::start(&lab.nodes)?;
    let call_ids = fleet.homes.call_ids("away", BUSY, 40)?;

    fleet.voice(BUSY).say(Admission::Busy);
    eventually("the node to be busy", PATIENCE, || {
        Ok(fleet.homes.maps().status(BUSY)?.admission == Admission::Busy as u8)
    })?;
    for call_id in &call_ids {
        client.send(&client.call(call_id).invite())?;
        client.send(&client.call(call_id).ack("t"))?;
    }
    let messages = || {
        (0..usize::from(NODES))
            .map(|n| recorder.look(n, |t| t.sightings.len()))
            .sum()
    };
    eventually("the calls to arrive", PATIENCE, || {
        let messages: usize = messages();
        Ok(messages == 2 * call_ids.len())
    })?;
    fleet.voice(BUSY).say(Admission::Free);

    replace(&mut fleet, End::Killed)?;
    let program_now = fs::metadata(fleet.daemons.pins().join("program"))?.ino();
    assert_ne!(program_now, program, "the program was not replaced");
    let link_now = fs::metadata(fleet.daemons.pins().join("link-eth0"))?.ino();
    assert_eq!(link_now, link, "the link was not kept");
    for call_id in &call_ids {
        client.send(&client.call(call_id).bye("t"))?;
    }
    eventually("the calls to end", PATIENCE, || {
        let messages: usize = messages();
        Ok(messages == 3 * call_ids.len())
    })?;
    let calls = Calls::read(&recorder.finish()?);
    assert_eq!(calls.len(), call_ids.len());
    for (_, trace) in calls.iter() {
        assert_eq!(trace.visits.len(), 1, "{trace:?}");
        assert_ne!(trace.first().node, BUSY, "{trace:?}");
    }
    Ok(())
}

/// Stopping steers on; detaching does not, and says so; a second `detach` finds nothing.
#[test]
fn only_detach_ends_steering() -> Result<()> {
    let lab = lab()?;
    let mut fleet = Fleet::start(&lab, Settings::default())?;
    let has_program =
        || -> Result<bool> { Ok(lab.lb.namespace.ip("link show eth0")?.contains("xdp")) };
    assert!(has_program()?);
    fleet.controller.signal(Signal::Terminate)?;
    assert!(fleet.controller.wait(PATIENCE)?.success());
    assert!(has_program()?, "stopping has detached the program");

    let recorder = Recorder::start(&lab.nodes)?;
    let stream = Stream::of_new_calls(&lab, lab.vip_v4(), "orphaned", 500)?;
    eventually("calls", PATIENCE, || Ok(stream.sent() >= 200))?;
    let sent = stream.finish()? as usize;
    recorder.catch_up()?;
    let arrived: usize = (0..usize::from(NODES))
        .map(|n| recorder.look(n, |tape| tape.sightings.len()))
        .sum();
    assert_eq!(arrived, sent, "calls without a controller");

    let detached = fleet.daemons.ask("detach")?;
    assert_eq!(detached["interfaces"], serde_json::json!(["eth0"]));
    assert!(!has_program()?, "detaching has left the program");
    assert!(!fleet.daemons.pins().exists(), "detaching has left pins");

    // What every other test takes for granted: a recorder on the load balancer sees messages that
    // the program does not take.
    let beside = Recorder::start([&lab.lb])?;
    let client = Client::open(&lab, lab.vip_v4())?;
    client.send(&client.call("past@switch").invite())?;
    eventually("a call past the program", PATIENCE, || {
        Ok(beside.look(0, |tape| tape.sightings.len() == 1))
    })?;
    let again = fleet.daemons.ask("detach")?;
    assert_eq!(again["interfaces"], serde_json::json!([]));
    Ok(())
}

/// A node joins while calls are up: not one of them moves, new calls go to it, too, and a
/// configuration with a mistake changes nothing.
#[test]
fn a_node_joins_and_no_call_moves() -> Result<()> {
    const NEW: u16 = 4;
    const CALLS: usize = 300;
    let lab = Lab::of(4)?;
    let without = Settings {
        left_out: vec![NEW],
        ..Settings::default()
    };
    let mut fleet = Fleet::start(&lab, without)?;
    let recorder = Recorder::start(&lab.nodes)?;
    let client = Client::open(&lab, lab.vip_v4())?;
    let wait_for = |messages: usize| {
        eventually(&format!("{messages} messages"), PATIENCE, || {
            let seen = (0..4).map(|n| recorder.look(n, |tape| tape.sightings.len()));
            Ok(seen.sum::<usize>() == messages)
        })
    };
    let before: Vec<_> = (0..CALLS)
        .map(|number| client.call(format!("before-{number}@switch")))
        .collect();
    for call in &before {
        client.send(&call.invite())?;
    }
    wait_for(CALLS)?;

    let file = fleet.daemons.controller_file();
    let good = fs::read_to_string(&file)?;
    fs::write(&file, good.replacen("id = 2", "id = 1", 1))?;
    fleet.controller.signal(Signal::Reload)?;
    eventually("the mistake to be refused", PATIENCE, || {
        Ok(fleet.controller.log().contains("reload refused"))
    })?;
    fleet.daemons.reconfigure(Settings::default())?;
    fleet.daemons.ask("reload")?;
    let all: Vec<u16> = lab.node_ids().collect();
    fleet.daemons.wait_for_nodes(&mut fleet.controller, &all)?;

    let after: Vec<_> = (0..CALLS)
        .map(|number| client.call(format!("after-{number}@switch")))
        .collect();
    for call in &before {
        // The switch has not seen the answer, and asks again; then it goes on.
        client.send(&call.invite())?;
        client.send(&call.ack("t"))?;
        client.send(&call.reinvite("t"))?;
        client.send(&call.bye("t"))?;
    }
    for call in &after {
        client.send(&call.invite())?;
        client.send(&call.ack("t"))?;
        client.send(&call.bye("t"))?;
    }
    wait_for(CALLS * 8)?;
    let calls = Calls::read(&recorder.finish()?);
    let split: Vec<_> = calls.split().map(|(_, trace)| trace).collect();
    assert!(
        split.is_empty(),
        "{} calls have moved, such as {:?}",
        split.len(),
        split[0]
    );
    let joined = calls.spread(4)[usize::from(NEW) - 1] as usize;
    assert!(
        (CALLS / 8..CALLS / 2).contains(&joined),
        "{joined} of {CALLS} calls for node {NEW}"
    );
    Ok(())
}

/// Once it serves, the daemon can do nothing that the start alone needed.
#[test]
fn a_serving_controller_has_no_capabilities() -> Result<()> {
    let lab = lab()?;
    let mut fleet = Fleet::start(&lab, Settings::default())?;
    replace(&mut fleet, End::Stopped)?;
    let tasks = fs::read_dir(format!("/proc/{}/task", fleet.controller.id()))?;
    for task in tasks {
        let status = fs::read_to_string(task?.path().join("status"))?;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let line = status
                .lines()
                .find(|line| line.starts_with(set))
                .context("no such set")?;
            assert!(line.ends_with("0000000000000000"), "{line}");
        }
    }
    Ok(())
}

/// What the controller says when it will not start.
fn refusal(daemons: &Daemons<'_>) -> Result<String> {
    let mut controller = daemons.start_controller()?;
    let before = controller.log().len();
    let exit = controller.wait(PATIENCE)?;
    assert!(!exit.success(), "the controller started");
    let log = controller.log();
    Ok(log.get(before.min(log.len())..).unwrap_or(&log).to_owned() + &log)
}

/// Pins that are not of this version's shape are named and left alone, and so is the traffic.
#[test]
fn pins_of_another_shape_are_refused() -> Result<()> {
    let lab = lab()?;
    let mut fleet = Fleet::start(&lab, Settings::default())?;
    fleet.controller.kill()?;
    let pin = fleet.daemons.pins().join("COUNTS");
    fs::remove_file(&pin)?;
    let words = format!(
        "map create {} type array key 4 value 16 entries 64 name other",
        pin.display()
    );
    lab.lb.namespace.run("bpftool", &words)?;
    let said = refusal(&fleet.daemons)?;
    assert!(
        said.contains(&pin.display().to_string()),
        "the pin is not named: {said}"
    );
    assert!(said.contains("detach"), "no way out is named: {said}");

    fs::remove_file(&pin)?;
    let said = refusal(&fleet.daemons)?;
    assert!(
        said.contains(&pin.display().to_string()),
        "the pin is not named: {said}"
    );

    let recorder = Recorder::start(&lab.nodes)?;
    let client = Client::open(&lab, lab.vip_v4())?;
    let call_id = &fleet.homes.call_ids("still", 2, 1)?[0];
    client.send(&client.call(call_id).invite())?;
    eventually("the call to be steered as before", PATIENCE, || {
        Ok(recorder.look(1, |tape| tape.sightings.len() == 1))
    })?;
    // The way out that was named.
    fleet.daemons.ask("detach")?;
    fleet.controller = fleet.daemons.start_controller()?;
    let all: Vec<u16> = lab.node_ids().collect();
    fleet.daemons.wait_for_nodes(&mut fleet.controller, &all)
}

/// Somebody else's XDP program is named and left alone.
#[test]
fn a_foreign_program_is_left_alone() -> Result<()> {
    let lab = lab()?;
    let daemons = Daemons::configure(&lab, Settings::default())?;
    let foreign = PassProgram::attach(&lab.lb.namespace, "eth0")?;
    let said = refusal(&daemons)?;
    assert!(said.contains("eth0") && said.contains("lab_pass"), "{said}");
    assert!(
        lab.lb.namespace.ip("link show eth0")?.contains("xdp"),
        "it was removed"
    );
    assert!(
        !daemons.pins().exists(),
        "a start that failed has left pins"
    );
    drop(foreign);
    let mut controller = daemons.start_controller()?;
    controller.wait_until_ready(PATIENCE)
}

/// Two controllers must not write the same maps.
#[test]
fn a_second_controller_is_refused() -> Result<()> {
    let lab = lab()?;
    let mut fleet = Fleet::start(&lab, Settings::default())?;
    let output = run_check(&fleet.daemons, "run")?;
    assert!(!output.status.success(), "a second controller started");
    fleet.controller.expect_running()
}

fn run_check(daemons: &Daemons<'_>, verb: &str) -> Result<Output> {
    Ok(daemons.controller_command(verb).output()?)
}

/// Mistakes in the configuration: what is written instead of what, and what the message must name.
const MISTAKES: &[(&str, &str, &[&str])] = &[
    ("cluster = 77", "cluster = \"a\"", &["cluster", ":1"]),
    ("cluster = 77", "clutser = 77", &["clutser", ":1"]),
    ("period_ms = 20", "period_ms = 0", &["period_ms"]),
    ("hold_periods = 3", "hold_periods = 0", &["hold_periods"]),
    ("\"239.255.77.1\"", "\"192.0.2.1\"", &["192.0.2.1"]),
    (
        "address = \"10.77.0.100\"",
        "address = \"10.77.0.300\"",
        &["10.77.0.300"],
    ),
    ("id = 2", "id = 1", &["id"]),
    ("id = 2", "id = 0", &["id"]),
    ("id = 2", "id = 300", &["id"]),
    (
        "name = \"eth0\"",
        "name = \"eth0\"\nmood = \"native\"",
        &["mood"],
    ),
    ("mode = \"native\"", "mode = \"turbo\"", &["turbo"]),
    ("[[vip]]", "[[vip]", &[":"]),
];

#[test]
fn mistakes_in_the_configuration_are_pointed_at() -> Result<()> {
    let lab = lab()?;
    let daemons = Daemons::configure(&lab, Settings::default())?;
    let file = daemons.controller_file();
    let good = fs::read_to_string(&file)?;
    let output = run_check(&daemons, "check-config")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (right, wrong, names) in MISTAKES {
        ensure!(good.contains(right), "the configuration has no `{right}`");
        fs::write(&file, good.replacen(right, wrong, 1))?;
        let output = run_check(&daemons, "check-config")?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "`{wrong}` was accepted");
        assert!(
            said.contains("pointsman.toml"),
            "`{wrong}`: the file is not named: {said}"
        );
        for name in *names {
            assert!(
                said.contains(name),
                "`{wrong}`: `{name}` is not named: {said}"
            );
        }
        assert!(!said.contains("panicked"), "{said}");
    }
    // Nothing of it has touched the machine.
    assert!(!daemons.pins().exists());
    Ok(())
}

#[test]
fn a_key_file_that_others_can_read_is_refused() -> Result<()> {
    let lab = lab()?;
    let daemons = Daemons::configure(&lab, Settings::default())?;
    let keys = lab.directory().join("keys");
    fs::set_permissions(&keys, Permissions::from_mode(0o644))?;
    let said = refusal(&daemons)?;
    assert!(said.contains(&keys.display().to_string()), "{said}");
    assert!(
        !daemons.pins().exists(),
        "a start that failed has left pins"
    );
    Ok(())
}
