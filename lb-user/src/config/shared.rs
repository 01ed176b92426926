//! What both controllers of a pair must agree on: VIPs, nodes, table, pins, under one version. How many pins
//! fit is each machine's own affair.
//!
//! The operator raises `version` in `[pair]` with every change, on either machine; the controller that has
//! the older one fetches the newer from the other, keeps it, and goes by it until its own file says as
//! much (seed document 2: configuration information is received, stored and updated by both).

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

/// Reads a configuration file, and a newer shared part in place of its own if one was fetched.
///
/// # Errors
/// [`ConfigError`].
pub fn read(path: &Path) -> Result<(Config, Option<Shared>), ConfigError> {
    let config = Config::read(path)?;
    let Some(pair) = &config.pair else {
        return Ok((config, None));
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
    let Some(fetched) = fetched else {
        return Ok((config, Some(own)));
    };
    let fetched = match Shared::parse(&fetched) {
        Ok(fetched) => fetched,
        Err(error) => {
            tracing::error!(kept = %kept.display(), %error, "cannot be read; going by the own file");
            return Ok((config, Some(own)));
        }
    };
    if fetched.version <= own.version {
        return Ok((config, Some(own)));
    }
    let taken = fetched.in_place_of(&text).map_err(unusable);
    let taken = taken.and_then(|merged| Config::parse(&kept, &merged));
    let merged = match taken {
        Ok(merged) => merged,
        Err(error) => {
            tracing::error!(
                own = own.version,
                fetched = fetched.version,
                "the newer version that was fetched from the other controller cannot be used here; \
                 going by the own file: {error}"
            );
            return Ok((config, Some(own)));
        }
    };
    tracing::warn!(
        own = own.version,
        fetched = fetched.version,
        kept = %kept.display(),
        "VIPs, nodes, table and pins are those of the newer version that was fetched from the other \
         controller: write them into the file too"
    );
    Ok((merged, Some(fetched)))
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
}
