//! What `status` tells: the one document behind the table, `--json` and the metrics.

use lb_common::beacon::Beacon;
use lb_proto::status::map::{AvailabilityMap, Row};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Everything, at one moment. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub cluster: u32,
    /// This node.
    pub node: u16,
    pub epoch: u32,
    /// Of the next beacon.
    pub sequence: u32,
    /// Ids of the beacon keys that are good, the one that it signs with first.
    #[serde(default)]
    pub keys: Vec<u8>,
    /// Whether beacons go out.
    pub speaking: bool,
    /// What they say, in the vocabulary's word.
    pub admission: String,
    pub capacity: u32,
    pub active: u32,
    pub sip_server: SipServer,
    pub sent: Sent,
    pub plane: Plane,
    /// All nodes that were heard, this one among them, by id.
    pub nodes: Vec<NodeReport>,
    /// Datagrams on the status port that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// The SIP server beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SipServer {
    pub address: SocketAddr,
    /// `trusted`, `unknown`, `alive`, `overloaded` or `dead`.
    pub verdict: String,
    /// How much longer it is overloaded.
    pub overloaded_for_ms: Option<u64>,
    /// Status code of its last answer.
    pub last_status: Option<u16>,
    pub last_answer_age_ms: Option<u64>,
    /// From question to answer.
    pub answer_ms: Option<f64>,
    /// Questions without an answer since.
    pub missed: u32,
}

/// What went out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub beacons: u64,
    /// Beacons that answered a query.
    pub answers: u64,
    /// Beacons that the system did not send.
    pub failed: u64,
    /// Questions whether this node's stamps are new enough.
    #[serde(default)]
    pub probes: u64,
    /// Pin reports, repetitions among them.
    #[serde(default)]
    pub reports: u64,
    /// Calls away from home that not every controller has a pin for.
    #[serde(default)]
    pub report_failures: u64,
}

/// The status plane as it looks from here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plane {
    /// Nobody is heard: ages say nothing about nodes.
    pub broken: bool,
    /// Since anybody was last heard.
    pub silence_ms: Option<u64>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    pub node: u16,
    pub liveness: String,
    pub admission: String,
    /// Since its last beacon.
    pub age_ms: u64,
    /// Since its present run of beacons began.
    pub up_ms: u64,
    pub epoch: u32,
    pub sequence: u32,
    pub capacity: u32,
    pub active: u32,
    pub headroom: u32,
    pub calls_per_second: u32,
    pub oc_permille: u16,
    pub period_ms: u16,
    pub key_id: u8,
    pub sip_port: u16,
    pub addresses: Vec<IpAddr>,
    /// Beacons accepted.
    pub beacons: u64,
}

impl NodeReport {
    fn of(row: &Row, beacon: &Beacon, age: Duration) -> Self {
        let addresses = [beacon.address_v4, beacon.address_v6];
        let addresses = addresses
            .into_iter()
            .filter(|address| *address != Default::default());
        Self {
            node: row.node,
            liveness: row.liveness.name().to_owned(),
            admission: beacon.admission.name().to_owned(),
            age_ms: milliseconds(age),
            up_ms: milliseconds(row.up_for + age),
            epoch: beacon.epoch,
            sequence: beacon.sequence,
            capacity: beacon.capacity,
            active: beacon.active,
            headroom: beacon.headroom,
            calls_per_second: beacon.calls_per_second,
            oc_permille: beacon.oc_permille,
            period_ms: beacon.period_ms,
            key_id: beacon.key_id,
            sip_port: beacon.sip_port,
            addresses: addresses.map(IpAddr::from).collect(),
            beacons: row.beacons,
        }
    }
}

/// All nodes of the map that were ever heard.
pub(crate) fn nodes(map: &AvailabilityMap, now: Duration) -> Vec<NodeReport> {
    map.rows(now)
        .filter_map(|row| {
            row.last
                .map(|(beacon, age)| NodeReport::of(&row, &beacon, age))
        })
        .collect()
}

/// Whole milliseconds.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
