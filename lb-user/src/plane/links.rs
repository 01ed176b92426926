//! The pinned links: which interface has one, and how its pin is named.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::site::{SiteError, entries};
use super::sys::{self, LinkFacts};

const PREFIX: &str = "link-";

/// A pinned link.
pub(super) struct PinnedLink {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    pub(super) facts: LinkFacts,
}

impl PinnedLink {
    /// The interface's name when the pin was made.
    pub(super) fn name(&self) -> String {
        name_of(&self.path).unwrap_or_default()
    }
}

/// All pinned links of a site.
#[derive(Default)]
pub(super) struct Links(Vec<PinnedLink>);

impl Links {
    /// Adds the links that are pinned in a directory.
    pub(super) fn read(&mut self, dir: &Path) -> Result<(), SiteError> {
        for path in entries(dir)?.into_iter().filter(|path| is_link(path)) {
            let open = || {
                let fd = sys::open(&path)?;
                Ok((sys::link_facts(fd.as_fd())?, fd))
            };
            let (facts, fd) = open().map_err(SiteError::pin(&path, "opening the link"))?;
            self.0.push(PinnedLink { path, fd, facts });
        }
        Ok(())
    }

    /// The live link of an interface.
    pub(super) fn at(&self, ifindex: u32) -> Option<&PinnedLink> {
        self.0
            .iter()
            .find(|link| link.facts.is_xdp && link.facts.ifindex == ifindex)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PinnedLink> {
        self.0.iter()
    }
}

/// Ends a pinned link at once; removing the pin alone would do so a little later.
pub(super) fn end(path: &Path) -> Result<(), SiteError> {
    let open = sys::open(path).map_err(SiteError::pin(path, "opening the link"))?;
    if let Err(error) = sys::link_detach(open.as_fd()) {
        // Its interface is gone, or the kernel is old: the pin's removal does it.
        tracing::debug!(%error, path = %path.display(), "not detached by itself");
    }
    fs::remove_file(path).map_err(SiteError::pin(path, "removing the pin"))
}

/// Whether a path is that of a link's pin.
pub(super) fn is_link(path: &Path) -> bool {
    name_of(path).is_some()
}

/// The interfaces that have a link's pin in a directory.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, SiteError> {
    Ok(entries(dir)?
        .iter()
        .filter_map(|path| name_of(path))
        .collect())
}

/// The pin of an interface's link. BPF file systems refuse dots, which names of VLANs have.
pub(super) fn pin_name(interface: &str) -> String {
    format!(
        "{PREFIX}{}",
        interface.replace('%', "%25").replace('.', "%2e")
    )
}

fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    Some(name.replace("%2e", ".").replace("%25", "%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_file_system() {
        for name in ["eth0", "eth0.100", "a%2eb", "%25", "..", "v%.1"] {
            let pin = pin_name(name);
            assert!(!pin.contains('.'), "{pin}");
            assert_eq!(
                name_of(&Path::new("/bpf/v1").join(&pin)).as_deref(),
                Some(name)
            );
        }
        assert_eq!(name_of(Path::new("/bpf/v1/TRACKS")), None);
    }
}
