//! What the frames meet: a configuration and its keys.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_net::keys::KeyFileError;
use lb_proto::keys::KeyRing;
use lb_proto::status::Timing;

use crate::config::{Config, ConfigError, NodeConfig, PinLimits, Status};
use crate::netlink::Mac;

/// What the frames meet.
#[derive(Clone, Debug)]
pub struct Scene {
    /// VIPs, nodes and the rest. Every node is silent, which counts as `Free`.
    pub config: Config,
    /// The secret of the call key, and the keys of beacons.
    pub keys: KeyRing,
}

/// The scene could not be set.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key file that it names.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
}

impl Scene {
    /// These VIPs, and nodes 1 to `nodes` of equal weight. Beacons are not looked for. The call
    /// secret is known to everybody: bytes 00 to 0f.
    pub fn plain(vips: &[SocketAddr], nodes: u16) -> Self {
        let node = |id| NodeConfig {
            id,
            address: Ipv4Addr::UNSPECIFIED.into(),
            weight: 1,
            mac: None,
            interface: None,
            is_silent: true,
        };
        let config = Config {
            cluster: 0,
            keys: PathBuf::new(),
            bpffs: PathBuf::new(),
            status: Status {
                groups: Vec::new(),
                addresses: Vec::new(),
                discovery: None,
                port: 0,
                timing: Timing::DEFAULT,
            },
            interfaces: Vec::new(),
            vips: vips.to_vec(),
            nodes: (1..=nodes).map(node).collect(),
            pair: None,
            pins: PinLimits::default(),
            drain: Duration::ZERO,
            metrics: None,
            event_sample: 0,
        };
        let keys = KeyRing::generate(std::array::from_fn(|place| place as u8));
        Self { config, keys }
    }

    /// What a configuration file says, and the key file that it names; with every node `Free`.
    ///
    /// # Errors
    /// [`SceneError`].
    pub fn of_config(path: &Path) -> Result<Self, SceneError> {
        let mut config = Config::read(path)?;
        let keys = lb_net::keys::read(&config.keys)?;
        for node in &mut config.nodes {
            node.is_silent = true;
        }
        Ok(Self { config, keys })
    }

    /// Whether a node is reached out of another interface than the first, which frames are taken to
    /// come in by.
    pub(super) fn is_elsewhere(&self, node: &NodeConfig) -> bool {
        let ingress = self.config.interfaces.first().map(|first| &first.name);
        node.interface.is_some() && node.interface.as_ref() != ingress
    }
}

/// A node's link address; one that is not configured is made up, locally administered.
pub(super) fn mac_of(node: &NodeConfig) -> Mac {
    let [high, low] = node.id.to_be_bytes();
    node.mac.unwrap_or([2, 0, 0, 0, high, low])
}
