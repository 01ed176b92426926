//! The node: what it says of itself, what it makes of its SIP server's state, whom it hears.
//!
//! Sender and availability map in one, without a socket. The SIP server's [`Verdict`] rules:
//!
//! | SIP server | beacons | why |
//! |---|---|---|
//! | not known yet | none | a node is announced when calls can come, not before |
//! | alive, trusted | `Idle` | calls go straight to the SIP server: how many there are is not known here, so active is 0 and headroom the whole capacity |
//! | overloaded | `Busy` | a 503: no new calls, but everything else still goes there |
//! | dead | a last one that drains, then none | liveness must come from the path that serves calls |

mod admit;

use crate::config::Config;
use crate::health::Verdict;
use crate::report::{self, Plane, Report, Sent, SipServer};
use lb_common::{Address, Admission};
use lb_proto::keys::KeyRing;
use lb_proto::status::Timing;
use lb_proto::status::map::{AvailabilityMap, Membership};
use lb_proto::status::query::{Query, QueryError};
use lb_proto::status::sender::{self, BeaconBytes, Identity, Sender};
use std::collections::BTreeMap;
use std::time::Duration;

/// Thousandths of new calls that a node takes which takes all.
const ALL: u16 = 1000;

pub(crate) struct Node {
    cluster: u32,
    node: u16,
    keys: KeyRing,
    sender: Sender,
    map: AvailabilityMap,
    verdict: Verdict,
    /// By name of the reason, of which there are few.
    refused: BTreeMap<&'static str, u64>,
    pub(crate) sent: Sent,
}

impl Node {
    /// A node that is silent until its SIP server's verdict is [followed](Node::follow).
    pub(crate) fn new(
        config: &Config,
        keys: KeyRing,
        epoch: u32,
        [address_v4, address_v6]: [Address; 2],
        now: Duration,
        seed: u64,
    ) -> Self {
        let beacon = &config.beacon;
        let identity = Identity {
            cluster: config.cluster,
            node: config.node,
            epoch,
            key: keys.sending(),
            sip_port: config.sip.server.port(),
            redirect_port: config.sip.redirect_address().map_or(0, |own| own.port()),
            address_v4,
            address_v6,
        };
        let report = sender::Report {
            admission: Admission::Idle,
            capacity: config.capacity.calls,
            active: 0,
            headroom: config.capacity.calls,
            calls_per_second: 0,
            oc_permille: ALL,
        };
        let groups = beacon.groups.len() as u32;
        let mut sender = Sender::new(identity, beacon.period, groups, report, now, seed);
        sender.silence();
        let timing = Timing {
            period: beacon.period,
            hold_periods: beacon.hold_periods,
            down_periods: beacon.down_periods,
        };
        let valid = keys.beacons().to_vec();
        Self {
            cluster: config.cluster,
            node: config.node,
            keys,
            sender,
            map: AvailabilityMap::new(config.cluster, valid, timing, Membership::Learnt),
            verdict: Verdict::Unknown,
            refused: BTreeMap::new(),
            sent: Sent::default(),
        }
    }

    /// Draws the consequences of the SIP server's state. The beacons to send at once, one for each
    /// group, if any: the last before silence.
    pub(crate) fn follow(&mut self, now: Duration, verdict: Verdict) -> Vec<BeaconBytes> {
        if verdict == self.verdict {
            return Vec::new();
        }
        self.verdict = verdict;
        match verdict {
            Verdict::Unknown => Vec::new(),
            Verdict::Alive => {
                tracing::info!("the SIP server is there: taking calls");
                self.speak(now, Admission::Idle, ALL);
                Vec::new()
            }
            Verdict::Overloaded { until } => {
                let pause = until.saturating_sub(now);
                tracing::warn!(
                    ?pause,
                    "the SIP server answers 503: no new calls for a while"
                );
                self.speak(now, Admission::Busy, 0);
                Vec::new()
            }
            Verdict::Dead => {
                tracing::warn!("the SIP server does not answer: no more beacons until it does");
                self.sender.farewell()
            }
        }
    }

    fn speak(&mut self, now: Duration, admission: Admission, oc_permille: u16) {
        let report = sender::Report {
            admission,
            oc_permille,
            ..self.sender.report()
        };
        self.sender.set_report(now, report);
        self.sender.speak(now);
    }

    /// Takes in what came to the status port. The answer to send back, if it was a query for us.
    pub(crate) fn receive(&mut self, now: Duration, bytes: &[u8]) -> Option<BeaconBytes> {
        let refusal = match Query::read(bytes, self.keys.beacons()) {
            Ok(query) => return self.sender.answer(now, &query),
            Err(QueryError::Foreign) => match self.map.receive(now, bytes) {
                Ok(_) => return None,
                Err(reason) => reason.name(),
            },
            Err(QueryError::Malformed) => "query-malformed",
            Err(QueryError::UnknownKey) => "query-unknown-key",
            Err(QueryError::Forged) => "query-forged",
        };
        *self.refused.entry(refusal).or_default() += 1;
        None
    }

    /// The beacon that is due, if one is, and the group that it is for.
    pub(crate) fn poll_transmit(&mut self, now: Duration) -> Option<(usize, BeaconBytes)> {
        self.sender.poll_transmit(now)
    }

    /// The last beacons of this life, one for each group, unless the node is silent.
    pub(crate) fn farewell(&mut self) -> Vec<BeaconBytes> {
        self.sender.farewell()
    }

    /// Changes the addresses that beacons name.
    pub(crate) fn set_addresses(&mut self, addresses: [Address; 2]) {
        self.sender.set_addresses(addresses);
    }

    /// When a beacon is due next.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.sender.next_timeout()
    }

    /// The epoch of the next beacon: to be kept before it is sent.
    pub(crate) fn epoch(&self) -> u32 {
        self.sender.next_stamp().0
    }

    /// A line for the service manager.
    pub(crate) fn summary(&self) -> String {
        let node = self.node;
        if self.sender.is_speaking() {
            format!("Node {node}: {}", self.sender.report().admission.name())
        } else {
            format!(
                "Node {node}: silent, its SIP server is {}",
                name(self.verdict)
            )
        }
    }

    /// Everything, for those who ask.
    pub(crate) fn report(&self, now: Duration, sip_server: SipServer) -> Report {
        let (epoch, sequence) = self.sender.next_stamp();
        let says = self.sender.report();
        let nodes = report::nodes(&self.map, now);
        // A node that is alone and silent hears nobody, and nothing is wrong with that.
        let is_anybody_due =
            self.sender.is_speaking() || nodes.iter().any(|node| node.node != self.node);
        Report {
            cluster: self.cluster,
            node: self.node,
            epoch,
            sequence,
            speaking: self.sender.is_speaking(),
            admission: says.admission.name().to_owned(),
            capacity: says.capacity,
            active: says.active,
            sip_server,
            sent: self.sent,
            plane: Plane {
                broken: is_anybody_due && self.map.is_plane_broken(now),
                silence_ms: self.map.silence(now).map(report::milliseconds),
            },
            nodes,
            refused: self
                .refused
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
        }
    }
}

/// The word for a verdict.
pub(crate) const fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "unknown",
        Verdict::Alive => "alive",
        Verdict::Overloaded { .. } => "overloaded",
        Verdict::Dead => "dead",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::beacon::{BEACON_LEN, Beacon};
    use lb_common::siphash::SipKey;
    use std::path::Path;

    const PERIOD: Duration = Duration::from_millis(100);

    fn keys() -> KeyRing {
        KeyRing::generate(std::array::from_fn(|i| i as u8 + 1))
    }

    fn node() -> Node {
        let config = Config::read(Path::new("pointsman-redirect.toml")).expect("the example");
        Node::new(
            &config,
            keys(),
            5,
            [Address::default(); 2],
            Duration::ZERO,
            1,
        )
    }

    fn due(node: &mut Node, now: Duration) -> Option<(Admission, u32)> {
        let (_, bytes) = node.poll_transmit(now)?;
        let beacon = Beacon::read(&bytes[..], 0, BEACON_LEN).expect("a beacon");
        Some((beacon.admission, beacon.headroom))
    }

    /// Every verdict after every other.
    #[test]
    fn beacons_follow_the_sip_server() {
        let overloaded = Verdict::Overloaded {
            until: PERIOD * 100,
        };
        let verdicts = [
            (Verdict::Unknown, None),
            (Verdict::Alive, Some((Admission::Idle, 1000))),
            (overloaded, Some((Admission::Busy, 1000))),
            (Verdict::Dead, None),
        ];
        for (before, said) in verdicts {
            for (after, says) in verdicts {
                if after == Verdict::Unknown && before != after {
                    continue;
                }
                let mut node = node();
                assert!(node.follow(Duration::ZERO, before).is_empty());
                assert_eq!(due(&mut node, Duration::ZERO), said, "{before:?}");
                let farewell = node.follow(PERIOD * 2, after);
                let drains = said.is_some() && after == Verdict::Dead;
                assert_eq!(!farewell.is_empty(), drains, "{before:?}, {after:?}");
                assert_eq!(due(&mut node, PERIOD * 2), says, "{before:?}, {after:?}");
                assert_eq!(node.next_timeout().is_some(), says.is_some());
            }
        }
    }

    #[test]
    fn queries_are_answered_while_the_sip_server_is_there() {
        let mut node = node();
        let sending = keys().sending();
        let query = Query {
            cluster: 1,
            node: 1,
            key_id: sending.id,
            nonce: 9,
        };
        let bytes = query.write(sending.key);
        assert!(
            node.receive(Duration::ZERO, &bytes).is_none(),
            "nothing is known yet"
        );
        node.follow(Duration::ZERO, Verdict::Alive);
        assert!(node.receive(Duration::ZERO, &bytes).is_some());
        node.follow(PERIOD, Verdict::Dead);
        assert!(node.receive(PERIOD, &bytes).is_none());
    }

    #[test]
    fn what_is_refused_is_counted_by_reason() {
        let mut node = node();
        let sending = keys().sending();
        let query = Query {
            cluster: 1,
            node: 1,
            key_id: sending.id,
            nonce: 9,
        };
        let forged = query.write(SipKey { k0: 1, k1: 2 });
        for bytes in [
            &forged[..],
            &forged[..50],
            b"noise",
            &Query {
                key_id: 77,
                ..query
            }
            .write(sending.key),
        ] {
            assert!(node.receive(Duration::ZERO, bytes).is_none());
        }
        let names: Vec<_> = node
            .refused
            .iter()
            .map(|(name, count)| (*name, *count))
            .collect();
        let expected = [
            ("foreign-status", 1),
            ("query-forged", 1),
            ("query-malformed", 1),
            ("query-unknown-key", 1),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_node_hears_itself_and_others() {
        let (mut node, mut other) = (node(), node());
        let now = PERIOD;
        for sender in [&mut node, &mut other] {
            sender.follow(now, Verdict::Alive);
        }
        let (_, bytes) = node.poll_transmit(now).expect("due");
        node.receive(now, &bytes);
        other.receive(now, &bytes);
        node.receive(now, &bytes);
        let server = SipServer {
            address: ([127, 0, 0, 1], 5060).into(),
            verdict: name(Verdict::Alive).to_owned(),
            overloaded_for_ms: None,
            last_status: None,
            last_answer_age_ms: None,
            answer_ms: None,
            missed: 0,
        };
        let report = node.report(now, server);
        assert_eq!(report.nodes.len(), 1);
        assert_eq!(
            (report.nodes[0].node, report.nodes[0].liveness.as_str()),
            (1, "Up")
        );
        assert_eq!(report.refused.get("beacon-replayed"), Some(&1));
        assert_eq!(other.summary(), "Node 1: Idle");
    }
}
