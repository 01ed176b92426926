//! Installing Debian packages without questions and without side effects.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Once;

use anyhow::{Context, Result};

use crate::command;
use crate::repo;
use crate::terminal;

/// Runs as root with the package names as arguments.
const INSTALL: &str = include_str!("apt-install.sh");

/// Whether packages can be installed here; else why not.
pub(crate) fn usable() -> Result<(), String> {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_like_debian(&os_release) || command::which("apt-get").is_none() {
        return Err(
            "This is not a Debian system, and other package managers are not known here".to_owned(),
        );
    }
    if !repo::is_root() && command::which("sudo").is_none() {
        return Err("Installing packages needs root, and there is no sudo".to_owned());
    }
    Ok(())
}

/// Fetches the lists of packages, once in the life of this process.
pub(crate) fn refresh() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        terminal::detail("apt-get update, because something is missing");
        result = command::run(as_root(&["apt-get", "update", "-qq"]).stdin(Stdio::null()));
    });
    result.context("the lists of packages could not be fetched")
}

/// Whether the distribution has the package. True only after [`refresh`] on a machine without lists.
pub(crate) fn offers(package: &str) -> bool {
    command::read(
        Command::new("apt-cache")
            .args(["policy", package])
            .env("LC_ALL", "C"),
    )
    .is_ok_and(|policy| has_candidate(&policy))
}

/// Installs the packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let distinct: HashSet<&str> = packages.iter().copied().collect();
    let mut names: Vec<&str> = distinct.into_iter().collect();
    names.sort_unstable();
    terminal::say(format_args!("Installing with apt-get: {}", names.join(" ")));
    terminal::detail("their daemons are neither started nor enabled");
    let mut words = vec!["sh", "-c", INSTALL, "apt-install"];
    words.extend(names);
    let mut install = as_root(&words);
    // Not `command::run`: its message would hold the whole script.
    let status = install
        .stdin(Stdio::null())
        .status()
        .context("cannot start apt-get")?;
    anyhow::ensure!(status.success(), "apt-get install failed ({status})");
    Ok(())
}

fn as_root(words: &[&str]) -> Command {
    let mut words = words.iter();
    let first = if repo::is_root() {
        words.next()
    } else {
        Some(&"sudo")
    };
    let mut command = Command::new(first.unwrap_or(&"true"));
    command.args(words);
    command
}

fn is_like_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")))
        .any(|value| value.trim_matches('"').split(' ').any(|id| id == "debian"))
}

fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate: "))
        .any(|candidate| candidate != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_children_are_known() {
        assert!(is_like_debian("NAME=x\nID=debian\n"));
        assert!(is_like_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_like_debian("ID=fedora\nID_LIKE=\"rhel\"\n"));
    }

    #[test]
    fn a_package_without_candidate_is_not_offered() {
        assert!(has_candidate(
            "sip-tester:\n  Installed: (none)\n  Candidate: 1:3.6.1-1\n"
        ));
        assert!(!has_candidate("x:\n  Installed: 1\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }
}
