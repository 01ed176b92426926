//! Getting a Rust toolchain that can compile for the kernel, by whichever way is open.

use std::env;
use std::process::Command;

use anyhow::{Result, bail};

use crate::bpf::prebuilt;
use crate::bpf::toolchain::{NIGHTLY, Survey, Toolchain, Way};
use crate::command;
use crate::repo::Repo;
use crate::setup::apt;
use crate::terminal;

/// Debian 12's Rust for building browsers: newer than its `rustc`, and kept up to date.
const COMPILER: &str = "rustc-web";
const PACKAGES: [&str; 4] = [COMPILER, "cargo-web", "rust-web-src", CLIPPY];
const CLIPPY: &str = "rust-web-clippy";

/// How a person gets such a toolchain where [`ensure`] cannot.
pub(crate) fn by_hand() -> String {
    format!("rustup toolchain install {NIGHTLY} -c rust-src -c clippy")
}

/// Looks at this machine and names the toolchain to use.
pub(crate) fn survey_here(repo: &Repo) -> (Survey, Option<Toolchain>) {
    let made_by = prebuilt::record(repo).map(|record| record.made_with.rustc);
    let survey = Survey::take();
    let best = survey.best(made_by.as_deref()).cloned();
    (survey, best)
}

/// Gives a toolchain, after installing one if there is none.
pub(crate) fn ensure(repo: &Repo) -> Result<Toolchain> {
    let (survey, best) = survey_here(repo);
    if let Some(toolchain) = best {
        return Ok(toolchain);
    }
    terminal::say("No Rust toolchain here can build the BPF object");
    for reason in &survey.unusable {
        terminal::detail(reason);
    }

    let mut closed_ways = Vec::new();
    for (name, way) in [
        ("Debian's packages", install_packages as fn() -> Result<()>),
        ("a rustup nightly", install_nightly),
    ] {
        match way() {
            Ok(()) => match survey_here(repo) {
                (_, Some(toolchain)) => return Ok(toolchain),
                (survey, None) => closed_ways.push(format!(
                    "{name}: installed, but {}",
                    survey.unusable.join("; ")
                )),
            },
            Err(reason) => closed_ways.push(format!("{name}: {reason:#}")),
        }
    }
    bail!(
        "no way is open to a toolchain that can build the BPF object:\n    {}\n  By hand: `{}`",
        closed_ways.join("\n    "),
        by_hand()
    );
}

/// Adds clippy to `toolchain` if it lacks it and Debian has it; says whether it is there now.
pub(crate) fn ensure_clippy(toolchain: &mut Toolchain) -> bool {
    if !toolchain.has_clippy && toolchain.way == Way::Distribution && apt::usable().is_ok() {
        let installed = apt::refresh().and_then(|()| {
            anyhow::ensure!(apt::offers(CLIPPY), "no package {CLIPPY}");
            apt::install(&[CLIPPY])
        });
        toolchain.has_clippy = installed.is_ok();
    }
    toolchain.has_clippy
}

fn install_packages() -> Result<()> {
    apt::usable().map_err(anyhow::Error::msg)?;
    apt::refresh()?;
    if !apt::offers(COMPILER) {
        bail!("this release has no package {COMPILER}");
    }
    apt::install(&PACKAGES)
}

fn install_nightly() -> Result<()> {
    if command::which("rustup").is_none() {
        bail!("rustup is not there");
    }
    // A machine that is told so has a reason: it is offline, or its toolchains are somebody's choice.
    if env::var("RUSTUP_AUTO_INSTALL").is_ok_and(|auto| auto == "0") {
        bail!("RUSTUP_AUTO_INSTALL=0 says that no toolchain may be installed unasked");
    }
    terminal::say(format_args!("Installing {NIGHTLY} with rustup"));
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]);
    rustup.args([
        "--component",
        "rust-src",
        "--component",
        "clippy",
        "--no-self-update",
    ]);
    command::run(&mut rustup)
}
