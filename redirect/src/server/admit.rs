//! A new call: taken here, or offered elsewhere.
//!
//! ```text
//!                         ┌─ came before? ──► as the first time
//!   INVITE, no To tag ────┤
//!                         ├─ relayed by a node ─► slot for it? ─► 302 to the switch, from here
//!                         │                                └ no ─┐
//!                         └─ gate: taken ─► SIP server           │
//!                                └ refused ─────────────────────►┴─► relay, 302, proxy or 503
//! ```
//! No 100 (Trying) is sent for a call that is offered on: the switch sends its INVITE again until the
//! 302 comes, and each copy takes the way of the first. That is how a 302 that was lost is made good,
//! without anybody keeping a transaction.

use super::branch::{Transaction, reply_to};
use super::calls::{Entry, Residence};
use super::count::Count;
use super::fates::Fate;
use super::ways::{Hop, Way};
use super::{Mode, Output, Overflow, Received, Server, World, target};
use bytes::Bytes;
use lb_common::choose::Liveness;
use lb_proto::admission::decide::Refusal;
use lb_proto::call::Call;
use lb_proto::offer::candidates::{Alternative, Chooser};
use lb_proto::offer::hops::{Arrival, Next, SHORTEST_RETRY};
use lb_proto::offer::ticket::{MAX_VISITED, Ticket, Visited};
use lb_proto::status::map::AvailabilityMap;
use lb_sip::build::{Contact, ResponseBuilder};
use lb_sip::{Message, Name};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The header of an INVITE that one redirect server hands to another. Its value is a ticket for that
/// alone: one out of a Request-URI does not count here, so that no caller can say where a 302 goes.
pub(super) const RELAY: &str = "Pointsman-Relay";

/// What the cluster's number is mixed with in tickets of relayed INVITEs, so that they are of another
/// kind: "PMRE".
const RELAY_KIND: u32 = 0x504d_5245;

/// What is the same for every way that an offer can take.
struct Offered<'a> {
    received: Received<'a>,
    /// Where its answer goes.
    reply: Hop,
    /// Who is to be written into the top Via as its sender; `None` when the first node has done so.
    source: Option<SocketAddr>,
    world: World<'a>,
}

impl Server {
    /// An INVITE without a To tag, from outside.
    pub(super) fn invite(
        &mut self,
        world: World<'_>,
        received: Received<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let Received {
            message,
            read,
            from,
            call,
            transaction,
            ..
        } = received;
        match self.fates.get(world.now, transaction) {
            // The node is gone that it was handed to, and has not answered: it is judged anew.
            Some(Fate::Relayed { to, .. }) if !is_up(world, to.address) => {}
            Some(
                Fate::Answered { to, bytes }
                | Fate::Relayed { to, bytes }
                | Fate::Proxied { to, bytes },
            ) => {
                let (to, bytes) = (*to, bytes.clone());
                self.counts.add(Count::Again);
                out.push(Output::Send { to, bytes });
                return Ok(());
            }
            Some(Fate::Forwarded) => {
                let uri = message.request_uri().and_then(target::restored);
                let uri = uri.as_deref();
                return self.forward_in(world.now, received, uri, out);
            }
            None => {}
        }
        if let Some(relay) = message.headers_named(RELAY).next() {
            let ticket = str::from_utf8(relay.raw).unwrap_or_default();
            let keys = self.settings.keys.beacons();
            let cluster = self.settings.cluster ^ RELAY_KIND;
            let ticket = Ticket::read(ticket, cluster, call, keys, world.wall);
            let ticket = ticket.map_err(|_| Count::RelayForged)?;
            let reply = reply_to(&read.via, from.way).ok_or(Count::NoAddress)?;
            let offered = Offered {
                received,
                reply,
                source: None,
                world,
            };
            return self.relayed(&offered, ticket, out);
        }
        let ticket = message.request_uri().and_then(target::ticket);
        let arrival = match ticket {
            None => Arrival::Fresh,
            Some(text) => {
                let (cluster, keys) = (self.settings.cluster, self.settings.keys.beacons());
                Ticket::read(text, cluster, call, keys, world.wall).into()
            }
        };
        match self.gate.begin(world.now, call) {
            Ok(_) => self.take(world, received, arrival, out),
            Err(refusal) => {
                let offered = Offered {
                    received,
                    reply: received.reply,
                    source: Some(from.address),
                    world,
                };
                self.elsewhere(&offered, arrival, refusal, out)
            }
        }
    }

    /// The call has its slot.
    fn take(
        &mut self,
        world: World<'_>,
        received: Received<'_>,
        arrival: Arrival,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let now = world.now;
        let Received {
            message,
            from,
            call,
            transaction,
            ..
        } = received;
        let is_offered = arrival != Arrival::Fresh;
        // What is proxied here goes through the call's home, and is to go there.
        let is_proxied = is_offered && node_at(world, from.address).is_some();
        let is_away = is_offered && self.settings.has_reporter && !is_proxied;
        let is_begun = self.calls.get(call).is_some();
        self.calls.begin(
            call,
            Entry {
                is_behind_node: is_proxied,
                residence: if is_away {
                    Residence::Reporting {
                        held: Vec::new(),
                        until: None,
                    }
                } else {
                    Residence::Known
                },
                ..Entry::new(self.settings.server, from, false)
            },
        );
        let uri = message.request_uri().and_then(target::restored);
        let done = self.forward_in(now, received, uri.as_deref(), out);
        self.forget_if_over(now, call, out);
        match done {
            Ok(()) => {
                self.fates.set(now, transaction, Fate::Forwarded);
                if !is_begun {
                    self.counts.add(if is_offered {
                        Count::TakenOffered
                    } else {
                        Count::Taken
                    });
                    if is_away {
                        out.push(Output::Report(call));
                    }
                }
                Ok(())
            }
            Err(Count::NoRecord) => {
                self.counts.add(Count::NoRecord);
                let output = self.reject(from, message, |tag| {
                    unavailable(message, Some(from.address), SHORTEST_RETRY, tag)
                })?;
                out.push(output);
                Ok(())
            }
            Err(reason) => Err(reason),
        }
    }

    /// Another node asks whether the call may come, and this one answers the switch itself.
    fn relayed(
        &mut self,
        offered: &Offered<'_>,
        ticket: Ticket,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let Received {
            call, transaction, ..
        } = offered.received;
        match self.gate.reserve(offered.world.now, call) {
            Ok(_) => {
                let contact = self.contact(offered, self.settings.ways.advertise(), &ticket)?;
                let bytes = redirect(offered, &[contact], transaction)?;
                self.counts.add(Count::Promised);
                self.answer_once(offered, bytes, out);
                Ok(())
            }
            Err(refusal) => self.elsewhere(offered, Arrival::Ticketed(ticket), refusal, out),
        }
    }

    /// The call is not taken here.
    fn elsewhere(
        &mut self,
        offered: &Offered<'_>,
        arrival: Arrival,
        refusal: Refusal,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        *self.refusals.entry(refusal).or_default() += 1;
        let Offered {
            received, world, ..
        } = offered;
        let (now, call) = (world.now, received.call);
        let is_stream = matches!(received.from.way, Way::Stream(_));
        let is_relayed = offered.source.is_none();
        // Over a stream only this node can answer; what was relayed is not ours to proxy.
        let is_proxied = self.settings.overflow == Overflow::Proxy && !is_relayed;
        let is_direct = !is_proxied && (is_stream || self.settings.mode == Mode::Direct);
        let Self {
            hops,
            chooser,
            settings,
            ..
        } = self;
        let family = Family::of(settings.ways.advertise().ip());
        if is_direct {
            // A 302 must name addresses that the caller can send to.
            let is_reached = family == Family::of(offered.reply.address.ip());
            let next = hops.next(now, call, arrival, |visited| {
                let three = choose_three(chooser, *world, visited, family);
                (is_reached && !three.is_empty()).then_some(three)
            });
            return match next {
                Next::Offer { to, ticket } => self.redirect(offered, &to, &ticket, out),
                Next::Unavailable { retry_after, .. } => self.refuse(offered, retry_after, out),
            };
        }
        // A 302 must name an address that the caller can send to.
        let is_reached = is_proxied || family == Family::of(offered.reply.address.ip());
        let next = hops.next(now, call, arrival, |visited| {
            if !is_reached {
                return None;
            }
            choose_one(chooser, *world, visited, family)
        });
        match next {
            Next::Offer { to, ticket } if is_proxied => self.proxy(offered, to, &ticket, out),
            Next::Offer { to, ticket } => self.relay(offered, to, &ticket, out),
            Next::Unavailable { retry_after, .. } => self.refuse(offered, retry_after, out),
        }
    }

    /// Hands the INVITE to another node's redirect server, as if the switch had sent it there.
    fn relay(
        &mut self,
        offered: &Offered<'_>,
        address: SocketAddr,
        ticket: &Ticket,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let Offered {
            received, world, ..
        } = offered;
        let cluster = self.settings.cluster ^ RELAY_KIND;
        let ticket = ticket.write(
            cluster,
            received.call,
            self.settings.keys.sending(),
            world.wall,
        );
        let change = || {
            let mut edit = received.message.edit();
            if let Some(source) = offered.source {
                edit.set_received(source)?;
            }
            edit.decrement_max_forwards()?
                .remove_named(RELAY)
                .add_named(RELAY, ticket)?;
            edit.finish()
        };
        let bytes = change().map_err(|_: lb_sip::message::EditError| Count::NotChanged)?;
        let to = self.settings.ways.hop_to(address, None);
        let to = to.ok_or(Count::NoAddress)?;
        self.counts.add(Count::Relayed);
        let fate = Fate::Relayed {
            to,
            bytes: bytes.clone(),
        };
        self.fates.set(world.now, received.transaction, fate);
        out.push(Output::Send { to, bytes });
        Ok(())
    }

    /// Answers 302 with the nodes that were chosen.
    fn redirect(
        &mut self,
        offered: &Offered<'_>,
        nodes: &[(SocketAddr, u16)],
        ticket: &Ticket,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let mut contacts = Vec::new();
        for (address, q_permille) in nodes {
            let contact = self.contact(offered, *address, ticket)?;
            let contact = contact.q_thousandths(*q_permille);
            contacts.push(contact.map_err(|_| Count::NotChanged)?);
        }
        let bytes = redirect(offered, &contacts, offered.received.transaction)?;
        self.counts.add(Count::Redirected);
        self.answer_once(offered, bytes, out);
        Ok(())
    }

    /// Forwards the call, and all of it that follows, through this node to another.
    fn proxy(
        &mut self,
        offered: &Offered<'_>,
        address: SocketAddr,
        ticket: &Ticket,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let (received, now) = (offered.received, offered.world.now);
        let contact = self.contact(offered, address, ticket)?;
        let entry = Entry::new(address, received.from, false);
        self.calls.begin(received.call, entry);
        let (uri, first) = (target::uri_of(&contact).as_bytes(), out.len());
        let done = self.forward_in(now, received, Some(uri), out);
        self.forget_if_over(now, received.call, out);
        match done {
            Ok(()) => self.counts.add(Count::Proxied),
            Err(Count::NoRecord) => {
                self.counts.add(Count::NoRecord);
                return self.refuse(offered, SHORTEST_RETRY, out);
            }
            Err(reason) => return Err(reason),
        }
        // Copies must go with the same ticket, which only these bytes have.
        let sent = out.iter().skip(first).find_map(|output| match output {
            Output::Send { to, bytes } if to.address == address => Some((*to, bytes.clone())),
            Output::Send { .. } | Output::Report(_) | Output::Drained => None,
        });
        if let Some((to, bytes)) = sent {
            let fate = Fate::Proxied { to, bytes };
            self.fates.set(now, received.transaction, fate);
        }
        Ok(())
    }

    /// Answers 503.
    fn refuse(
        &mut self,
        offered: &Offered<'_>,
        retry_after: Duration,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let tag = offered.received.transaction.tag();
        let bytes = unavailable(offered.received.message, offered.source, retry_after, &tag);
        let bytes = bytes.ok_or(Count::NotChanged)?;
        self.counts.add(Count::Unavailable);
        self.answer_once(offered, bytes, out);
        Ok(())
    }

    /// Answers, and remembers the answer for copies of the request.
    fn answer_once(&mut self, offered: &Offered<'_>, bytes: Bytes, out: &mut Vec<Output>) {
        let fate = Fate::Answered {
            to: offered.reply,
            bytes: bytes.clone(),
        };
        let now = offered.world.now;
        self.fates.set(now, offered.received.transaction, fate);
        out.push(Output::Send {
            to: offered.reply,
            bytes,
        });
    }

    /// The Contact that leads the call to a node.
    fn contact(
        &self,
        offered: &Offered<'_>,
        address: SocketAddr,
        ticket: &Ticket,
    ) -> Result<Contact, Count> {
        let (cluster, key) = (self.settings.cluster, self.settings.keys.sending());
        let call: Call = offered.received.call;
        let ticket = ticket.write(cluster, call, key, offered.world.wall);
        let uri = offered.received.message.request_uri().unwrap_or_default();
        target::to_node(uri, address, &ticket).map_err(|_| Count::NotChanged)
    }
}

/// 302 (Moved Temporarily).
fn redirect(
    offered: &Offered<'_>,
    contacts: &[Contact],
    transaction: Transaction,
) -> Result<Bytes, Count> {
    let tag = transaction.tag();
    let mut response = ResponseBuilder::new(offered.received.message, 302)
        .to_tag(&tag)
        .contacts(contacts);
    if let Some(source) = offered.source {
        response = response.source(source);
    }
    response.finish().map_err(|_| Count::NotChanged)
}

/// 503 (Service Unavailable).
fn unavailable(
    message: &Message,
    source: Option<SocketAddr>,
    retry_after: Duration,
    tag: &str,
) -> Option<Bytes> {
    let mut response = ResponseBuilder::new(message, 503)
        .to_tag(tag)
        .header(Name::RetryAfter, retry_after.as_secs().to_string());
    if let Some(source) = source {
        response = response.source(source);
    }
    response.finish().ok()
}

/// Addresses that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The redirect server of a node, by its last beacon. `None`: it has none, or none that can be reached.
fn address_of(
    map: &AvailabilityMap,
    now: Duration,
    node: u16,
    family: Family,
) -> Option<SocketAddr> {
    let (beacon, _) = map.row(now, node)?.last?;
    let [v4, v6] = [beacon.address_v4, beacon.address_v6].map(|address| {
        let is_there = address != Default::default() && beacon.redirect_port != 0;
        is_there.then(|| SocketAddr::new(address.into(), beacon.redirect_port))
    });
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// The node whose redirect server is at an address.
fn node_at(world: World<'_>, address: SocketAddr) -> Option<u16> {
    let rows = world.map.rows(world.now).map(|row| row.node);
    let mut nodes = rows.filter(|node| {
        let family = Family::of(address.ip());
        address_of(world.map, world.now, *node, family) == Some(address)
    });
    nodes.next()
}

/// Whether there is a redirect server at an address, by the beacons.
fn is_up(world: World<'_>, address: SocketAddr) -> bool {
    let row = node_at(world, address).and_then(|node| world.map.row(world.now, node));
    row.is_some_and(|row| row.liveness == Liveness::Up)
}

/// One node that can be reached.
fn choose_one(
    chooser: &mut Chooser,
    world: World<'_>,
    visited: &Visited,
    family: Family,
) -> Option<SocketAddr> {
    let mut avoided = *visited;
    for _ in 0..=MAX_VISITED {
        let node = chooser.choose(world.now, world.map, &avoided)?;
        let address = address_of(world.map, world.now, node, family);
        if address.is_some() || !avoided.add(node) {
            return address;
        }
    }
    None
}

/// Up to three nodes that can be reached, with their q-values.
fn choose_three(
    chooser: &mut Chooser,
    world: World<'_>,
    visited: &Visited,
    family: Family,
) -> Vec<(SocketAddr, u16)> {
    let chosen = chooser.choose_three(world.now, world.map, visited);
    let reachable = chosen.into_iter().filter_map(|alternative| {
        let Alternative { node, q_permille } = alternative;
        let address = address_of(world.map, world.now, node, family)?;
        Some((address, q_permille))
    });
    reachable.collect()
}
