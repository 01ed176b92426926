//! A pair in service without the wait of a first start.
//!
//! A node that knows nothing of what it granted waits until the longest lease would be over. These know:
//! nothing that still runs.

use std::fs;

use anyhow::Result;
use pointsman_tests::daemons::{Pair, Settings};
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
    Service::start(lab, settings)
}
