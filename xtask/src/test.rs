//! `cargo xtask test`: builds what the tests need, runs them in the right order, and counts.
//!
//! Unit and property tests run first and in parallel. The `pointsman-tests` package follows, one
//! test at a time: its tests make network namespaces and measure time, and would disturb each other.

mod programs;
mod summary;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::build::{self, Profile};
use crate::command;
use crate::repo::{self, Repo};
use crate::setup;
use crate::terminal::{self, Tone, paint};
use summary::Summary;

/// Run the tests: unit and property tests first, then those that need root and namespaces
///
/// The tests in the `tests` package need root: they make network namespaces, load BPF programs and
/// kill daemons, all inside those namespaces. `--unit` leaves them out.
///
/// With CI=true in the environment a test that was skipped or ignored counts as failed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests with one of these words in their name, or in the path of their file
    filter: Vec<String>,
    /// Only unit and property tests, those beside the code that they test
    #[arg(long, conflicts_with = "integration")]
    unit: bool,
    /// Only the tests of the `tests` package
    #[arg(long)]
    integration: bool,
    /// Show what passing tests print, too
    #[arg(long)]
    show_output: bool,
}

/// The verb.
pub(crate) fn run(repo: &Repo, args: &Args) -> Result<ExitCode> {
    let integration = !args.unit && repo.has_tests_package();
    if args.integration && !integration {
        bail!("there is no tests/Cargo.toml in this checkout");
    }
    if integration && !repo::is_root() {
        bail!(
            "the integration tests make network namespaces and load BPF programs, which needs root: \
             `sudo -E cargo xtask test`, or `cargo xtask test --unit` for the others"
        );
    }
    build::bpf_up_to_date(repo)?;
    if integration {
        setup::lab()?;
        terminal::say("The programs under test");
        build::programs(repo, Profile::Release)?;
    }
    terminal::say("The tests");
    let (integration_tests, unit_tests): (Vec<_>, Vec<_>) = programs::compile(repo)?
        .into_iter()
        .partition(|program| program.is_integration(repo));

    let skips = repo.target.join("skipped-tests");
    let _ = fs::remove_file(&skips);
    let begin = Instant::now();
    let mut session = Session {
        args,
        bin_dir: repo.release_dir(),
        skips,
        summary: Summary::default(),
    };
    if !args.integration {
        terminal::say("Unit and property tests");
        for program in &unit_tests {
            session.run(&program.name(repo), program.command())?;
        }
        let mut doc_tests = command::cargo_compiling(repo, "test");
        doc_tests.args(["--workspace", "--doc", "--no-fail-fast", "--"]);
        session.run("examples in the documentation", doc_tests)?;
    }
    if integration {
        terminal::say("Integration tests, one at a time");
        for program in &integration_tests {
            let mut command = program.command();
            command.arg("--test-threads=1");
            session.run(&program.name(repo), command)?;
        }
    }
    let mut summary = session.summary;
    summary.skipped = lines(&session.skips);
    Ok(report(&summary, begin))
}

/// One call of the verb.
struct Session<'a> {
    args: &'a Args,
    /// The directory of the programs under test; tests find it in `POINTSMAN_BIN_DIR`.
    bin_dir: PathBuf,
    /// The file to which a test that cannot run here adds a line; `POINTSMAN_SKIPS` names it.
    skips: PathBuf,
    summary: Summary,
}

impl Session<'_> {
    /// Runs the tests of one program, shows their output as it comes and counts their results.
    fn run(&mut self, name: &str, mut command: Command) -> Result<()> {
        println!("\n{}", paint(Tone::Strong, name));
        // A word that names the file asks for all that is in it.
        if !self.args.filter.iter().any(|word| name.contains(word)) {
            command.args(&self.args.filter);
        }
        if self.args.show_output {
            command.arg("--show-output");
        }
        if terminal::stdout_has_colours() {
            command.arg("--color=always");
        }
        let mut child = command
            .env("POINTSMAN_BIN_DIR", &self.bin_dir)
            .env("POINTSMAN_SKIPS", &self.skips)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", command::line(&command)))?;
        let stdout = child
            .stdout
            .take()
            .context("a test program has no standard output")?;
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            self.summary.read(&line);
        }
        let status = child.wait()?;
        if !status.success() {
            self.summary.a_run_failed(name, &status.to_string());
        }
        Ok(())
    }
}

/// What tests wrote to the file named by `POINTSMAN_SKIPS`: a line for each that could not run here,
/// with its name and the reason.
fn lines(skips: &Path) -> Vec<String> {
    fs::read_to_string(skips)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn report(summary: &Summary, begin: Instant) -> ExitCode {
    println!();
    for name in &summary.failures {
        println!("{} {name}", paint(Tone::Bad, "failed: "));
    }
    for name in &summary.ignored {
        println!("{} {name}", paint(Tone::Warning, "ignored:"));
    }
    for skip in &summary.skipped {
        println!("{} {skip}", paint(Tone::Warning, "skipped:"));
    }
    let verdict = summary.verdict(repo::in_ci());
    if let Err(reason) = &verdict {
        println!("{}", paint(Tone::Bad, reason));
    }
    println!("in {:.0} s", begin.elapsed().as_secs_f64());
    println!("{}", summary.closing_line());
    if verdict.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
