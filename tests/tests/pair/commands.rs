//! `failover` and `resume`: the reign changes hands on request, with calls in progress.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::dialogs::Bustle;
use pointsman_tests::lab::realtime_ns;

use crate::lab::lab;
use crate::scene::Scene;

const CALLS: usize = 2_000;
const ROOM: u32 = 300;

/// Gives a command on a controller's machine while the switch is busy. How long it took until the other
/// served.
fn command(
    scene: &mut Scene<'_>,
    on: u16,
    words: &[&str],
    to: u16,
    name: &'static str,
) -> Result<Duration> {
    let recorder = scene.record()?;
    let (verb, rest) = words.split_first().expect("a verb");
    let mut command = scene.service.daemons.controller_command_of(on, verb);
    command.args(rest).stdout(Stdio::null());
    let since = realtime_ns();
    let mut child = command.spawn()?;
    scene.bustle(&Bustle {
        changes: (1_000, 1_000),
        calls: (300, 300),
        name,
    })?;
    ensure!(child.wait()?.success(), "{words:?} is refused");
    let report = scene.service.wait_for_role(to, "main")?;
    let served = scene.served(&recorder.finish()?, to, since)?;
    println!(
        "{words:?}: a new call is answered by way of controller {to} after {served:?}; {}",
        report["last_switch"]
    );
    ensure!(report["last_switch"]["reason"] == "command", "{report:#}");
    ensure!(report["steers"] == true, "{report:#}");
    let other = scene.service.wait_for_role(3 - to, "stand-by")?;
    ensure!(other["steers"] == false, "{other:#}");
    Ok(served)
}

#[test]
fn the_reign_changes_hands_on_request() -> Result<()> {
    let lab = lab()?;
    let mut scene = Scene::start(&lab, Pair::default(), CALLS, ROOM)?;
    command(&mut scene, 1, &["failover", "--to", "2"], 2, "there")?;
    scene.expect_list(2)?;
    command(&mut scene, 1, &["resume"], 1, "back")?;
    scene.expect_list(1)?;
    scene.expect_all_alive()
}
