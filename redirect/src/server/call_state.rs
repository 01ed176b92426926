//! What a load balancer that takes over is told of the calls.
//!
//! A call is told as one, however many dialogs it has here (forks, RFC 3261 §12.1; attempts that came
//! again with credentials): the steering knows no more of it than its Call-ID. It is told as that of its
//! dialogs which has come farthest. Calls that another node has forwarded here are not told: the load
//! balancers know them by that node, and a pin to this one would lead past it.

use super::calls::{Entry, Residence};
use super::{Output, Server};
use lb_proto::call::Call;
use lb_proto::call_state::record::{self, CallRecord};
use lb_proto::call_state::responder::Calls;
use lb_proto::call_state::{self, CallKey, Designated, Place};
use lb_sip::dialog::record::Dialog;
use lb_sip::dialog::table::{Cursor, DialogId};
use lb_sip::dialog::{Priority, Side, State};
use std::cmp::Reverse;
use std::time::Duration;

impl Server {
    /// The calls as they are at a moment, for whom a controller asks
    /// ([`Responder::message`](call_state::responder::Responder::message)). What a reset sends comes
    /// out in `out`.
    pub(crate) fn calls_at<'a>(
        &'a mut self,
        now: Duration,
        out: &'a mut Vec<Output>,
    ) -> CallsAt<'a> {
        CallsAt {
            server: self,
            now,
            out,
        }
    }

    /// Calls behind one, of which `most` are looked at, in the order of their keys: that stays, whatever
    /// begins and ends. And the call behind which the next ones are, if there are any.
    pub(crate) fn call_keys(
        &self,
        after: Option<Call>,
        most: usize,
    ) -> (Vec<CallKey>, Option<Call>) {
        let key = |(call, entry): &(Call, &Entry)| {
            let told = self.told(entry)?;
            Some(CallKey {
                call: *call,
                state: state(told.dialog)?,
                priority: priority(told.dialog.priority()),
            })
        };
        let mut behind = self.calls.behind(after);
        let calls: Vec<(Call, &Entry)> = behind.by_ref().take(most).collect();
        let last = calls.last().map(|(call, _)| *call);
        let next = last.filter(|_| behind.next().is_some());
        (calls.iter().filter_map(key).collect(), next)
    }

    /// Records of calls, the most urgent and then the oldest first, behind a place: of `limit` dialogs
    /// at most. And the place behind which the next page begins, if there is one.
    ///
    /// A call stands at the place of the first of its dialogs that are not over.
    pub(crate) fn call_records(
        &self,
        now: Duration,
        after: Option<Place>,
        limit: usize,
    ) -> (Vec<CallRecord<'_>>, Option<Place>) {
        let after = after.and_then(|place| Cursor::from_words(place.0));
        let page = self.dialogs.page(after, limit);
        let record = |(id, dialog): &(DialogId, &Dialog)| {
            let call = self.call_of(dialog);
            let told = self.told(self.calls.get(call)?)?;
            (told.first == *id).then(|| self.record(now, call, &told))?
        };
        let records = page.dialogs.iter().filter_map(record).collect();
        (records, page.next.map(|next| Place(next.to_words())))
    }

    /// The records of these calls, without those that are not there.
    pub(crate) fn call_records_of(&self, now: Duration, calls: &[Call]) -> Vec<CallRecord<'_>> {
        let record = |call: &Call| {
            let told = self.told(self.calls.get(*call)?)?;
            self.record(now, *call, &told)
        };
        calls.iter().filter_map(record).collect()
    }

    /// What stands for a call.
    fn told<'a>(&'a self, entry: &'a Entry) -> Option<Told<'a>> {
        if entry.is_behind_node {
            return None;
        }
        let mut live = self.live_dialogs(entry).peekable();
        let (first, dialog) = *live.peek()?;
        let mut told = Told {
            entry,
            dialog,
            first,
            dialogs: 0,
        };
        // The order of pages; of dialogs that began at once, the one that is in the list before.
        let place = |dialog: &Dialog| (Reverse(dialog.priority()), dialog.started());
        let mut best = place(dialog);
        for (id, dialog) in live {
            told.dialogs = told.dialogs.saturating_add(1);
            if place(dialog) < best {
                (told.first, best) = (id, place(dialog));
            }
            if told.dialog.state() == State::Early && dialog.state() != State::Early {
                told.dialog = dialog;
            }
        }
        Some(told)
    }

    fn record<'a>(&'a self, now: Duration, call: Call, told: &Told<'a>) -> Option<CallRecord<'a>> {
        let Told { entry, dialog, .. } = told;
        let side = |side: Side| {
            let party = dialog.party(side);
            record::Side {
                address: &party.address,
                tag: party.tag.as_deref(),
                cseq: party.cseq,
            }
        };
        let session = dialog.session();
        Some(CallRecord {
            call,
            call_id: dialog.call_id(),
            caller: side(Side::Caller),
            callee: side(Side::Callee),
            state: state(dialog)?,
            priority: priority(dialog.priority()),
            age: now.saturating_sub(dialog.started()),
            answered: dialog.confirmed().map(|since| now.saturating_sub(since)),
            session: session.map(|session| session.until.saturating_sub(now)),
            away: !matches!(entry.residence, Residence::Known),
            outgoing: entry.is_outgoing,
            cut: false,
            dialogs: told.dialogs,
            node: self.settings.node,
        })
    }
}

/// A call, by one of its dialogs.
struct Told<'a> {
    entry: &'a Entry,
    /// The one that has come farthest.
    dialog: &'a Dialog,
    /// The first in the order of pages.
    first: DialogId,
    /// How many are not over.
    dialogs: u8,
}

/// `None` for what is over.
fn state(dialog: &Dialog) -> Option<call_state::State> {
    match dialog.state() {
        State::Early => Some(call_state::State::Early),
        State::Confirmed => Some(call_state::State::Confirmed),
        State::Held => Some(call_state::State::Held),
        State::Ended => None,
    }
}

fn priority(priority: Priority) -> call_state::Priority {
    match priority {
        Priority::NonUrgent => call_state::Priority::NonUrgent,
        Priority::Normal => call_state::Priority::Normal,
        Priority::Urgent => call_state::Priority::Urgent,
        Priority::Emergency => call_state::Priority::Emergency,
    }
}

/// The calls of a redirect server; see [`Server::calls_at`].
#[derive(Debug)]
pub(crate) struct CallsAt<'a> {
    server: &'a mut Server,
    now: Duration,
    out: &'a mut Vec<Output>,
}

impl Calls for CallsAt<'_> {
    fn keys(&self, after: Option<Call>, most: usize) -> (Vec<CallKey>, Option<Call>) {
        self.server.call_keys(after, most)
    }

    fn page(&self, after: Option<Place>, limit: usize) -> (Vec<CallRecord<'_>>, Option<Place>) {
        self.server.call_records(self.now, after, limit)
    }

    fn records_of(&self, calls: &[Call]) -> Vec<CallRecord<'_>> {
        self.server.call_records_of(self.now, calls)
    }

    fn reset(&mut self, designated: Designated) {
        self.server.reset(self.now, designated, self.out);
    }

    fn left(&self) -> usize {
        self.server.reset_left()
    }
}
