//! Whose leases count, on the disk: a controller that starts again goes on from there.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use lb_net::kept;
use lb_proto::failover::NodeId;
use lb_proto::failover::controller::{Electors, Nodes};
use serde::{Deserialize, Serialize};

const FILE: &str = "electors";

/// What is kept cannot be read, so that nodes which still count might be forgotten.
#[derive(Debug, thiserror::Error)]
#[error("cannot read from {path} which nodes' leases counted last")]
pub(super) struct ElectorsError {
    path: PathBuf,
    source: io::Error,
}

/// One line of JSON: the sets of nodes before, the oldest first, and those of the configuration; by id, with
/// their addresses.
#[derive(Deserialize, Serialize)]
struct Line {
    former: Vec<Listed>,
    present: Listed,
    is_joining: bool,
}

type Listed = BTreeMap<u16, Vec<IpAddr>>;

impl From<&Electors> for Line {
    fn from(electors: &Electors) -> Self {
        Self {
            former: electors.former.iter().map(listed).collect(),
            present: listed(&electors.present),
            is_joining: electors.is_joining,
        }
    }
}

impl Line {
    fn electors(&self) -> Option<Electors> {
        Some(Electors {
            former: self.former.iter().map(nodes).collect::<Option<_>>()?,
            present: nodes(&self.present)?,
            is_joining: self.is_joining,
        })
    }
}

fn listed(nodes: &Nodes) -> Listed {
    let nodes = nodes.iter();
    nodes
        .map(|(id, addresses)| (id.get(), addresses.clone()))
        .collect()
}

fn nodes(listed: &Listed) -> Option<Nodes> {
    let listed = listed.iter();
    listed
        .map(|(id, addresses)| Some((NodeId::new(*id)?, addresses.clone())))
        .collect()
}

/// What was last kept; `None` when there is nothing, or when it is damaged: then the nodes of the configuration
/// alone decide, which is said.
pub(super) fn last(state_dir: &Path) -> Result<Option<Electors>, ElectorsError> {
    let path = state_dir.join(FILE);
    match kept::read(&path) {
        Ok(None) => Ok(None),
        Ok(Some(line)) => {
            let read = serde_json::from_str(&line).ok();
            let electors = read.and_then(|line: Line| line.electors());
            if electors.is_none() {
                tracing::warn!(
                    path = %path.display(),
                    "not to be understood: if nodes are being added or removed, those before are forgotten"
                );
            }
            Ok(electors)
        }
        Err(source) => Err(ElectorsError { path, source }),
    }
}

/// Keeps it: on the disk when this returns.
pub(super) fn keep(state_dir: &Path, electors: &Electors) -> io::Result<()> {
    let line = serde_json::to_string(&Line::from(electors))?;
    kept::write(&state_dir.join(FILE), &line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u16]) -> Nodes {
        let addresses = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let node = |id: &u16| (NodeId::new(*id).unwrap(), addresses.clone());
        ids.iter().map(node).collect()
    }

    fn directory(name: &str) -> PathBuf {
        let name = format!("pm-{}-electors-{name}", std::process::id());
        std::env::temp_dir().join(name)
    }

    #[test]
    fn what_was_kept_is_read() {
        let dir = directory("kept");
        assert_eq!(last(&dir).unwrap(), None);
        for (former, is_joining) in [
            (vec![], false),
            (vec![set(&[1, 2]), set(&[2, 3])], false),
            (vec![set(&[255])], true),
        ] {
            let electors = Electors {
                former,
                present: set(&[1, 7]),
                is_joining,
            };
            keep(&dir, &electors).unwrap();
            assert_eq!(last(&dir).unwrap(), Some(electors));
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_damaged_is_nothing() {
        let dir = directory("damaged");
        let node_0 = r#"{"former":[],"present":{"0":[]},"is_joining":false}"#;
        for line in ["", "{", node_0] {
            kept::write(&dir.join(FILE), line).unwrap();
            assert_eq!(last(&dir).unwrap(), None, "{line}");
        }
        assert!(last(&dir.join(FILE)).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
