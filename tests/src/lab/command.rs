//! Commands of the system (`ip`, `ethtool`, `mount` …), with errors that say what was asked of whom.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `program` with the arguments that `words` holds, and gives what it printed.
pub(super) fn run(program: &str, words: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(words.split_whitespace());
    output(&mut command)
}

/// Runs a command to its end and gives what it printed.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    // In a group of its own: Ctrl-C must not end what takes the lab down.
    let output = command
        .process_group(0)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{shown}`: is it installed?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
pub(super) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
