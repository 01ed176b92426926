//! `cargo xtask build`: the programs, and the BPF object when its sources have changed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::bpf::compile::Variant;
use crate::bpf::prebuilt::{self, Status};
use crate::command;
use crate::repo::Repo;
use crate::setup;
use crate::terminal;

/// Build the programs, and the BPF object when its sources have changed
///
/// The BPF object is kept in the repository. It is built again only when its sources have changed,
/// so that an unchanged checkout needs nothing but stable Rust.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimised programs, in target/release; this is the default
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// Programs that compile faster and check for overflow, in target/debug
    #[arg(long)]
    debug: bool,
    /// Only the BPF object, and even if its sources have not changed
    #[arg(long)]
    bpf: bool,
    /// Only the BPF object that logs every packet, to target/bpf/pointsman-log.bpf.o
    #[arg(long)]
    bpf_log: bool,
}

/// The verb.
pub(crate) fn run(repo: &Repo, args: &Args) -> Result<()> {
    if args.bpf {
        rebuild_bpf(repo)?;
    }
    if args.bpf_log {
        let compiler = setup::bpf_compiler(repo)?;
        let object = compiler.build(repo, Variant::Log)?;
        terminal::say(format_args!(
            "The BPF object that logs: {}",
            repo.display(&object)
        ));
    }
    if args.bpf || args.bpf_log {
        return Ok(());
    }

    bpf_up_to_date(repo)?;
    let profile = if args.debug {
        Profile::Dev
    } else {
        Profile::Release
    };
    let programs = programs(repo, profile)?;
    if programs.is_empty() {
        terminal::say("This workspace has no programs yet");
        return Ok(());
    }
    terminal::say("Built:");
    for program in programs {
        println!("    {}", repo.display(&program));
    }
    Ok(())
}

/// Has the prebuilt object match its sources; needs a BPF toolchain only if it does not.
pub(crate) fn bpf_up_to_date(repo: &Repo) -> Result<()> {
    match prebuilt::status(repo)? {
        Status::UpToDate => {
            terminal::say(Status::UpToDate);
            Ok(())
        }
        reason => {
            terminal::say(format_args!("Building the BPF object: {reason}"));
            rebuild_bpf(repo)
        }
    }
}

fn rebuild_bpf(repo: &Repo) -> Result<()> {
    let compiler = setup::bpf_compiler(repo)?;
    prebuilt::rebuild(repo, &compiler)?;
    let object = prebuilt::object_path(repo);
    terminal::say(format_args!("The BPF object: {}", repo.display(&object)));
    Ok(())
}

/// Cargo's profile for the programs.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// Builds the workspace's programs and gives their paths. Left out are xtask itself, and the
/// programs of the tests package, which the verbs that run them build.
pub(crate) fn programs(repo: &Repo, profile: Profile) -> Result<Vec<PathBuf>> {
    let mut cargo = command::cargo_compiling(repo, "build");
    cargo.args(["--workspace", "--bins", "--exclude", "xtask"]);
    cargo.arg("--message-format=json-render-diagnostics");
    if repo.has_tests_package() {
        cargo.args(["--exclude", "pointsman-tests"]);
    }
    if matches!(profile, Profile::Release) {
        cargo.arg("--release");
    }
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let mut programs = Vec::new();
    for line in BufReader::new(stdout).lines() {
        programs.extend(executable(&line?));
    }
    if !child.wait()?.success() {
        bail!("the programs could not be built");
    }
    programs.sort();
    Ok(programs)
}

/// The program that cargo says it has just made, if this line of its messages says so.
fn executable(line: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        executable: Option<PathBuf>,
    }
    let message: Message = serde_json::from_str(line).ok()?;
    message
        .executable
        .filter(|_| message.reason == "compiler-artifact")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finished_programs_count() {
        let program = r#"{"reason":"compiler-artifact","executable":"/t/pointsman"}"#;
        let library = r#"{"reason":"compiler-artifact","executable":null}"#;
        assert_eq!(executable(program), Some(PathBuf::from("/t/pointsman")));
        assert_eq!(executable(library), None);
        assert_eq!(
            executable(r#"{"reason":"build-finished","success":true}"#),
            None
        );
        assert_eq!(executable("not json"), None);
    }
}
