//! Access nodes as the others hear them: a node speaks while its SIP server serves, and not otherwise.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::{Daemons, GROUP_V6, PATIENCE, Settings};
use pointsman_tests::lab::{Lab, Process, eventually, realtime_ns};
use pointsman_tests::record::{BeaconSighting, Recorder};
use pointsman_tests::traffic::{start_kamailio, start_sipp_server};

/// The node that listens to the others.
const LISTENER: usize = 0;
/// As many periods of 20 ms that no jitter explains it.
const SILENCE: Duration = Duration::from_millis(400);

struct Ether {
    recorder: Recorder,
}

impl Ether {
    fn last(&self, node: u16) -> Option<BeaconSighting> {
        self.recorder.look(LISTENER, |tape| {
            tape.beacons.iter().rev().find(|b| b.node == node).copied()
        })
    }

    fn count(&self, node: u16) -> usize {
        self.recorder.look(LISTENER, |tape| {
            tape.beacons.iter().filter(|b| b.node == node).count()
        })
    }

    fn wait_for_voice(&self, node: u16) -> Result<()> {
        let before = self.count(node);
        eventually(&format!("beacons of node {node}"), PATIENCE, || {
            Ok(self.count(node) > before + 5)
        })
    }

    fn wait_for_silence(&self, node: u16) -> Result<()> {
        eventually(&format!("silence of node {node}"), PATIENCE, || {
            let last = self.last(node).context("no beacon yet")?;
            let age = realtime_ns().saturating_sub(last.time_ns);
            Ok(Duration::from_nanos(age) > SILENCE)
        })
    }
}

fn start_server(lab: &Lab, node: u16) -> Result<Process> {
    let (host, name) = (lab.node(node), format!("server-{node}"));
    if node == 3 {
        start_kamailio(lab, host, &name, lab.vip_v4())
    } else {
        start_sipp_server(lab, host, &name, lab.vip_v4())
    }
}

/// Beacons cross the bridge as real multicast; they stop when the SIP server (SIPp on one node,
/// Kamailio on the other) is killed while the redirect server lives, and come back with it.
#[test]
fn a_node_speaks_only_while_its_sip_server_answers() -> Result<()> {
    let lab = Lab::of(3)?;
    let daemons = Daemons::configure(
        &lab,
        Settings {
            probe: true,
            ..Settings::default()
        },
    )?;
    let ether = Ether {
        recorder: Recorder::start(&lab.nodes)?,
    };
    for node in [2, 3] {
        let mut redirect = daemons.start_redirect(node)?;
        redirect.wait_until_ready(PATIENCE)?;
        let mut server = start_server(&lab, node)?;
        ether.wait_for_voice(node)?;
        // The server goes on answering: ten probes' time at least.
        let before = ether.count(node);
        eventually("a hundred beacons", PATIENCE, || {
            Ok(ether.count(node) > before + 100)
        })?;
        server.kill()?;
        ether.wait_for_silence(node)?;
        redirect.expect_running()?;
        let _server = start_server(&lab, node)?;
        ether.wait_for_voice(node)?;
    }
    Ok(())
}

/// After `kill -9` a node speaks with a higher epoch: what it said before cannot be played again.
#[test]
fn a_reborn_node_has_a_higher_epoch() -> Result<()> {
    let lab = Lab::of(2)?;
    let daemons = Daemons::configure(&lab, Settings::default())?;
    let ether = Ether {
        recorder: Recorder::start(&lab.nodes)?,
    };
    let mut epochs = Vec::new();
    for _ in 0..3 {
        let mut redirect = daemons.start_redirect(2)?;
        ether.wait_for_voice(2)?;
        epochs.push(ether.last(2).context("no beacon")?.epoch);
        redirect.kill()?;
    }
    ensure!(
        epochs.is_sorted_by(|before, after| before < after),
        "epochs {epochs:?}"
    );
    Ok(())
}

/// The status plane over IPv6 multicast, from real redirect servers to a real controller.
#[test]
fn beacons_over_ipv6() -> Result<()> {
    let lab = Lab::of(2)?;
    let settings = Settings {
        groups: vec![GROUP_V6],
        ..Settings::default()
    };
    let daemons = Daemons::configure(&lab, settings)?;
    let mut controller = daemons.start_controller()?;
    let mut nodes = [daemons.start_redirect(1)?, daemons.start_redirect(2)?];
    daemons.wait_for_nodes(&mut controller, &[1, 2])?;
    ensure!(
        daemons.reason("beacon")? > 0,
        "beacons were not taken over in the kernel"
    );
    nodes[1].kill()?;
    daemons.wait_for_nodes(&mut controller, &[1])
}
