//! bpf-linker, which turns LLVM bitcode into a BPF object, and the LLVM it shall use.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bpf::toolchain::Toolchain;
use crate::command;
use crate::repo::{self, Repo};
use crate::terminal;

/// The pinned version. Another one lays the object out differently.
pub(crate) const VERSION: &str = "0.10.3";

/// The LLVM that this version is made for. Bitcode of another one gives "Invalid record", or worse,
/// damaged BTF.
pub(crate) const LLVM_MAJOR: u32 = 22;

/// Where bpf-linker is kept: outside the checkout, because it takes a minute or two to build and
/// the next clone needs the same.
pub(crate) fn installed() -> Result<PathBuf> {
    Ok(root()?.join("bin/bpf-linker"))
}

fn root() -> Result<PathBuf> {
    Ok(repo::tools_cache()?.join(format!("bpf-linker-{VERSION}")))
}

/// Gives bpf-linker's path, after building it if it is not there yet.
pub(crate) fn ensure(repo: &Repo) -> Result<PathBuf> {
    let linker = installed()?;
    if command::is_program(&linker) {
        return Ok(linker);
    }
    let root = root()?;
    terminal::say(format_args!(
        "Building bpf-linker {VERSION} into {}",
        root.display()
    ));
    terminal::detail("once for this user; it takes a minute or two");
    let build_dir = repo.target.join("bpf-linker-build");
    let mut install = command::cargo(repo, "install");
    install
        .env("CARGO_TARGET_DIR", &build_dir)
        .args([
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--quiet",
            "--root",
        ])
        .arg(&root);
    command::run(&mut install).context("bpf-linker could not be built")?;
    // Nobody needs the half gigabyte that it was built from.
    let _ = fs::remove_dir_all(&build_dir);
    Ok(linker)
}

/// A directory with nothing in it but a link to the toolchain's libLLVM.
///
/// bpf-linker opens rustc's own LLVM while it runs, and takes the first loadable `libLLVM*` in the
/// directories of `LD_LIBRARY_PATH`. In a system's library directory that may be any version.
pub(crate) fn private_llvm_dir(repo: &Repo, toolchain: &Toolchain) -> Result<PathBuf> {
    let dir = repo.bpf_target().join(format!("llvm-{}", toolchain.llvm));
    let name = toolchain
        .libllvm
        .file_name()
        .context("libLLVM has no file name")?;
    let link = dir.join(name);
    let holds_only_the_link = || -> Result<bool> {
        Ok(fs::read_link(&link)? == toolchain.libllvm && fs::read_dir(&dir)?.count() == 1)
    };
    if !holds_only_the_link().unwrap_or(false) {
        remake(&dir, &link, &toolchain.libllvm)
            .with_context(|| format!("cannot make {}", dir.display()))?;
    }
    Ok(dir)
}

fn remake(dir: &Path, link: &Path, libllvm: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(dir)?;
    symlink(libllvm, link)
}
