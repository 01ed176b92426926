//! The calls that pass, by call key: where their two sides are, and whether the load balancers know
//! that they live here.

use super::keyed::KeyedMap;
use super::{Hop, Way};
use bytes::Bytes;
use lb_proto::call::Call;
use std::net::SocketAddr;
use std::time::Duration;

/// Answers of one call that wait for its report. What comes beyond goes out at once; chosen: a 183, a
/// 180, a 200 and a copy of each.
pub(crate) const MOST_HELD: usize = 6;

/// How long an answer waits for the load balancers to know where the call lives. Chosen: five times
/// what a report and its acknowledgement take on a busy local network; then it is the lesser evil that
/// an in-dialog request may go astray once.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

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
    /// Dialogs that are not over.
    pub live: u32,
    /// The SIP server, or the node that the call is forwarded to.
    pub inner: SocketAddr,
    /// Where its first INVITE came from or went to; on a stream, where its last request came from.
    pub outer: Hop,
    /// Whether the SIP server called.
    pub is_outgoing: bool,
    pub residence: Residence,
}

impl Entry {
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
    /// Calls with answers that wait, by when the first was held: few, and for an instant.
    waiting: Vec<(Duration, Call)>,
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
    }

    /// Forgets a call whose last dialog is over. Answers that wait go out with it.
    pub(crate) fn end(&mut self, call: Call) -> Vec<(Hop, Bytes)> {
        self.waiting.retain(|(_, waiting)| *waiting != call);
        match self.entries.remove(&call).map(|entry| entry.residence) {
            Some(Residence::Reporting { held, .. }) => held,
            Some(Residence::Known | Residence::Reported) | None => Vec::new(),
        }
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
        self.entries.len()
    }
}
