//! Call state from the nodes: asked for when this controller becomes the main, kept while it is.
//!
//! What comes first of each node is the keys of its calls. Those that live away from home get a pin at once;
//! when all nodes have given theirs, or [`GATHERING`] has passed, the data plane steers dialogs again. That
//! bounds both what a dialog may wait and how long one may go astray whose node was late.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_proto::call::Call;
use lb_proto::call_state::collector::{Collector, Mode, Output};
use lb_proto::call_state::database::Database;
use lb_proto::pin_report::wire::Verdict;

use super::links::{Arrival, Links, News};
use crate::plane::AccessError;
use crate::plane::Maps;
use crate::plane::clock::Clock;
use crate::status::{end_away, pin_away};
use crate::turn;

/// How long dialogs are not steered, at most, while it is not known where calls live. Half of SIP's shortest
/// retransmission (T1, RFC 3261 §17.1.1.1): what came to nothing meanwhile comes again right after.
const GATHERING: Duration = Duration::from_millis(250);

/// How long a node that has a link is given to take this controller for the main, before it is asked all the
/// same. The leases of the last nodes end some milliseconds after those that made the majority, and who is
/// asked earlier refuses, and is not asked again soon.
const OBEYED: Duration = Duration::from_millis(100);

/// How the last rebuild went. Times count from the takeover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Dialogs are steered since.
    pub(super) gathered: Option<Duration>,
    /// It had not heard of all calls by then.
    pub(super) cut_short: bool,
    /// Every node was complete or unreachable.
    pub(super) complete: Option<Duration>,
    /// Pins made for calls that live away from home.
    pub(super) pinned: u64,
    /// Calls for whose pins there was no room.
    pub(super) full: u64,
}

/// A reign's rebuild.
#[derive(Clone, Copy, Debug)]
struct Reign {
    began: Duration,
    progress: Progress,
}

pub(super) struct Rebuild {
    collector: Collector,
    pub(super) links: Links,
    maps: Arc<Maps>,
    clock: Arc<Clock>,
    nodes: BTreeMap<u16, IpAddr>,
    reign: Option<Reign>,
    /// Nodes with a link that are not known to take this controller for the main, since when.
    linked: BTreeMap<u16, Duration>,
    outputs: Vec<Output>,
}

impl Rebuild {
    pub(super) fn new(
        collector: Collector,
        links: Links,
        (maps, clock): (Arc<Maps>, Arc<Clock>),
        nodes: BTreeMap<u16, IpAddr>,
    ) -> Self {
        Self {
            collector,
            links,
            maps,
            clock,
            nodes,
            reign: None,
            linked: BTreeMap::new(),
            outputs: Vec::new(),
        }
    }

    /// Begins a reign: the data plane is active and gathering.
    pub(super) fn begin(&mut self, now: Duration, term: u64, mode: Mode) {
        self.reign = Some(Reign {
            began: now,
            progress: Progress::default(),
        });
        self.collector.begin(now, term, mode, &mut self.outputs);
        self.links.hold(&self.nodes);
        if !matches!(mode, Mode::Hot) {
            // There are no calls that could go astray: they are reset.
            self.end_gathering(now, false);
        }
        self.carry_out(now);
    }

    /// The reign goes on under another term.
    pub(super) fn raise(&mut self, now: Duration, term: u64) {
        self.collector.raise(term, &mut self.outputs);
        self.carry_out(now);
    }

    /// Ends the reign: links and database go.
    pub(super) fn end(&mut self) {
        self.reign = None;
        self.collector.end();
        self.links.end();
        self.linked.clear();
        self.outputs.clear();
    }

    /// These are the nodes from now on.
    pub(super) fn set_nodes(&mut self, now: Duration, nodes: BTreeMap<u16, IpAddr>) {
        self.collector.set_nodes(now, nodes.keys().copied());
        self.nodes = nodes;
        if self.reign.is_some() {
            self.links.hold(&self.nodes);
        }
    }

    /// Something has happened to a link.
    pub(super) fn take(&mut self, now: Duration, arrival: Arrival) {
        let Arrival { node, news, .. } = arrival;
        match news {
            News::Linked(_) => {
                self.linked.insert(node, now);
            }
            News::Message(bytes) => {
                let read = self.collector.message(now, node, &bytes, &mut self.outputs);
                if let Err(error) = read {
                    tracing::warn!(node, %error, "says what no node says of its calls");
                }
            }
            News::Lost(error) => {
                tracing::info!(node, %error, "the link to a node has ended");
                if self.linked.remove(&node).is_none() {
                    self.collector.lost(now, node, &mut self.outputs);
                }
            }
        }
        self.carry_out(now);
    }

    /// Whether there is a node that is asked when [it obeys](Self::ask_obedient).
    pub(super) fn is_waiting(&self) -> bool {
        !self.linked.is_empty()
    }

    /// Asks nodes with a link that take this controller for the main.
    pub(super) fn ask_obedient(&mut self, now: Duration, obeys: impl Fn(u16) -> bool) {
        let ready = |node: &u16, since: &mut Duration| obeys(*node) || now >= *since + OBEYED;
        let ready: Vec<_> = self.linked.extract_if(.., ready).collect();
        for (node, _) in ready {
            self.collector.linked(now, node, &mut self.outputs);
        }
        self.carry_out(now);
    }

    /// Lets time pass.
    pub(super) fn on_timeout(&mut self, now: Duration) {
        if self.collector.next_timeout().is_some_and(|at| at <= now) {
            self.collector.on_timeout(now, &mut self.outputs);
        }
        self.carry_out(now);
    }

    /// When something is due next.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let gathering = self.gathering_since().map(|began| began + GATHERING);
        let collector = self.reign.and(self.collector.next_timeout());
        let linked = self.linked.values().min().map(|since| *since + OBEYED);
        [gathering, collector, linked].into_iter().flatten().min()
    }

    /// What is known of calls.
    pub(super) fn database(&self) -> &Database {
        self.collector.database()
    }

    /// How the rebuild goes, while this controller is the main.
    pub(super) fn progress(&self) -> Option<Progress> {
        self.reign.map(|reign| reign.progress)
    }

    fn gathering_since(&self) -> Option<Duration> {
        let reign = self.reign?;
        reign.progress.gathered.is_none().then_some(reign.began)
    }

    fn carry_out(&mut self, now: Duration) {
        while !self.outputs.is_empty() {
            let outputs = std::mem::take(&mut self.outputs);
            for output in outputs {
                self.follow(now, output);
            }
        }
        let Some(began) = self.gathering_since() else {
            return;
        };
        if now >= began + GATHERING {
            self.end_gathering(now, true);
        }
    }

    fn follow(&mut self, now: Duration, output: Output) {
        match output {
            Output::Request { node, message } => {
                if !self.links.send(node, message.into()) {
                    self.collector.lost(now, node, &mut self.outputs);
                }
            }
            Output::Pin {
                call,
                node,
                confirmed,
            } => self.pin(call, node, confirmed),
            Output::Ended { call, node } => {
                if let Err(error) = end_away(&self.maps, self.clock.now(), call, node) {
                    complain(node, &error);
                }
            }
            Output::KeysComplete { .. } => self.end_gathering(now, false),
            Output::NodeComplete { node, calls, took } => {
                tracing::info!(node, calls, ?took, "all calls of a node are known");
            }
            Output::Unreachable { node } => {
                tracing::warn!(node, "does not answer: its calls are unknown");
            }
            Output::Refused { node, term } => {
                tracing::warn!(node, term, "does not take this controller for the main");
            }
            Output::Complete {
                nodes,
                unreachable,
                calls,
                took,
            } => {
                tracing::info!(nodes, unreachable, calls, ?took, "call state is rebuilt");
                if let Some(reign) = &mut self.reign {
                    reign.progress.complete = Some(took);
                }
            }
        }
    }

    fn pin(&mut self, call: Call, node: u16, confirmed: bool) {
        let pinned = pin_away(&self.maps, self.clock.now(), call, node, confirmed);
        let Some(reign) = &mut self.reign else { return };
        match pinned {
            Ok(Some(Verdict::Pinned)) => reign.progress.pinned += 1,
            Ok(Some(Verdict::AtHome)) => {}
            Ok(Some(Verdict::Full)) => reign.progress.full += 1,
            // It came and went meanwhile: packets of the call pass by it.
            Ok(None) => {}
            Err(error) => complain(node, &error),
        }
    }

    fn end_gathering(&mut self, now: Duration, cut_short: bool) {
        let reign = self.reign.as_mut();
        let Some(reign) = reign.filter(|reign| reign.progress.gathered.is_none()) else {
            return;
        };
        let after = now.saturating_sub(reign.began);
        reign.progress.gathered = Some(after);
        reign.progress.cut_short = cut_short;
        if let Err(error) = turn::end_gathering(&self.maps) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "cannot tell the program to steer dialogs");
        }
        if cut_short {
            tracing::warn!(
                ?after,
                "dialogs are steered before all nodes have said where calls live"
            );
        } else {
            tracing::info!(
                ?after,
                pinned = reign.progress.pinned,
                "dialogs are steered"
            );
        }
    }
}

fn complain(node: u16, error: &AccessError) {
    let error = error as &dyn std::error::Error;
    tracing::error!(node, error, "cannot write the pin of a call");
}
