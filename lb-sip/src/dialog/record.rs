//! One dialog: what messages and time do to it.

pub(super) mod life;

use super::hold::{self, Holding};
use super::liveness::{self, Policy, Presence, Step, Verdict};
use super::route;
use super::{End, Media, MessageFacts, Method, Priority, Refresher, Side, State};
use crate::transaction::{Class, Status};
use bytes::Bytes;
use life::{Phase, Signal};
use std::time::Duration;

/// Requests that wait for their final response, at most; of more, the oldest is forgotten, and what
/// it would have renewed stays as it was. Chosen: each side may have one INVITE and one UPDATE.
const MOST_PENDING: usize = 4;

/// One end of a dialog, and the way there.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its tag; the callee has none before its first response.
    pub tag: Option<Bytes>,
    /// Its name and address, as From or To have it.
    pub address: Bytes,
    /// The CSeq of its last request.
    pub cseq: Option<u32>,
    /// Where requests to it go in the end: the URI of its Contact.
    pub target: Option<Bytes>,
    /// The Route values on the way there, from the observer.
    pub route: Vec<Bytes>,
}

/// A session timer that runs (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// When the session ends if nobody refreshes it.
    pub until: Duration,
    /// Who is to refresh it, if that was said.
    pub refresher: Option<Side>,
}

/// A request within a dialog, apart from what its sender adds (Via, Max-Forwards, body).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDialog {
    /// The Request-URI.
    pub request_uri: Bytes,
    /// The Route values, from the top.
    pub routes: Vec<Bytes>,
    /// The Call-ID.
    pub call_id: Bytes,
    /// From, without the tag.
    pub from: Bytes,
    /// From's tag; none if the peer knows only RFC 2543.
    pub from_tag: Option<Bytes>,
    /// To, without the tag.
    pub to: Bytes,
    /// To's tag.
    pub to_tag: Option<Bytes>,
    /// The CSeq's number.
    pub cseq: u32,
}

/// A request that may renew targets, media and session if it succeeds (§12.2, RFC 3311).
#[derive(Clone, Debug)]
struct Pending {
    by: Side,
    cseq: u32,
    contact: Option<Bytes>,
    offer: Option<Media>,
    /// The first description in its responses (§13.2.1: the others are ignored).
    reply: Option<Media>,
}

/// The record of one dialog. Where it can be, and what moves it on, is drawn in `record/life.rs`.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: Bytes,
    parties: [Party; 2],
    phase: Phase,
    holding: Holding,
    priority: Priority,
    started: Duration,
    confirmed: Option<Duration>,
    /// When the phase has lasted too long.
    limit: Duration,
    /// What the end is if the limit comes while it is early.
    early_end: End,
    session: Option<Session>,
    presence: [Presence; 2],
    /// The INVITE that began it.
    invite: Pending,
    /// Record-Route entries of that INVITE as it left the observer.
    known_routes: usize,
    pending: Vec<Pending>,
}

impl Dialog {
    /// The dialog that an INVITE without a To tag begins.
    pub(super) fn begin(
        now: Duration,
        facts: &MessageFacts<'_>,
        own_routes: usize,
        policy: &Policy,
    ) -> Self {
        let presence = Presence::heard(now, policy);
        let contact = facts.contact.map(Bytes::copy_from_slice);
        Self {
            call_id: Bytes::copy_from_slice(facts.call_id),
            parties: [
                Party {
                    tag: Some(Bytes::copy_from_slice(facts.from_tag)),
                    address: Bytes::copy_from_slice(facts.from),
                    cseq: Some(facts.cseq),
                    target: contact.clone(),
                    route: route::to_caller(facts.record_route, own_routes),
                },
                Party {
                    tag: None,
                    address: Bytes::copy_from_slice(facts.to),
                    cseq: None,
                    target: None,
                    route: Vec::new(),
                },
            ],
            phase: Phase::Early,
            holding: [false; 2],
            priority: facts.priority,
            started: now,
            confirmed: None,
            limit: now + policy.early,
            early_end: End::NeverAnswered,
            session: None,
            presence: [presence; 2],
            invite: Pending {
                by: Side::Caller,
                cseq: facts.cseq,
                contact,
                offer: facts.media,
                reply: None,
            },
            known_routes: facts.record_route.len(),
            pending: Vec::new(),
        }
    }

    /// Another dialog of the same INVITE (§12.1: each To tag makes its own).
    pub(super) fn fork(&self, now: Duration, policy: &Policy) -> Self {
        let mut fork = self.clone();
        let Party {
            tag,
            cseq,
            target,
            route,
            address: _,
        } = &mut fork.parties[Side::Callee.index()];
        (*tag, *cseq, *target) = (None, None, None);
        route.clear();
        fork.parties[Side::Caller.index()]
            .target
            .clone_from(&self.invite.contact);
        fork.phase = Phase::Early;
        fork.holding = [false; 2];
        fork.confirmed = None;
        fork.limit = now + policy.early;
        fork.early_end = End::NeverAnswered;
        fork.session = None;
        fork.presence = [Presence::heard(now, policy); 2];
        fork.invite.reply = None;
        fork.pending.clear();
        fork
    }

    /// The Call-ID.
    pub fn call_id(&self) -> &Bytes {
        &self.call_id
    }

    /// One of its ends.
    pub fn party(&self, side: Side) -> &Party {
        &self.parties[side.index()]
    }

    /// Where it is.
    pub fn state(&self) -> State {
        match (self.phase, self.confirmed) {
            (Phase::Ended(_), _) => State::Ended,
            (Phase::Early | Phase::Closing, None) => State::Early,
            (Phase::Confirmed | Phase::Closing | Phase::Early, _) => {
                if self.holding == [false; 2] {
                    State::Confirmed
                } else {
                    State::Held
                }
            }
        }
    }

    /// Why it ended, if it did.
    pub fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Ended(end) => Some(end),
            Phase::Early | Phase::Confirmed | Phase::Closing => None,
        }
    }

    /// Whether this side holds the other.
    pub fn holds(&self, side: Side) -> bool {
        self.holding[side.index()]
    }

    /// How urgent it is.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// When the INVITE passed.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// When it was accepted.
    pub fn confirmed(&self) -> Option<Duration> {
        self.confirmed
    }

    /// Its session timer.
    pub fn session(&self) -> Option<Session> {
        self.session
    }

    /// The CSeq of the INVITE that began it.
    pub(super) fn invite_cseq(&self) -> u32 {
        self.invite.cseq
    }

    /// Whether a message with these tags is of this dialog, and if so, on which side the one is whose
    /// tag stands in From.
    pub(super) fn sender(&self, from_tag: &[u8], to_tag: &[u8]) -> Option<Side> {
        let [caller, callee] = &self.parties;
        let has = |party: &Party, tag: &[u8]| party.tag.as_deref() == Some(tag);
        if has(caller, from_tag) && has(callee, to_tag) {
            Some(Side::Caller)
        } else if has(callee, from_tag) && has(caller, to_tag) {
            Some(Side::Callee)
        } else {
            None
        }
    }

    /// Takes a request from one side. False if it is older than the last one (§12.2.2), and nothing
    /// came of it.
    pub(super) fn request(
        &mut self,
        now: Duration,
        by: Side,
        facts: &MessageFacts<'_>,
        policy: &Policy,
    ) -> bool {
        let last = &mut self.parties[by.index()].cseq;
        let is_new = last.is_none_or(|last| facts.cseq > last);
        match facts.method {
            // They bear the number of their INVITE, which others may have followed.
            Method::Ack | Method::Cancel => {}
            Method::Invite | Method::Bye | Method::Update | Method::Aside | Method::Other => {
                if last.is_some_and(|last| facts.cseq < last) {
                    return false;
                }
                *last = Some(facts.cseq);
            }
        }
        self.presence[by.index()] = Presence::heard(now, policy);
        match facts.method {
            Method::Invite | Method::Update if is_new => {
                if self.pending.len() >= MOST_PENDING {
                    self.pending.remove(0);
                }
                self.pending.push(Pending {
                    by,
                    cseq: facts.cseq,
                    contact: facts.contact.map(Bytes::copy_from_slice),
                    offer: facts.media,
                    reply: None,
                });
            }
            Method::Ack => self.acknowledged(by, facts),
            Method::Bye => self.life(now, Signal::Bye, policy),
            Method::Invite | Method::Update | Method::Cancel | Method::Aside | Method::Other => {}
        }
        true
    }

    /// Takes a response to a request of one side, except a failure of the INVITE that began it.
    pub(super) fn response(
        &mut self,
        now: Duration,
        to: Side,
        facts: &MessageFacts<'_>,
        status: Status,
        policy: &Policy,
    ) {
        let verdict = liveness::verdict(status);
        // A 100 is the next hop's.
        if status != Status::TRYING && verdict == Verdict::Alive {
            self.presence[to.other().index()] = Presence::heard(now, policy);
        }
        if facts.method == Method::Invite && self.is_invite(to, facts.cseq) {
            return self.invite_response(now, facts, status, policy);
        }
        match (facts.method, status.class()) {
            (Method::Bye, Class::Provisional) | (Method::Ack | Method::Cancel, _) => {}
            (Method::Bye, Class::Success | Class::Failure) => {
                let signal = match status.code() {
                    401 | 407 => Signal::ByeChallenged,
                    _ => Signal::ByeAnswered,
                };
                self.life(now, signal, policy);
            }
            (Method::Invite | Method::Update, Class::Provisional) => {
                if let Some(pending) = self.pending_mut(to, facts.cseq) {
                    pending.reply = pending.reply.or(facts.media);
                }
            }
            (Method::Invite | Method::Update, Class::Success) => {
                self.renew(now, to, facts);
            }
            (Method::Invite | Method::Update, Class::Failure) => {
                self.pending
                    .retain(|pending| (pending.by, pending.cseq) != (to, facts.cseq));
                if verdict == Verdict::Gone {
                    self.life(now, Signal::Denied, policy);
                }
            }
            (Method::Other, _) if verdict == Verdict::Gone => {
                self.life(now, Signal::Denied, policy);
            }
            (Method::Aside | Method::Other, _) => {}
        }
    }

    /// Notes what a question of the observer's was answered with; `None` if it was not.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        by: Side,
        status: Option<Status>,
        policy: &Policy,
    ) {
        let presence = &mut self.presence[by.index()];
        match status.map(liveness::verdict) {
            Some(Verdict::Alive) => *presence = Presence::heard(now, policy),
            Some(Verdict::Inconclusive) => presence.inconclusive(now, policy),
            Some(Verdict::Gone) => self.life(now, Signal::Denied, policy),
            None => {
                if presence.missed(now, policy) == Step::Absent {
                    self.life(now, Signal::Absent, policy);
                }
            }
        }
    }

    /// A request to one side that takes the other's next CSeq, as a BYE does. `None` if the side's
    /// Contact is not known.
    pub(super) fn next_request(&mut self, to: Side) -> Option<InDialog> {
        let cseq = self
            .party(to.other())
            .cseq
            .map_or(1, |cseq| cseq.saturating_add(1));
        let request = self.outgoing(to, cseq)?;
        self.parties[to.other().index()].cseq = Some(cseq);
        Some(request)
    }

    /// A request to one side that leaves the other's CSeq as it is, as an observer's OPTIONS must:
    /// the other does not know of it, and will use the next number itself. What is not lower than the
    /// last is in order (§12.2.2).
    pub fn question(&self, to: Side) -> Option<InDialog> {
        self.outgoing(to, self.party(to.other()).cseq.unwrap_or(1))
    }

    fn outgoing(&self, to: Side, cseq: u32) -> Option<InDialog> {
        let (sender, receiver) = (self.party(to.other()), self.party(to));
        let target = receiver.target.as_ref()?;
        let (request_uri, routes) = route::request_line(target, &receiver.route);
        let tag = |party: &Party| party.tag.clone().filter(|tag| !tag.is_empty());
        Some(InDialog {
            request_uri,
            routes,
            call_id: self.call_id.clone(),
            from: sender.address.clone(),
            from_tag: tag(sender),
            to: receiver.address.clone(),
            to_tag: tag(receiver),
            cseq,
        })
    }

    fn is_invite(&self, by: Side, cseq: u32) -> bool {
        by == Side::Caller && cseq == self.invite.cseq
    }

    fn pending_mut(&mut self, by: Side, cseq: u32) -> Option<&mut Pending> {
        self.pending
            .iter_mut()
            .find(|pending| pending.by == by && pending.cseq == cseq)
    }

    fn invite_response(
        &mut self,
        now: Duration,
        facts: &MessageFacts<'_>,
        status: Status,
        policy: &Policy,
    ) {
        let signal = match (status.code(), status.class()) {
            (199, _) | (_, Class::Failure) => Signal::Refused,
            (100, _) => return,
            (_, Class::Provisional) => Signal::Ringing,
            (_, Class::Success) => Signal::Accepted,
        };
        if self.phase == Phase::Early && signal != Signal::Refused {
            let callee = &mut self.parties[Side::Callee.index()];
            // A success without a tag is one of RFC 2543's (§12.1.2).
            callee.tag = Some(Bytes::copy_from_slice(facts.to_tag.unwrap_or_default()));
            callee.route = route::to_callee(facts.record_route, self.known_routes);
            if let Some(contact) = facts.contact {
                callee.target = Some(Bytes::copy_from_slice(contact));
            }
            self.invite.reply = self.invite.reply.or(facts.media);
            if signal == Signal::Accepted {
                let invite = self.invite.clone();
                self.agree(now, &invite, facts);
            }
        }
        self.life(now, signal, policy);
    }

    /// A renewal succeeded: its targets, its media and its session count from now.
    fn renew(&mut self, now: Duration, by: Side, facts: &MessageFacts<'_>) {
        let found = self
            .pending
            .iter()
            .position(|pending| (pending.by, pending.cseq) == (by, facts.cseq));
        let Some(mut renewal) = found.map(|index| self.pending.remove(index)) else {
            return;
        };
        renewal.reply = renewal.reply.or(facts.media);
        if let Some(contact) = renewal.contact.take() {
            self.parties[by.index()].target = Some(contact);
        }
        if let Some(contact) = facts.contact {
            self.parties[by.other().index()].target = Some(Bytes::copy_from_slice(contact));
        }
        self.agree(now, &renewal, facts);
        if renewal.offer.is_none() && renewal.reply.is_some() && facts.method == Method::Invite {
            // The offer was in the response: the ACK has the answer.
            self.pending.push(renewal);
        }
    }

    /// Takes over media and session of a 2xx.
    fn agree(&mut self, now: Duration, request: &Pending, facts: &MessageFacts<'_>) {
        if let (Some(offer), Some(answer)) = (request.offer, request.reply) {
            self.holding = hold::after(self.holding, request.by, offer, answer);
        }
        // Without it in the response, the session does not expire any more (RFC 4028 §7.2, §9).
        self.session = facts.session_expires.map(|expires| Session {
            until: now + liveness::session_length(expires),
            refresher: expires.refresher.map(|refresher| match refresher {
                Refresher::Uac => request.by,
                Refresher::Uas => request.by.other(),
            }),
        });
    }

    /// An ACK may have the answer to an offer that came with the 2xx.
    fn acknowledged(&mut self, by: Side, facts: &MessageFacts<'_>) {
        let offered = if self.is_invite(by, facts.cseq) {
            // Once: a copy of the ACK must not undo what came after it.
            let is_delayed = self.invite.offer.is_none() && self.confirmed.is_some();
            is_delayed.then(|| self.invite.reply.take()).flatten()
        } else {
            let found = self.pending.iter().position(|pending| {
                (pending.by, pending.cseq) == (by, facts.cseq)
                    && pending.offer.is_none()
                    && pending.reply.is_some()
            });
            found.and_then(|index| self.pending.remove(index).reply)
        };
        if let (Some(offer), Some(answer)) = (offered, facts.media) {
            self.holding = hold::after(self.holding, by.other(), offer, answer);
        }
    }
}
