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
    cluster: u32,
    former: Vec<Listed>,
    present: Listed,
    is_joining: bool,
}

type Listed = BTreeMap<u16, Vec<IpAddr>>;

impl Line {
    fn of(cluster: u32, electors: &Electors) -> Self {
        Self {
            cluster,
            former: electors.former.iter().map(listed).collect(),
            present: listed(&electors.present),
            is_joining: electors.is_joining,
        }
    }

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

/// What was last kept; `None` when there is nothing, when it is another cluster's, or when it is damaged: then
/// the nodes of the configuration alone decide, which is said.
pub(super) fn last(state_dir: &Path, cluster: u32) -> Result<Option<Electors>, ElectorsError> {
    let path = state_dir.join(FILE);
    match kept::read(&path) {
        Ok(None) => Ok(None),
        Ok(Some(line)) => {
            let read: Option<Line> = serde_json::from_str(&line).ok();
            let electors = read.as_ref().and_then(Line::electors);
            let why = match read {
                Some(line) if line.cluster != cluster => "of another cluster",
                _ if electors.is_none() => "not to be understood",
                _ => return Ok(electors),
            };
            tracing::warn!(
                path = %path.display(),
                why,
                "if nodes are being added or removed, those before are not known"
            );
            Ok(None)
        }
        Err(source) => Err(ElectorsError { path, source }),
    }
}

/// Keeps it: on the disk when this returns.
pub(super) fn keep(state_dir: &Path, cluster: u32, electors: &Electors) -> io::Result<()> {
    let line = serde_json::to_string(&Line::of(cluster, electors))?;
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
        assert_eq!(last(&dir, 7).unwrap(), None);
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
            keep(&dir, 7, &electors).unwrap();
            assert_eq!(last(&dir, 7).unwrap(), Some(electors));
            assert_eq!(last(&dir, 8).unwrap(), None);
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_damaged_is_nothing() {
        let dir = directory("damaged");
        let node_0 = r#"{"cluster":7,"former":[],"present":{"0":[]},"is_joining":false}"#;
        for line in ["", "{", node_0] {
            kept::write(&dir.join(FILE), line).unwrap();
            assert_eq!(last(&dir, 7).unwrap(), None, "{line}");
        }
        assert!(last(&dir.join(FILE), 7).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
