//! What goes through: requests to the SIP server and from it, and responses.
//!
//! The way of almost every message. It is parsed once, and copied once with its changes.

use super::calls::{Entry, Invite};
use super::count::Count;
use super::ways::{Hop, Way};
use super::{Output, Received, Server, answer, facts};
use lb_proto::admission::server::LONGEST_PAUSE;
use lb_proto::call::Call;
use lb_sip::dialog::table::Observed;
use lb_sip::headers::NameAddr;
use lb_sip::message::EditError;
use lb_sip::{Edit, Essentials, Message, Method, Name, Uri};
use std::net::SocketAddr;
use std::time::Duration;

impl Server {
    /// A request for the SIP server, or for the node that its call is proxied to.
    pub(super) fn forward_in(
        &mut self,
        now: Duration,
        received: Received<'_>,
        request_uri: Option<&[u8]>,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let mut address = self.settings.server;
        if let Some(entry) = self.calls.get_mut(received.call) {
            entry.follow(received.from);
            address = entry.inner;
        }
        let to = self.settings.ways.hop_to(address, None);
        let to = to.ok_or(Count::NoAddress)?;
        self.forward_to(now, received, request_uri, to, out)
    }

    /// The same, when it is known where to.
    pub(super) fn forward_to(
        &mut self,
        now: Duration,
        received: Received<'_>,
        request_uri: Option<&[u8]>,
        to: Hop,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let observed = self.observe_request(now, received);
        if observed == Observed::Full {
            self.settle(now, out);
            return Err(Count::NoRecord);
        }
        let output = self.pass_on(received, request_uri, to)?;
        self.counts.add(Count::RequestIn);
        self.keep_invite(received, observed, &output);
        out.push(output);
        self.settle(now, out);
        Ok(())
    }

    /// A request of the SIP server's.
    pub(super) fn forward_out(
        &mut self,
        now: Duration,
        received: Received<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let Received { message, from, .. } = received;
        let Some(to) = self.next_hop(received) else {
            self.counts.add(Count::Unresolved);
            if message.method() != Some(Method::Ack) {
                let refused = self.reject(from, message, |tag| answer(message, 502, from, tag))?;
                out.push(refused);
            }
            return Ok(());
        };
        let observed = if received.is_new && message.method() == Some(Method::Invite) {
            if self.calls.get(received.call).is_none() {
                self.counts.add(Count::Outgoing);
                // It is the SIP server's own decision, but counts among the node's calls if it can.
                let _ = self.gate.begin(now, received.call);
                let entry = Entry::new(from.address, to, true);
                self.calls.begin(received.call, entry);
            }
            let observed = self.observe_request(now, received);
            self.forget_if_over(now, received.call, out);
            observed
        } else {
            self.observe_request(now, received)
        };
        let output = self.pass_on(received, None, to)?;
        self.counts.add(Count::RequestOut);
        self.keep_invite(received, observed, &output);
        out.push(output);
        self.settle(now, out);
        Ok(())
    }

    /// A response, to where its request came from.
    pub(super) fn response(
        &mut self,
        now: Duration,
        from: Hop,
        message: &Message,
        read: &Essentials<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let next = read.next_via.as_ref().ok_or(Count::Invalid)?;
        let to = self.branches.way_back(next, read);
        let to = to.ok_or(Count::Foreign)?;
        if self.is_cut_off(next, read) {
            return self.answered_cut_off(now, next, message, read, out);
        }
        let mut edit = message.edit();
        edit.pop(Name::Via, 1);
        let done = say_length(&mut edit, message, to.way);
        let bytes = done.and_then(|()| edit.finish());
        let bytes = bytes.map_err(|_| Count::NotChanged)?;
        self.note_overload(now, from, message);

        let mut routes = Vec::new();
        if let Some(facts) = facts::of(message, read, None, &mut routes) {
            self.dialogs.observe(now, &facts, &mut self.events);
        }
        self.counts.add(Count::Response);
        if message.status().is_some_and(|status| status < 200) {
            let call = Call::of(self.secret, read.call_id);
            let entry = self.calls.get_mut(call);
            if let Some(invite) = entry.and_then(|entry| entry.invite.as_mut()) {
                invite.is_provisional |= read.cseq.method == b"INVITE";
            }
        }
        let draws_requests = message
            .status()
            .is_some_and(|status| (101..300).contains(&status) && read.to.tag().is_some());
        if draws_requests
            && self
                .calls
                .hold(now, Call::of(self.secret, read.call_id), to, &bytes)
        {
            self.counts.add(Count::Held);
        } else {
            out.push(Output::Send { to, bytes });
        }
        self.settle(now, out);
        Ok(())
    }

    /// Keeps an INVITE that began a dialog and goes on now, so that it can be refused yet.
    fn keep_invite(&mut self, received: Received<'_>, observed: Observed, output: &Output) {
        let (Observed::Began(began), Output::Send { to, bytes }) = (observed, output) else {
            return;
        };
        let invite = Invite {
            began,
            transaction: received.transaction,
            to: *to,
            bytes: bytes.clone(),
            is_provisional: false,
        };
        if !self.calls.keep_invite(received.call, invite) {
            self.counts.add(Count::Unkept);
        }
    }

    /// Changes a request as a proxy does (§16.6), for the next hop.
    fn pass_on<'m>(
        &mut self,
        received: Received<'m>,
        request_uri: Option<&[u8]>,
        to: Hop,
    ) -> Result<Output, Count> {
        let Received {
            message,
            read,
            from,
            ..
        } = received;
        let Self {
            branches,
            settings,
            via,
            ..
        } = self;
        let begin = settings.ways.via(to.way);
        branches.write_via(via, begin, received.transaction, received.reply);
        let begins_dialog = received.is_new
            && matches!(
                message.method(),
                Some(Method::Invite | Method::Subscribe | Method::Refer)
            );
        let own_routes = self.own_routes(message);
        let mut edit = message.edit();
        let change = |edit: &mut Edit<'m>| {
            edit.set_received_in(&read.via, from.address)?
                .decrement_max_forwards()?
                .push(Name::Via, &self.via)?;
            if own_routes > 0 {
                edit.pop(Name::Route, own_routes);
            }
            if begins_dialog {
                edit.push(Name::RecordRoute, self.route_of(received))?;
            }
            if let Some(uri) = request_uri {
                edit.set_request_uri(uri)?;
            }
            say_length(edit, message, to.way)?;
            edit.finish()
        };
        let bytes = change(&mut edit).map_err(|_| Count::NotChanged)?;
        Ok(Output::Send { to, bytes })
    }

    /// How many of the top Routes are ours.
    fn own_routes(&self, message: &Message) -> usize {
        let is_own = |route: &&[u8]| {
            let uri = NameAddr::parse(route).and_then(|route| route.uri().ok());
            let uri = uri.and_then(Uri::sip);
            uri.is_some_and(|uri| self.settings.ways.is_own(&uri))
        };
        message.elements(Name::Route).take_while(is_own).count()
    }

    /// Where a request of the SIP server's goes: to the first Route that is not ours, or to the
    /// Request-URI (§16.6 step 6). To a name goes what belongs to a call whose peer is known.
    fn next_hop(&self, received: Received<'_>) -> Option<Hop> {
        let message = received.message;
        let entry = self.calls.get(received.call);
        if let Some(entry) = entry
            && matches!(entry.outer.way, Way::Stream(_))
        {
            return Some(entry.outer);
        }
        let own = self.own_routes(message);
        let route = message.elements(Name::Route).nth(own);
        let uri = match route {
            Some(route) => NameAddr::parse(route)?.uri,
            None => message.request_uri()?,
        };
        let preferred = entry.map_or(received.from.way, |entry| entry.outer.way);
        match address_of(uri) {
            Some(address) => self.settings.ways.hop_to(address, Some(preferred)),
            None => entry.map(|entry| entry.outer),
        }
    }

    fn observe_request(&mut self, now: Duration, received: Received<'_>) -> Observed {
        let Received { message, read, .. } = received;
        // These two say nothing to the record: a CANCEL's INVITE is answered, and that will.
        if message.method() == Some(Method::Cancel) {
            return Observed::Unknown;
        }
        let begins_call = received.is_new && message.method() == Some(Method::Invite);
        let own_route = begins_call.then(|| self.route_of(received).to_owned());
        let mut routes = Vec::new();
        match facts::of(
            message,
            read,
            own_route.as_deref().map(str::as_bytes),
            &mut routes,
        ) {
            Some(facts) => self.dialogs.observe(now, &facts, &mut self.events),
            None => Observed::Unknown,
        }
    }

    /// A 503 of the SIP server's to a call says what one to OPTIONS says (§21.5.4), if it says how
    /// long; one without may be that of somebody behind it.
    fn note_overload(&mut self, now: Duration, from: Hop, message: &Message) {
        if message.status() != Some(503) || from.address != self.settings.server {
            return;
        }
        let is_invite = message.cseq().is_ok_and(|cseq| cseq.method == b"INVITE");
        if let Ok(Some(retry)) = message.retry_after()
            && is_invite
        {
            let until = now + retry.after.min(LONGEST_PAUSE);
            self.paused = self.paused.max(Some(until));
            self.set_probed(now, self.probed);
        }
    }
}

/// Adds the length of the body, which UDP may leave out, and a stream may not (§18.3).
fn say_length(edit: &mut Edit<'_>, message: &Message, way: Way) -> Result<(), EditError> {
    if matches!(way, Way::Stream(_)) && message.header(Name::ContentLength).is_none() {
        edit.add(Name::ContentLength, message.body().len().to_string())?;
    }
    Ok(())
}

/// The address that a URI names, if it is one that can be sent to.
pub(super) fn address_of(uri: &[u8]) -> Option<SocketAddr> {
    let uri = Uri::parse(uri).ok()?.sip()?;
    let address = SocketAddr::new(uri.host.address()?, uri.port_or_default());
    let ip = address.ip();
    let is_broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
    let is_good =
        !(ip.is_unspecified() || ip.is_multicast() || is_broadcast || address.port() == 0);
    is_good.then_some(address)
}
