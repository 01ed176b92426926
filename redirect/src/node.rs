//! The node: what it says of itself, what it makes of its SIP server's state, whom it hears.
//!
//! Sender, challenge, availability map and pin reporter in one, without a socket. Who tells what the
//! beacons say:
//!
//! - While nothing else does, the SIP server's [`Verdict`] rules:
//!
//!   | SIP server | beacons | why |
//!   |---|---|---|
//!   | not known yet | none | a node is announced when calls can come, not before |
//!   | alive, trusted | `Idle` | calls go straight to the SIP server: how many there are is not known here, so active is 0 and headroom the whole capacity |
//!   | overloaded | `Busy` | a 503: no new calls, but everything else still goes there |
//!   | dead | a last one that drains, then none | liveness must come from the path that serves calls |
//! - From the first [`govern`](Node::govern) on, what the admission gate reports, which has looked at
//!   the SIP server itself.
//!
//! What is news goes out at once, as far as the [`sender`]'s rate allows. A
//! beacon is taken only from an address of its node, and what this daemon missed because it did not
//! run is held against nobody.

#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::health::Verdict;
use crate::report::{self, Plane, Report, Sent, SipServer};
use crate::sockets::Sockets;
use lb_common::beacon::{BEACON_LEN, Beacon};
use lb_common::{Address, Admission};
use lb_proto::call::Call;
use lb_proto::keys::KeyRing;
use lb_proto::pin_report::wire;
use lb_proto::pin_report::{Full, LbError, Outcome, Reporter, Signer};
use lb_proto::sealed::SealError;
use lb_proto::status::Timing;
use lb_proto::status::challenge::{self, Answerer, Challenge};
use lb_proto::status::map::{AvailabilityMap, Membership};
use lb_proto::status::query::{Held, Message};
use lb_proto::status::sender::{self, BeaconBytes, Identity, Sender};
use lb_proto::status::stall::StallWatch;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Thousandths of new calls that a node takes which takes all.
const ALL: u16 = 1000;

/// The bytes of all that goes over the status port.
pub(crate) type Bytes = BeaconBytes;

pub(crate) struct Node {
    cluster: u32,
    node: u16,
    keys: KeyRing,
    sender: Sender,
    /// Groups that beacons go to; the list of peers is one.
    groups: usize,
    challenge: Challenge,
    /// A probe, and the group that it is to be sent to next.
    probe: Option<(usize, Bytes)>,
    map: AvailabilityMap,
    watch: StallWatch,
    answerer: Answerer,
    reporter: Reporter,
    verdict: Verdict,
    /// The gate says what beacons say, not the verdict alone.
    is_governed: bool,
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
        let groups = Sockets::group_count(beacon);
        let mut sender = Sender::new(identity, beacon.period, groups as u32, report, now, seed);
        sender.silence();
        let timing = Timing {
            period: beacon.period,
            hold_periods: beacon.hold_periods,
            down_periods: beacon.down_periods,
        };
        let valid = keys.beacons().to_vec();
        let signer = Signer {
            cluster: config.cluster,
            node: config.node,
            key: keys.sending(),
        };
        Self {
            cluster: config.cluster,
            node: config.node,
            sender,
            groups,
            // Another sequence of random numbers than the jitter's.
            challenge: Challenge::new(beacon.period, !seed),
            probe: None,
            map: AvailabilityMap::new(config.cluster, valid, timing, Membership::Learnt),
            watch: StallWatch::new(timing, now),
            answerer: Answerer::new(now),
            reporter: Reporter::to_nobody(signer),
            keys,
            verdict: Verdict::Unknown,
            is_governed: false,
            refused: BTreeMap::new(),
            sent: Sent::default(),
        }
    }

    /// The controllers that calls away from home are reported to: their status ports. Reports under
    /// way to others are given up.
    pub(crate) fn set_lbs(&mut self, lbs: &[SocketAddr]) -> Result<(), LbError> {
        self.reporter.set_lbs(lbs)
    }

    /// Signs under another ring's first key, and takes what is under any of its keys, from now on.
    pub(crate) fn set_keys(&mut self, keys: KeyRing) {
        self.sender.set_key(keys.sending());
        self.reporter.set_key(keys.sending());
        self.map.set_keys(keys.beacons().to_vec());
        self.keys = keys;
    }

    /// Who is there, for whoever looks for another node.
    pub(crate) fn map(&self) -> &AvailabilityMap {
        &self.map
    }

    /// Draws the consequences of the SIP server's state. The beacons to send at once, one for each
    /// group, if any: the last before silence.
    pub(crate) fn follow(&mut self, now: Duration, verdict: Verdict) -> Vec<Bytes> {
        if verdict == self.verdict {
            return Vec::new();
        }
        self.verdict = verdict;
        if self.is_governed {
            return Vec::new();
        }
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

    /// Says from now on what the gate reports; `None` is silence, after a last beacon to each group.
    /// News goes out without waiting for the period. The beacons to send at once, one for each group.
    pub(crate) fn govern(&mut self, now: Duration, report: Option<sender::Report>) -> Vec<Bytes> {
        self.is_governed = true;
        match report {
            Some(report) => {
                self.sender.set_report(now, report);
                self.sender.speak(now);
                Vec::new()
            }
            None => self.sender.farewell(),
        }
    }

    /// Tells the controllers that this node has taken a call away from the call's home. How it went
    /// comes by [`Node::poll_reported`], within 50 ms; not when there is no room for one more, and
    /// then the call's answer need not wait.
    pub(crate) fn report_away(&mut self, now: Duration, call: Call) -> Result<(), Full> {
        let begun = self.reporter.report(now, call, self.sender.next_stamp());
        self.sent.report_failures += u64::from(begun.is_err());
        begun
    }

    /// The pin report that is due, if one is, and the controller that it is for.
    pub(crate) fn poll_report(&mut self, now: Duration) -> Option<(SocketAddr, Bytes)> {
        let due = self.reporter.poll_transmit(now);
        self.sent.reports += u64::from(due.is_some());
        due
    }

    /// A call that was reported, and how it went: its answer may go out now.
    pub(crate) fn poll_reported(&mut self, now: Duration) -> Option<(Call, Outcome)> {
        let over = self.reporter.poll_outcome(now)?;
        let is_failure = over.1 != Outcome::Everywhere;
        self.sent.report_failures += u64::from(is_failure);
        Some(over)
    }

    /// Takes in what came to the status port. The answer to send back, if it was a question.
    pub(crate) fn receive(&mut self, now: Duration, from: IpAddr, bytes: &[u8]) -> Option<Bytes> {
        self.notice_stall(now);
        let keys = self.keys.beacons();
        let refusal = match wire::Message::read(bytes, keys) {
            Ok(wire::Message::Answer(answer)) => {
                self.reporter.answered(&answer);
                return None;
            }
            Ok(wire::Message::Report(_)) => "report-astray",
            Err(SealError::Malformed) => "report-malformed",
            Err(SealError::UnknownKey) => "report-unknown-key",
            Err(SealError::Forged) => "report-forged",
            Err(SealError::Foreign) => match Message::read(bytes, keys) {
                Ok(Message::Query(query)) => return self.sender.answer(now, &query),
                Ok(Message::Probe(probe)) => {
                    let key = self.keys.sending();
                    return self.answerer.answer(now, &probe, &self.map, key);
                }
                Ok(Message::Held(held)) => {
                    self.learn_epoch(now, &held);
                    return None;
                }
                Err(SealError::Foreign) => match self.map.receive_from(now, from, bytes) {
                    Ok(_) => return None,
                    Err(reason) => reason.name(),
                },
                Err(SealError::Malformed) => "query-malformed",
                Err(SealError::UnknownKey) => "query-unknown-key",
                Err(SealError::Forged) => "query-forged",
            },
        };
        *self.refused.entry(refusal).or_default() += 1;
        None
    }

    /// Somebody holds a greater stamp for this node than it would send next.
    fn learn_epoch(&mut self, now: Duration, held: &Held) {
        match self.challenge.answered(now, held, &mut self.sender) {
            challenge::Outcome::NotOurs | challenge::Outcome::Passed => {}
            challenge::Outcome::Ceiling => tracing::error!(
                held = held.stamp >> 32,
                "an epoch is held of this node from which no way leads on: nobody takes its beacons. \
                 Give it another id, or restart the controllers and nodes without their state"
            ),
            challenge::Outcome::Raised {
                epoch,
                is_contested: false,
            } => tracing::warn!(
                epoch,
                "the last boot epoch was lost: going on with one that is taken"
            ),
            challenge::Outcome::Raised {
                epoch,
                is_contested: true,
            } => tracing::error!(
                epoch,
                node = self.node,
                "the epoch is overtaken again and again: is there another node of this id?"
            ),
        }
    }

    /// What waits in the sockets is read before anybody's age counts again.
    fn notice_stall(&mut self, now: Duration) {
        if let Some(last) = self.watch.woke(now) {
            self.map.stalled(last, now);
            let gap_ms = now.saturating_sub(last).as_millis() as u64;
            tracing::warn!(gap_ms, "this process did not run: nobody is judged by it");
        }
    }

    /// The beacon or probe that is due, if one is, and the group that it is for.
    pub(crate) fn poll_transmit(&mut self, now: Duration) -> Option<(usize, Bytes)> {
        self.notice_stall(now);
        if self.probe.is_none() {
            // Before the beacon that it asks about.
            let probe = self.challenge.poll_transmit(now, &self.sender);
            self.probe = probe.map(|probe| (0, probe));
        }
        if let Some((group, probe)) = self.probe.take() {
            let next = group + 1;
            self.probe = (next < self.groups).then_some((next, probe));
            return Some((group, probe));
        }
        self.sender.poll_transmit(now)
    }

    /// One of what [`Node::poll_transmit`] has given out was sent to its group.
    pub(crate) fn note_sent(&mut self, bytes: &Bytes) {
        if Beacon::read(&bytes[..], 0, BEACON_LEN).is_ok() {
            self.sent.beacons += 1;
        } else {
            self.sent.probes += 1;
        }
    }

    /// The last beacons of this life, one for each group, unless the node is silent.
    pub(crate) fn farewell(&mut self) -> Vec<Bytes> {
        self.sender.farewell()
    }

    /// Changes the addresses that beacons name.
    pub(crate) fn set_addresses(&mut self, addresses: [Address; 2]) {
        self.sender.set_addresses(addresses);
    }

    /// When something is due next, at the latest.
    pub(crate) fn next_timeout(&self, now: Duration) -> Duration {
        let timeouts = [
            self.sender.next_timeout(),
            self.challenge.next_timeout(now, &self.sender),
            self.reporter.next_timeout(),
        ];
        let timeouts = timeouts.into_iter().flatten();
        timeouts.fold(self.watch.next_timeout(), Duration::min)
    }

    /// The epoch of the next beacon: to be kept before it is sent.
    pub(crate) fn epoch(&self) -> u32 {
        self.sender.next_stamp().0
    }

    /// What [`Node::summary`] depends on.
    pub(crate) fn mood(&self) -> (bool, Admission, Verdict) {
        let says = self.sender.report().admission;
        (self.sender.is_speaking(), says, self.verdict)
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
        let nodes = report::nodes(self.map(), now);
        // A node that is alone and silent hears nobody, and nothing is wrong with that.
        let is_anybody_due =
            self.sender.is_speaking() || nodes.iter().any(|node| node.node != self.node);
        Report {
            cluster: self.cluster,
            node: self.node,
            epoch,
            sequence,
            keys: self.keys.beacons().iter().map(|key| key.id).collect(),
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
