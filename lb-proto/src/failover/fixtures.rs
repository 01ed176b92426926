//! Whom the tests of failover are about, and what those say.

use super::wire::{Body, KeepAlive, Report, Role};
use super::{ControllerId, NodeId};
use std::time::Duration;

pub(super) const CLUSTER: u32 = 7;

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn controller(id: u8) -> ControllerId {
    ControllerId::new(id).expect("in range")
}

pub(super) fn node(id: u16) -> NodeId {
    NodeId::new(id).expect("in range")
}

/// A main's keep-alive: every 20 ms, its leases 100 ms long.
pub(super) fn keep_alive() -> Body {
    Body::KeepAlive(KeepAlive {
        wall_ms: 0,
        monotonic_ms: 0,
        report: Report::default(),
        role: Role::Main,
        configuration: 4,
        digest: 0,
        is_joining: false,
        lease: ms(100),
        interval: ms(20),
        misses: 3,
        nonce: 0,
    })
}
