//! `cargo xtask check`: everything about a change that can be judged without running it.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::bpf::compile::Variant;
use crate::bpf::prebuilt::{self, MadeWith, Status};
use crate::bpf::strip;
use crate::build;
use crate::command;
use crate::repo::{self, Repo};
use crate::setup;
use crate::steps::{Outcome, Steps};

/// Format, lint, document, and compare the BPF object with a fresh build
///
/// Without options every part runs, one that fails does not stop the others, and a list with times
/// closes the report. Options choose parts.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the format of both workspaces (`cargo fmt --all` and the same in lb-ebpf mend it)
    #[arg(long)]
    fmt: bool,
    /// Only clippy on the userspace crates, all targets, every warning an error
    #[arg(long)]
    clippy: bool,
    /// Only clippy on the BPF crate, with the compiler that builds it
    #[arg(long)]
    clippy_bpf: bool,
    /// Only the documentation: broken links and malformed examples are errors
    #[arg(long)]
    doc: bool,
    /// Only the comparison of the BPF object in the repository with a fresh build, byte by byte
    #[arg(long)]
    bpf: bool,
}

impl Args {
    fn wants(&self, part: bool) -> bool {
        part || !(self.fmt || self.clippy || self.clippy_bpf || self.doc || self.bpf)
    }
}

/// The verb.
pub(crate) fn run(repo: &Repo, args: &Args) -> Result<ExitCode> {
    if prebuilt::status(repo)? == Status::Absent {
        // lb-user includes it, and does not compile without one.
        build::bpf_up_to_date(repo)?;
    }
    let mut steps = Steps::default();
    if args.wants(args.fmt) {
        steps.take("format", || format(repo));
    }
    if args.wants(args.clippy) {
        steps.take("clippy, userspace", || clippy(repo));
    }
    if args.wants(args.clippy_bpf) {
        steps.take("clippy, BPF", || clippy_bpf(repo));
    }
    if args.wants(args.doc) {
        steps.take("documentation", || documentation(repo));
    }
    if args.wants(args.bpf) {
        steps.take("BPF object against its sources", || compare_bpf(repo));
    }
    Ok(steps.finish())
}

fn format(repo: &Repo) -> Result<Outcome> {
    let userspace = command::run(command::cargo(repo, "fmt").args(["--all", "--check"]));
    let mut bpf = command::cargo(repo, "fmt");
    bpf.current_dir(repo.ebpf_crate()).arg("--check");
    let bpf = command::run(&mut bpf);
    userspace
        .and(bpf)
        .context("`cargo fmt --all`, here and in lb-ebpf, mends it")?;
    Ok(Outcome::Done)
}

fn clippy(repo: &Repo) -> Result<Outcome> {
    let mut cargo = command::cargo_compiling(repo, "clippy");
    command::run(cargo.args(["--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    Ok(Outcome::Done)
}

fn clippy_bpf(repo: &Repo) -> Result<Outcome> {
    let mut compiler = setup::bpf_compiler(repo)?;
    if !setup::ensure_bpf_clippy(&mut compiler.toolchain) {
        return left_out(format!(
            "{} has no clippy: lb-ebpf is not linted",
            compiler.toolchain.way
        ));
    }
    for features in [&[][..], &["--features", "log"]] {
        let mut cargo = compiler.cargo(repo, "clippy")?;
        command::run(cargo.args(features).args(["--", "-D", "warnings"]))?;
    }
    Ok(Outcome::Done)
}

fn documentation(repo: &Repo) -> Result<Outcome> {
    let mut cargo = command::cargo_compiling(repo, "doc");
    cargo.args(["--workspace", "--no-deps", "--document-private-items"]);
    // These pages are read by those who work on the programs, with the private items in them, so a
    // public item may refer to a private one.
    let flags = "-D warnings -A rustdoc::private-intra-doc-links";
    command::run(cargo.env("RUSTDOCFLAGS", flags))?;
    Ok(Outcome::Done)
}

/// Builds the object again and compares. This holds the repository to its word that the object was
/// made from the sources beside it and by nothing else.
fn compare_bpf(repo: &Repo) -> Result<Outcome> {
    let status = prebuilt::status(repo)?;
    if status != Status::UpToDate {
        bail!("{status}: run `cargo xtask build` and commit lb-ebpf/prebuilt");
    }
    let record = prebuilt::record(repo).context("toolchain.toml vanished")?;
    let compiler = setup::bpf_compiler(repo)?;
    let differences = record
        .made_with
        .differences(&MadeWith::by(&compiler, repo)?);
    if !differences.is_empty() {
        return left_out(format!(
            "made with other versions ({}); `cargo xtask build --bpf` makes it with these",
            differences.join("; ")
        ));
    }
    let committed = fs::read(prebuilt::object_path(repo))?;
    let built = compiler.build(repo, Variant::Release)?;
    let fresh = fs::read(&built)?;
    if committed != fresh {
        bail!(
            "the same sources and versions gave another object, {}: {}",
            repo.display(&built),
            strip::differences(&committed, &fresh)?.join("; ")
        );
    }
    Ok(Outcome::Done)
}

/// A part that cannot be checked on this machine. CI's machine is the one where everything can.
fn left_out(reason: String) -> Result<Outcome> {
    if repo::in_ci() {
        bail!("{reason}, and nothing may be left out in CI");
    }
    Ok(Outcome::Skipped(reason))
}
