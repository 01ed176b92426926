//! A BPF file system of a lab's own, so that labs do not meet in `/sys/fs/bpf`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::command;
use super::held::Held;

/// A mounted BPF file system.
#[derive(Debug)]
pub struct Bpffs {
    path: PathBuf,
}

impl Bpffs {
    /// Mounts one at `path`, which must not exist yet.
    pub(super) fn mount(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Held::Mount(path.clone()).hold();
        command::run("mount", &format!("-t bpf bpf {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        Held::Mount(self.path.clone()).release();
    }
}
