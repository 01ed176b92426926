//! Calls as they pass an observer, message by message, and calls made up at random.

mod calls;
mod ends;
mod properties;
mod records;

use super::liveness::Policy;
use super::record::Dialog;
use super::table::{DialogId, DialogTable, Event, Observed};
use super::{End, Media, MessageFacts, Method, Priority, Refresher, SessionExpires, Side, State};
use crate::transaction::Status;
use std::time::Duration;

const POLICY: Policy = Policy::DEFAULT;
/// When the calls of these tests begin.
const START: Duration = Duration::from_secs(5_000);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn status(code: u16) -> Status {
    Status::new(code).expect("a status code")
}

/// A caller's request without a To tag.
fn from_caller(method: Method, cseq: u32) -> MessageFacts<'static> {
    MessageFacts {
        call_id: b"call",
        from_tag: b"alice",
        from: b"<sip:alice@example.com>",
        to_tag: None,
        to: b"<sip:bob@example.com>",
        cseq,
        method,
        status: None,
        contact: None,
        record_route: &[],
        media: None,
        session_expires: None,
        priority: Priority::Normal,
    }
}

/// A callee's request.
fn from_callee(method: Method, cseq: u32) -> MessageFacts<'static> {
    MessageFacts {
        from_tag: b"bob",
        from: b"<sip:bob@example.com>",
        to_tag: Some(b"alice"),
        to: b"<sip:alice@example.com>",
        ..from_caller(method, cseq)
    }
}

fn invite() -> MessageFacts<'static> {
    MessageFacts {
        contact: Some(b"sip:alice@192.0.2.1"),
        media: Some(Media::SendRecv),
        ..from_caller(Method::Invite, 1)
    }
}

/// A request within the dialog with bob.
fn within(facts: MessageFacts<'static>) -> MessageFacts<'static> {
    MessageFacts {
        to_tag: facts.to_tag.or(Some(b"bob")),
        ..facts
    }
}

/// A response of bob's, or of alice's to bob.
fn answer(request: MessageFacts<'static>, code: u16) -> MessageFacts<'static> {
    MessageFacts {
        status: Some(status(code)),
        contact: None,
        media: None,
        record_route: &[],
        ..within(request)
    }
}

fn accept(request: MessageFacts<'static>) -> MessageFacts<'static> {
    MessageFacts {
        contact: Some(b"sip:bob@192.0.2.2"),
        media: Some(Media::SendRecv),
        ..answer(request, 200)
    }
}

/// A table and the time.
struct Scene {
    table: DialogTable,
    now: Duration,
    events: Vec<Event>,
}

impl Scene {
    fn new() -> Self {
        Self::with(100, 0)
    }

    fn with(capacity: usize, own_routes: usize) -> Self {
        Self {
            table: DialogTable::new(POLICY, capacity, own_routes),
            now: START,
            events: Vec::new(),
        }
    }

    /// A call that was accepted.
    fn confirmed() -> (Self, DialogId) {
        let mut scene = Self::new();
        let id = scene.began(&invite());
        scene.known(id, &accept(invite()));
        scene.known(id, &within(from_caller(Method::Ack, 1)));
        scene.events.clear();
        (scene, id)
    }

    fn observe(&mut self, facts: &MessageFacts<'_>) -> Observed {
        let observed = self.table.observe(self.now, facts, &mut self.events);
        assert!(self.table.is_consistent());
        observed
    }

    fn began(&mut self, facts: &MessageFacts<'_>) -> DialogId {
        match self.observe(facts) {
            Observed::Began(id) => id,
            other => panic!("not new but {other:?}"),
        }
    }

    fn forked(&mut self, facts: &MessageFacts<'_>) -> DialogId {
        match self.observe(facts) {
            Observed::Forked(id) => id,
            other => panic!("no fork but {other:?}"),
        }
    }

    fn known(&mut self, id: DialogId, facts: &MessageFacts<'_>) {
        assert_eq!(self.observe(facts), Observed::Known(id), "{facts:?}");
    }

    fn dialog(&self, id: DialogId) -> &Dialog {
        self.table.get(id).expect("remembered")
    }

    fn state(&self, id: DialogId) -> State {
        self.dialog(id).state()
    }

    fn end(&self, id: DialogId) -> Option<End> {
        self.dialog(id).end()
    }

    /// Lets time pass, with all that is due on the way.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.table.next_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.table.on_timeout(self.now, &mut self.events);
            assert!(self.table.is_consistent());
        }
        self.now = until;
    }

    /// Whom to ask since the last time, and when that was last due.
    fn asked(&mut self) -> Vec<Side> {
        let events = std::mem::take(&mut self.events).into_iter();
        events
            .filter_map(|event| match event {
                Event::Ask { side, .. } => Some(side),
                Event::State { .. } => None,
            })
            .collect()
    }
}
