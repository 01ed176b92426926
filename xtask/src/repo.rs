//! Where things are: the checkout, what is built from it, and what outlives it.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout that `cargo xtask` was called in.
pub(crate) struct Repo {
    /// The directory that holds the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target directory: `$CARGO_TARGET_DIR`, else `target/` in the checkout.
    pub(crate) target: PathBuf,
}

impl Repo {
    /// Finds the checkout from the variable that `cargo run` sets.
    pub(crate) fn find() -> Result<Self> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir
            .parent()
            .context("xtask's own directory has no parent directory")?
            .to_path_buf();
        // A relative CARGO_TARGET_DIR counts from where the command was given.
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir)?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The BPF crate, which is a workspace of its own.
    pub(crate) fn ebpf_crate(&self) -> PathBuf {
        self.root.join("lb-ebpf")
    }

    /// The BPF object that is kept in the repository, and the record of what made it.
    pub(crate) fn prebuilt(&self) -> PathBuf {
        self.ebpf_crate().join("prebuilt")
    }

    /// Where everything about BPF is built.
    pub(crate) fn bpf_target(&self) -> PathBuf {
        self.target.join("bpf")
    }

    /// Where `cargo build --release` leaves the programs.
    pub(crate) fn release_dir(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Whether the package with the integration tests, the demo and the benchmarks is there.
    pub(crate) fn has_tests_package(&self) -> bool {
        self.root.join("tests/Cargo.toml").is_file()
    }

    /// `path` as seen from the checkout, for messages.
    pub(crate) fn display<'p>(&self, path: &'p Path) -> std::path::Display<'p> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// Where tools are kept that take long to build and that a fresh clone can use again.
pub(crate) fn tools_cache() -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => home()?.join(".cache"),
    };
    Ok(cache.join("pointsman/tools"))
}

/// The user's home directory.
pub(crate) fn home() -> Result<PathBuf> {
    env::home_dir().context("this user has no home directory: set HOME")
}

/// Whether this process has root's user id.
pub(crate) fn is_root() -> bool {
    // The kernel gives /proc/self to the effective user.
    fs::metadata("/proc/self").is_ok_and(|proc| proc.uid() == 0)
}

/// Whether this is a run of the project's continuous integration, where nothing may be skipped.
pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}
