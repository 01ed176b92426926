//! A pair in service without the wait of a first start.
//!
//! A node that knows nothing of what it granted waits until the longest lease would be over. These know:
//! nothing that still runs.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::{Daemons, PATIENCE, Pair, Settings};
use pointsman_tests::lab::{Lab, Process};

use crate::service::{Service, settings};

/// Term, holder, and the lease in milliseconds.
const NOTHING: &str = "0 1 0\n";

/// Starts everything, with the first controller as the main.
pub(super) fn begin(lab: &Lab, pair: Pair) -> Result<Service<'_>> {
    begin_with(lab, settings(pair))
}

/// The same with other settings.
pub(super) fn begin_with(lab: &Lab, settings: Settings) -> Result<Service<'_>> {
    for node in lab.node_ids() {
        let directory = lab.directory().join(format!("redirect-{node}"));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("lease"), NOTHING)?;
    }
    let daemons = Daemons::configure(lab, settings)?;
    let redirects = lab.node_ids().map(|node| {
        let mut redirect = daemons.start_redirect(node)?;
        redirect.wait_until_ready(PATIENCE)?;
        anyhow::Ok(redirect)
    });
    let mut service = Service {
        redirects: redirects.collect::<Result<_>>()?,
        controllers: vec![Some(daemons.start_controller_of(1)?), None],
        daemons,
    };
    service.wait_for_role(1, "main")?;
    service.controllers[1] = Some(service.daemons.start_controller_of(2)?);
    service.wait_for_role(2, "stand-by")?;
    let nodes: Vec<u16> = lab.node_ids().collect();
    for id in [1, 2] {
        let controller = service.controllers[usize::from(id) - 1].as_mut();
        let controller = controller.context("it was started")?;
        service.daemons.wait_for_nodes_of(id, controller, &nodes)?;
    }
    for daemon in service
        .redirects
        .iter()
        .chain(service.controllers.iter().flatten())
    {
        hurry(daemon)?;
    }
    Ok(service)
}

/// Lets a daemon run before what else the machine has to do: a controller that does not run for longer than
/// its lease is deposed, and that is not what these tests are about.
fn hurry(daemon: &Process) -> Result<()> {
    let mut renice = Command::new("renice");
    let output = renice
        .args(["-n", "-20", "-p", &daemon.id().to_string()])
        .output();
    let output = output.context("cannot start renice")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
