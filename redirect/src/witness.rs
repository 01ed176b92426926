//! The node as a witness: which controller is the main, and the links over which the main asks for calls.
//!
//! Drives the machines of [`lb_proto::failover`] and [`lb_proto::call_state`] that are the node's. A lease
//! is on the disk before it is granted, in a thread of its own, so that no call waits for a disk.

use crate::clock::Clock;
use crate::config::{Config, Controller};
use crate::overview::WitnessReport;
use crate::report::milliseconds;
use anyhow::Context;
use bytes::Bytes;
use lb_net::kept;
use lb_net::link::{Endpoint, Identity, Limits, Link, LinkError, Listener, Roster, Sender};
use lb_proto::call::Call;
use lb_proto::call_state::record::CallRecord;
use lb_proto::call_state::responder::{self, Calls, Responder};
use lb_proto::call_state::{CallKey, Designated, Place};
use lb_proto::failover::lease::Grant;
use lb_proto::failover::trust::Members;
use lb_proto::failover::wire::{self, Missing};
use lb_proto::failover::witness::{Event, Output, Setup, Witness};
use lb_proto::failover::{ControllerId, LONGEST_LEASE, NodeId, Term};
use lb_proto::keys::KeyRing;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The file that the last grant is kept in: term, controller, lease in milliseconds.
const FILE: &str = "lease";
/// Messages of all links that wait for the daemon. A link with one more waits, and so does its peer.
const WAITING: usize = 64;
/// Bytes that wait in a link above which the rest of an answer waits here.
const ENOUGH: usize = 1 << 20;
/// When it is looked whether they have gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Calls that are looked at in one turn to answer a controller, while SIP waits. Measured: 0.4 to 1.2 ms,
/// for keys as for records.
const PORTION: usize = 2_000;
/// From one such turn to the next, at least: what has come by SIP meanwhile has its turn before. A node of
/// 100,000 calls tells their keys in about a tenth of a second.
const APART: Duration = Duration::from_millis(1);

/// A datagram to send, and where to.
pub(crate) type Transmit = (SocketAddr, wire::Bytes);

/// News of a link.
enum News {
    Message(Bytes),
    Ended(LinkError),
}

/// News of a controller's link with this number.
type Told = (u16, u64, News);

/// What was waited for.
enum Arrival {
    Link(Link),
    News(u16, u64, News),
    Kept(Term, io::Result<()>),
}

/// A link to a controller.
struct Open {
    /// Tells it from others of the same controller.
    number: u64,
    sender: Sender,
}

/// The machines, and what they are driven with.
pub(crate) struct Witnessing {
    machine: Witness,
    responder: Responder,
    controllers: BTreeMap<ControllerId, SocketAddr>,
    members: Members,
    keys: watch::Sender<KeyRing>,
    endpoint: Endpoint,
    listener: Listener,
    /// Held, so that the listener may look at it.
    _roster: watch::Sender<Roster>,
    links: BTreeMap<u16, Open>,
    links_made: u64,
    news: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    keeping: JoinSet<(Term, io::Result<()>)>,
    next_grant: Option<Grant>,
    arrived: Option<Arrival>,
    /// When an answer may go on.
    goes_on: Option<Duration>,
    state: PathBuf,
}

impl Witnessing {
    /// `None` when there is no pair of controllers. `epoch`: the node's boot epoch. `own`: the addresses to
    /// listen at.
    pub(crate) fn open(
        config: &Config,
        keys: &KeyRing,
        epoch: u32,
        now: Duration,
    ) -> anyhow::Result<Option<Self>> {
        if config.controllers.is_empty() {
            return Ok(None);
        }
        let node = NodeId::new(config.node).context("node ids are 1 to 255")?;
        let id = |controller: &Controller| ControllerId::new(controller.id.try_into().ok()?);
        let at = |controller: &Controller| {
            let address = SocketAddr::new(controller.address, config.beacon.port);
            Some((id(controller)?, address))
        };
        let controllers: BTreeMap<_, _> = config.controllers.iter().filter_map(at).collect();
        let addresses = controllers.iter().map(|(id, at)| (*id, vec![at.ip()]));
        let members = Members {
            controllers: addresses.collect(),
            nodes: BTreeMap::new(),
        };
        let state = config.state_dir.join(FILE);
        let setup = Setup {
            node,
            cluster: config.cluster,
            epoch,
            kept: last_grant(&state)?,
            longest_lease: LONGEST_LEASE,
        };
        let machine = Witness::new(now, setup, keys.beacons().to_vec(), members.clone());
        let who =
            |controller: &Controller| (Identity::Controller(controller.id), controller.address);
        let (roster, whom) = watch::channel(config.controllers.iter().map(who).collect());
        let (keys, ring) = watch::channel(keys.clone());
        let identity = Identity::Node(config.node);
        let endpoint = Endpoint::new(config.cluster, identity, ring, Limits::default());
        let listener = endpoint.listen(&listen_at(config), whom)?;
        Ok(Some(Self {
            machine,
            responder: Responder::new(config.cluster, config.node),
            controllers,
            members,
            keys,
            endpoint,
            listener,
            _roster: roster,
            links: BTreeMap::new(),
            links_made: 0,
            news: mpsc::channel(WAITING),
            keeping: JoinSet::new(),
            next_grant: None,
            arrived: None,
            goes_on: None,
            state,
        }))
    }

    /// Other keys; links under those that are gone end.
    pub(crate) fn set_keys(&mut self, keys: &KeyRing) {
        let valid = keys.beacons().to_vec();
        self.machine.configure(valid, self.members.clone());
        self.keys.send_replace(keys.clone());
    }

    /// Whether bytes that came to the status port are for it.
    pub(crate) fn is_for(bytes: &[u8]) -> bool {
        bytes.starts_with(&wire::MAGIC)
    }

    /// Takes in a control datagram.
    pub(crate) fn receive(&mut self, now: Duration, from: IpAddr, bytes: &[u8]) {
        if let Err(refusal) = self.machine.receive(now, from, bytes) {
            tracing::debug!(%from, %refusal, "refused a control datagram");
        }
    }

    /// Waits until there is something to do. Cancelling loses nothing.
    pub(crate) async fn ready(&mut self) {
        if self.arrived.is_some() {
            return;
        }
        let Self {
            listener,
            news: (_, news),
            keeping,
            ..
        } = self;
        let arrival = tokio::select! {
            Some(kept) = keeping.join_next() => match kept {
                Ok((term, result)) => Arrival::Kept(term, result),
                // A thread that was cancelled with the runtime; nothing follows from it any more.
                Err(_) => return,
            },
            Some((controller, link, news)) = news.recv() => Arrival::News(controller, link, news),
            link = listener.accept() => Arrival::Link(link),
        };
        self.arrived = Some(arrival);
    }

    /// When something is due next, at the latest.
    pub(crate) fn next_timeout(&self, now: Duration) -> Option<Duration> {
        let timeouts = [self.machine.next_timeout(now), self.goes_on];
        timeouts.into_iter().flatten().min()
    }

    /// Takes in what has come, lets time pass, and does what follows. The datagrams to send.
    pub(crate) fn turn(&mut self, clock: &Clock, calls: &mut impl Calls) -> Vec<Transmit> {
        let now = clock.now();
        if let Some(arrival) = self.arrived.take() {
            self.take(now, arrival, calls);
        }
        while let Ok((controller, link, news)) = self.news.1.try_recv() {
            self.take(now, Arrival::News(controller, link, news), calls);
        }
        self.machine.handle_timeout(now);
        let mut transmits = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    transmits.extend(self.controllers.get(&to).map(|to| (*to, bytes)));
                }
                Output::Persist(grant) => {
                    self.next_grant = Some(grant);
                    self.keep_next();
                }
                Output::Event(event) => self.follow(event),
            }
        }
        self.answer(clock, calls);
        transmits
    }

    /// For those who ask.
    pub(crate) fn report(&self, now: Duration) -> WitnessReport {
        let (view, asked) = (self.machine.view(now), self.responder.counts());
        let named = |(name, count): (&str, u64)| (name.to_owned(), count);
        let asked = [
            ("answered", asked.answered),
            ("lower-term", asked.lower_term),
            ("unknown-term", asked.unknown_term),
            ("not-holder", asked.not_holder),
            ("foreign", asked.foreign),
            ("malformed", asked.malformed),
        ];
        let refusals = view.refusals.iter();
        let counts = self.endpoint.counts();
        let made = [("made", counts.made()), ("open", counts.open())];
        WitnessReport {
            main: view.accepted.map(|(_, main)| main.get().into()),
            term: view.accepted.map(|(term, _)| term.0),
            lease_ms: milliseconds(view.remaining),
            missed: view.is_missed,
            highest_term: view.highest.0,
            linked: self.links.keys().copied().collect(),
            relays: view.relays.iter().map(|to| to.get().into()).collect(),
            refused: refusals
                .map(|(why, count)| named((why.name(), count)))
                .collect(),
            asked: asked.into_iter().map(named).collect(),
            links: counts.reasons().chain(made).map(named).collect(),
        }
    }

    fn take(&mut self, now: Duration, arrival: Arrival, calls: &mut impl Calls) {
        match arrival {
            Arrival::Link(link) => self.welcome(link),
            Arrival::Kept(term, result) => {
                match result {
                    Ok(()) => self.machine.persisted(now, term),
                    Err(error) => {
                        let path = self.state.display();
                        tracing::error!(%error, %path, "cannot keep a lease: it is not granted");
                        self.machine.persist_failed(term);
                    }
                }
                self.keep_next();
            }
            Arrival::News(controller, number, news) => {
                let is_open = |open: &&Open| open.number == number;
                if self.links.get(&controller).filter(is_open).is_none() {
                    return;
                }
                match news {
                    News::Message(bytes) => {
                        if !self.responder.message(controller, &bytes, calls) {
                            tracing::warn!(controller, "says what no controller says: link closed");
                            self.close(controller);
                        }
                    }
                    News::Ended(error) => {
                        tracing::info!(controller, %error, "the link to a controller has ended");
                        self.close(controller);
                    }
                }
            }
        }
    }

    /// A controller has linked. Of two links to one, the later counts.
    fn welcome(&mut self, link: Link) {
        let Identity::Controller(controller) = link.peer else {
            return;
        };
        self.close(controller);
        self.links_made += 1;
        let number = self.links_made;
        let (sender, mut receiver) = (link.sender, link.receiver);
        let news = self.news.0.clone();
        tokio::spawn(async move {
            loop {
                let (news_of_it, is_end) = match receiver.recv().await {
                    Ok(bytes) => (News::Message(bytes), false),
                    Err(error) => (News::Ended(error), true),
                };
                let told = news.send((controller, number, news_of_it)).await;
                if is_end || told.is_err() {
                    return;
                }
            }
        });
        tracing::info!(controller, "a controller has linked");
        self.links.insert(controller, Open { number, sender });
        self.tell_missing();
    }

    fn close(&mut self, controller: u16) {
        if let Some(open) = self.links.remove(&controller) {
            open.sender.end();
            self.responder.closed(controller);
            self.tell_missing();
        }
    }

    /// The main is told whether it has no link here.
    fn tell_missing(&mut self) {
        self.machine.set_missing(Missing {
            link: self.links.is_empty(),
        });
    }

    /// Keeps the grant that is to be kept, one after the other: a later one must not be overtaken.
    fn keep_next(&mut self) {
        if !self.keeping.is_empty() {
            return;
        }
        let Some(grant) = self.next_grant.take() else {
            return;
        };
        let path = self.state.clone();
        self.keeping.spawn_blocking(move || {
            let (term, holder) = (grant.term, grant.holder);
            let line = format!("{term} {holder} {}", grant.lease.as_millis());
            (term, kept::write(&path, &line))
        });
    }

    fn follow(&mut self, event: Event) {
        match event {
            Event::Accepted {
                controller,
                term,
                reason,
            } => {
                let reason = reason.map(wire::Reason::name);
                tracing::info!(%controller, %term, reason, "this controller is the main");
                self.responder.accepted(term.0, controller.get().into());
            }
            Event::Missed {
                controller,
                term,
                silence,
            } => {
                tracing::warn!(%controller, %term, ?silence, "the main is missed");
                self.responder.missed();
            }
            Event::Heard { controller, term } => {
                tracing::info!(%controller, %term, "the main is heard again");
                self.responder.accepted(term.0, controller.get().into());
            }
            Event::Released { controller, term } => {
                tracing::info!(%controller, %term, "the main has given up its lease");
                self.responder.missed();
            }
            Event::Expired { controller, term } => {
                tracing::warn!(%controller, %term, "the main's lease is over: nobody is obeyed");
                self.responder.missed();
            }
            Event::Refused {
                controller,
                term,
                verdict,
            } => {
                let verdict = verdict.name();
                tracing::info!(%controller, %term, verdict, "a lease was refused");
            }
            Event::Stalled(gap) => {
                let gap_ms = gap.as_millis() as u64;
                tracing::warn!(
                    gap_ms,
                    "this process did not run: no silence is counted from it"
                );
            }
        }
    }

    /// Sends answers, as far as the links take them now and a portion more at most.
    fn answer(&mut self, clock: &Clock, calls: &impl Calls) {
        if self.goes_on.is_none_or(|at| at <= clock.now()) {
            self.goes_on = None;
            if self.responder.has_more() {
                self.responder.go_on(calls, PORTION);
                self.goes_on = Some(clock.now() + APART);
            }
        }
        loop {
            if self
                .links
                .values()
                .any(|open| open.sender.queued() > ENOUGH)
            {
                self.goes_on = Some(clock.now() + LOOK_AGAIN);
                return;
            }
            match self.responder.poll() {
                None => return,
                Some(responder::Output::Close { controller }) => self.close(controller),
                Some(responder::Output::Send {
                    controller,
                    message,
                }) => {
                    let open = self.links.get(&controller);
                    let sent = open.map(|open| open.sender.send(message.into()));
                    if let Some(Err(error)) = sent {
                        tracing::warn!(controller, %error, "cannot answer a controller");
                        self.close(controller);
                    }
                }
            }
        }
    }
}

/// Where controllers link: at the addresses that beacons name, else at any.
fn listen_at(config: &Config) -> Vec<SocketAddr> {
    let port = config.beacon.port;
    let own = config.beacon.addresses.iter();
    let own: Vec<SocketAddr> = own.map(|address| SocketAddr::new(*address, port)).collect();
    if !own.is_empty() {
        return own;
    }
    let is_v4 = |controller: &Controller| controller.address.is_ipv4();
    let any: [IpAddr; 2] = [
        std::net::Ipv4Addr::UNSPECIFIED.into(),
        std::net::Ipv6Addr::UNSPECIFIED.into(),
    ];
    let is_needed = |any: &IpAddr| {
        let family = any.is_ipv4();
        config.controllers.iter().any(|one| is_v4(one) == family)
    };
    any.into_iter()
        .filter(is_needed)
        .map(|any| SocketAddr::new(any, port))
        .collect()
}

/// What was granted last. A damaged line is as good as none: the longest lease is waited out.
fn last_grant(path: &Path) -> anyhow::Result<Option<Grant>> {
    let line = kept::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let Some(line) = line else { return Ok(None) };
    let grant = parse_grant(&line);
    if grant.is_none() {
        tracing::warn!(path = %path.display(), "the last lease cannot be read; waiting it out");
    }
    Ok(grant)
}

fn parse_grant(line: &str) -> Option<Grant> {
    let mut words = line.split(' ');
    let grant = Grant {
        term: Term(words.next()?.parse().ok()?),
        holder: ControllerId::new(words.next()?.parse().ok()?)?,
        lease: Duration::from_millis(words.next()?.parse().ok()?),
    };
    words.next().is_none().then_some(grant)
}

/// Where there is no redirect server, no call is known.
pub(crate) struct NoCalls;

impl Calls for NoCalls {
    fn keys(&self, _after: Option<Call>, _most: usize) -> (Vec<CallKey>, Option<Call>) {
        (Vec::new(), None)
    }

    fn page(&self, _after: Option<Place>, _limit: usize) -> (Vec<CallRecord<'_>>, Option<Place>) {
        (Vec::new(), None)
    }

    fn records_of(&self, _calls: &[Call]) -> Vec<CallRecord<'_>> {
        Vec::new()
    }

    fn reset(&mut self, _designated: Designated) {}

    fn left(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_read_as_it_was_kept() {
        let grant = parse_grant("7 2 500").expect("a grant");
        assert_eq!((grant.term, grant.holder.get()), (Term(7), 2));
        assert_eq!(grant.lease, Duration::from_millis(500));
        for damaged in [
            "",
            "7",
            "7 2",
            "7 0 500",
            "7 16 500",
            "7 2 500 1",
            "x 2 500",
        ] {
            assert_eq!(parse_grant(damaged), None, "{damaged}");
        }
    }
}
