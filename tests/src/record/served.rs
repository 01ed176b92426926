//! When new calls were served again, and by which load balancer.

use std::collections::HashSet;
use std::time::Duration;

use lb_common::sip::Method;

use super::{CallHash, Kind, Tape};
use crate::lab::Host;

/// From a moment, in nanoseconds since 1970, until the switch had the answer to the first new call that came
/// to a node by way of this load balancer. Tapes of the switch and of the nodes, in this order.
pub fn first_served(tapes: &[Tape], by: &Host, since_ns: u64) -> Option<Duration> {
    let (switch, nodes) = tapes.split_first()?;
    let all = nodes.iter().flat_map(|tape| &tape.sightings);
    let steered =
        all.filter(|s| s.is_new_call() && s.way.sender == by.mac && s.time_ns >= since_ns);
    let steered: HashSet<CallHash> = steered.map(|s| s.call).collect();
    let answer = Kind::Response {
        status: 200,
        to: Method::Invite,
    };
    let is_first = |s: &&super::Sighting| s.kind == answer && s.cseq == 1;
    let mut answers = switch.sightings.iter().filter(is_first);
    let first = answers.find(|s| steered.contains(&s.call) && s.time_ns >= since_ns)?;
    Some(Duration::from_nanos(first.time_ns - since_ns))
}
