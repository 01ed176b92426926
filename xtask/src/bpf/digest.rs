//! SHA-256 of things: of bytes, and of the sources that the BPF object is made from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::repo::Repo;

/// A digest over several pieces, where the borders between the pieces count.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn add(&mut self, piece: impl AsRef<[u8]>) {
        let piece = piece.as_ref();
        self.0.update((piece.len() as u64).to_le_bytes());
        self.0.update(piece);
    }

    /// The digest in hexadecimal.
    pub(crate) fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The SHA-256 of `bytes` in hexadecimal, as `sha256sum` prints it.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of all that the BPF object is made from: both crates' sources, manifests and the
/// locked versions of what they depend on.
pub(crate) fn of_bpf_sources(repo: &Repo) -> Result<String> {
    let mut files = Vec::new();
    for path in [
        "lb-ebpf/Cargo.toml",
        "lb-ebpf/Cargo.lock",
        "lb-ebpf/src",
        "lb-common/Cargo.toml",
        "lb-common/src",
    ] {
        collect(&repo.root.join(path), &mut files)?;
    }
    files.sort();
    let mut hasher = Hasher::default();
    for file in files {
        let name = file.strip_prefix(&repo.root)?;
        hasher.add(name.as_os_str().as_encoded_bytes());
        hasher.add(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    // lb-common inherits these from the workspace; the rest of that file does not reach the object.
    let inherited = inherited(repo)?;
    hasher.add(inherited.version);
    hasher.add(inherited.edition);
    Ok(hasher.finish())
}

/// All files at and below `path`.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    for entry in entries {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct RootManifest {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    package: Inherited,
}

#[derive(Deserialize)]
struct Inherited {
    version: String,
    edition: String,
}

fn inherited(repo: &Repo) -> Result<Inherited> {
    let path = repo.root.join("Cargo.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: RootManifest =
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))?;
    Ok(manifest.workspace.package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_bytes_is_sha256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            of_bytes(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn borders_between_pieces_count() {
        let digest = |pieces: &[&str]| {
            let mut hasher = Hasher::default();
            pieces.iter().for_each(|piece| hasher.add(piece));
            hasher.finish()
        };
        assert_eq!(digest(&["ab", "c"]), digest(&["ab", "c"]));
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}
