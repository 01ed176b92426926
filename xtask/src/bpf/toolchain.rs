//! Which Rust toolchain on this machine can compile for the kernel.
//!
//! The BPF targets have no precompiled `core`, so `-Z build-std` compiles it, and that needs the
//! source of the standard library of exactly that compiler. There are two ways to have both: a
//! distribution's own rustc with its source package (on Debian 12 `rustc-web`, `cargo-web` and
//! `rust-web-src`), or a rustup nightly with the `rust-src` component. They live side by side.
//!
//! Absent on purpose: rustup's stable toolchain. Its `rust-src` could do the same with
//! `RUSTC_BOOTSTRAP=1`, but its version moves under the feet of whoever updates it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bpf::linker;
use crate::command;
use crate::repo;

/// The nightly that is asked for when a new one has to be installed: its LLVM is the one that
/// [`linker`] knows.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// A compiler that can build the BPF object.
#[derive(Clone)]
pub(crate) struct Toolchain {
    pub(crate) way: Way,
    pub(crate) cargo: PathBuf,
    pub(crate) rustc: PathBuf,
    /// Release and commit, such as `1.96.0 (ac68faa20 2026-05-25)`.
    pub(crate) version: String,
    /// The LLVM that this rustc uses, such as `22.1.8`.
    pub(crate) llvm: String,
    /// That LLVM as a shared library, for bpf-linker to open.
    pub(crate) libllvm: PathBuf,
    /// Whether `cargo clippy` is there too.
    pub(crate) has_clippy: bool,
}

/// Where a toolchain came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// The distribution's packages, in `/usr/bin`.
    Distribution,
    /// A toolchain of rustup's, by name.
    Rustup(String),
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Distribution => f.write_str("the distribution's rustc in /usr/bin"),
            Self::Rustup(name) => write!(f, "rustup's {name}"),
        }
    }
}

/// What a look at this machine found.
#[derive(Default)]
pub(crate) struct Survey {
    /// Toolchains that can do it.
    pub(crate) usable: Vec<Toolchain>,
    /// Those that come close, and what they lack.
    pub(crate) unusable: Vec<String>,
}

impl Survey {
    /// Looks for toolchains. Takes a few hundredths of a second.
    pub(crate) fn take() -> Self {
        let mut survey = Self::default();
        for (name, dir) in rustup_nightlies() {
            survey.consider(Way::Rustup(name), &dir);
        }
        survey.consider(Way::Distribution, Path::new("/usr"));
        survey
    }

    /// The toolchain to use: the one whose version made the object in the repository (`made_by`),
    /// so that a rebuild can be compared with it, else a nightly, else the distribution's.
    pub(crate) fn best(&self, made_by: Option<&str>) -> Option<&Toolchain> {
        self.usable
            .iter()
            .find(|toolchain| Some(toolchain.version.as_str()) == made_by)
            .or_else(|| self.usable.first())
    }

    fn consider(&mut self, way: Way, prefix: &Path) {
        if !command::is_program(&prefix.join("bin/rustc")) {
            return;
        }
        match inspect(way.clone(), prefix) {
            Ok(toolchain) => self.usable.push(toolchain),
            Err(reason) => self.unusable.push(format!("{way}: {reason:#}")),
        }
    }
}

/// The nightlies of rustup, the pinned one first, read from its directory: asking rustup itself
/// takes longer, and may make it fetch something.
fn rustup_nightlies() -> Vec<(String, PathBuf)> {
    let rustup_home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let Some(rustup_home) = rustup_home.or_else(|| Some(repo::home().ok()?.join(".rustup"))) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(rustup_home.join("toolchains")) else {
        return Vec::new();
    };
    let mut nightlies: Vec<(String, PathBuf)> = entries
        .flatten()
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .filter(|(name, _)| name.starts_with("nightly"))
        .collect();
    nightlies.sort_by_key(|(name, _)| (!name.starts_with(NIGHTLY), name.clone()));
    nightlies
}

fn inspect(way: Way, prefix: &Path) -> Result<Toolchain> {
    let rustc = prefix.join("bin/rustc");
    let cargo = prefix.join("bin/cargo");
    let verbose = command::read(Command::new(&rustc).arg("-vV"))?;
    let version = first_words(&verbose)
        .with_context(|| format!("cannot read the version in {verbose:?}"))?
        .to_owned();
    let llvm = field(&verbose, "LLVM version")
        .context("this rustc names no LLVM")?
        .to_owned();
    if major(&llvm) != Some(linker::LLVM_MAJOR) {
        bail!(
            "{version} uses LLVM {llvm}, and bpf-linker {} needs LLVM {}",
            linker::VERSION,
            linker::LLVM_MAJOR
        );
    }
    if !command::is_program(&cargo) {
        bail!("{version} has no cargo beside it");
    }
    if !prefix
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .is_file()
    {
        bail!("{version} has no source of the standard library (rust-src)");
    }
    let libllvm =
        find_libllvm(prefix).with_context(|| format!("{version} has no libLLVM to share"))?;
    let has_clippy = command::is_program(&prefix.join("bin/cargo-clippy"));
    Ok(Toolchain {
        way,
        cargo,
        rustc,
        version,
        llvm,
        libllvm,
        has_clippy,
    })
}

/// `rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)` without the name in front
/// and the remark behind.
fn first_words(verbose: &str) -> Option<&str> {
    let version = verbose.lines().next()?.strip_prefix("rustc ")?;
    Some(
        version
            .split_once(") (")
            .map_or(version, |(head, _)| &version[..=head.len()]),
    )
}

fn field<'t>(verbose: &'t str, name: &str) -> Option<&'t str> {
    verbose
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// `libLLVM.so.22.1`, `libLLVM.so.22.1-rust-1.97.0-nightly` or alike, in the toolchain's own
/// directory or in the one where Debian keeps libraries of this architecture.
fn find_libllvm(prefix: &Path) -> Option<PathBuf> {
    let wanted = format!("libLLVM.so.{}.", linker::LLVM_MAJOR);
    let multiarch = format!("lib/{}-linux-gnu", env::consts::ARCH);
    [multiarch.as_str(), "lib", "lib64"]
        .iter()
        .filter_map(|dir| fs::read_dir(prefix.join(dir)).ok())
        .flat_map(|entries| entries.flatten())
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&wanted))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
                          release: 1.96.0\nLLVM version: 22.1.8";
    const NIGHTLY: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nLLVM version: 22.1.4";

    #[test]
    fn the_version_is_release_and_commit() {
        assert_eq!(first_words(DEBIAN), Some("1.96.0 (ac68faa20 2026-05-25)"));
        assert_eq!(
            first_words(NIGHTLY),
            Some("1.97.0-nightly (e50aa6fba 2026-05-19)")
        );
        assert_eq!(first_words("gcc 12"), None);
    }

    #[test]
    fn the_llvm_version_is_found_in_the_verbose_version() {
        assert_eq!(field(DEBIAN, "LLVM version"), Some("22.1.8"));
        assert_eq!(major("22.1.8"), Some(22));
        assert_eq!(major("unknown"), None);
    }

    #[test]
    fn the_toolchain_that_made_the_object_comes_first() {
        let toolchain = |version: &str| Toolchain {
            way: Way::Distribution,
            cargo: PathBuf::new(),
            rustc: PathBuf::new(),
            version: version.to_owned(),
            llvm: String::new(),
            libllvm: PathBuf::new(),
            has_clippy: false,
        };
        let survey = Survey {
            usable: vec![toolchain("1.97"), toolchain("1.96")],
            unusable: Vec::new(),
        };
        let best = |made_by| {
            survey
                .best(made_by)
                .map(|toolchain| toolchain.version.as_str())
        };
        assert_eq!(best(Some("1.96")), Some("1.96"));
        assert_eq!(best(Some("1.90")), Some("1.97"));
        assert_eq!(best(None), Some("1.97"));
    }
}
