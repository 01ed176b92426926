//! The demo: a fleet in network namespaces, real calls, and things that go wrong.
//!
//! It measures first what the machine carries without a load balancer, then sends calls through the
//! LB at that rate, kills a node's daemons and the controller meanwhile, and tells from the
//! recordings of every port what became of each call. Then a node is full, and at last one of two LBs is
//! lost with all that it had. Every promise has a line in the report that says whether it was kept.

mod args;
mod baseline;
mod failover;
mod fates;
mod full;
mod report;
mod screen;
mod show;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::daemons::{Daemons, Redirecting, Settings};
use crate::lab::Lab;

pub use args::Args;
use report::Report;

/// Nodes in the demo.
const NODES: u16 = 3;
/// The node whose daemons are killed.
const KILLED: u16 = 2;
/// The node that runs Kamailio. The others run SIPp.
const KAMAILIO: u16 = 3;

/// Runs it. The exit code says whether every promise was kept.
///
/// # Errors
/// Something is missing on this machine, or a program ended that was not to end.
pub fn run(args: &Args) -> Result<ExitCode> {
    screen::introduce(args);
    let lab = Lab::of(NODES)?;
    let pair = failover::lab()?;
    let result = run_in(&lab, &pair, args);
    let went_well = result.as_ref().is_ok_and(Report::all_kept);
    // Whoever wants to know why needs the logs, which go with the lab.
    let logs = match &args.logs {
        Some(logs) => Some(logs.clone()),
        None if went_well => None,
        None => Some(std::env::temp_dir().join(format!("pointsman-demo-{}", std::process::id()))),
    };
    if let Some(logs) = &logs {
        keep_logs(&lab, logs)?;
        keep_logs(&pair, &logs.join("failover"))?;
    }
    let report = match (result, &logs) {
        (Err(error), Some(logs)) => {
            return Err(error.context(format!("logs are in {}", logs.display())));
        }
        (result, _) => result?,
    };
    report.print();
    if let Some(logs) = &logs {
        screen::line(format_args!("logs are in {}", logs.display()));
    }
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(if went_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_in(lab: &Lab, pair: &Lab, args: &Args) -> Result<Report> {
    let mut daemons = Daemons::configure(lab, settings())?;
    let baseline = baseline::measure(lab, args)?;
    let evidence = show::run(&daemons, args, &baseline)?;
    let moves = full::run(&mut daemons)?;
    let failover = failover::run(pair)?;
    Ok(Report::new(&baseline, &evidence, &moves, &failover))
}

/// Calls go through the redirect servers, which ask their SIP servers how they are.
fn settings() -> Settings {
    Settings {
        probe: true,
        redirecting: Some(Redirecting::default()),
        ..Settings::default()
    }
}

/// Copies logs and configuration out of the lab's directory before it goes.
fn keep_logs(lab: &Lab, to: &std::path::Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(lab.directory())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
