//! `demo`, `bench` and `stats`: verbs whose work is done by another program of this repository.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::build::{self, Profile};
use crate::command;
use crate::repo::{self, Repo};
use crate::setup;

/// Runs `pointsman-demo` with `args`.
pub(crate) fn demo(repo: &Repo, args: &[OsString]) -> Result<ExitCode> {
    of_the_tests_package(repo, "pointsman-demo", args)
}

/// Runs `pointsman-bench` with `args`.
pub(crate) fn bench(repo: &Repo, args: &[OsString]) -> Result<ExitCode> {
    of_the_tests_package(repo, "pointsman-bench", args)
}

/// Runs `pointsman stats` with `args`. It is built first if it is not there, and not otherwise:
/// somebody who looks at a running load balancer wants numbers now.
pub(crate) fn stats(repo: &Repo, args: &[OsString]) -> Result<ExitCode> {
    let program = repo.release_dir().join("pointsman");
    if !command::is_program(&program) {
        build::bpf_up_to_date(repo)?;
        build::programs(repo, Profile::Release)?;
    }
    if !command::is_program(&program) {
        bail!("{} is not there even after a build", repo.display(&program));
    }
    become_program(Command::new(&program).arg("stats").args(args))
}

fn of_the_tests_package(repo: &Repo, program: &str, args: &[OsString]) -> Result<ExitCode> {
    if !repo.has_tests_package() {
        bail!("{program} belongs to the package in tests/, which is not in this checkout");
    }
    // Somebody who only asks what it can do needs neither root nor SIPp.
    let only_asks = args.iter().any(|arg| arg == "--help" || arg == "-h");
    if !only_asks {
        if !repo::is_root() {
            bail!("{program} makes network namespaces and loads BPF programs: run it as root");
        }
        setup::lab()?;
        build::bpf_up_to_date(repo)?;
        build::programs(repo, Profile::Release)?;
    }
    let mut cargo = command::cargo_compiling(repo, "run");
    cargo
        .args([
            "--release",
            "--quiet",
            "--package",
            "pointsman-tests",
            "--bin",
            program,
            "--",
        ])
        .args(args)
        .env("POINTSMAN_BIN_DIR", repo.release_dir());
    become_program(&mut cargo)
}

/// Becomes the program: an interrupt from the terminal is its own to answer, and nobody returns to
/// the prompt before it has cleaned up.
fn become_program(command: &mut Command) -> Result<ExitCode> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", command::line(command)))
}
