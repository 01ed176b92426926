//! Tapes of all nodes, read call by call: where did each call's messages go?

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use lb_common::sip::Method;

use super::{CallHash, Kind, Tape};

/// One call, as the nodes' ports saw it.
#[derive(Clone, Debug)]
pub struct CallTrace {
    /// The nodes that its messages reached, in the order of its first message there, with the time.
    pub visits: Vec<Visit>,
    /// Requests that arrived more than once at the same node: repeated by the switch.
    pub repeated: u32,
}

/// A call's first message at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The node.
    pub node: u16,
    /// When its first message came, in nanoseconds since 1970.
    pub first_ns: u64,
    /// When the INVITE that begins the call first came there, if it did.
    pub invite_ns: Option<u64>,
    /// How many messages came.
    pub messages: u32,
}

impl CallTrace {
    /// The node that the call came to first.
    ///
    /// # Panics
    /// Never: a call has a trace because some node saw it.
    pub fn first(&self) -> &Visit {
        &self.visits[0]
    }

    /// What this node saw of it.
    pub fn at(&self, node: u16) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.node == node)
    }
}

/// All calls of a recording.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    traces: HashMap<CallHash, CallTrace>,
}

impl Calls {
    /// Reads the tapes of nodes 1, 2, 3 …, in this order.
    pub fn read(tapes: &[Tape]) -> Self {
        let mut traces: HashMap<CallHash, CallTrace> = HashMap::new();
        for (node, tape) in (1..).zip(tapes) {
            let mut seen: HashMap<(CallHash, u32, u8), ()> = HashMap::new();
            for sighting in &tape.sightings {
                let Kind::Request { method, .. } = sighting.kind else {
                    continue;
                };
                // The redirect server's probes are no calls, and nor is what goes to nobody.
                if method == Method::Other {
                    continue;
                }
                let trace = traces.entry(sighting.call).or_insert_with(|| CallTrace {
                    visits: Vec::new(),
                    repeated: 0,
                });
                let repeated = match seen.entry((sighting.call, sighting.cseq, method as u8)) {
                    Entry::Vacant(place) => {
                        place.insert(());
                        false
                    }
                    Entry::Occupied(_) => true,
                };
                trace.repeated += u32::from(repeated);
                let invite_ns = sighting.is_new_call().then_some(sighting.time_ns);
                match trace.visits.iter_mut().find(|visit| visit.node == node) {
                    Some(visit) => {
                        visit.messages += 1;
                        visit.invite_ns = visit.invite_ns.or(invite_ns);
                    }
                    None => trace.visits.push(Visit {
                        node,
                        first_ns: sighting.time_ns,
                        invite_ns,
                        messages: 1,
                    }),
                }
            }
        }
        for trace in traces.values_mut() {
            trace.visits.sort_by_key(|visit| visit.first_ns);
        }
        Self { traces }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.traces.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Every call.
    pub fn iter(&self) -> impl Iterator<Item = (CallHash, &CallTrace)> {
        self.traces.iter().map(|(call, trace)| (*call, trace))
    }

    /// One call.
    pub fn get(&self, call: CallHash) -> Option<&CallTrace> {
        self.traces.get(&call)
    }

    /// Calls whose messages reached more than one node.
    pub fn split(&self) -> impl Iterator<Item = (CallHash, &CallTrace)> {
        self.iter().filter(|(_, trace)| trace.visits.len() > 1)
    }

    /// Calls by the node they came to first; node `n` is at `n - 1`.
    pub fn spread(&self, nodes: u16) -> Vec<u64> {
        let mut spread = vec![0; usize::from(nodes)];
        for trace in self.traces.values() {
            spread[usize::from(trace.first().node) - 1] += 1;
        }
        spread
    }
}
