//! Running other programs, with errors that say which and how.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::repo::{self, Repo};

/// Cargo as it was called for xtask itself, in the checkout.
pub(crate) fn cargo(repo: &Repo, subcommand: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(&repo.root)
        .env("CARGO_TARGET_DIR", &repo.target);
    forget_outer_cargo(&mut cargo);
    cargo.arg(subcommand);
    cargo
}

/// A cargo invocation that compiles something of the main workspace.
pub(crate) fn cargo_compiling(repo: &Repo, subcommand: &str) -> Command {
    let mut cargo = cargo(repo, subcommand);
    if repo::in_ci() {
        // CI tests what is committed: a lock file that would have to change is an error there.
        cargo.arg("--locked");
    }
    cargo
}

/// Takes away the variables with which `cargo run` describes xtask: they would reach the build
/// scripts and programs that the new cargo starts.
pub(crate) fn forget_outer_cargo(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// Runs `command` on this terminal; an error unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs `command` and gives what it wrote to its standard output, without white space at the ends.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            line(command),
            output.status,
            errors.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where a program is, looked up on `PATH` and then where system programs lie even when a plain
/// user's `PATH` leaves those places out.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(program))
        .find(|file| is_program(file))
}

/// Whether `file` is a file that somebody may execute.
pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = command.get_program();
    // The cargo that called this one is known to the user as cargo.
    let is_ours = env::var_os("CARGO").is_some_and(|cargo| cargo == program);
    let program = if is_ours {
        OsStr::new("cargo")
    } else {
        program
    };
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
