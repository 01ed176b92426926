//! The `RUSTC_WRAPPER` of the BPF build: xtask itself, in front of rustc.
//!
//! Two things would make the object depend on where the checkout and cargo's home lie:
//! - paths in the line information that the verifier prints, and in panic messages;
//! - symbol names. They carry a hash of what cargo passes as `-C metadata`, and cargo hashes the
//!   absolute path of a path dependency outside the workspace, which lb-common is to lb-ebpf.
//!
//! The first alone could be had with `--remap-path-prefix` in the flags, the second cannot. So both
//! are done here, per crate, from what cargo tells about the crate it compiles.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::bpf::digest::Hasher;
use crate::terminal;

/// Set for the cargo that builds the BPF object, so that xtask knows why it is called.
const MARK: &str = "POINTSMAN_RUSTC_WRAPPER";

/// Makes `cargo` call this program in front of rustc.
pub(crate) fn install(cargo: &mut Command) -> Result<()> {
    cargo
        .env("RUSTC_WRAPPER", env::current_exe()?)
        .env(MARK, "1");
    Ok(())
}

/// Acts as the wrapper if cargo called this process as one. Does not return when rustc starts.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    env::var_os(MARK)?;
    let mut args = env::args_os().skip(1);
    let rustc = args.next()?;
    let args = portable(args.collect(), &Crate::from_env());
    let error = Command::new(&rustc).args(args).exec();
    terminal::error(&anyhow::Error::new(error).context(format!("cannot start {rustc:?}")));
    Some(ExitCode::FAILURE)
}

/// What cargo says about the package that it compiles.
struct Crate {
    name: String,
    version: String,
    manifest_dir: Option<OsString>,
    working_dir: Option<OsString>,
}

impl Crate {
    fn from_env() -> Self {
        Self {
            name: env::var("CARGO_PKG_NAME").unwrap_or_default(),
            version: env::var("CARGO_PKG_VERSION").unwrap_or_default(),
            manifest_dir: env::var_os("CARGO_MANIFEST_DIR"),
            working_dir: env::current_dir().ok().map(OsString::from),
        }
    }
}

/// rustc's arguments without anything that depends on a place on this machine.
fn portable(args: Vec<OsString>, this: &Crate) -> Vec<OsString> {
    let Some(first) = args
        .iter()
        .position(|arg| arg.as_encoded_bytes().starts_with(b"metadata="))
    else {
        // A question about the compiler (`-vV`, `--print`), not a crate.
        return args;
    };
    let identity = identity(&args, this);
    let mut args = args;
    args[first] = format!("metadata={identity}").into();
    // Of several prefixes that match, rustc takes the one given last.
    for dir in [&this.working_dir, &this.manifest_dir]
        .into_iter()
        .flatten()
    {
        let mut remap = OsString::from("--remap-path-prefix=");
        remap.push(dir);
        remap.push("=/");
        remap.push(&this.name);
        args.push(remap);
    }
    args
}

/// What tells the crates of one build apart, and is the same on every machine.
fn identity(args: &[OsString], this: &Crate) -> String {
    let mut hasher = Hasher::default();
    hasher.add(&this.name);
    hasher.add(&this.version);
    let telling = [
        "--crate-name",
        "--crate-type",
        "--target",
        "--cfg",
        "--edition",
    ];
    let mut arguments = args.iter().filter_map(|arg| arg.to_str());
    while let Some(arg) = arguments.next() {
        if telling.contains(&arg) {
            hasher.add(arg);
            hasher.add(arguments.next().unwrap_or_default());
        } else if telling.iter().any(|name| arg.starts_with(name)) {
            hasher.add(arg);
        }
    }
    let mut identity = hasher.finish();
    identity.truncate(16);
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(metadata: &str, path: &str) -> Vec<OsString> {
        [
            "--crate-name",
            "lb_common",
            "-C",
            metadata,
            "-C",
            "opt-level=3",
            path,
        ]
        .map(OsString::from)
        .to_vec()
    }

    fn lb_common(dir: &str) -> Crate {
        Crate {
            name: "lb-common".to_owned(),
            version: "0.1.0".to_owned(),
            manifest_dir: Some(dir.into()),
            working_dir: Some(dir.into()),
        }
    }

    #[test]
    fn the_metadata_do_not_depend_on_the_place() {
        let here = portable(args("metadata=1", "src/lib.rs"), &lb_common("/here"));
        let there = portable(args("metadata=2", "src/lib.rs"), &lb_common("/there"));
        assert_eq!(here[3], there[3]);
        assert_ne!(here[3], "metadata=1");
    }

    #[test]
    fn features_and_versions_tell_crates_apart() {
        let plain = args("metadata=1", "src/lib.rs");
        let mut with_feature = plain.clone();
        with_feature.extend(["--cfg", "feature=\"log\""].map(OsString::from));
        let this = lb_common("/here");
        let newer = Crate {
            version: "0.2.0".to_owned(),
            ..lb_common("/here")
        };
        assert_ne!(identity(&plain, &this), identity(&with_feature, &this));
        assert_ne!(identity(&plain, &this), identity(&plain, &newer));
    }

    #[test]
    fn paths_are_given_by_package() {
        let args = portable(args("metadata=1", "src/lib.rs"), &lb_common("/here"));
        assert!(args.contains(&OsString::from("--remap-path-prefix=/here=/lb-common")));
    }

    #[test]
    fn questions_about_the_compiler_pass_unchanged() {
        let question = vec![OsString::from("-vV")];
        assert_eq!(portable(question.clone(), &Crate::from_env()), question);
    }
}
