//! `cargo xtask doctor`: what this machine has, what it lacks, why that matters, how to mend it.

mod kernel;
mod network;
mod programs;

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::repo::Repo;
use crate::terminal::{Tone, paint};

/// Say what this machine has, what it lacks, why that matters and how to mend it
///
/// The exit code is 1 if something is missing without which Pointsman cannot be built or run here.
/// What only tests or the demo need does not count. Nothing on the machine is changed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// One finding.
#[derive(Serialize)]
struct Check {
    area: Area,
    name: &'static str,
    state: State,
    /// What is there, or what is not.
    found: String,
    /// What it is needed for.
    why: &'static str,
    /// What to do about it; empty when there is nothing to do.
    fix: String,
}

/// What suffers when a check fails.
#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Area {
    Run,
    Build,
    BpfObject,
    TestsAndDemo,
}

impl Area {
    const ALL: [Self; 4] = [Self::Run, Self::Build, Self::BpfObject, Self::TestsAndDemo];

    fn title(self) -> &'static str {
        match self {
            Self::Run => "To run the load balancer",
            Self::Build => "To build it",
            Self::BpfObject => "To change the programs in the kernel",
            Self::TestsAndDemo => "For the tests and the demo",
        }
    }
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// Works without it, but worse, or only in part.
    Advised,
    /// Does not work without it.
    Missing,
    /// This user may not find out.
    Unknown,
}

impl State {
    /// `Ok` if `good`, else `otherwise`.
    fn ok_or(good: bool, otherwise: Self) -> Self {
        if good { Self::Ok } else { otherwise }
    }

    fn word(self) -> (Tone, &'static str) {
        match self {
            Self::Ok => (Tone::Good, "ok"),
            Self::Advised => (Tone::Warning, "advised"),
            Self::Missing => (Tone::Bad, "MISSING"),
            Self::Unknown => (Tone::Dim, "unknown"),
        }
    }
}

/// The verb.
pub(crate) fn run(repo: &Repo, args: &Args) -> Result<ExitCode> {
    let mut checks = kernel::checks();
    checks.extend(programs::checks(repo)?);
    checks.extend(network::checks());
    for check in checks.iter_mut().filter(|check| check.state == State::Ok) {
        check.fix.clear();
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&checks)?);
    } else {
        print_table(&checks);
    }
    let fit = checks.iter().all(|check| check.state != State::Missing);
    Ok(if fit {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_table(checks: &[Check]) {
    for area in Area::ALL {
        println!("{}", paint(Tone::Strong, area.title()));
        for check in checks.iter().filter(|check| check.area == area) {
            let (tone, word) = check.state.word();
            let word = paint(tone, &format!("{word:<8}"));
            println!("  {word} {:<13} {}", check.name, check.found);
            println!("  {:22} {}", "", paint(Tone::Dim, check.why));
            if !check.fix.is_empty() {
                println!("  {:22} to mend it: {}", "", check.fix);
            }
        }
        println!();
    }
    let names = |state| -> Vec<&str> {
        checks
            .iter()
            .filter(|check| check.state == state)
            .map(|check| check.name)
            .collect()
    };
    let (missing, advised) = (names(State::Missing), names(State::Advised));
    if missing.is_empty() {
        println!("Nothing required is missing.");
    } else {
        println!(
            "{} {}",
            paint(Tone::Bad, "Required and missing:"),
            missing.join(", ")
        );
    }
    if !advised.is_empty() {
        println!("Not required, but advised: {}", advised.join(", "));
    }
}
