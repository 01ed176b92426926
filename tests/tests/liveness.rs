//! Who gets which message when nodes fall silent, come back, or say that they are busy.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_common::Admission;
use pointsman_tests::daemons::{Daemons, PATIENCE, Settings};
use pointsman_tests::fleet::Fleet;
use pointsman_tests::lab::{Lab, Process, Signal, eventually};
use pointsman_tests::record::{CallHash, Calls, Recorder};
use pointsman_tests::stall::{self, StallWitness};
use pointsman_tests::traffic::{Client, Stream};

/// The node that an INVITE of this call has reached last, once it has arrived anywhere.
struct Watch<'lab> {
    recorder: Recorder,
    client: Client,
    lab: &'lab Lab,
}

impl<'lab> Watch<'lab> {
    fn start(lab: &'lab Lab) -> Result<Self> {
        let recorder = Recorder::start(&lab.nodes)?;
        Ok(Self {
            recorder,
            client: Client::open(lab, lab.vip_v4())?,
            lab,
        })
    }

    /// Messages of a call so far, by node.
    fn counts(&self, call_id: &str) -> HashMap<u16, usize> {
        let call = CallHash::of(call_id);
        let nodes = self.lab.node_ids().zip(0..);
        let counts = nodes.map(|(node, tape)| {
            let count = |tape: &pointsman_tests::record::Tape| {
                tape.sightings
                    .iter()
                    .filter(|sighting| sighting.call == call)
                    .count()
            };
            (node, self.recorder.look(tape, count))
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Sends a message and waits for the one node that it arrives at.
    fn send(&self, call_id: &str, message: &[u8]) -> Result<u16> {
        let before = self.counts(call_id);
        self.client.send(message)?;
        let mut at = 0;
        eventually(
            &format!("a message of {call_id} to arrive"),
            PATIENCE,
            || {
                let after = self.counts(call_id);
                let found = after
                    .iter()
                    .find(|(node, count)| before.get(node) != Some(count));
                at = found.map_or(0, |(node, _)| *node);
                Ok(at != 0)
            },
        )?;
        Ok(at)
    }

    fn invite(&self, call_id: &str) -> Result<u16> {
        self.send(call_id, &self.client.call(call_id).invite())
    }
}

/// New calls of `node`, one after the other, until one goes elsewhere: then the data plane knows
/// that the node takes none. The calls used up in between are of no further interest.
fn wait_until_shunned(watch: &Watch<'_>, fleet: &Fleet<'_>, node: u16, name: &str) -> Result<()> {
    let call_ids = fleet.homes.call_ids(name, node, 400)?;
    for call_id in &call_ids {
        if watch.invite(call_id)? != node {
            return Ok(());
        }
    }
    bail!("node {node} still gets new calls, after {}", call_ids.len())
}

/// The answer to an INVITE is lost, so the switch repeats it; meanwhile its node has turned `Busy`.
/// The repeated INVITE must find the same node, or the call would be set up twice.
#[test]
fn a_repeated_invite_finds_its_node_though_that_turned_busy() -> Result<()> {
    let lab = Lab::of(3)?;
    let fleet = Fleet::start(&lab, Settings::patient())?;
    let watch = Watch::start(&lab)?;
    for node in lab.node_ids() {
        let call_ids = fleet.homes.call_ids(&format!("busy-{node}"), node, 20)?;
        for call_id in &call_ids {
            assert_eq!(watch.invite(call_id)?, node);
        }
        fleet.voice(node).say(Admission::Busy);
        wait_until_shunned(&watch, &fleet, node, &format!("shun-{node}"))?;
        for call_id in &call_ids {
            assert_eq!(watch.invite(call_id)?, node, "{call_id}, repeated");
            let call = watch.client.call(call_id);
            assert_eq!(
                watch.send(call_id, &call.ack("t"))?,
                node,
                "the ACK of {call_id}"
            );
            assert_eq!(
                watch.send(call_id, &call.bye("t"))?,
                node,
                "the BYE of {call_id}"
            );
        }
        // A busy node refuses calls, not registrations.
        let register = &fleet.homes.call_ids(&format!("register-{node}"), node, 1)?[0];
        let message = watch.client.call(register).register();
        assert_eq!(
            watch.send(register, &message)?,
            node,
            "a REGISTER for a busy node"
        );
        fleet.voice(node).say(Admission::Free);
    }
    Ok(())
}

/// The same, with a node that has fallen silent for longer than the hold time but is not yet `Down`.
#[test]
fn a_repeated_invite_finds_its_node_though_that_turned_stale() -> Result<()> {
    const NODE: u16 = 2;
    let lab = Lab::of(3)?;
    // Ten seconds from `Stale` to `Down`: the test must be over by then.
    let settings = Settings {
        down_periods: 500,
        ..Settings::default()
    };
    let mut fleet = Fleet::start(&lab, settings)?;
    // The controller would ask the silent node, hear nothing and call it `Down`.
    fleet.controller.kill()?;
    let watch = Watch::start(&lab)?;
    let call_ids = fleet.homes.call_ids("stale", NODE, 20)?;
    for call_id in &call_ids {
        assert_eq!(watch.invite(call_id)?, NODE);
    }
    fleet.voice(NODE).fall_silent();
    wait_until_shunned(&watch, &fleet, NODE, "shun")?;
    for call_id in &call_ids {
        assert_eq!(watch.invite(call_id)?, NODE, "{call_id}, repeated");
        let bye = watch.client.call(call_id).bye("t");
        assert_eq!(watch.send(call_id, &bye)?, NODE, "the BYE of {call_id}");
    }
    Ok(())
}

/// One node of four dies. Every call of the other three stays where it is; the dead node's calls
/// and new calls that would have been its own go to the three; and it gets new ones when it is back.
#[test]
fn a_dead_node_moves_nobody_elses_calls() -> Result<()> {
    const DEAD: u16 = 3;
    const CALLS: usize = 400;
    let lab = Lab::of(4)?;
    let mut fleet = Fleet::start(&lab, Settings::default())?;
    let watch = Watch::start(&lab)?;
    let mut at = HashMap::new();
    for number in 0..CALLS {
        let call_id = format!("before-{number}@switch");
        let node = watch.invite(&call_id)?;
        assert_eq!(node, fleet.homes.of(&call_id)?, "{call_id} is not at home");
        at.insert(call_id, node);
    }
    fleet.voice(DEAD).fall_silent();
    let living: Vec<u16> = lab.node_ids().filter(|node| *node != DEAD).collect();
    let Fleet {
        daemons,
        controller,
        ..
    } = &mut fleet;
    daemons.wait_for_nodes(controller, &living)?;
    eventually("the dead node to be Down", PATIENCE, || {
        let nodes = daemons.nodes()?;
        Ok(nodes
            .iter()
            .any(|state| state.node == DEAD && state.liveness == "Down"))
    })?;

    for (call_id, node) in &at {
        let now_at = watch.send(call_id, &watch.client.call(call_id).reinvite("t"))?;
        if *node == DEAD {
            assert_ne!(now_at, DEAD, "{call_id} went to the dead node");
        } else {
            assert_eq!(now_at, *node, "{call_id} has moved");
        }
    }
    // New calls that would have gone to the dead node, and what follows in them.
    let orphans = fleet.homes.call_ids("orphan", DEAD, 60)?;
    let mut adopted = HashMap::new();
    for call_id in &orphans {
        let node = watch.invite(call_id)?;
        assert_ne!(node, DEAD);
        adopted.insert(call_id, node);
    }
    let hosts = living
        .iter()
        .filter(|node| adopted.values().any(|at| at == *node))
        .count();
    assert_eq!(
        hosts,
        living.len(),
        "the dead node's calls went to {hosts} nodes only"
    );

    fleet.voice(DEAD).speak_again();
    let all: Vec<u16> = lab.node_ids().collect();
    fleet.daemons.wait_for_nodes(&mut fleet.controller, &all)?;
    for (call_id, node) in &adopted {
        let bye = watch.client.call(*call_id).bye("t");
        assert_eq!(
            watch.send(call_id, &bye)?,
            *node,
            "{call_id} went back in mid-call"
        );
    }
    let anew = &fleet.homes.call_ids("anew", DEAD, 1)?[0];
    assert_eq!(
        watch.invite(anew)?,
        DEAD,
        "a node that is back gets new calls"
    );
    Ok(())
}

/// Attempts at a measurement that a stalling machine may spoil.
const ATTEMPTS: u32 = 5;
/// Beacons every 20 ms, hold time 3 periods, and one more in which the next beacon was due.
const DETECTION_LIMIT: Duration = Duration::from_millis(80);

/// Kills a node's redirect server under load and measures for how long new calls still came.
fn detect(with_controller: bool) -> Result<()> {
    const DEAD: u16 = 2;
    let lab = Lab::of(3)?;
    let daemons = Daemons::configure(&lab, Settings::default())?;
    let mut controller = daemons.start_controller()?;
    let mut nodes: Vec<Process> = lab
        .node_ids()
        .map(|node| daemons.start_redirect(node))
        .collect::<Result<_>>()?;
    let all: Vec<u16> = lab.node_ids().collect();
    daemons.wait_for_nodes(&mut controller, &all)?;
    if !with_controller {
        controller.kill()?;
    }
    for attempt in 1..=ATTEMPTS {
        let recorder = Recorder::start(&lab.nodes)?;
        let stream = Stream::of_new_calls(&lab, lab.vip_v4(), &format!("detect-{attempt}"), 2_000)?;
        let dead_tape = usize::from(DEAD) - 1;
        eventually("calls at the node", PATIENCE, || {
            Ok(recorder.look(dead_tape, |tape| tape.sightings.len() > 100))
        })?;
        let witness = StallWitness::start();
        nodes[dead_tape].signal(Signal::Kill)?;
        nodes[dead_tape].wait(PATIENCE)?;
        let at_kill = stream.sent();
        eventually("calls after the node's death", PATIENCE, || {
            Ok(stream.sent() > at_kill + 1_000)
        })?;
        let stalled = witness.longest();
        stream.finish()?;
        let tapes = recorder.finish()?;
        assert!(
            tapes.iter().all(|tape| tape.dropped == 0),
            "the recorder missed frames"
        );
        // Another node heard the dead node's last beacon; its own port saw its last new call.
        let beacons = tapes[0].beacons.iter().filter(|beacon| beacon.node == DEAD);
        let last_beacon = beacons
            .map(|beacon| beacon.time_ns)
            .max()
            .context("no beacons")?;
        let calls = tapes[dead_tape]
            .sightings
            .iter()
            .filter(|s| s.is_new_call());
        let last_call = calls.map(|call| call.time_ns).max().context("no calls")?;
        let silence = Duration::from_nanos(last_call.saturating_sub(last_beacon));
        println!("{silence:?} from last beacon to last new call; the machine stalled {stalled:?}");
        assert!(
            Calls::read(&tapes).split().next().is_none(),
            "a call went to two nodes"
        );
        if stalled <= stall::LIMIT {
            assert!(
                silence <= DETECTION_LIMIT,
                "new calls for {silence:?} after the last beacon"
            );
            return Ok(());
        }
        nodes[dead_tape] = daemons.start_redirect(DEAD)?;
        eventually("the node to come back", PATIENCE, || {
            Ok(daemons.nodes()?.iter().all(|state| state.is_up()))
        })?;
    }
    bail!(
        "the machine stalled for more than {:?} in each of {ATTEMPTS} runs",
        stall::LIMIT
    )
}

#[test]
fn a_dead_node_gets_no_new_calls_after_80_ms() -> Result<()> {
    detect(true)
}

#[test]
fn a_dead_node_gets_no_new_calls_after_80_ms_without_the_controller() -> Result<()> {
    detect(false)
}
