//! The test programs of the workspace.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command;
use crate::repo::Repo;

/// One program that holds tests.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct TestProgram {
    /// The directory of its package.
    pub(crate) package: PathBuf,
    /// The source file that it was made from.
    pub(crate) source: PathBuf,
    pub(crate) executable: PathBuf,
}

impl TestProgram {
    /// The program with the surroundings that `cargo test` gives it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .current_dir(&self.package)
            .env("CARGO_MANIFEST_DIR", &self.package);
        command
    }

    /// Whether it belongs to the package of the integration tests.
    pub(crate) fn is_integration(&self, repo: &Repo) -> bool {
        self.package == repo.root.join("tests")
    }

    /// Its source as seen from the checkout.
    pub(crate) fn name(&self, repo: &Repo) -> String {
        repo.display(&self.source).to_string()
    }
}

/// Compiles all test programs in one go.
///
/// Two invocations, one for the unit tests and one for the others, would each settle the features of
/// shared dependencies for its own packages, and compile half of them twice.
pub(crate) fn compile(repo: &Repo) -> Result<Vec<TestProgram>> {
    let mut cargo = command::cargo_compiling(repo, "test");
    cargo.args([
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let mut programs = Vec::new();
    for line in BufReader::new(stdout).lines() {
        programs.extend(test_program(&line?));
    }
    if !child.wait()?.success() {
        bail!("the tests could not be compiled");
    }
    programs.sort();
    Ok(programs)
}

/// The test program that cargo says it has made, if this line of its messages says so.
fn test_program(line: &str) -> Option<TestProgram> {
    #[derive(Deserialize)]
    struct Message {
        manifest_path: PathBuf,
        target: Target,
        profile: Profile,
        executable: PathBuf,
    }
    #[derive(Deserialize)]
    struct Target {
        src_path: PathBuf,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    // Messages of other kinds lack one of these fields.
    let message: Message = serde_json::from_str(line).ok()?;
    message.profile.test.then(|| TestProgram {
        package: message
            .manifest_path
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default(),
        source: message.target.src_path,
        executable: message.executable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(test: bool, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"/r/lb-sip/Cargo.toml",
                "target":{{"name":"lb_sip","src_path":"/r/lb-sip/src/lib.rs"}},
                "profile":{{"test":{test}}},"executable":{executable}}}"#
        )
    }

    #[test]
    fn test_programs_are_told_from_the_rest() {
        let program = test_program(&message(true, r#""/r/target/debug/deps/lb_sip-1""#));
        assert_eq!(
            program,
            Some(TestProgram {
                package: "/r/lb-sip".into(),
                source: "/r/lb-sip/src/lib.rs".into(),
                executable: "/r/target/debug/deps/lb_sip-1".into(),
            })
        );
        assert_eq!(
            test_program(&message(false, r#""/r/target/debug/pointsman""#)),
            None
        );
        assert_eq!(test_program(&message(false, "null")), None);
        assert_eq!(
            test_program(r#"{"reason":"build-finished","success":true}"#),
            None
        );
    }
}
