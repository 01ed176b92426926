//! Calls that ring and are to be ended: their INVITEs are refused after they went on.
//!
//! ```text
//!   caller                        node                              callee
//!     │ ◄──────────── 180 ──────────┼─────────────────── 180 ────────── │
//!     │                     to be cut off                               │
//!     │ ◄──── 480, again until ─────┼──── CANCEL, once it has said ───► │
//!     │       the ACK comes         │     anything                      │
//!     │ ───── ACK ────────────────► │ ◄────────────────── 487 ───────── │
//!     │                             ├──── ACK ────────────────────────► │
//!     │                             │  or it was faster: ◄─ 200 ─────── │
//!     │                             ├──── ACK, BYE ───────────────────► │
//! ```
//! Otherwise a proxy without transactions, the node keeps both for these few (RFC 3261 §16.10, §17.2.1;
//! §9.1: nothing is cancelled before a provisional response; §13.2.2.4 and §15: what is accepted all the
//! same is acknowledged and ended). The caller is told **480 (Temporarily Unavailable)**, which is about
//! this call. 503 would be about the server, and a proxy must not hand it on unless the next call would
//! get it, too (§16.7 step 6); but new calls are taken at once, and a switch that hears 503 sends them
//! elsewhere (RFC 3263 §4.3).

use super::asking::Request;
use super::branch::Transaction;
use super::calls::{Entry, Invite};
use super::count::Count;
use super::fates::Fate;
use super::keyed::KeyedMap;
use super::ways::{Hop, Way};
use super::{Output, Received, Server, facts};
use bytes::Bytes;
use lb_proto::call::Call;
use lb_sip::build::{self, ResponseBuilder};
use lb_sip::dialog::Side;
use lb_sip::dialog::record::InDialog;
use lb_sip::dialog::table::DialogTable;
use lb_sip::headers::Via;
use lb_sip::transaction::invite_server::{Event, InviteServer};
use lb_sip::transaction::{ServerAction, Timing, Transport};
use lb_sip::{Essentials, Message, Method, examine};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the caller is told.
const STATUS: u16 = 480;
/// How many there may be at a time: half a minute's, at the pace of a reset; each is over after a minute
/// at the latest, and nearly all after an instant. While it is full, a reset waits.
const CAPACITY: usize = 65_536;
/// Forks of one INVITE that may accept it all the same. The copies of a further one's 2xx are not
/// answered, and it gives up by itself (§13.3.1.4).
const MOST_ACCEPTED: usize = 16;
/// 64 × T1: how long the callee's last word is waited for, and copies of it (§9.1, §17.1.1.2).
const LONGEST: Duration = Duration::from_secs(32);

/// Where the callee's side of an INVITE is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callee {
    /// It has not said anything, so that it cannot be cancelled.
    Silent,
    /// It was sent a CANCEL.
    Cancelled,
    /// It has given its final response.
    Answered,
}

/// An INVITE that was refused after it went on.
#[derive(Debug)]
pub(crate) struct CutOff {
    /// As it went.
    invite: Message,
    to: Hop,
    /// The call's two sides.
    sides: Entry,
    /// The caller's side.
    caller: InviteServer,
    reply: Hop,
    callee: Callee,
    /// Those that have accepted, by their tags, and the ACKs of that.
    accepted: Vec<(Bytes, Output)>,
    until: Duration,
    /// Where it stands among the deadlines.
    deadline: Duration,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct CutOffs {
    cut_offs: KeyedMap<Transaction, CutOff>,
    deadlines: BTreeSet<(Duration, Transaction)>,
    /// Those whose callee has not given its final response.
    open: usize,
}

impl CutOffs {
    pub(super) fn has(&self, transaction: Transaction) -> bool {
        !self.cut_offs.is_empty() && self.cut_offs.contains_key(&transaction)
    }

    pub(super) fn is_full(&self) -> bool {
        self.cut_offs.len() >= CAPACITY
    }

    /// How many have a callee that has not given its final response.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn due(&self, now: Duration) -> Option<Transaction> {
        let (at, transaction) = self.deadlines.first()?;
        (*at <= now).then_some(*transaction)
    }

    /// Takes one out to change it.
    fn take(&mut self, transaction: Transaction) -> Option<CutOff> {
        let cut_off = self.cut_offs.remove(&transaction)?;
        self.deadlines.remove(&(cut_off.deadline, transaction));
        self.open -= usize::from(cut_off.callee != Callee::Answered);
        Some(cut_off)
    }

    fn put(&mut self, transaction: Transaction, mut cut_off: CutOff) {
        let caller = cut_off.caller.next_timeout();
        cut_off.deadline = caller.map_or(cut_off.until, |at| at.min(cut_off.until));
        self.deadlines.insert((cut_off.deadline, transaction));
        self.open += usize::from(cut_off.callee != Callee::Answered);
        self.cut_offs.insert(transaction, cut_off);
    }
}

impl Server {
    /// Refuses an INVITE that went on. Its dialogs are over at once. False if it cannot be done.
    pub(super) fn cut_off(
        &mut self,
        now: Duration,
        call: Call,
        invite: Invite,
        out: &mut Vec<Output>,
    ) -> bool {
        let sides = self.calls.get(call);
        let sides = sides.map(|entry| Entry::new(entry.inner, entry.outer, entry.is_outgoing));
        let (Some(sides), Ok(message)) = (sides, Message::from_datagram(invite.bytes)) else {
            return false;
        };
        // As if the callee had said so: it takes the way of all responses.
        let refusal = ResponseBuilder::new(&message, STATUS)
            .to_tag(&invite.transaction.tag())
            .finish();
        let Some(Ok(refusal)) = refusal.ok().map(Message::from_datagram) else {
            return false;
        };
        let mut sent = Vec::new();
        let done = match examine(&refusal) {
            (_, Some(read)) => self.response(now, invite.to, &refusal, &read, &mut sent),
            (_, None) => return false,
        };
        let first = sent
            .iter()
            .position(|output| matches!(output, Output::Send { .. }));
        let first = first.map(|index| sent.remove(index));
        let (Ok(()), Some(Output::Send { to: reply, bytes })) = (done, first) else {
            out.append(&mut sent);
            return false;
        };
        let transport = match reply.way {
            Way::Datagram(_) => Transport::Unreliable,
            Way::Stream(_) => Transport::Reliable,
        };
        let mut cut_off = CutOff {
            invite: message,
            to: invite.to,
            sides,
            caller: InviteServer::start(now, Timing::DEFAULT, transport, None),
            reply,
            callee: Callee::Silent,
            accepted: Vec::new(),
            until: now + LONGEST,
            deadline: now,
        };
        // Copies of the INVITE that come when this is over get the same.
        let fate = Fate::Answered {
            to: reply,
            bytes: bytes.clone(),
        };
        self.fates.set(now, invite.transaction, fate);
        cut_off.tell_caller(now, Event::Failure(bytes), out);
        out.append(&mut sent);
        if invite.is_provisional {
            self.cancel(now, &mut cut_off, out);
        }
        self.cut_offs.put(invite.transaction, cut_off);
        true
    }

    /// Whether a response is to an INVITE that was refused meanwhile.
    pub(super) fn is_cut_off(&mut self, next: &Via<'_>, read: &Essentials<'_>) -> bool {
        if self.cut_offs.cut_offs.is_empty() || read.cseq.method != b"INVITE" {
            return false;
        }
        let (call_id, cseq) = (read.call_id, read.cseq.number);
        let transaction = self.branches.transaction_of(next, call_id, cseq);
        self.cut_offs.has(transaction)
    }

    /// Takes such a response: it goes no further.
    pub(super) fn answered_cut_off(
        &mut self,
        now: Duration,
        next: &Via<'_>,
        response: &Message,
        read: &Essentials<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let (call_id, cseq) = (read.call_id, read.cseq.number);
        let transaction = self.branches.transaction_of(next, call_id, cseq);
        let mut cut_off = self.cut_offs.take(transaction).ok_or(Count::Invalid)?;
        self.counts.add(Count::AnsweredLate);
        let status = response.status().unwrap_or_default();
        match (cut_off.callee, status) {
            (Callee::Silent, ..200) => self.cancel(now, &mut cut_off, out),
            (Callee::Cancelled | Callee::Answered, ..200) => {}
            (_, 200..) => {
                if cut_off.callee != Callee::Answered {
                    cut_off.until = now + LONGEST;
                    cut_off.callee = Callee::Answered;
                }
                if status < 300 {
                    self.hang_up_accepted(now, &mut cut_off, response, read, out);
                } else if let Ok(bytes) = build::ack_for(&cut_off.invite, response) {
                    let to = cut_off.to;
                    out.push(Output::Send { to, bytes });
                }
            }
        }
        self.cut_offs.put(transaction, cut_off);
        Ok(())
    }

    /// The caller of such an INVITE sends it again, acknowledges its refusal, or cancels it.
    pub(super) fn requested_cut_off(
        &mut self,
        now: Duration,
        received: Received<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Count> {
        let request = received.message;
        let event = match request.method() {
            Some(Method::Invite) => Event::Again,
            Some(Method::Ack) => Event::Ack(request.bytes().clone()),
            _ => return self.after_own_answer(received, out),
        };
        self.counts.add(match event {
            Event::Again => Count::Again,
            _ => Count::AckAbsorbed,
        });
        if let Some(mut cut_off) = self.cut_offs.take(received.transaction) {
            cut_off.tell_caller(now, event, out);
            self.cut_offs.put(received.transaction, cut_off);
        }
        Ok(())
    }

    /// Does what is due.
    pub(super) fn cut_off_on(&mut self, now: Duration, out: &mut Vec<Output>) {
        while let Some(transaction) = self.cut_offs.due(now) {
            let Some(mut cut_off) = self.cut_offs.take(transaction) else {
                return;
            };
            if cut_off.until <= now {
                continue;
            }
            let mut actions = Vec::new();
            cut_off.caller.on_timeout(now, &mut actions);
            cut_off.carry_out(actions, out);
            self.cut_offs.put(transaction, cut_off);
        }
    }

    fn cancel(&mut self, now: Duration, cut_off: &mut CutOff, out: &mut Vec<Output>) {
        let sent = match Request::cancel(&cut_off.invite, cut_off.to) {
            Ok(request) => self.asking.send(now, request, None, out).is_ok(),
            Err(_) => false,
        };
        if sent {
            cut_off.callee = Callee::Cancelled;
        }
        self.counts
            .add(if sent { Count::Asked } else { Count::AskFailed });
    }

    /// The CANCEL came too late: who has accepted is acknowledged, and hung up on.
    fn hang_up_accepted(
        &mut self,
        now: Duration,
        cut_off: &mut CutOff,
        response: &Message,
        read: &Essentials<'_>,
        out: &mut Vec<Output>,
    ) {
        let tag = Bytes::copy_from_slice(read.to.tag().unwrap_or_default());
        if let Some((_, ack)) = cut_off.accepted.iter().find(|(other, _)| *other == tag) {
            out.push(ack.clone());
            return;
        }
        let requests = self.within_accepted(now, &cut_off.invite, response, read);
        let to = requests.as_ref().and_then(|[ack, _]| {
            let to = self.way_of_own(&cut_off.sides, Side::Callee, ack)?;
            (cut_off.accepted.len() < MOST_ACCEPTED).then_some(to)
        });
        let (Some([ack, bye]), Some(to)) = (requests, to) else {
            self.counts.add(Count::AskFailed);
            return;
        };
        match self.own_request(to, &ack, Method::Ack) {
            Ok(ack) => {
                let ack = ack.once();
                out.push(ack.clone());
                cut_off.accepted.push((tag, ack));
                self.send_own_to(now, to, &bye, Method::Bye, None, out);
            }
            Err(_) => self.counts.add(Count::AskFailed),
        }
    }

    /// ACK and BYE within the dialog that a 2xx to an INVITE makes.
    fn within_accepted(
        &self,
        now: Duration,
        invite: &Message,
        response: &Message,
        read: &Essentials<'_>,
    ) -> Option<[InDialog; 2]> {
        let mut dialogs = DialogTable::new(self.settings.policy, 2, 1);
        let (mut routes, mut events) = (Vec::new(), Vec::new());
        let (_, asked) = examine(invite);
        let facts = facts::of(invite, &asked?, None, &mut routes)?;
        dialogs.observe(now, &facts, &mut events);
        let mut routes = Vec::new();
        let facts = facts::of(response, read, None, &mut routes)?;
        dialogs.observe(now, &facts, &mut events);
        let (id, _) = dialogs.find(
            facts.call_id,
            facts.from_tag,
            facts.to_tag.unwrap_or_default(),
        )?;
        // An ACK has the number of its INVITE (§13.2.2.4), and the BYE the next.
        let ack = dialogs.get(id)?.question(Side::Callee)?;
        Some([ack, dialogs.next_request(id, Side::Callee)?])
    }
}

impl CutOff {
    fn tell_caller(&mut self, now: Duration, event: Event, out: &mut Vec<Output>) {
        let mut actions = Vec::new();
        self.caller.handle(now, event, &mut actions);
        self.carry_out(actions, out);
    }

    fn carry_out(&self, actions: Vec<ServerAction>, out: &mut Vec<Output>) {
        for action in actions {
            match action {
                ServerAction::Send(bytes) => out.push(Output::Send {
                    to: self.reply,
                    bytes,
                }),
                ServerAction::Acknowledged(_)
                | ServerAction::TransportFailed
                | ServerAction::Ended(_) => {}
            }
        }
    }
}
