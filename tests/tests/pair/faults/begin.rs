//! A pair in service without the wait of a first start.
//!
//! A node that knows nothing of what it granted waits until the longest lease would be over. These know:
//! nothing that still runs.

use std::fs;

use anyhow::{Context, Result};
use pointsman_tests::daemons::{Daemons, PATIENCE, Pair, Settings};
use pointsman_tests::lab::Lab;

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
    Ok(service)
}
