//! The BPF object that is kept in the repository, and the record of what made it.
//!
//! With it, somebody who has nothing but stable Rust can build and run. The record tells whether the
//! object still belongs to the sources beside it, which needs no BPF toolchain either.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::bpf::compile::{Compiler, FLAGS, Variant};
use crate::bpf::{digest, linker};
use crate::repo::Repo;

/// To be raised when xtask begins to make the object in another way without its flags changing.
const RECIPE: u32 = 1;

/// `toolchain.toml`: what the object is, and what it was made from and with.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) object: ObjectRecord,
    pub(crate) made_with: MadeWith,
}

/// The object and its sources, by digest.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectRecord {
    /// As `sha256sum pointsman.bpf.o` prints it.
    pub(crate) sha256: String,
    /// Over the sources of lb-ebpf and lb-common; [`digest::of_bpf_sources`] says which.
    pub(crate) sources_sha256: String,
}

/// Everything besides the sources that decides the object's bytes.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct MadeWith {
    pub(crate) rustc: String,
    pub(crate) llvm: String,
    pub(crate) bpf_linker: String,
    pub(crate) aya_ebpf: String,
    pub(crate) flags: Vec<String>,
    pub(crate) recipe: u32,
}

impl MadeWith {
    /// What `compiler` would make the object with.
    pub(crate) fn by(compiler: &Compiler, repo: &Repo) -> Result<Self> {
        Ok(Self {
            rustc: compiler.toolchain.version.clone(),
            llvm: compiler.toolchain.llvm.clone(),
            bpf_linker: linker::VERSION.to_owned(),
            aya_ebpf: locked_version(repo, "aya-ebpf")?,
            flags: FLAGS.map(str::to_owned).to_vec(),
            recipe: RECIPE,
        })
    }

    /// What differs from `other`, one line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        [
            ("rustc", &self.rustc, &other.rustc),
            ("LLVM", &self.llvm, &other.llvm),
            ("bpf-linker", &self.bpf_linker, &other.bpf_linker),
            ("aya-ebpf", &self.aya_ebpf, &other.aya_ebpf),
            ("flags", &self.flags.join(" "), &other.flags.join(" ")),
            (
                "recipe",
                &self.recipe.to_string(),
                &other.recipe.to_string(),
            ),
        ]
        .into_iter()
        .filter(|(_, recorded, here)| recorded != here)
        .map(|(what, recorded, here)| format!("{what}: {recorded} recorded, {here} here"))
        .collect()
    }
}

/// Whether the object in the repository can be used as it is.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// It was made from the sources that are there now.
    UpToDate,
    /// There is none yet, or no record of it.
    Absent,
    /// Somebody edited the sources since.
    SourcesChanged,
    /// xtask makes it in another way now.
    RecipeChanged,
    /// The file is not the one that the record describes.
    Altered,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UpToDate => "the prebuilt BPF object matches its sources",
            Self::Absent => "there is no prebuilt BPF object yet",
            Self::SourcesChanged => "the BPF sources have changed since the object was built",
            Self::RecipeChanged => "the way to build the BPF object has changed",
            Self::Altered => "the prebuilt BPF object is not the one that toolchain.toml describes",
        })
    }
}

/// The prebuilt object's file.
pub(crate) fn object_path(repo: &Repo) -> PathBuf {
    repo.prebuilt().join("pointsman.bpf.o")
}

fn record_path(repo: &Repo) -> PathBuf {
    repo.prebuilt().join("toolchain.toml")
}

/// Reads the record; `None` if there is none, or one of an older shape.
pub(crate) fn record(repo: &Repo) -> Option<Record> {
    toml::from_str(&fs::read_to_string(record_path(repo)).ok()?).ok()
}

/// Compares the object, the record and the sources, without any BPF toolchain.
pub(crate) fn status(repo: &Repo) -> Result<Status> {
    let (Some(record), Ok(object)) = (record(repo), fs::read(object_path(repo))) else {
        return Ok(Status::Absent);
    };
    Ok(judge(
        &record,
        &digest::of_bpf_sources(repo)?,
        &digest::of_bytes(&object),
    ))
}

fn judge(record: &Record, sources_sha256: &str, object_sha256: &str) -> Status {
    if record.object.sources_sha256 != sources_sha256 {
        Status::SourcesChanged
    } else if record.made_with.recipe != RECIPE || record.made_with.flags != FLAGS {
        Status::RecipeChanged
    } else if record.object.sha256 != object_sha256 {
        Status::Altered
    } else {
        Status::UpToDate
    }
}

/// Builds the object and puts it, with its record, into the repository.
pub(crate) fn rebuild(repo: &Repo, compiler: &Compiler) -> Result<()> {
    // Taken first: an edit during the build then leaves a record that no longer fits, which the
    // next build mends.
    let sources_sha256 = digest::of_bpf_sources(repo)?;
    let built = compiler.build(repo, Variant::Release)?;
    let object = fs::read(&built)?;
    let record = Record {
        object: ObjectRecord {
            sha256: digest::of_bytes(&object),
            sources_sha256,
        },
        made_with: MadeWith::by(compiler, repo)?,
    };
    let text = format!(
        "# What pointsman.bpf.o is, and what it was made from and with.\n\
         # Written by `cargo xtask build`; `cargo xtask check` builds it again and compares.\n\n{}",
        toml::to_string(&record)?
    );
    fs::create_dir_all(repo.prebuilt())?;
    replace(&object_path(repo), &object)?;
    replace(&record_path(repo), text.as_bytes())
}

/// Writes a file so that a reader sees the old or the new content, and leaves one alone that has
/// the content already, so that cargo does not build what includes it again.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&aside, content)
        .and_then(|()| fs::rename(&aside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The version of a dependency of the BPF crate, from its lock file.
fn locked_version(repo: &Repo, name: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let path = repo.ebpf_crate().join("Cargo.lock");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: Lock = toml::from_str(&text)?;
    lock.package
        .into_iter()
        .find(|package| package.name == name)
        .map(|package| package.version)
        .with_context(|| format!("{} does not name {name}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            object: ObjectRecord {
                sha256: "o".to_owned(),
                sources_sha256: "s".to_owned(),
            },
            made_with: MadeWith {
                rustc: "1.96.0".to_owned(),
                llvm: "22.1.8".to_owned(),
                bpf_linker: "0.10.3".to_owned(),
                aya_ebpf: "0.2.1".to_owned(),
                flags: FLAGS.map(str::to_owned).to_vec(),
                recipe: RECIPE,
            },
        }
    }

    #[test]
    fn the_record_survives_its_file() {
        let text = toml::to_string(&record()).expect("a record can be written");
        assert_eq!(toml::from_str::<Record>(&text).expect("and read"), record());
    }

    #[test]
    fn every_reason_to_build_again_is_seen() {
        assert_eq!(judge(&record(), "s", "o"), Status::UpToDate);
        assert_eq!(judge(&record(), "s2", "o"), Status::SourcesChanged);
        assert_eq!(judge(&record(), "s", "o2"), Status::Altered);
        let mut older = record();
        older.made_with.recipe = RECIPE - 1;
        assert_eq!(judge(&older, "s", "o"), Status::RecipeChanged);
        older = record();
        older.made_with.flags.pop();
        assert_eq!(judge(&older, "s", "o"), Status::RecipeChanged);
    }

    #[test]
    fn differences_name_what_differs() {
        let mut newer = record().made_with;
        newer.rustc = "1.97.0".to_owned();
        assert_eq!(
            record().made_with.differences(&newer),
            ["rustc: 1.96.0 recorded, 1.97.0 here"]
        );
        assert!(newer.differences(&newer).is_empty());
    }
}
