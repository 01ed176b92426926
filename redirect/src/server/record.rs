//! The record of calls: what its changes bring about, whom it asks, and how it is emptied.

use super::asking::{Answer, Question, Request};
use super::calls::Entry;
use super::count::Count;
use super::forward::address_of;
use super::ways::{Hop, Way};
use super::{Output, Server};
use lb_proto::call::Call;
use lb_sip::build::BuildError;
use lb_sip::dialog::record::{Dialog, InDialog};
use lb_sip::dialog::table::{Counts, Cursor, DialogId, Event};
use lb_sip::dialog::{Priority, Side, State};
use lb_sip::headers::NameAddr;
use lb_sip::{Method, build};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Calls hung up at a time when the time to drain is over: a BYE to each side is then sent for some
/// hundred calls, and for the next a moment later.
pub(super) const HANG_UP_AT_ONCE: usize = 200;
/// Calls looked at for that, at a time: those that ring or cannot be hung up are passed over.
pub(super) const LOOK_AT_ONCE: usize = 2_000;
/// That moment.
pub(super) const NEXT_HANG_UP: Duration = Duration::from_millis(100);
/// How often it is looked whether the calls that were promised a slot still may come.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The node is being emptied.
#[derive(Debug)]
pub(super) struct Drain {
    /// When calls that are left are hung up next, if they are to be.
    hang_up: Option<Duration>,
    /// The call behind which the next ones are looked for, from the first when there is none.
    after: Option<Cursor>,
    /// When the time to drain is over, if it ever is.
    deadline: Option<Duration>,
    /// There is no call, but slots are promised to some that may come: when to look again.
    look: Option<Duration>,
    /// It was said that the last call has gone, and none has come since.
    is_said: bool,
}

impl Drain {
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        [self.hang_up, self.look].into_iter().flatten().min()
    }
}

/// A call, as people and programs read it. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallReport {
    pub call_id: String,
    /// `early`, `confirmed` or `held`.
    pub state: String,
    pub from: String,
    pub to: String,
    pub priority: String,
    /// Since its INVITE.
    pub age_ms: u64,
    /// Since it was answered.
    pub answered_ms: Option<u64>,
    /// Until its session ends, if it has a timer.
    pub session_ms: Option<u64>,
    /// It was redirected here from another node, which is its home.
    pub away: bool,
    /// The node's own SIP server called.
    pub outgoing: bool,
}

impl Server {
    /// Empties the node: new calls are offered elsewhere, old ones stay, until `deadline` if there is
    /// one.
    pub(crate) fn drain(
        &mut self,
        now: Duration,
        deadline: Option<Duration>,
        out: &mut Vec<Output>,
    ) {
        self.gate.set_draining(true);
        let is_said = self.drain.as_ref().is_some_and(|drain| drain.is_said);
        let deadline = deadline.map(|after| now + after);
        self.drain = Some(Drain {
            hang_up: deadline,
            after: None,
            deadline,
            look: None,
            is_said,
        });
        self.say_if_drained(now, out);
    }

    /// Takes calls again.
    pub(crate) fn undrain(&mut self) {
        self.gate.set_draining(false);
        self.drain = None;
    }

    /// Whether it is being emptied, and whether it is empty.
    pub(crate) fn draining(&self) -> (bool, bool) {
        match &self.drain {
            Some(drain) => (true, drain.is_said),
            None => (false, false),
        }
    }

    /// How many dialogs there are in each state.
    pub(crate) fn dialogs(&self) -> Counts {
        self.dialogs.counts()
    }

    /// Some calls, the most urgent and then the oldest first, behind the place where the last page
    /// ended.
    pub(crate) fn page(
        &self,
        now: Duration,
        after: Option<Cursor>,
        limit: usize,
    ) -> (Vec<CallReport>, Option<Cursor>) {
        let page = self.dialogs.page(after, limit);
        let describe = |(_, dialog): &(DialogId, &Dialog)| self.describe(now, dialog);
        (page.dialogs.iter().map(describe).collect(), page.next)
    }

    fn describe(&self, now: Duration, dialog: &Dialog) -> CallReport {
        use super::calls::Residence;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let age = |since: Duration| crate::report::milliseconds(now.saturating_sub(since));
        let entry = self.calls.get(self.call_of(dialog));
        CallReport {
            call_id: text(dialog.call_id()),
            state: state_name(dialog.state()).to_owned(),
            from: text(&dialog.party(Side::Caller).address),
            to: text(&dialog.party(Side::Callee).address),
            priority: match dialog.priority() {
                Priority::NonUrgent => "non-urgent",
                Priority::Normal => "normal",
                Priority::Urgent => "urgent",
                Priority::Emergency => "emergency",
            }
            .to_owned(),
            age_ms: age(dialog.started()),
            answered_ms: dialog.confirmed().map(age),
            session_ms: dialog
                .session()
                .map(|session| crate::report::milliseconds(session.until.saturating_sub(now))),
            away: entry.is_some_and(|entry| !matches!(entry.residence, Residence::Known)),
            outgoing: entry.is_some_and(|entry| entry.is_outgoing),
        }
    }

    /// Draws the consequences of what happened to dialogs.
    pub(super) fn settle(&mut self, now: Duration, out: &mut Vec<Output>) {
        while !self.events.is_empty() {
            let mut events = std::mem::take(&mut self.events);
            for event in events.drain(..) {
                match event {
                    Event::State { id, from: None, .. } => {
                        self.call_comes();
                        self.note_call_id(id);
                    }
                    Event::State {
                        id,
                        to: State::Ended,
                        ..
                    } => self.end_if_over(now, id, out),
                    Event::State {
                        id,
                        from: Some(State::Early),
                        ..
                    } => self.forget_invite(id),
                    Event::State { .. } => {}
                    Event::Ask { id, side } => self.ask(now, id, side, out),
                }
            }
            // Its room is used again, unless there is something in the new one.
            if self.events.is_empty() {
                self.events = events;
                break;
            }
        }
    }

    /// It was accepted.
    fn forget_invite(&mut self, id: DialogId) {
        if let Some(dialog) = self.dialogs.get(id) {
            let call = self.call_of(dialog);
            self.calls.take_invite(call);
        }
    }

    /// It began, and may be the first of its call.
    fn note_call_id(&mut self, id: DialogId) {
        let Some(dialog) = self.dialogs.get(id) else {
            return;
        };
        let call = self.call_of(dialog);
        if let Some(entry) = self.calls.get_mut(call)
            && entry.call_id.is_empty()
        {
            entry.call_id = dialog.call_id().clone();
        }
    }

    /// It is over, and with it its call if it has no other.
    fn end_if_over(&mut self, now: Duration, id: DialogId, out: &mut Vec<Output>) {
        let call = self.dialogs.get(id).map(|dialog| self.call_of(dialog));
        if let Some(call) = call.filter(|call| self.is_over(*call)) {
            self.end(now, call, out);
        }
    }

    /// Whether a call is there whose dialogs are over.
    fn is_over(&self, call: Call) -> bool {
        let entry = self.calls.get(call);
        entry.is_some_and(|entry| self.live_dialogs(entry).next().is_none())
    }

    /// The dialogs of a call that are not over, in the order in which they began.
    pub(super) fn live_dialogs(&self, entry: &Entry) -> impl Iterator<Item = (DialogId, &Dialog)> {
        let dialogs = self.dialogs.of_call(&entry.call_id);
        dialogs.filter(|(_, dialog)| dialog.end().is_none())
    }

    /// A call for which an entry was made, but whose INVITE began no dialog: it came again after all
    /// was over.
    pub(super) fn forget_if_over(&mut self, now: Duration, call: Call, out: &mut Vec<Output>) {
        self.settle(now, out);
        if self.is_over(call) {
            self.end(now, call, out);
        } else if self.calls.get(call).is_none() {
            self.gate.end(call);
            self.say_if_drained(now, out);
        }
    }

    fn end(&mut self, now: Duration, call: Call, out: &mut Vec<Output>) {
        for (to, bytes) in self.calls.end(call) {
            out.push(Output::Send { to, bytes });
        }
        self.gate.end(call);
        self.say_if_drained(now, out);
    }

    /// Says once that a node that is being emptied is empty: no call is there, and none may come that
    /// was promised a slot.
    pub(super) fn say_if_drained(&mut self, now: Duration, out: &mut Vec<Output>) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.is_said) else {
            return;
        };
        let facts = self.gate.facts(now);
        let has_none = facts.active == 0 && self.dialogs.calls() == 0;
        let is_promised = facts.free < self.gate.slots().capacity();
        drain.look = (has_none && is_promised).then_some(now + LOOK_AGAIN);
        if has_none && !is_promised {
            drain.is_said = true;
            out.push(Output::Drained);
        }
    }

    /// A call comes to a node that was empty: one that its SIP server makes, perhaps.
    fn call_comes(&mut self) {
        if let Some(drain) = self.drain.as_mut().filter(|drain| drain.is_said) {
            drain.is_said = false;
            drain.hang_up = drain.deadline;
        }
    }

    /// Hangs up what is left when the time to drain is over. Calls that ring are left to be answered
    /// or refused, and come in a later round, as do all for whose BYEs there is no room now.
    pub(super) fn drain_on(&mut self, now: Duration, out: &mut Vec<Output>) {
        let Some(drain) = self.drain.as_mut() else {
            return;
        };
        if drain.hang_up.is_none_or(|at| at > now) {
            return;
        }
        drain.hang_up = (!drain.is_said).then_some(now + NEXT_HANG_UP);
        let mut after = drain.after;
        let mut left = HANG_UP_AT_ONCE;
        'round: for _ in 0..LOOK_AT_ONCE / HANG_UP_AT_ONCE {
            let page = self.dialogs.page(after, HANG_UP_AT_ONCE);
            let ids: Vec<DialogId> = page.dialogs.iter().map(|(id, _)| *id).collect();
            let next = page.next;
            for id in ids {
                // What is left of this page is looked at again.
                if left == 0 || self.asking.room() < Side::BOTH.len() {
                    break 'round;
                }
                left -= usize::from(self.hang_up(now, id, out));
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        if let Some(drain) = self.drain.as_mut() {
            drain.after = after;
        }
    }

    /// Ends a call: a BYE to each side. Whether it is hung up: one that rings, or whose sides cannot
    /// be told, stays until it ends by itself.
    pub(super) fn hang_up(&mut self, now: Duration, id: DialogId, out: &mut Vec<Output>) -> bool {
        let Some(dialog) = self.dialogs.get(id) else {
            return false;
        };
        let call = self.call_of(dialog);
        let has_way = |side: &Side| {
            let (entry, bye) = (self.calls.get(call), dialog.question(*side));
            let way = |(entry, bye)| self.way_of_own(entry, *side, &bye);
            entry.zip(bye).and_then(way).is_some()
        };
        if dialog.state() == State::Early || !Side::BOTH.iter().any(has_way) {
            return false;
        }
        let byes = self.dialogs.hang_up(now, id, &mut self.events);
        let is_hung_up = byes.is_ok();
        for (side, bye) in Side::BOTH.into_iter().zip(byes.into_iter().flatten()) {
            self.send_own(now, call, side, &bye, Method::Bye, None, out);
        }
        self.settle(now, out);
        is_hung_up
    }

    fn ask(&mut self, now: Duration, id: DialogId, side: Side, out: &mut Vec<Output>) {
        let Some(dialog) = self.dialogs.get(id) else {
            return;
        };
        let call = self.call_of(dialog);
        match dialog.question(side) {
            Some(question) => {
                let about = Some((id, side));
                self.send_own(now, call, side, &question, Method::Options, about, out);
            }
            // It is asked again, and at last taken for absent.
            None => self.counts.add(Count::AskFailed),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is another thing")]
    fn send_own(
        &mut self,
        now: Duration,
        call: Call,
        side: Side,
        request: &InDialog,
        method: Method,
        question: Question,
        out: &mut Vec<Output>,
    ) {
        let Some(to) = self
            .calls
            .get(call)
            .and_then(|entry| self.way_of_own(entry, side, request))
        else {
            self.counts.add(Count::AskFailed);
            return;
        };
        self.send_own_to(now, to, request, method, question, out);
    }

    /// Sends a request of ours that goes there.
    pub(super) fn send_own_to(
        &mut self,
        now: Duration,
        to: Hop,
        request: &InDialog,
        method: Method,
        question: Question,
        out: &mut Vec<Output>,
    ) {
        let sent = match self.own_request(to, request, method) {
            Ok(request) => self.asking.send(now, request, question, out).is_ok(),
            Err(_) => false,
        };
        self.counts
            .add(if sent { Count::Asked } else { Count::AskFailed });
    }

    /// A request of ours that goes there.
    pub(super) fn own_request(
        &mut self,
        to: Hop,
        request: &InDialog,
        method: Method,
    ) -> Result<Request, BuildError> {
        let branch = format!("pmo{:016x}", self.fresh());
        let transport = match to.way {
            Way::Datagram(_) => "UDP",
            Way::Stream(_) => "TCP",
        };
        let via = build::via(transport, self.settings.ways.address(to.way), &branch);
        let branch = format!("z9hG4bK{branch}");
        Request::within(request, method, &via, &branch, to)
    }

    /// Where a request of ours goes that is for one side of a call.
    pub(super) fn way_of_own(&self, entry: &Entry, side: Side, request: &InDialog) -> Option<Hop> {
        let is_inside = (side == Side::Caller) == entry.is_outgoing;
        if is_inside {
            return self.settings.ways.hop_to(entry.inner, None);
        }
        if matches!(entry.outer.way, Way::Stream(_)) {
            return Some(entry.outer);
        }
        let uri = match request.routes.first() {
            Some(route) => NameAddr::parse(route)?.uri,
            None => &request.request_uri,
        };
        match address_of(uri) {
            Some(address) => self.settings.ways.hop_to(address, Some(entry.outer.way)),
            None => Some(entry.outer),
        }
    }

    /// Answers to own questions came, or did not.
    pub(super) fn answered(&mut self, now: Duration, answers: Vec<Answer>, out: &mut Vec<Output>) {
        for (id, side, status) in answers {
            self.dialogs
                .answered(now, id, side, status, &mut self.events);
        }
        self.settle(now, out);
    }

    pub(super) fn call_of(&self, dialog: &Dialog) -> Call {
        Call::of(self.secret, dialog.call_id())
    }
}

/// The word for a state.
pub(crate) const fn state_name(state: State) -> &'static str {
    match state {
        State::Early => "early",
        State::Confirmed => "confirmed",
        State::Held => "held",
        State::Ended => "ended",
    }
}
