//! The configuration in the machines' terms.

use std::net::IpAddr;
use std::time::Duration;

use lb_common::siphash::{SipKey, siphash13};
use lb_net::link::{Identity, Roster};
use lb_proto::call_state::Designated;
use lb_proto::call_state::collector::Mode;
use lb_proto::failover::trust::Members;
use lb_proto::failover::{ControllerId, NodeId, Timing, TimingError, controller};

use crate::config::NodeConfig;
use crate::config::pair::{self, Pair, Standby, Switchback};
use crate::config::shared::Shared;
use crate::daemon::Intent;

/// How long the preferred controller must have been well before it asks for the reign again.
const SWITCHBACK_AFTER: Duration = Duration::from_secs(10);

/// The controller machine's configuration.
pub(super) fn machine(intent: &Intent, pair: &Pair) -> Result<controller::Config, TimingError> {
    let config = &intent.config;
    let digest = |shared: &Shared| siphash13(SipKey::default(), shared.text.as_bytes());
    let id = |(id, at): (&u16, &IpAddr)| Some((controller_id(*id)?, vec![*at]));
    let node = |node: &NodeConfig| Some((NodeId::new(node.id)?, vec![node.address]));
    Ok(controller::Config {
        keys: intent.keys.beacons().to_vec(),
        members: Members {
            controllers: pair.controllers.iter().filter_map(id).collect(),
            nodes: config.speaking_nodes().filter_map(node).collect(),
        },
        timing: timing(pair)?,
        switchback: match pair.switchback {
            Switchback::Stay => controller::Switchback::Stay,
            Switchback::Resume => controller::Switchback::Resume,
        },
        switchback_after: SWITCHBACK_AFTER,
        version: pair.version,
        digest: intent.shared.as_ref().map_or(0, digest),
        force: pair.serve_outdated,
    })
}

/// How often, how long.
pub(super) fn timing(pair: &Pair) -> Result<Timing, TimingError> {
    let misses = pair.misses.try_into().unwrap_or(u8::MAX);
    Timing::new(pair.keep_alive, misses, None)
}

/// The id, as the machines have it; the configuration's bounds are theirs.
pub(super) fn controller_id(id: u16) -> Option<ControllerId> {
    ControllerId::new(id.try_into().ok()?)
}

/// How calls are taken over.
pub(super) fn mode(pair: &Pair) -> Mode {
    match pair.mode {
        Standby::Hot => Mode::Hot,
        Standby::Cold(pair::Designated::Idle) => Mode::Cold(Designated::Drop),
        Standby::Cold(pair::Designated::Reinitialise) => Mode::Cold(Designated::Reinitialise),
    }
}

/// Who may link to this controller: the others.
pub(super) fn roster(pair: &Pair) -> Roster {
    let others = pair.others();
    others
        .map(|(id, at)| (Identity::Controller(id), at))
        .collect()
}
