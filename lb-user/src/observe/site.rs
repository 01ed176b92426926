//! The pinned maps of a running data plane, opened for reading.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::reading::Reading;
use crate::config::{Config, ConfigError, DEFAULT_BPFFS, DEFAULT_PATH};
use crate::plane::clock::{Clock, ClockError};
use crate::plane::maps::OpenError;
use crate::plane::{AccessError, Maps, layout_dir};

/// A data plane could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is none.
    #[error(
        "nothing is pinned in {dir}: no data plane was started with this directory \
         (`pointsman run`), or it was detached"
    )]
    Nothing {
        /// The layout-versioned directory.
        dir: PathBuf,
    },
    /// There is one of another version.
    #[error(
        "{dir} is not there, but {other} is: the data plane that runs is of another version; use \
         the `pointsman` that started it"
    )]
    OtherVersion {
        /// The directory of this version.
        dir: PathBuf,
        /// That of the other.
        other: PathBuf,
    },
    /// Not root.
    #[error("{dir}: reading pinned maps takes root")]
    Forbidden {
        /// The directory.
        dir: PathBuf,
    },
    /// A pin could not be opened.
    #[error("the pins in {dir}")]
    Open {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The clock could not be read.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// A map could not be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The answer could not be written.
    #[error("writing the answer")]
    Output(#[source] io::Error),
}

impl ObserveError {
    /// Whether only the reader of the output has gone (`pointsman stats --watch | head`), which is no
    /// failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// A running data plane.
pub struct Observed {
    /// Its maps.
    pub maps: Maps,
    /// The clock of their times.
    pub clock: Clock,
    /// The nodes that are configured, and where they are; `None` without a configuration.
    pub configured: Option<BTreeMap<u16, IpAddr>>,
    /// Where its daemon has its page for Prometheus, if a configuration tells.
    pub metrics: Option<SocketAddr>,
}

impl Observed {
    /// Opens the data plane of a configuration, or of a directory of pins. With the directory given,
    /// or when nobody has written a configuration where it is looked for by default, none is needed.
    ///
    /// # Errors
    /// [`ObserveError`].
    pub fn open(config: &Path, bpffs: Option<&Path>) -> Result<Self, ObserveError> {
        let may_be_absent = bpffs.is_some() || config == Path::new(DEFAULT_PATH);
        let config = if may_be_absent && !config.exists() {
            None
        } else {
            match Config::read(config) {
                Ok(config) => Some(config),
                Err(_) if bpffs.is_some() => None,
                Err(error) => return Err(error.into()),
            }
        };
        let configured = config.as_ref().map(|config| config.bpffs.as_path());
        let bpffs = bpffs.or(configured).unwrap_or(Path::new(DEFAULT_BPFFS));
        let dir = present(bpffs)?;
        let maps = Maps::open(&dir).map_err(|source| ObserveError::Open {
            dir: dir.clone(),
            source,
        })?;
        let clock = Clock::open(&dir, &maps.settings()?)?;
        let configured = config.as_ref().map(|config| {
            let nodes = config.nodes.iter();
            nodes.map(|node| (node.id, node.address)).collect()
        });
        Ok(Self {
            maps,
            clock,
            configured,
            metrics: config.and_then(|config| config.metrics),
        })
    }

    /// Reads everything but the pins themselves.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn read(&self) -> Result<Reading, AccessError> {
        Reading::take(&self.maps, self.clock.now())
    }
}

/// The layout-versioned directory, if it is there.
fn present(bpffs: &Path) -> Result<PathBuf, ObserveError> {
    let dir = layout_dir(bpffs);
    match dir.metadata().map_err(|error| error.kind()) {
        Ok(_) => Ok(dir),
        Err(io::ErrorKind::PermissionDenied) => Err(ObserveError::Forbidden { dir }),
        Err(_) => match other_version(bpffs) {
            Some(other) => Err(ObserveError::OtherVersion { dir, other }),
            None => Err(ObserveError::Nothing { dir }),
        },
    }
}

fn other_version(bpffs: &Path) -> Option<PathBuf> {
    let entries = bpffs.read_dir().ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let version = name.and_then(|name| name.strip_prefix('v'));
        version.is_some_and(|version| version.parse::<u32>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_said() {
        let bpffs = std::env::temp_dir().join(format!("pm-observe-{}", std::process::id()));
        let config = Path::new("/nonexistent/pointsman.toml");
        let error = |bpffs: &Path| Observed::open(config, Some(bpffs)).err().unwrap();
        assert!(matches!(error(&bpffs), ObserveError::Nothing { .. }));
        let other = bpffs.join("v9999");
        std::fs::create_dir_all(&other).unwrap();
        assert!(matches!(error(&bpffs), ObserveError::OtherVersion { other: o, .. } if o == other));
        std::fs::remove_dir_all(&bpffs).unwrap();
        assert!(matches!(
            Observed::open(config, None),
            Err(ObserveError::Config(_))
        ));
    }
}
