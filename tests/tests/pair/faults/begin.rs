//! A pair in service, watched, whose daemons run before all else.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::{PATIENCE, Pair};
use pointsman_tests::lab::{Lab, Process};
use pointsman_tests::pair::Service;

use super::watch::Watch;
use crate::lab::settings;

/// Starts everything, and waits until all is well with the first controller as the main.
pub(super) fn begin(lab: &Lab, pair: Pair) -> Result<(Service<'_>, Watch)> {
    let service = Service::start(lab, settings(pair))?;
    let controllers = service.controllers.iter().flatten();
    for daemon in service.redirects.iter().chain(controllers) {
        hurry(daemon)?;
    }
    let watch = Watch::start(&service)?;
    watch.wait_for_main(1, PATIENCE)?;
    Ok((service, watch))
}

/// Lets a daemon run before what else the machine has to do: a controller that does not run for as long as
/// its lease is deposed, and that is not what these tests are about.
fn hurry(daemon: &Process) -> Result<()> {
    let mut chrt = Command::new("chrt");
    let words = [
        "--all-tasks",
        "--rr",
        "--pid",
        "1",
        &daemon.id().to_string(),
    ];
    let output = chrt.args(words).output().context("cannot start chrt")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
