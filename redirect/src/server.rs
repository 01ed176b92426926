//! The redirect server: takes calls for the SIP server beside it, or offers them to other nodes.
//!
//! ```text
//!              requests, new calls by way of the gate            SIP server
//!   switch ──────────────────► ┌────────────┐ ───────────────► (or another node,
//!          ◄────────────────── │   Server   │ ◄───────────────  for a call that is
//!     ▲                        └─────┬──────┘    answers        proxied to it)
//!     │ 302 from there               │ INVITE, relayed
//!     └──── second node ◄────────────┘
//! ```
//! It is a proxy without transactions (RFC 3261 §16.11): what goes through carries in its Via all that
//! is needed on the way back, so that forwarding costs nothing to remember. What is remembered are
//! calls ([`calls`], and the dialogs of lb-sip), and for a minute what became of each INVITE
//! ([`fates`]).
//!
//! - [`admit`]: a new call: taken, relayed, redirected, proxied or refused.
//! - [`forward`]: what goes through, and to where.
//! - [`record`]: the record of calls, its questions, draining.
//! - [`call_state`]: what a load balancer that takes over is told of it. [`reset`]: all calls are ended,
//!   or forgotten; [`cut_off`]: those that ring.
//! - [`target`]: the Request-URI of a call that is offered on. [`branch`]: our Via. [`ways`]: own
//!   addresses.
//!
//! There is no socket and no clock in it. Time and the availability map are passed in; what is to be
//! sent comes out as [`Output`], in order. Deliberately absent: DNS (a name that the SIP server wants
//! to be looked up is refused with 502 unless the call's peer is known), strict routers of RFC 2543,
//! and retransmission of what others retransmit.

pub(crate) mod admit;
pub(crate) mod asking;
pub(crate) mod branch;
pub(crate) mod call_state;
pub(crate) mod calls;
pub(crate) mod count;
pub(crate) mod cut_off;
pub(crate) mod facts;
pub(crate) mod fates;
pub(crate) mod forward;
pub(crate) mod keyed;
pub(crate) mod record;
pub(crate) mod reset;
pub(crate) mod target;
#[cfg(test)]
mod tests;
pub(crate) mod ways;

use asking::Asking;
use branch::{Branches, Transaction};
use bytes::Bytes;
use calls::Calls;
use count::{Count, Counts};
use cut_off::CutOffs;
use fates::{Fate, Fates};
use lb_common::siphash::{SipKey, siphash13};
use lb_proto::admission::decide::Refusal;
use lb_proto::admission::{self, Gate, Limits};
use lb_proto::call::Call;
use lb_proto::keys::KeyRing;
use lb_proto::offer::candidates::Chooser;
use lb_proto::offer::hops::Hops;
use lb_proto::status::map::AvailabilityMap;
use lb_proto::status::sender;
use lb_sip::build::ResponseBuilder;
use lb_sip::dialog::liveness::Policy;
use lb_sip::dialog::table::{self, DialogTable};
use lb_sip::{Essentials, Message, Method, Verdict, examine};
use record::Drain;
use reset::Reset;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use ways::{Hop, Way, Ways};

/// Dialogs in the record for each call that the node can take: forks, calls of the SIP server's own,
/// and those that are over and remembered for 32 s.
const DIALOGS_PER_CALL: usize = 4;
/// Dialogs in the record at least, since calls that are over fast fill it whatever the capacity is.
const FEWEST_DIALOGS: usize = 65_536;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send this.
    Send { to: Hop, bytes: Bytes },
    /// Tell the load balancers that this call lives here, and say [`Server::reported`] when they know.
    Report(Call),
    /// The node is draining, and its last call has gone.
    Drained,
}

/// How a call is offered to another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// That node is handed the INVITE, and answers 302 itself (seed 1, claim 5).
    #[default]
    Relay,
    /// This node answers 302, with up to three nodes.
    Direct,
}

/// What becomes of a call that this node does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Overflow {
    /// Its caller is sent to another node.
    #[default]
    Redirect,
    /// It goes through this node to another: for callers that do not follow 302.
    Proxy,
}

/// What does not change while it runs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub cluster: u32,
    pub node: u16,
    pub keys: KeyRing,
    pub ways: Ways,
    /// The SIP server. There is a listener of its family.
    pub server: SocketAddr,
    pub mode: Mode,
    pub overflow: Overflow,
    /// The hold time of the status plane.
    pub hold: Duration,
    /// Whether somebody reports calls that live away from home.
    pub has_reporter: bool,
    pub policy: Policy,
}

/// The world at the moment of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World<'a> {
    /// Monotonic time.
    pub now: Duration,
    /// The time of day, since 1970.
    pub wall: Duration,
    pub map: &'a AvailabilityMap,
}

/// The redirect server; see the [module](self).
#[derive(Debug)]
pub(crate) struct Server {
    settings: Settings,
    secret: SipKey,
    branches: Branches,
    gate: Gate,
    /// What the prober knows of the SIP server.
    probed: admission::server::Server,
    /// The SIP server answered a call with 503 and wants none before this.
    paused: Option<Duration>,
    chooser: Chooser,
    hops: Hops,
    dialogs: DialogTable,
    calls: Calls,
    fates: Fates,
    asking: Asking,
    drain: Option<Drain>,
    reset: Reset,
    cut_offs: CutOffs,
    counts: Counts,
    refusals: BTreeMap<Refusal, u64>,
    /// Makes tags and branches of own requests.
    fresh: (SipKey, u64),
    /// Empty between calls.
    events: Vec<table::Event>,
    /// Our Via as it was written last: its room is used again.
    via: String,
}

impl Server {
    /// A redirect server whose SIP server is not known to be there.
    pub(crate) fn new(settings: Settings, limits: Limits, seed: u64) -> Self {
        let secret = settings.keys.call_secret();
        let capacity = (limits.calls as usize).saturating_mul(DIALOGS_PER_CALL);
        let key = |word: u64| siphash13(secret, &(seed ^ word).to_le_bytes());
        Self {
            branches: Branches::new(secret),
            gate: Gate::new(limits),
            probed: admission::server::Server::Unknown,
            paused: None,
            chooser: Chooser::new(settings.node, settings.hold, seed),
            hops: Hops::new(settings.node, seed.rotate_left(32)),
            dialogs: DialogTable::new(settings.policy, capacity.max(FEWEST_DIALOGS), 1),
            calls: Calls::default(),
            fates: Fates::new(fates::CAPACITY, fates::MOST_BYTES),
            asking: Asking::new(),
            drain: None,
            reset: Reset::default(),
            cut_offs: CutOffs::default(),
            counts: Counts::default(),
            refusals: BTreeMap::new(),
            fresh: (
                SipKey {
                    k0: key(0),
                    k1: key(1),
                },
                0,
            ),
            events: Vec::new(),
            via: String::with_capacity(128),
            secret,
            settings,
        }
    }

    /// Takes a datagram.
    pub(crate) fn receive_datagram(
        &mut self,
        world: World<'_>,
        from: Hop,
        bytes: Bytes,
        out: &mut Vec<Output>,
    ) {
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            self.counts.add(Count::KeepAlive);
            return;
        }
        match Message::from_datagram(bytes) {
            Ok(message) => self.receive(world, from, &message, out),
            Err(_) => self.counts.add(Count::NotSip),
        }
    }

    /// Takes a message.
    pub(crate) fn receive(
        &mut self,
        world: World<'_>,
        from: Hop,
        message: &Message,
        out: &mut Vec<Output>,
    ) {
        let from = Hop {
            address: SocketAddr::new(from.address.ip().to_canonical(), from.address.port()),
            ..from
        };
        let (verdict, essentials) = examine(message);
        let done = match verdict {
            Verdict::Forward => match &essentials {
                Some(read) if message.is_request() => self.request(world, from, message, read, out),
                Some(read) => self.response(world.now, from, message, read, out),
                None => Err(Count::Invalid),
            },
            Verdict::Absorb => {
                self.counts.add(Count::ResponseAbsorbed);
                let mut answers = Vec::new();
                self.asking.response(world.now, message, out, &mut answers);
                self.answered(world.now, answers, out);
                Ok(())
            }
            Verdict::Reject(fault) => {
                self.counts.add(Count::Rejected);
                self.reject(from, message, |tag| {
                    fault.response(message, from.address, tag).ok()
                })
                .map(|output| out.push(output))
            }
            Verdict::Drop(_) => Err(Count::Invalid),
        };
        if let Err(reason) = done {
            self.counts.add(reason);
        }
    }

    /// The node's own addresses.
    pub(crate) fn ways(&self) -> &Ways {
        &self.settings.ways
    }

    /// Other keys for tickets. Branches stay under the secret that they began with.
    pub(crate) fn set_keys(&mut self, keys: KeyRing) {
        self.settings.keys = keys;
    }

    /// What is known of the SIP server by asking it.
    pub(crate) fn set_probed(&mut self, now: Duration, probed: admission::server::Server) {
        use admission::server::Server;
        self.probed = probed;
        self.paused = self.paused.filter(|until| *until > now);
        self.gate.set_server(match (probed, self.paused) {
            (Server::Healthy, Some(until)) => Server::Unavailable { until },
            (probed, _) => probed,
        });
    }

    /// The gate, for what it is told of the machine.
    pub(crate) fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// What beacons are to say; `None`: none are to go out.
    pub(crate) fn status(&mut self, now: Duration) -> Option<sender::Report> {
        self.gate.report(now)
    }

    /// A good, new beacon of the node came.
    pub(crate) fn heard(&mut self, now: Duration, node: u16) {
        self.chooser.heard(now, node);
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        counts.set(Count::Forgotten, self.fates.forgotten());
        counts
    }

    /// New calls that were not taken, by why.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |refusal: Refusal| self.refusals.get(&refusal).copied().unwrap_or_default();
        Refusal::ALL
            .map(|refusal| (refusal.name(), count(refusal)))
            .into_iter()
    }

    /// When to call [`Server::on_timeout`] next.
    pub(crate) fn next_timeout(&self, now: Duration) -> Option<Duration> {
        [
            self.dialogs.next_timeout(),
            self.asking.next_timeout(),
            self.calls.next_timeout(),
            self.drain.as_ref().and_then(Drain::next_timeout),
            self.reset.next_timeout(),
            self.cut_offs.next_timeout(),
            self.gate.next_timeout(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub(crate) fn on_timeout(&mut self, now: Duration, out: &mut Vec<Output>) {
        while let Some(call) = self.calls.overdue(now) {
            self.release(call, Some(Count::Unreported), out);
        }
        let mut answers = Vec::new();
        self.asking.on_timeout(now, out, &mut answers);
        self.answered(now, answers, out);
        self.dialogs.on_timeout(now, &mut self.events);
        self.settle(now, out);
        self.drain_on(now, out);
        self.reset_on(now, out);
        self.cut_off_on(now, out);
        // Leases that are over are forgotten when somebody looks.
        self.gate.facts(now);
        self.say_if_drained(now, out);
    }

    /// The load balancers know that the call lives here.
    pub(crate) fn reported(&mut self, call: Call, out: &mut Vec<Output>) {
        self.release(call, None, out);
    }

    fn release(&mut self, call: Call, count: Option<Count>, out: &mut Vec<Output>) {
        for (to, bytes) in self.calls.release(call) {
            count.into_iter().for_each(|count| self.counts.add(count));
            out.push(Output::Send { to, bytes });
        }
    }

    /// A request that keeps the rules.
    fn request(
        &mut self,
        world: World<'_>,
        from: Hop,
        message: &Message,
        read: &Essentials<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let Essentials {
            via, call_id, cseq, ..
        } = read;
        let call = Call::of(self.secret, call_id);
        let transaction = self.branches.transaction_of(via, call_id, cseq.number);
        let is_new = read.to.tag().is_none();
        let received = Received {
            message,
            read,
            from,
            call,
            transaction,
            reply: from.answered_at(via),
            is_new,
        };
        if self.cut_offs.has(transaction) {
            return self.requested_cut_off(world.now, received, out);
        }
        if self.is_inside(&received) {
            return self.forward_out(world.now, received, out);
        }
        match message.method() {
            Some(Method::Invite) if is_new => self.invite(world, received, out),
            Some(Method::Ack | Method::Cancel) => self.after_invite(world.now, received, out),
            _ => self.forward_in(world.now, received, None, out),
        }
    }

    /// An ACK or CANCEL goes where its INVITE went, with the same Request-URI (§9.1, §17.1.1.3). The ACK
    /// of a 2xx is no part of its transaction, and goes where the call is.
    fn after_invite(
        &mut self,
        now: Duration,
        received: Received<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        match self.fates.get(now, received.transaction) {
            Some(Fate::Answered { .. } | Fate::Relayed { .. }) => {
                self.after_own_answer(received, out)
            }
            Some(Fate::Proxied { to, bytes }) => {
                let (to, invite) = (*to, Message::from_datagram(bytes.clone()));
                let uri = invite.as_ref().ok().and_then(Message::request_uri);
                self.forward_to(now, received, uri, to, out)
            }
            Some(Fate::Forwarded) => {
                let uri = received.message.request_uri().and_then(target::restored);
                self.forward_in(now, received, uri.as_deref(), out)
            }
            None => self.forward_in(now, received, None, out),
        }
    }

    /// The ACK of our refusal, or of that of the node which the INVITE was relayed to, ends here
    /// (§17.1.1.3: it goes hop by hop). A CANCEL comes too late (§9.2).
    fn after_own_answer(
        &mut self,
        received: Received<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let Received { message, from, .. } = received;
        if message.method() == Some(Method::Ack) {
            self.counts.add(Count::AckAbsorbed);
            return Ok(());
        }
        let output = self.reject(from, message, |tag| answer(message, 200, from, tag))?;
        self.counts.add(Count::CancelAnswered);
        out.push(output);
        Ok(())
    }

    /// An answer to a request, by way of which nothing is remembered.
    fn reject(
        &mut self,
        from: Hop,
        message: &Message,
        build: impl FnOnce(&str) -> Option<Bytes>,
    ) -> Result<Output, Count> {
        let via = message.top_via().ok();
        let transaction = via.and_then(|via| self.branches.transaction(&via, message));
        // A message without the headers that a tag is made of gets one all the same.
        let tag = transaction.map_or_else(|| "pm".to_owned(), Transaction::tag);
        let to = match via {
            Some(via) => from.answered_at(&via),
            None => from,
        };
        let bytes = build(&tag).ok_or(Count::Invalid)?;
        Ok(Output::Send { to, bytes })
    }

    /// Whether the request is of the SIP server's, or comes from the node that its call is proxied to.
    fn is_inside(&self, received: &Received<'_>) -> bool {
        let Received { from, call, .. } = received;
        matches!(from.way, Way::Datagram(_))
            && (from.address == self.settings.server
                || self
                    .calls
                    .get(*call)
                    .is_some_and(|entry| entry.inner == from.address))
    }

    /// Our Record-Route for a request: by where it came, so that the rest of the call comes there too.
    ///
    /// A call that is proxied to another node gets this node's own address: the other node has the VIP
    /// as well, and would take a route by the VIP for its own.
    fn route_of(&self, received: Received<'_>) -> &str {
        let entry = self.calls.get(received.call);
        let is_proxied =
            entry.is_some_and(|entry| !entry.is_outgoing && entry.inner != self.settings.server);
        if is_proxied {
            self.settings.ways.own_route()
        } else {
            self.settings.ways.route(received.from.way)
        }
    }

    /// A number that nobody can guess and that was not used before.
    fn fresh(&mut self) -> u64 {
        let (key, count) = &mut self.fresh;
        *count += 1;
        siphash13(*key, &count.to_le_bytes())
    }
}

/// What every step wants to know of a request.
#[derive(Clone, Copy, Debug)]
struct Received<'m> {
    message: &'m Message,
    read: &'m Essentials<'m>,
    from: Hop,
    call: Call,
    transaction: Transaction,
    /// Where its answer goes.
    reply: Hop,
    /// It has no To tag.
    is_new: bool,
}

/// A plain answer.
fn answer(message: &Message, status: u16, from: Hop, tag: &str) -> Option<Bytes> {
    let response = ResponseBuilder::new(message, status);
    response.source(from.address).to_tag(tag).finish().ok()
}
