//! Which compilers and programs are there.

use std::process::Command;

use anyhow::Result;

use super::{Area, Check, State};
use crate::bpf::linker;
use crate::bpf::prebuilt::{self, Status};
use crate::command;
use crate::repo::Repo;
use crate::setup;

pub(super) fn checks(repo: &Repo) -> Result<Vec<Check>> {
    let status = prebuilt::status(repo)?;
    // An object that fits its sources makes all that builds it optional.
    let lacking = if status == Status::UpToDate {
        State::Advised
    } else {
        State::Missing
    };
    let mut checks = vec![
        rustc(),
        component(repo, "rustfmt", "fmt"),
        component(repo, "clippy", "clippy"),
    ];
    checks.push(Check {
        area: Area::Build,
        name: "BPF object",
        state: State::ok_or(status == Status::UpToDate, State::Advised),
        found: status.to_string(),
        why: "With it, nothing but stable Rust is needed to build.",
        fix: "cargo xtask build --bpf".to_owned(),
    });
    checks.push(bpf_toolchain(repo, lacking));
    checks.push(bpf_linker(lacking)?);
    checks.extend(setup::LAB.iter().map(|tool| {
        let place = command::which(tool.program);
        Check {
            area: Area::TestsAndDemo,
            name: tool.program,
            state: State::ok_or(place.is_some(), State::Advised),
            found: place.map_or("not there".to_owned(), |path| path.display().to_string()),
            why: tool.why,
            fix: "cargo xtask setup --lab".to_owned(),
        }
    }));
    Ok(checks)
}

fn rustc() -> Check {
    let required = env!("CARGO_PKG_RUST_VERSION");
    let version = command::read(Command::new("rustc").arg("--version"));
    let new_enough = version
        .as_deref()
        .is_ok_and(|version| is_at_least(version, required));
    Check {
        area: Area::Build,
        name: "rustc",
        state: State::ok_or(new_enough, State::Missing),
        found: version.unwrap_or_else(|error| error.to_string()),
        why: concat!(
            "Everything in userspace needs Rust ",
            env!("CARGO_PKG_RUST_VERSION"),
            "."
        ),
        fix: "rustup update stable".to_owned(),
    }
}

fn component(repo: &Repo, name: &'static str, subcommand: &str) -> Check {
    let version = command::read(command::cargo(repo, subcommand).arg("--version"));
    Check {
        area: Area::Build,
        name,
        state: State::ok_or(version.is_ok(), State::Advised),
        found: version.unwrap_or_else(|_| "not there".to_owned()),
        why: "`cargo xtask check` runs it.",
        fix: format!("rustup component add {name}"),
    }
}

fn bpf_toolchain(repo: &Repo, lacking: State) -> Check {
    let (survey, best) = setup::survey_here(repo);
    let found = match &best {
        Some(toolchain) => {
            let clippy = if toolchain.has_clippy {
                ""
            } else {
                ", without clippy"
            };
            format!(
                "{}: {}, LLVM {}{clippy}",
                toolchain.way, toolchain.version, toolchain.llvm
            )
        }
        None if survey.unusable.is_empty() => "none".to_owned(),
        None => survey.unusable.join("; "),
    };
    Check {
        area: Area::BpfObject,
        name: "toolchain",
        state: State::ok_or(best.is_some(), lacking),
        found,
        why: "A compiler that may use unstable features, with the source of its standard library.",
        fix: format!(
            "`cargo xtask setup --bpf`, or by hand `{}`",
            setup::bpf_toolchain_by_hand()
        ),
    }
}

fn bpf_linker(lacking: State) -> Result<Check> {
    let linker = linker::installed()?;
    let there = command::is_program(&linker);
    Ok(Check {
        area: Area::BpfObject,
        name: "bpf-linker",
        state: State::ok_or(there, lacking),
        found: if there {
            linker.display().to_string()
        } else {
            "not built yet".to_owned()
        },
        why: "Turns LLVM bitcode into an object that the kernel takes.",
        fix: "cargo xtask setup --bpf".to_owned(),
    })
}

/// Whether the version in `rustc 1.95.0 (…)` is `required`, such as `1.95`, or newer.
fn is_at_least(version: &str, required: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split(['.', '-'])
            .map_while(|number| number.parse().ok())
            .collect()
    };
    version
        .split(' ')
        .nth(1)
        .is_some_and(|version| numbers(version) >= numbers(required))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(is_at_least("rustc 1.95.0 (59807616e 2026-04-14)", "1.95"));
        assert!(is_at_least("rustc 1.100.0-nightly", "1.95"));
        assert!(!is_at_least("rustc 1.94.1", "1.95"));
        assert!(!is_at_least("", "1.95"));
    }
}
