//! `cargo xtask setup`: installs what is missing, and says what and why.
//!
//! The other verbs call the parts of it that they need: [`lab`] for the programs that tests and the
//! demo run, [`bpf_compiler`] for what builds the BPF object.

mod apt;
mod bpf_toolchain;
mod tools;

use anyhow::{Result, bail};

pub(crate) use bpf_toolchain::{
    by_hand as bpf_toolchain_by_hand, ensure_clippy as ensure_bpf_clippy, survey_here,
};
pub(crate) use tools::{LAB, Tool};

use crate::bpf::compile::Compiler;
use crate::bpf::linker;
use crate::repo::Repo;
use crate::terminal;

/// Install what building, testing and the demo need; quick when everything is there
///
/// On Debian missing packages are installed with apt-get, without questions, without recommended
/// packages, and without starting or enabling the daemons in them. A user who is not root is asked
/// for a password by sudo. Elsewhere the missing programs are listed.
///
/// To build the BPF object it takes what it finds: the very compiler that made the object in the
/// repository, else a rustup nightly with rust-src, else the distribution's compiler and its sources.
/// If there is none, it installs Debian's, which lives in /usr/bin beside rustup's, or where Debian's
/// packages are not to be had, a nightly. bpf-linker is built once and kept in ~/.cache/pointsman.
/// All of this is only needed to change the programs in the kernel: the object in the repository
/// serves everybody else.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what builds the BPF object
    #[arg(long)]
    bpf: bool,
    /// Only the programs that tests and the demo run: SIPp, Kamailio, BIRD, bpftool and others
    #[arg(long)]
    lab: bool,
}

/// The verb.
pub(crate) fn run(repo: &Repo, args: &Args) -> Result<()> {
    let everything = !args.bpf && !args.lab;
    if args.lab || everything {
        lab()?;
        terminal::say("Everything is there for the tests and the demo");
    }
    if args.bpf || everything {
        let mut compiler = bpf_compiler(repo)?;
        let has_clippy = ensure_bpf_clippy(&mut compiler.toolchain);
        let toolchain = &compiler.toolchain;
        terminal::say(format_args!(
            "Everything is there to build the BPF object, by {}",
            toolchain.way
        ));
        terminal::detail(format_args!(
            "rustc {}, LLVM {}, bpf-linker {}",
            toolchain.version,
            toolchain.llvm,
            linker::VERSION
        ));
        if !has_clippy {
            terminal::detail(
                "clippy is not there for it: the BPF crate can be built, but not linted",
            );
        }
    }
    Ok(())
}

/// Has the programs ready that tests and the demo run.
pub(crate) fn lab() -> Result<()> {
    let missing: Vec<&Tool> = LAB.iter().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    terminal::say("Some programs for the tests and the demo are missing");
    for tool in &missing {
        terminal::detail(format_args!("{:<10} {}", tool.program, tool.why));
    }
    apt::usable().map_err(|reason| elsewhere(&missing, &reason))?;
    apt::refresh()?;
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let (offered, unknown): (Vec<&str>, Vec<&str>) =
        packages.iter().partition(|package| apt::offers(package));
    if !offered.is_empty() {
        apt::install(&offered)?;
    }
    if !unknown.is_empty() {
        bail!(
            "this distribution has no packages {}: install them by hand",
            unknown.join(", ")
        );
    }
    if let Some(tool) = missing.iter().find(|tool| !tool.is_there()) {
        bail!(
            "{} was installed, but {} is still not there",
            tool.package,
            tool.program
        );
    }
    Ok(())
}

/// Has a compiler ready that can build the BPF object.
pub(crate) fn bpf_compiler(repo: &Repo) -> Result<Compiler> {
    let toolchain = bpf_toolchain::ensure(repo)?;
    let linker = linker::ensure(repo)?;
    Ok(Compiler { toolchain, linker })
}

/// What to tell somebody whose packages cannot be installed from here.
fn elsewhere(missing: &[&Tool], reason: &str) -> anyhow::Error {
    let list: Vec<String> = missing
        .iter()
        .map(|tool| {
            format!(
                "\n    {:<10} (Debian's package {})",
                tool.program, tool.package
            )
        })
        .collect();
    anyhow::anyhow!(
        "{reason}. Install these programs by hand, then call this again:{}",
        list.concat()
    )
}
