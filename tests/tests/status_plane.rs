//! The status plane with real daemons: keys that change under load, and a node that lost its epoch.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::{BEACON_KEY_ID, Daemons, PATIENCE, Redirecting, Settings};
use pointsman_tests::lab::{Lab, Process, Signal, eventually, realtime_ns};
use pointsman_tests::record::Recorder;
use pointsman_tests::traffic::{CallLoad, Switch, Voice, start_sipp_server};

const NEXT_KEY_ID: u8 = BEACON_KEY_ID + 1;

fn lab(nodes: u16) -> Result<Lab> {
    Lab::of(nodes)
}

/// Changes the key file of all machines, which the lab has in one place, and tells everybody.
fn change_keys(
    daemons: &Daemons<'_>,
    everybody: &mut [Process],
    change: impl FnOnce(Vec<String>) -> Vec<String>,
) -> Result<()> {
    let file = daemons.lab().directory().join("keys");
    let lines = fs::read_to_string(&file)?;
    let lines = change(lines.lines().map(str::to_owned).collect());
    // In place: it keeps its mode.
    let mut file = OpenOptions::new().write(true).truncate(true).open(&file)?;
    file.write_all((lines.join("\n") + "\n").as_bytes())?;
    let times = |process: &Process| {
        process.log().matches("reloaded").count()
            + process.log().matches("read the key file again").count()
    };
    for process in everybody {
        let before = times(process);
        process.signal(Signal::Reload)?;
        eventually("the keys to be read", PATIENCE, || {
            Ok(times(process) > before)
        })
        .with_context(|| process.last_words())?;
    }
    Ok(())
}

fn key_ids(daemons: &Daemons<'_>) -> Result<Vec<u64>> {
    let nodes = daemons.ask("nodes")?;
    let rows = nodes["nodes"].as_array().context("a list")?;
    let ids = rows.iter().map(|row| row["key_id"].as_u64());
    ids.collect::<Option<_>>().context("each has a key id")
}

/// While calls come, every machine gets a new key, signs with it, and forgets the old one, one machine
/// after the other: no beacon is refused, no call fails.
#[test]
fn keys_change_under_load_without_a_missed_beacon() -> Result<()> {
    let lab = lab(3)?;
    let settings = Settings {
        probe: true,
        redirecting: Some(Redirecting::default()),
        ..Settings::patient()
    };
    let daemons = Daemons::configure(&lab, settings)?;
    let mut everybody = vec![daemons.start_controller()?];
    let mut servers = Vec::new();
    for node in lab.node_ids() {
        let (host, name) = (lab.node(node), format!("server-{node}"));
        servers.push(start_sipp_server(
            &lab,
            host,
            &name,
            daemons.sip_server(node),
        )?);
        everybody.push(daemons.start_redirect(node)?);
    }
    daemons.wait_for_nodes(&mut everybody[0], &[1, 2, 3])?;
    let load = CallLoad {
        target: lab.vip_v4(),
        calls: 2_000,
        rate: 200,
        talk: Duration::from_millis(50),
    };
    let mut switch = Switch::start(&lab, "switch", &load)?;
    let before = daemons.reason("beacon")?;
    assert_eq!(key_ids(&daemons)?, [u64::from(BEACON_KEY_ID); 3]);

    let next = format!("beacon {NEXT_KEY_ID} {}", "5a".repeat(16));
    change_keys(&daemons, &mut everybody, |mut lines| {
        lines.push(next);
        lines
    })?;
    change_keys(&daemons, &mut everybody, |mut lines| {
        let last = lines.len() - 1;
        lines.swap(last - 1, last);
        lines
    })?;
    eventually("all to sign with the new key", PATIENCE, || {
        Ok(key_ids(&daemons)? == [u64::from(NEXT_KEY_ID); 3])
    })?;
    change_keys(&daemons, &mut everybody, |mut lines| {
        lines.pop();
        lines
    })?;

    let stats = switch.wait(Duration::from_secs(60))?;
    assert_eq!((stats.succeeded, stats.failed), (2_000, 0), "{stats:?}");
    for (reason, count) in daemons.reasons()? {
        let is_refusal = reason.starts_with("beacon-");
        ensure!(!is_refusal || count == 0, "{count} beacons: {reason}");
    }
    // Three nodes, fifty a second each, over the ten seconds of the calls.
    let heard = daemons.reason("beacon")? - before;
    ensure!(heard > 1_000, "{heard} beacons were taken");
    daemons.wait_for_nodes(&mut everybody[0], &[1, 2, 3])
}

/// A node comes back with an epoch that is older than what the controller holds: it is told so, and
/// taken again before its third beacon.
#[test]
fn a_node_that_lost_its_epoch_is_taken_again() -> Result<()> {
    let lab = lab(2)?;
    let daemons = Daemons::configure(&lab, Settings::patient())?;
    let mut controller = daemons.start_controller()?;
    // As if the clock had run ahead, before it was set right and the state was lost.
    let ahead = u32::try_from(realtime_ns() / 1_000_000_000)? + 1_000_000;
    let voice = Voice::start_in_life(&lab, 2, daemons.settings(), ahead)?;
    daemons.wait_for_nodes(&mut controller, &[2])?;
    drop(voice);

    let recorder = Recorder::start([&lab.nodes[0]])?;
    let _redirect = daemons.start_redirect(2)?;
    eventually("the node to speak in a later life", PATIENCE, || {
        Ok(recorder.look(0, |tape| tape.beacons.iter().any(|b| b.epoch > ahead)))
    })?;
    daemons.wait_for_nodes(&mut controller, &[2])?;
    let tapes = recorder.finish()?;
    let refused = tapes[0].beacons.iter().take_while(|b| b.epoch < ahead);
    let refused = refused.count() as u64;
    ensure!(refused <= 3, "{refused} beacons of an old epoch");
    assert_eq!(daemons.reason("beacon-old-epoch")?, refused);
    Ok(())
}
