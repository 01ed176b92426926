//! The redirect server as a part of the daemon: it, and what it is told of the world around it.

use crate::config::Config;
use crate::health::Verdict;
use crate::pressure::Pressure;
use crate::server::ways::Ways;
use crate::server::{Server, Settings};
use crate::sip::Sip;
use lb_common::beacon::Beacon;
use lb_proto::admission;
use lb_proto::keys::KeyRing;
use lb_proto::status::map::AvailabilityMap;
use lb_proto::status::sender;
use lb_sip::dialog::liveness::Policy;
use std::collections::BTreeMap;
use std::time::Duration;

/// The redirect server, and who tells it of machine, SIP server and other nodes.
pub(crate) struct Redirecting {
    pub(crate) sip: Sip,
    pressure: Pressure,
    /// Beacons taken of each node: the core is told of new ones.
    heard: BTreeMap<u16, u64>,
}

impl Redirecting {
    /// `None` where it is not configured.
    pub(crate) fn open(
        config: &Config,
        keys: KeyRing,
        now: Duration,
        seed: u64,
    ) -> anyhow::Result<Option<Self>> {
        let Some(advertise) = config.sip.redirect_address() else {
            return Ok(None);
        };
        let settings = Settings {
            cluster: config.cluster,
            node: config.node,
            keys,
            ways: Ways::new(config.sip.listen.clone(), advertise),
            server: config.sip.server,
            mode: config.sip.mode,
            overflow: config.sip.overflow,
            hold: config.beacon.period * config.beacon.hold_periods,
            has_reporter: !config.lb.status.is_empty(),
            policy: Policy::DEFAULT,
        };
        let core = Server::new(settings, config.capacity.limits(), seed);
        Ok(Some(Self {
            sip: Sip::open(core)?,
            pressure: Pressure::new(now),
            heard: BTreeMap::new(),
        }))
    }

    /// When to call [`Redirecting::advance`] next, at the latest.
    pub(crate) fn next_timeout(&self, now: Duration) -> Duration {
        let due = self.pressure.due();
        let core = self.sip.core.next_timeout(now);
        core.map_or(due, |at| at.min(due))
    }

    /// Tells the gate how SIP server and machine are, and lets time pass. What beacons are to say;
    /// `None`: none are to go out.
    pub(crate) fn advance(&mut self, now: Duration, server: Verdict) -> Option<sender::Report> {
        let Self { sip, pressure, .. } = self;
        sip.core.set_probed(now, probed(server));
        pressure.tell(now, sip.core.gate());
        sip.pass(now);
        sip.core.status(now)
    }

    /// A beacon may have come of a node.
    pub(crate) fn hear(&mut self, now: Duration, map: &AvailabilityMap, bytes: &[u8]) {
        let Ok(beacon) = Beacon::read(bytes, 0, u32::try_from(bytes.len()).unwrap_or(u32::MAX))
        else {
            return;
        };
        // What was not taken has not changed the stamp.
        if let Some(stamp) = map.stamp(beacon.node)
            && self.heard.insert(beacon.node, stamp) != Some(stamp)
        {
            self.sip.core.heard(now, beacon.node);
        }
    }
}

/// The verdict on the SIP server as the gate has it.
fn probed(verdict: Verdict) -> admission::server::Server {
    use admission::server::Server;
    match verdict {
        Verdict::Unknown => Server::Unknown,
        Verdict::Alive => Server::Healthy,
        Verdict::Overloaded { until } => Server::Unavailable { until },
        Verdict::Dead => Server::Unhealthy,
    }
}
