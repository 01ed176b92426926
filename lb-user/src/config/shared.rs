//! What both controllers of a pair must agree on: VIPs, nodes, table, pins, under one version. How many pins
//! fit is each machine's own affair.
//!
//! The operator raises `version` in `[pair]` with every change, on either machine; the controller that has
//! the older one fetches the newer from the other, keeps it, and goes by it until its own file says as
//! much (seed document 2: configuration information is received, stored and updated by both).

use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, ConfigError, Pair};

/// The sections of the file that are shared.
const SHARED: [&str; 4] = ["vip", "node", "table", "pins"];
/// What in `[pins]` is not shared.
const OWN_SIZE: &str = "max";
/// Where a fetched one is kept, in the state directory.
const FILE: &str = "shared.toml";
/// Longest text that is taken from the other: 255 nodes and 48 VIPs with all their settings are a fifth.
pub const MAX_LEN: usize = 256 * 1024;

/// The shared part of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its version.
    pub version: u64,
    /// Its sections, as a file has them. Equal texts say the same, and other texts something else.
    pub text: String,
}

/// Why a text is no shared configuration.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// It is no TOML, or has not the form of a configuration.
    #[error("not of the form of a configuration")]
    Form(#[from] toml::de::Error),
    /// It cannot be written down.
    #[error("cannot be written down")]
    Write(#[from] toml::ser::Error),
    /// There is no version.
    #[error("no `version`")]
    Version,
    /// Longer than any can be.
    #[error("longer than {MAX_LEN} bytes")]
    Long,
}

impl Shared {
    /// The shared part of a whole file, which names this pair.
    ///
    /// # Errors
    /// [`SharedError::Form`] for a text that was never a configuration.
    pub fn of(file: &str, pair: &Pair) -> Result<Self, SharedError> {
        let mut file: Table = toml::from_str(file)?;
        let sections = SHARED.iter().filter_map(|name| file.remove_entry(*name));
        Self::from_sections(pair.version, sections.collect())
    }

    /// The shared part as the other sends it, or as it was kept.
    ///
    /// # Errors
    /// [`SharedError`].
    pub fn parse(text: &str) -> Result<Self, SharedError> {
        if text.len() > MAX_LEN {
            return Err(SharedError::Long);
        }
        let mut sections: Table = toml::from_str(text)?;
        let version = sections.remove("version");
        let version = version.as_ref().and_then(Value::as_integer);
        let version = version.and_then(|version| u64::try_from(version).ok());
        sections.retain(|name, _| SHARED.contains(&name));
        Self::from_sections(version.ok_or(SharedError::Version)?, sections)
    }

    fn from_sections(version: u64, mut sections: Table) -> Result<Self, SharedError> {
        pins_max(&mut sections);
        let number = i64::try_from(version).map_err(|_| SharedError::Version)?;
        sections.insert("version".to_owned(), Value::Integer(number));
        let text = toml::to_string(&sections)?;
        if text.len() > MAX_LEN {
            return Err(SharedError::Long);
        }
        Ok(Self { version, text })
    }

    /// A whole file with this in the place of its own shared part.
    ///
    /// # Errors
    /// [`SharedError`].
    pub fn in_place_of(&self, file: &str) -> Result<String, SharedError> {
        let mut file: Table = toml::from_str(file)?;
        let mut sections: Table = toml::from_str(&self.text)?;
        let version = sections.remove("version").ok_or(SharedError::Version)?;
        let own = pins_max(&mut file);
        for name in SHARED {
            file.remove(name);
        }
        file.extend(sections);
        if let Some(own) = own {
            let pins = file.entry("pins").or_insert_with(|| Table::new().into());
            if let Value::Table(pins) = pins {
                pins.insert(OWN_SIZE.to_owned(), own);
            }
        }
        if let Some(Value::Table(pair)) = file.get_mut("pair") {
            pair.insert("version".to_owned(), version);
        }
        Ok(toml::to_string(&file)?)
    }

    /// Where one is kept that was fetched.
    pub fn path(pair: &Pair) -> PathBuf {
        pair.state_dir.join(FILE)
    }
}

/// Takes the size of the map of pins out of a file.
fn pins_max(file: &mut Table) -> Option<Value> {
    match file.get_mut("pins") {
        Some(Value::Table(pins)) => pins.remove(OWN_SIZE),
        _ => None,
    }
}

/// A configuration, with the newer shared part in place of the file's own if one was fetched.
#[derive(Clone, Debug)]
pub struct Found {
    /// What holds.
    pub config: Config,
    /// Its shared part; without `[pair]` there is none.
    pub shared: Option<Shared>,
    /// What the operator should know of that. Whoever reads again and again says it once.
    pub notice: Option<Notice>,
}

/// What the operator should know of a shared part that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It holds, and not what the file says.
    Newer {
        /// The version in the file.
        own: u64,
        /// The version that holds.
        fetched: u64,
        /// Where that is kept.
        kept: PathBuf,
    },
    /// It cannot be used, and the file holds.
    Unusable {
        /// Where it is kept.
        kept: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Notice {
    /// Writes it to the log.
    pub fn log(&self) {
        match self {
            Self::Newer { .. } => tracing::warn!("{self}"),
            Self::Unusable { .. } => tracing::error!("{self}"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { own, fetched, kept } => write!(
                f,
                "VIPs, nodes, table and pins are those of version {fetched}, which was fetched from the \
                 other controller (in {}), and not those of the file, version {own}: write them into the \
                 file too",
                kept.display()
            ),
            Self::Unusable { kept, why } => write!(
                f,
                "{}: what was fetched from the other controller cannot be used here; going by the own \
                 file: {why}",
                kept.display()
            ),
        }
    }
}

/// Reads a configuration file, and a newer shared part in place of its own if one was fetched.
///
/// # Errors
/// [`ConfigError`].
pub fn read(path: &Path) -> Result<Found, ConfigError> {
    let config = Config::read(path)?;
    let Some(pair) = &config.pair else {
        return Ok(Found {
            config,
            shared: None,
            notice: None,
        });
    };
    let kept = Shared::path(pair);
    let unusable = |error: SharedError| ConfigError::Shared {
        path: kept.clone(),
        source: Box::new(error),
    };
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let own = Shared::of(&text, pair).map_err(unusable)?;
    let fetched = lb_net::kept::read(&kept).map_err(|source| ConfigError::Read {
        path: kept.clone(),
        source,
    })?;
    let fetched = match fetched.as_deref().map(Shared::parse) {
        Some(Ok(fetched)) if fetched.version > own.version => Ok(Some(fetched)),
        Some(Err(error)) => Err(error.to_string()),
        Some(Ok(_)) | None => Ok(None),
    };
    let merged = fetched.and_then(|fetched| {
        let Some(fetched) = fetched else {
            return Ok(None);
        };
        let merged = fetched.in_place_of(&text).map_err(unusable);
        let merged = merged.and_then(|merged| Config::parse(&kept, &merged));
        let merged = merged.map_err(|error| format!("version {}: {error}", fetched.version))?;
        Ok(Some((merged, fetched)))
    });
    Ok(match merged {
        Ok(Some((config, fetched))) => Found {
            config,
            notice: Some(Notice::Newer {
                own: own.version,
                fetched: fetched.version,
                kept,
            }),
            shared: Some(fetched),
        },
        Ok(None) => Found {
            config,
            shared: Some(own),
            notice: None,
        },
        Err(why) => Found {
            config,
            shared: Some(own),
            notice: Some(Notice::Unusable { kept, why }),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "cluster = 1\nkeys = \"k\"\n[status]\ngroups = [\"239.255.77.1\"]\n\
        [[interface]]\nname = \"eth0\"\n[[vip]]\naddress = \"192.0.2.10\"\n\
        [[node]]\nid = 1\naddress = \"192.0.2.11\"\n[pair]\nid = 1\nvip = \"none\"\nversion = 3\n\
        [[controller]]\nid = 1\naddress = \"192.0.2.21\"\n\
        [[controller]]\nid = 2\naddress = \"192.0.2.22\"\n";

    fn config(text: &str) -> Config {
        Config::parse(Path::new("file"), text).expect("a good file")
    }

    fn shared(text: &str) -> Shared {
        let pair = config(text).pair.expect("a pair");
        Shared::of(text, &pair).expect("a good file")
    }

    #[test]
    fn what_is_shared_is_all_that_changes() {
        let other = OWN
            .replace("version = 3", "version = 4")
            .replace("id = 1\nvip", "id = 2\nvip")
            .replace("\"eth0\"", "\"eth7\"")
            .replace("192.0.2.11\"", "192.0.2.12\"\nweight = 7")
            .replace("[pair]", "[table]\ndrain_s = 5\n[pair]");
        let other = other + "[pins]\nmax = 7\nsession_limit_s = 99\n";
        let newer = Shared::parse(&shared(&other).text).expect("as it was written");
        assert_eq!(newer.version, 4);
        let merged = config(&newer.in_place_of(OWN).expect("a good file"));
        let (own, other) = (config(OWN), config(&other));
        assert_eq!(merged.nodes, other.nodes);
        assert_eq!(merged.drain, other.drain);
        assert_eq!(merged.pins.session, other.pins.session);
        assert_eq!(merged.pins.max, own.pins.max);
        assert_eq!(merged.interfaces, own.interfaces);
        let (merged, own) = (merged.pair.expect("a pair"), own.pair.expect("a pair"));
        assert_eq!((merged.id, merged.version), (own.id, 4));
    }

    #[test]
    fn form_and_order_do_not_matter_but_contents_do() {
        let spaced = OWN.replace("version = 3", "version   =   3 # the third");
        assert_eq!(shared(OWN), shared(&spaced));
        let other = OWN.replace("192.0.2.11", "192.0.2.13");
        assert_ne!(shared(OWN), shared(&other));
    }

    #[test]
    fn what_is_no_shared_part_is_refused() {
        for text in ["", "version = -1", "version = \"x\"", "vip = 1", "]["] {
            assert!(Shared::parse(text).is_err(), "{text}");
        }
        let long = format!("version = 1\n# {}", "x".repeat(MAX_LEN));
        assert!(matches!(Shared::parse(&long), Err(SharedError::Long)));
    }
    /// What is found of [`OWN`] with this beside it, as it was fetched.
    fn found(name: &str, fetched: &str) -> Found {
        let dir = format!("pm-{}-shared-{name}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        std::fs::create_dir(&dir).expect("a directory");
        let state = format!("id = 1\nstate_dir = {dir:?}\nvip = \"none\"");
        let (path, text) = (
            dir.join("file"),
            OWN.replace("id = 1\nvip = \"none\"", &state),
        );
        std::fs::write(&path, text).expect("written");
        std::fs::write(dir.join(FILE), fetched).expect("written");
        let found = read(&path).expect("a good file");
        std::fs::remove_dir_all(&dir).expect("own directory");
        found
    }

    #[test]
    fn the_newer_one_holds_and_the_reader_is_told() {
        let vip = |found: &Found| found.config.vips[0].ip().to_string();
        let other = OWN.replace("192.0.2.10", "192.0.2.19");
        let newer = other.replace("version = 3", "version = 4");
        let newer = found("newer", &shared(&newer).text);
        assert_eq!(vip(&newer), "192.0.2.19");
        assert!(
            matches!(
                newer.notice,
                Some(Notice::Newer {
                    own: 3,
                    fetched: 4,
                    ..
                })
            ),
            "{:?}",
            newer.notice
        );
        let same = found("same", &shared(&other).text);
        assert_eq!((vip(&same).as_str(), same.notice), ("192.0.2.10", None));
        let bad = shared(&OWN.replace("version = 3", "version = 5")).text;
        let bad = bad.replace("192.0.2.10", "nowhere");
        for (name, text) in [("damaged", "]["), ("bad", &bad)] {
            let own = found(name, text);
            assert_eq!(vip(&own), "192.0.2.10");
            assert!(
                matches!(own.notice, Some(Notice::Unusable { .. })),
                "{:?}",
                own.notice
            );
        }
    }
}
