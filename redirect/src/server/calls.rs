//! The calls that pass, by call key: where their two sides are, and whether the load balancers know
//! that they live here.

use super::branch::Transaction;
use super::keyed::KeyedMap;
use super::ways::{Hop, Way};
use bytes::Bytes;
use lb_proto::call::Call;
use lb_sip::dialog::table::DialogId;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::Duration;

/// Answers of one call that wait for its report. What comes beyond goes out at once; chosen: a 183, a
/// 180, a 200 and a copy of each.
pub(crate) const MOST_HELD: usize = 6;

/// How long an answer waits for the load balancers to know where the call lives. Chosen: five times
/// what a report and its acknowledgement take on a busy local network; then it is the lesser evil that
/// an in-dialog request may go astray once.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

/// Bytes of the INVITEs that are kept while their calls ring, at most: one of usual length is 1 to 2 kB,
/// so that some 40,000 fit. When it is full, further ones are not kept, and their calls cannot be
/// refused any more once they have gone on.
pub(crate) const MOST_KEPT: usize = 64 << 20;

/// An INVITE that went on and has no final response.
#[derive(Debug)]
pub(crate) struct Invite {
    /// The dialog that it began. Its forks came later, and what it came in the place of came before.
    pub began: DialogId,
    pub transaction: Transaction,
    /// Where it went.
    pub to: Hop,
    /// As it went.
    pub bytes: Bytes,
    /// A provisional response came: it may be cancelled (RFC 3261 §9.1).
    pub is_provisional: bool,
}

/// Whether the load balancers know that the call lives here.
#[derive(Debug, Default)]
pub(crate) enum Residence {
    /// They sent it here themselves.
    #[default]
    Known,
    /// They were not told yet; answers wait.
    Reporting {
        held: Vec<(Hop, Bytes)>,
        /// When what is held goes out; `None` while nothing is.
        until: Option<Duration>,
    },
    /// They said that they know, or answers went out without.
    Reported,
}

/// A call that has a dialog which is not over, or is about to.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The SIP server, or the node that the call is forwarded to.
    pub inner: SocketAddr,
    /// Where its first INVITE came from or went to; on a stream, where its last request came from.
    pub outer: Hop,
    /// Whether the SIP server called.
    pub is_outgoing: bool,
    /// Whether another node has forwarded it here, through itself.
    pub is_behind_node: bool,
    pub residence: Residence,
    /// Empty before its first dialog.
    pub call_id: Bytes,
    /// Its INVITE, while it rings.
    pub invite: Option<Box<Invite>>,
}

impl Entry {
    /// A call between the SIP server, or another node, and a peer.
    pub(crate) fn new(inner: SocketAddr, outer: Hop, is_outgoing: bool) -> Self {
        Self {
            inner,
            outer,
            is_outgoing,
            is_behind_node: false,
            residence: Residence::Known,
            call_id: Bytes::new(),
            invite: None,
        }
    }

    /// A request of the call comes: if the peer has opened another connection, what goes to it goes
    /// there from now on.
    pub(crate) fn follow(&mut self, from: Hop) {
        let are_streams = matches!((self.outer.way, from.way), (Way::Stream(_), Way::Stream(_)));
        if are_streams && self.outer.address.ip() == from.address.ip() {
            self.outer = from;
        }
    }
}

/// All of them. There are never more than dialogs in the record, and one.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    entries: KeyedMap<Call, Entry>,
    /// The keys of all of them: those who walk through them over time need an order that stays.
    order: BTreeSet<Call>,
    /// Calls with answers that wait, by when the first was held: few, and for an instant.
    waiting: Vec<(Duration, Call)>,
    /// Bytes of the INVITEs that are kept.
    kept: usize,
}

impl Calls {
    pub(crate) fn get(&self, call: Call) -> Option<&Entry> {
        self.entries.get(&call)
    }

    pub(crate) fn get_mut(&mut self, call: Call) -> Option<&mut Entry> {
        self.entries.get_mut(&call)
    }

    /// A call begins, unless it is there already.
    pub(crate) fn begin(&mut self, call: Call, entry: Entry) {
        self.entries.entry(call).or_insert(entry);
        self.order.insert(call);
    }

    /// Forgets a call whose last dialog is over. Answers that wait go out with it.
    pub(crate) fn end(&mut self, call: Call) -> Vec<(Hop, Bytes)> {
        self.waiting.retain(|(_, waiting)| *waiting != call);
        self.take_invite(call);
        self.order.remove(&call);
        match self.entries.remove(&call).map(|entry| entry.residence) {
            Some(Residence::Reporting { held, .. }) => held,
            Some(Residence::Known | Residence::Reported) | None => Vec::new(),
        }
    }

    /// Keeps a call's INVITE in the place of one before. Whether there was room.
    pub(crate) fn keep_invite(&mut self, call: Call, invite: Invite) -> bool {
        self.take_invite(call);
        let Some(entry) = self.entries.get_mut(&call) else {
            return true;
        };
        let has_room = self.kept + invite.bytes.len() <= MOST_KEPT;
        if has_room {
            self.kept += invite.bytes.len();
            entry.invite = Some(Box::new(invite));
        }
        has_room
    }

    /// Takes out a call's INVITE: it has been answered, or is to be.
    pub(crate) fn take_invite(&mut self, call: Call) -> Option<Invite> {
        let invite = self.entries.get_mut(&call)?.invite.take()?;
        self.kept -= invite.bytes.len();
        Some(*invite)
    }

    /// The same, if a dialog is one that it began.
    pub(crate) fn take_invite_of(&mut self, call: Call, dialog: DialogId) -> Option<Invite> {
        let invite = self.entries.get(&call)?.invite.as_ref()?;
        if invite.began > dialog {
            return None;
        }
        self.take_invite(call)
    }

    /// Those behind one, in the order of their keys. It need not be there any more.
    pub(crate) fn behind(&self, after: Option<Call>) -> impl Iterator<Item = (Call, &Entry)> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let calls = self.order.range((begin, Bound::Unbounded));
        calls.filter_map(|call| Some((*call, self.entries.get(call)?)))
    }

    /// Keeps an answer back, if its call is one of which the load balancers do not know yet. Whether
    /// it is kept.
    pub(crate) fn hold(&mut self, now: Duration, call: Call, to: Hop, bytes: &Bytes) -> bool {
        let Some(Residence::Reporting { held, until }) = self
            .entries
            .get_mut(&call)
            .map(|entry| &mut entry.residence)
        else {
            return false;
        };
        if held.len() >= MOST_HELD {
            return false;
        }
        if until.is_none() {
            *until = Some(now + PATIENCE);
            self.waiting.push((now + PATIENCE, call));
        }
        held.push((to, bytes.clone()));
        true
    }

    /// The load balancers know, or are waited for no longer: what was kept back.
    pub(crate) fn release(&mut self, call: Call) -> Vec<(Hop, Bytes)> {
        let Some(entry) = self.entries.get_mut(&call) else {
            return Vec::new();
        };
        match &mut entry.residence {
            Residence::Reporting { held, .. } => {
                let held = std::mem::take(held);
                entry.residence = Residence::Reported;
                self.waiting.retain(|(_, waiting)| *waiting != call);
                held
            }
            Residence::Known | Residence::Reported => Vec::new(),
        }
    }

    /// When [`Calls::overdue`] has something next.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.waiting.first().map(|(until, _)| *until)
    }

    /// A call whose answers have waited long enough.
    pub(crate) fn overdue(&self, now: Duration) -> Option<Call> {
        let (until, call) = self.waiting.first()?;
        (*until <= now).then_some(*call)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.entries.len(), self.order.len());
        self.entries.len()
    }
}
