//! `cargo xtask`: what a developer does with this repository, in one tool.
//!
//! Each verb has a file of its own, and installs what it finds missing on its way, so that
//! `git clone` followed by any verb works on a bare machine.

mod bpf;
mod build;
mod check;
mod command;
mod delegate;
mod doctor;
mod repo;
mod setup;
mod steps;
mod terminal;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::repo::Repo;

const ABOUT: &str = "\
Everything a developer does with Pointsman, in one tool.

First time here?
  cargo xtask setup     installs what is missing, and says what and why
  cargo xtask build     the programs, in target/release
  cargo xtask demo      a switch, a load balancer and three nodes, on this machine

Before you send a change:
  cargo xtask check     format, lints, docs, and whether the BPF object matches its sources
  cargo xtask test      unit and property tests, then tests with real network namespaces

When something does not work: cargo xtask doctor";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = ABOUT, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// Each verb's own file holds its help, above its `Args`.
#[derive(Subcommand)]
enum Verb {
    Setup(setup::Args),
    Doctor(doctor::Args),
    Build(build::Args),
    Check(check::Args),
    Test(test::Args),
    /// Show the load balancer at work with SIPp and Kamailio in network namespaces
    ///
    /// What follows the verb goes to the demo: `cargo xtask demo --help` shows its own help.
    #[command(disable_help_flag = true)]
    Demo(PassedThrough),
    /// Measure, and compare with a baseline taken in the same run
    ///
    /// What follows the verb goes to the benchmark: `cargo xtask bench --help` shows its own help.
    #[command(disable_help_flag = true)]
    Bench(PassedThrough),
    /// Show the counters of the load balancer that runs on this machine
    ///
    /// Runs `pointsman stats` as built by `cargo xtask build`; what follows the verb goes there.
    #[command(disable_help_flag = true)]
    Stats(PassedThrough),
}

/// Arguments that belong to the program behind the verb.
#[derive(clap::Args)]
struct PassedThrough {
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    // Cargo runs this same program in front of rustc while it builds the BPF object.
    if let Some(exit) = bpf::rustc_wrapper::run_if_asked() {
        return exit;
    }
    match run(Cli::parse().verb) {
        Ok(exit) => exit,
        Err(error) => {
            terminal::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    let repo = Repo::find()?;
    match verb {
        Verb::Setup(args) => setup::run(&repo, &args).map(|()| ExitCode::SUCCESS),
        Verb::Doctor(args) => doctor::run(&repo, &args),
        Verb::Build(args) => build::run(&repo, &args).map(|()| ExitCode::SUCCESS),
        Verb::Check(args) => check::run(&repo, &args),
        Verb::Test(args) => test::run(&repo, &args),
        Verb::Demo(rest) => delegate::demo(&repo, &rest.args),
        Verb::Bench(rest) => delegate::bench(&repo, &rest.args),
        Verb::Stats(rest) => delegate::stats(&repo, &rest.args),
    }
}
