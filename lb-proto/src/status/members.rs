//! Whose beacons are taken: the nodes that are configured, and those that are learnt.

use super::Timing;
use lb_common::maps::{MAX_NODES, NO_NODE};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Whose beacons are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Those of the nodes named by [`AvailabilityMap::configure`](super::map::AvailabilityMap::configure),
    /// as a controller does.
    Configured,
    /// Those of any node of the cluster besides, as a node does, which is told of no others. By
    /// [`Discovery::ANY`], unless something else is set.
    Learnt,
}

/// How nodes are learnt that nobody configured. Their beacons are under the same keys: who has one is
/// of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Learnt nodes at most. When there are as many, no further one is taken until one is forgotten.
    pub most: usize,
    /// A learnt node that was silent for so long is forgotten.
    pub forget_after: Duration,
}

impl Discovery {
    /// As many as there are ids, forgotten after a quarter of an hour. Chosen: longer than a machine
    /// takes to boot, so that who restarts stays on the screen as `Down`.
    pub const ANY: Self = Self {
        most: MAX_NODES as usize - 1,
        forget_after: Duration::from_secs(900),
    };
}

/// Whether a node is a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Configured,
    Learnt,
    Stranger,
}

/// Who is a member, and where configured ones send from.
#[derive(Clone, Debug)]
pub(super) struct Members {
    configured: BTreeMap<u16, Vec<IpAddr>>,
    pub(super) discovery: Option<Discovery>,
}

impl Members {
    pub(super) fn new(membership: Membership) -> Self {
        Self {
            configured: BTreeMap::new(),
            discovery: match membership {
                Membership::Configured => None,
                Membership::Learnt => Some(Discovery::ANY),
            },
        }
    }

    pub(super) fn configure(&mut self, nodes: BTreeMap<u16, Vec<IpAddr>>) {
        self.configured = nodes;
    }

    pub(super) fn standing(&self, node: u16) -> Standing {
        let is_real = node != NO_NODE && u32::from(node) < MAX_NODES;
        if self.configured.contains_key(&node) {
            Standing::Configured
        } else if is_real && self.discovery.is_some() {
            Standing::Learnt
        } else {
            Standing::Stranger
        }
    }

    /// The addresses configured for a node.
    pub(super) fn addresses(&self, node: u16) -> &[IpAddr] {
        self.configured.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Silence after which a learnt node is forgotten: not before it is `Down`.
    pub(super) fn forget_after(&self, timing: Timing) -> Option<Duration> {
        self.discovery
            .map(|discovery| discovery.forget_after.max(timing.down()))
    }
}
