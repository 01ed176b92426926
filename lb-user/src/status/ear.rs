//! What comes to the status port: beacons, nodes' questions, pin reports.
//!
//! Without sockets, so that it is the same for every way a datagram can come.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lb_common::beacon::Beacon;
use lb_common::maps::MAX_NODES;
use lb_proto::keys::KeyRing;
use lb_proto::pin_report::wire::{Report, Verdict};
use lb_proto::pin_report::{Known, Receiver, Refusal as ReportRefusal, Taken};
use lb_proto::sealed::SealError;
use lb_proto::status::Timing;
use lb_proto::status::challenge::Answerer;
use lb_proto::status::map::{AvailabilityMap, Discovery, Membership, Refusal};
use lb_proto::status::query::{Message, Probe, QueryBytes};
use lb_proto::status::stall::StallWatch;

use super::Roster;
use super::away::pin_away;
use super::counts::{Reported, StatusCounts};
use crate::plan::is_candidate;
use crate::plane::Maps;
use crate::plane::clock::Clock;

/// What one datagram was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A good beacon, and where it came from.
    Beacon(Beacon, IpAddr),
    /// Something that this is the answer to: to be sent to where it came from.
    Answer(QueryBytes),
    /// Nothing that anything follows from.
    Nothing,
}

/// The machines that datagrams are for.
pub(super) struct Ear {
    maps: Arc<Maps>,
    clock: Arc<Clock>,
    counts: Arc<StatusCounts>,
    keys: KeyRing,
    /// Where the nodes of the roster are.
    addresses: BTreeMap<u16, IpAddr>,
    pub(super) map: AvailabilityMap,
    watch: StallWatch,
    answerer: Answerer,
    receiver: Receiver,
    /// The last report found no room: said once.
    is_full: bool,
}

impl Ear {
    pub(super) fn new(
        (cluster, keys): (u32, &KeyRing),
        (timing, discovery): (Timing, Option<Discovery>),
        maps: Arc<Maps>,
        clock: Arc<Clock>,
        counts: Arc<StatusCounts>,
    ) -> Self {
        let (start, valid) = (Duration::ZERO, keys.beacons().to_vec());
        let membership = Membership::Configured;
        let mut ear = Self {
            maps,
            clock,
            counts,
            keys: keys.clone(),
            addresses: BTreeMap::new(),
            map: AvailabilityMap::new(cluster, valid.clone(), timing, membership),
            watch: StallWatch::new(timing, start),
            answerer: Answerer::new(start),
            receiver: Receiver::new(cluster, valid),
            is_full: false,
        };
        // How many are learnt is not for the map to say: it does not know the steering table.
        let most = Discovery::ANY.most;
        ear.map
            .set_discovery(discovery.map(|discovery| Discovery { most, ..discovery }));
        ear.resume();
        ear
    }

    /// What the program has taken, nobody takes again: not from a controller that starts, either.
    fn resume(&mut self) {
        for id in 1..MAX_NODES as u16 {
            match self.maps.status(id) {
                Ok(status) if status.stamp != 0 => self.map.resume_stamp(id, status.stamp),
                Ok(_) => {}
                Err(error) => super::report(id, &error),
            }
        }
    }

    /// Goes by another roster. Of nodes that stay, nothing is forgotten.
    pub(super) fn follow(&mut self, roster: &Roster) {
        let ids: Vec<u16> = roster.nodes.keys().copied().collect();
        self.addresses = roster.places();
        self.map.configure(&ids);
        self.keys = roster.keys.clone();
        self.map.set_keys(roster.keys.beacons().to_vec());
        self.receiver.set_keys(roster.keys.beacons().to_vec());
    }

    /// To be called first in every turn, before anything is read.
    pub(super) fn woke(&mut self, now: Duration) {
        if let Some(last) = self.watch.woke(now) {
            self.map.stalled(last, now);
        }
    }

    /// Takes in a datagram. Reports come first: they are waited for.
    pub(super) fn take(&mut self, now: Duration, bytes: &[u8], from: SocketAddr) -> Heard {
        let from = from.ip().to_canonical();
        let known = |node| known(&self.map, &self.addresses, &self.maps, node, from);
        match self.receiver.receive(now, bytes, known) {
            Ok(taken) => return self.carry_out(taken),
            Err(ReportRefusal::Seal(SealError::Foreign)) => {}
            Err(refusal) => {
                self.counts.count_report_refusal(refusal);
                return Heard::Nothing;
            }
        }
        match Message::read(bytes, self.keys.beacons()) {
            Ok(Message::Probe(probe)) => self.answer(now, &probe),
            // Of another receiver: probes and answers to them go to groups and lists.
            Ok(Message::Query(_) | Message::Held(_)) => Heard::Nothing,
            Err(SealError::Foreign) => self.take_beacon(now, bytes, from),
            Err(_) => {
                self.counts.count_refused();
                Heard::Nothing
            }
        }
    }

    fn take_beacon(&mut self, now: Duration, bytes: &[u8], from: IpAddr) -> Heard {
        let beacon = match self.map.receive_from(now, from, bytes) {
            // Where the configuration says that the node is, it may send from, whatever it names.
            Err(Refusal::Origin) if self.addresses.values().any(|address| *address == from) => {
                let is_at = |node| self.addresses.get(&node) == Some(&from);
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                match Beacon::read(bytes, 0, len) {
                    Ok(beacon) if is_at(beacon.node) => {
                        self.map.receive(now, bytes).map_err(Refusal::Program)
                    }
                    Ok(_) | Err(_) => Err(Refusal::Origin),
                }
            }
            other => other,
        };
        match beacon {
            Ok(beacon) => {
                self.counts.count_accepted();
                Heard::Beacon(beacon, from)
            }
            Err(refusal) => {
                self.counts.count_refused();
                if refusal == Refusal::Origin {
                    self.counts.count_origin();
                }
                Heard::Nothing
            }
        }
    }

    /// Answers a node whose next beacon the program, or this task, would not take.
    fn answer(&mut self, now: Duration, probe: &Probe) -> Heard {
        match self.maps.status(probe.node) {
            Ok(status) if status.stamp >= probe.stamp => {
                self.map.resume_stamp(probe.node, status.stamp);
            }
            Ok(_) | Err(_) => {}
        }
        let key = self.keys.sending();
        match self.answerer.answer(now, probe, &self.map, key) {
            Some(answer) => {
                self.counts.count_held();
                let (held, epoch) = (self.map.stamp(probe.node), probe.stamp >> 32);
                // A beacon that has overtaken its probe on another group is no such case.
                if held.is_some_and(|held| held >> 32 > epoch) {
                    let node = probe.node;
                    tracing::info!(node, epoch, "begins with an epoch that is too old; told so");
                }
                Heard::Answer(answer)
            }
            None => Heard::Nothing,
        }
    }

    fn carry_out(&mut self, taken: Taken) -> Heard {
        let report = match taken {
            Taken::New(report) => report,
            Taken::Again(answer) => {
                self.counts.count_reported(Reported::Again);
                return Heard::Answer(answer);
            }
        };
        match pin_away(
            &self.maps,
            self.clock.now(),
            report.call,
            report.node,
            false,
        ) {
            Ok(Some(verdict)) => {
                self.counts.count_reported(Reported::New(verdict));
                self.say_full(&report, verdict);
                Heard::Answer(self.receiver.settle(&report, verdict))
            }
            // Not answered, so it comes again.
            Ok(None) => {
                self.counts.count_reported(Reported::Failed);
                Heard::Nothing
            }
            Err(error) => {
                self.counts.count_reported(Reported::Failed);
                super::report(report.node, &error);
                Heard::Nothing
            }
        }
    }

    fn say_full(&mut self, report: &Report, verdict: Verdict) {
        let is_full = verdict == Verdict::Full;
        if is_full && !self.is_full {
            tracing::error!(
                node = report.node,
                "no room for the pin of a call that the node has taken: requests within its dialog \
                 that come by here will go to its home; raise `max` in [pins]"
            );
        }
        self.is_full = is_full;
    }
}

/// What is known of the node that a report names. A node that the program does not know is none.
fn known(
    map: &AvailabilityMap,
    addresses: &BTreeMap<u16, IpAddr>,
    maps: &Maps,
    node: u16,
    from: IpAddr,
) -> Option<Known> {
    let is_named = map.is_origin(node, from);
    let is_at = addresses.get(&node).map(|address| *address == from);
    let is_nobody = is_named.is_none() && is_at.is_none();
    // A pin to one that is not learnt yet would hold nobody.
    if is_nobody || maps.node(node).is_ok_and(|node| is_candidate(&node)) {
        return None;
    }
    let program = maps.status(node).map_or(0, |status| status.stamp);
    Some(Known {
        is_origin: is_named == Some(true) || is_at == Some(true),
        stamp: Some(map.stamp(node).unwrap_or(0).max(program)),
    })
}
