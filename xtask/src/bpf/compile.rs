//! The one cargo invocation that makes the BPF object.
//!
//! It is apart from every other invocation because cargo would otherwise unify the features of the
//! programs in the kernel with those in userspace, and because it uses another compiler.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bpf::toolchain::Toolchain;
use crate::bpf::{linker, rustc_wrapper, strip};
use crate::command;
use crate::repo::{self, Repo};

/// rustc's target.
const TARGET: &str = "bpfel-unknown-none";

/// Flags for rustc, besides the linker's path.
///
/// - `bpf_target_arch` chooses aya-ebpf's bindings for CPU registers. XDP programs use none, so one
///   choice serves every machine.
/// - `v3` has 32-bit ALU and jumps; bpf-linker 0.10.3 knows no v4.
/// - Unaligned loads: without the feature LLVM splits an 8-byte read at an odd packet offset into
///   eight, and a scan costs three times as much. The verifier decides on its own what is allowed.
/// - Debug information and `--btf`: BTF is made from it, and the rest of it is cut out afterwards.
pub(crate) const FLAGS: [&str; 5] = [
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Ctarget-cpu=v3",
    "-Ctarget-feature=+allows-misaligned-mem-access",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
];

/// Which object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The one that runs, and that is kept in the repository.
    Release,
    /// With aya-log on the packet path, for debugging. Its log map is a legacy one, which libbpf 1.0
    /// refuses, so it can only be loaded by aya.
    Log,
}

/// A toolchain with a linker that fits.
pub(crate) struct Compiler {
    pub(crate) toolchain: Toolchain,
    pub(crate) linker: PathBuf,
}

impl Compiler {
    /// A cargo invocation on the BPF crate.
    pub(crate) fn cargo(&self, repo: &Repo, subcommand: &str) -> Result<Command> {
        let mut cargo = Command::new(&self.toolchain.cargo);
        cargo.current_dir(repo.ebpf_crate());
        command::forget_outer_cargo(&mut cargo);
        // What rustup and the user set for other builds must not reach this one.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let of_a_compiler = text.starts_with("RUST") && text != "RUSTUP_HOME";
            if of_a_compiler || text.starts_with("CARGO_PROFILE_") || text == "CARGO" {
                cargo.env_remove(&name);
            }
        }
        let flags: Vec<String> = FLAGS
            .iter()
            .map(|flag| (*flag).to_owned())
            .chain([format!("-Clinker={}", self.linker.display())])
            .collect();
        cargo
            // `-Z build-std` and aya-ebpf need features that only a nightly admits to; for a
            // released compiler this is the switch, and for a nightly it changes nothing.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC", &self.toolchain.rustc)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env(
                "LD_LIBRARY_PATH",
                linker::private_llvm_dir(repo, &self.toolchain)?,
            );
        rustc_wrapper::install(&mut cargo)?;
        // For cargo-clippy, which is looked up there.
        let bin_dir = self
            .toolchain
            .cargo
            .parent()
            .context("cargo has no directory")?;
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(bin_dir.to_path_buf()).chain(env::split_paths(&path));
        cargo.env("PATH", env::join_paths(dirs)?);

        cargo
            .args([
                subcommand,
                "--release",
                "--target",
                TARGET,
                "-Z",
                "build-std=core",
            ])
            .arg("--target-dir")
            .arg(repo.bpf_target().join("cargo"));
        if repo::in_ci() {
            cargo.arg("--locked");
        }
        Ok(cargo)
    }

    /// Builds the object and gives the path of the finished, stripped file in the target directory.
    pub(crate) fn build(&self, repo: &Repo, variant: Variant) -> Result<PathBuf> {
        let mut cargo = self.cargo(repo, "build")?;
        let name = match variant {
            Variant::Release => "pointsman.bpf.o",
            Variant::Log => {
                cargo.args(["--features", "log"]);
                "pointsman-log.bpf.o"
            }
        };
        command::run(&mut cargo).context("the BPF object could not be built")?;
        let linked = repo
            .bpf_target()
            .join("cargo")
            .join(TARGET)
            .join("release/pointsman");
        let finished = repo.bpf_target().join(name);
        write_stripped(&linked, &finished)?;
        Ok(finished)
    }
}

fn write_stripped(linked: &Path, finished: &Path) -> Result<()> {
    let object = fs::read(linked).with_context(|| format!("cannot read {}", linked.display()))?;
    let stripped = strip::without_dwarf(&object)
        .with_context(|| format!("cannot strip {}", linked.display()))?;
    fs::write(finished, stripped).with_context(|| format!("cannot write {}", finished.display()))
}
