//! What became of the calls, told from the recordings.
//!
//! ```text
//!  every call ─┬─ completed ──┬─ at one node
//!              │              ├─ met the killed node, went elsewhere      saved by retransmission
//!              │              └─ at several nodes otherwise               split: never
//!              └─ failed ─────┬─ under way on the killed node ─┬─ answered by it: lost with it
//!                             │                                ├─ rung by it: the switch, told to
//!                             │                                │  wait, does not ask again
//!                             │                                └─ met silence: should be saved
//!                             └─ anywhere else                            never
//! ```

use std::collections::HashSet;
use std::time::Duration;

use lb_common::sip::Method;

use super::show::Evidence;
use super::{KILLED, NODES};
use crate::record::{CallHash, Calls, Kind, Tape};

/// A call that began longer before the node's death was over by then, or had gone wrong by itself.
const LONGEST_CALL: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fates {
    /// Calls that failed on the killed node: answered by it before, and lost with it.
    pub(super) lost_answered: u64,
    /// … or rung by it, and never answered.
    pub(super) lost_ringing: u64,
    /// … or met by silence, and not saved by the switch's retransmission.
    pub(super) lost_unsaved: u64,
    /// New calls that met the dead node and went through elsewhere.
    pub(super) saved: u64,
    /// Calls that failed anywhere else.
    pub(super) failed_elsewhere: u64,
    /// Of these, calls under way while the controller was dead.
    pub(super) failed_without_controller: u64,
    /// Calls under way while the controller was dead.
    pub(super) calls_without_controller: u64,
    /// Calls that reached several nodes, all of which lived.
    pub(super) split: u64,
    /// Calls of the killed node whose later messages reached another one.
    pub(super) moved: u64,
    /// Calls whose INVITE reached no node at all.
    pub(super) unseen: u64,
    /// From the killed node's last beacon to the last new call that came to it.
    pub(super) detection: Duration,
    /// New calls by node.
    pub(super) spread: Vec<u64>,
    /// Frames that the recorders missed.
    pub(super) missed: u64,
    /// From the first new call to the last.
    pub(super) calling: Duration,
}

/// What the switch was told about its calls.
struct Told {
    completed: HashSet<CallHash>,
    refused: HashSet<CallHash>,
    answered: HashSet<CallHash>,
    rung: HashSet<CallHash>,
}

impl Told {
    fn read(tape: &Tape) -> Self {
        let mut told = Self {
            completed: HashSet::new(),
            refused: HashSet::new(),
            answered: HashSet::new(),
            rung: HashSet::new(),
        };
        for sighting in &tape.sightings {
            match sighting.kind {
                Kind::Response {
                    status: 100..200,
                    to: Method::Invite,
                } => {
                    told.rung.insert(sighting.call);
                }
                Kind::Response {
                    status: 200..300,
                    to: Method::Invite,
                } => {
                    told.answered.insert(sighting.call);
                }
                Kind::Response {
                    status: 200..300,
                    to: Method::Bye,
                } => {
                    told.completed.insert(sighting.call);
                }
                Kind::Response { status: 300.., .. } => {
                    told.refused.insert(sighting.call);
                }
                Kind::Request { .. } | Kind::Response { .. } => {}
            }
        }
        told
    }
}

/// When the killed node was heard last, and when the last new call came to it.
struct Death {
    /// In nanoseconds since 1970, like all of these.
    last_beacon: u64,
    last_new_call: u64,
    /// From here on the node was dead.
    since: u64,
}

impl Death {
    fn read(evidence: &Evidence) -> Self {
        let while_dead = |time: &u64| *time < evidence.node_back_ns;
        let others = (1..)
            .zip(&evidence.nodes)
            .filter(|(node, _)| *node != KILLED);
        let beacons = others.flat_map(|(_, tape)| &tape.beacons);
        let last_beacon = beacons
            .filter(|beacon| beacon.node == KILLED)
            .map(|beacon| beacon.time_ns)
            .filter(while_dead)
            .max()
            .unwrap_or(0);
        // First copies only: a repeated INVITE is not a new call. It stays with its node until that
        // is `Down`, lest a slow node and another both take it.
        let mut known = HashSet::new();
        let tape = &evidence.nodes[usize::from(KILLED) - 1];
        let new_calls = tape
            .sightings
            .iter()
            .filter(|s| s.is_new_call() && known.insert(s.call));
        let last_new_call = new_calls
            .map(|s| s.time_ns)
            .filter(while_dead)
            .max()
            .unwrap_or(0);
        Self {
            last_beacon,
            last_new_call,
            since: evidence.node_killed_ns.min(last_beacon),
        }
    }

    /// Whether a call that began at this moment may have been on the node when it died, or have
    /// come to it before the data plane knew.
    fn concerns(&self, began_ns: u64) -> bool {
        let earliest = self.since.saturating_sub(LONGEST_CALL.as_nanos() as u64);
        (earliest..=self.last_new_call.max(self.since)).contains(&began_ns)
    }
}

impl Fates {
    /// Finds out.
    pub(super) fn read(evidence: &Evidence) -> Self {
        let calls = Calls::read(&evidence.nodes);
        let told = Told::read(&evidence.switch);
        let death = Death::read(evidence);
        let mut fates = Self {
            detection: Duration::from_nanos(death.last_new_call.saturating_sub(death.last_beacon)),
            spread: calls.spread(NODES),
            missed: evidence.nodes.iter().map(|tape| tape.dropped).sum::<u64>()
                + evidence.switch.dropped,
            unseen: u64::from(evidence.calls).saturating_sub(calls.len() as u64),
            ..Self::default()
        };
        let (mut first, mut last) = (u64::MAX, 0);
        let mut failed_on_killed = 0;
        for (call, trace) in calls.iter() {
            let begin = trace.first();
            first = first.min(begin.first_ns);
            last = last.max(begin.first_ns);
            let is_complete = told.completed.contains(&call) && !told.refused.contains(&call);
            // The call came to the killed node first, and was under way there when it died, or came
            // before the data plane knew.
            let had_it = begin.node == KILLED && death.concerns(begin.first_ns);
            let met_it_dead = had_it && begin.first_ns >= death.since;
            if let Some(next) = trace.visits.get(1) {
                if had_it && next.first_ns >= death.since {
                    fates.moved += 1;
                } else {
                    fates.split += 1;
                }
            }
            if is_complete {
                fates.saved += u64::from(met_it_dead && trace.visits.len() > 1);
            } else if had_it {
                failed_on_killed += 1;
                if told.answered.contains(&call) {
                    fates.lost_answered += 1;
                } else if told.rung.contains(&call) {
                    fates.lost_ringing += 1;
                } else {
                    fates.lost_unsaved += 1;
                }
            }
            let orphaned = evidence.controller_killed_ns..=evidence.controller_back_ns;
            if orphaned.contains(&begin.first_ns) {
                fates.calls_without_controller += 1;
                fates.failed_without_controller += u64::from(!is_complete && !had_it);
            }
        }
        fates.calling = Duration::from_nanos(last.saturating_sub(first));
        // SIPp's count is the one that matters; what the recordings do not explain is not excused.
        fates.failed_elsewhere =
            u64::from(evidence.stats.failed).saturating_sub(failed_on_killed) + fates.unseen;
        fates
    }

    /// Calls that were under way on the killed node when it died, or came to it before the data
    /// plane knew, and failed.
    pub(super) fn failed_in_detection_window(&self) -> u64 {
        self.lost_answered + self.lost_ringing + self.lost_unsaved
    }
}
