//! Calls made up at random: the books agree at every step, and everything ends.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const TAGS: [&[u8]; 4] = [b"alice", b"bob", b"carol", b""];
const CALL_IDS: [&[u8]; 3] = [b"1", b"2", b"3"];
const METHODS: [Method; 7] = [
    Method::Invite,
    Method::Ack,
    Method::Bye,
    Method::Cancel,
    Method::Update,
    Method::Aside,
    Method::Other,
];
const CODES: [u16; 10] = [100, 180, 183, 199, 200, 200, 407, 481, 486, 503];

#[derive(Clone, Debug)]
enum Op {
    Message {
        call: usize,
        from: usize,
        to: Option<usize>,
        method: usize,
        cseq: u32,
        code: Option<usize>,
        media: Option<Media>,
        session: Option<u64>,
        priority: Priority,
    },
    Pass(u64),
    Answer(usize, Option<usize>),
    HangUp(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let media = prop_oneof![
        Just(Media::SendRecv),
        Just(Media::SendOnly),
        Just(Media::RecvOnly),
        Just(Media::Inactive)
    ];
    let priority = prop_oneof![
        Just(Priority::NonUrgent),
        Just(Priority::Normal),
        Just(Priority::Emergency)
    ];
    // Numbers are few, so that messages meet the dialogs of others.
    let message = (
        (
            0..CALL_IDS.len(),
            0..2_usize,
            prop::option::of(0..TAGS.len()),
        ),
        (0..METHODS.len() + 4, 1..4_u32),
        (
            prop::option::of(0..CODES.len()),
            prop::option::of(media),
            prop::option::of(0..4_000_u64),
            priority,
        ),
    )
        .prop_map(
            |((call, from, to), (method, cseq), (code, media, session, priority))| Op::Message {
                call,
                from,
                to,
                // INVITEs make up half of it.
                method: method.saturating_sub(4),
                cseq,
                code,
                media,
                session,
                priority,
            },
        );
    let op = prop_oneof![
        12 => message,
        2 => (0..2_000_u64).prop_map(Op::Pass),
        1 => (0..8_usize, prop::option::of(0..CODES.len())).prop_map(|(id, code)| Op::Answer(id, code)),
        1 => (0..8_usize).prop_map(Op::HangUp),
    ];
    prop::collection::vec(op, 0..120)
}

/// The table, and its books kept once more by naive means.
struct Books {
    scene: Scene,
    ids: BTreeSet<DialogId>,
    over: BTreeSet<DialogId>,
}

impl Books {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Message {
                call,
                from,
                to,
                method,
                cseq,
                code,
                media,
                session,
                priority,
            } => {
                let facts = MessageFacts {
                    call_id: CALL_IDS[*call],
                    from_tag: TAGS[*from],
                    to_tag: to.map(|to| TAGS[to]),
                    method: METHODS[*method],
                    status: code.map(|code| status(CODES[code])),
                    media: *media,
                    session_expires: session.map(|interval| SessionExpires {
                        interval: seconds(interval),
                        refresher: None,
                    }),
                    priority: *priority,
                    ..MessageFacts {
                        cseq: *cseq,
                        ..invite()
                    }
                };
                let before: Vec<DialogId> = self.live();
                match self.scene.observe(&facts) {
                    Observed::Began(id) | Observed::Forked(id) => assert!(!before.contains(&id)),
                    Observed::Known(id) | Observed::OutOfOrder(id) => {
                        assert!(self.scene.table.get(id).is_some());
                    }
                    Observed::Unknown => assert_eq!(before, self.live()),
                    Observed::Full => {
                        assert!(facts.to_tag.is_none() || facts.status.is_some());
                    }
                }
            }
            Op::Pass(time) => self.scene.pass(seconds(*time)),
            Op::Answer(index, code) => {
                if let Some(id) = self.ids.iter().nth(*index).copied() {
                    let answer = code.map(|code| status(CODES[code]));
                    let Scene { table, now, events } = &mut self.scene;
                    table.answered(*now, id, Side::Callee, answer, events);
                }
            }
            Op::HangUp(index) => {
                if let Some(id) = self.ids.iter().nth(*index).copied() {
                    let Scene { table, now, events } = &mut self.scene;
                    if table.hang_up(*now, id, events).is_ok() {
                        assert_eq!(self.scene.end(id), Some(End::HungUp));
                    }
                }
            }
        }
        self.check();
    }

    fn live(&self) -> Vec<DialogId> {
        self.scene
            .table
            .page(None, usize::MAX)
            .dialogs
            .into_iter()
            .map(|(id, _)| id)
            .collect()
    }

    fn check(&mut self) {
        assert!(self.scene.table.is_consistent());
        for event in std::mem::take(&mut self.scene.events) {
            match event {
                Event::State { id, from, to } => {
                    assert!(!self.over.contains(&id), "news of what is over");
                    assert_eq!(self.ids.insert(id), from.is_none());
                    assert!(from.is_none_or(|from| from != to));
                    // Nothing that was accepted is early again.
                    let was_accepted = matches!(from, Some(State::Confirmed | State::Held));
                    assert!(!(was_accepted && to == State::Early));
                    if to == State::Ended {
                        self.over.insert(id);
                    }
                }
                Event::Ask { id, .. } => assert!(self.ids.contains(&id)),
            }
        }
        let live: Vec<DialogId> = self.ids.difference(&self.over).copied().collect();
        let mut sorted = live;
        sorted.sort_by_key(|id| {
            let dialog = self.scene.dialog(*id);
            (std::cmp::Reverse(dialog.priority()), dialog.started(), *id)
        });
        assert_eq!(self.live(), sorted, "pages against a sort");
    }
}

proptest! {
    #[test]
    fn books_agree_and_everything_ends(ops in ops()) {
        let mut books = Books {
            scene: Scene::with(8, 0),
            ids: BTreeSet::new(),
            over: BTreeSet::new(),
        };
        for op in &ops {
            books.apply(op);
        }
        // With nothing more, and nobody who answers, all ends: early ones in minutes, accepted ones
        // when nobody answered twice.
        books.scene.pass(POLICY.early + POLICY.silence + POLICY.give_up * 4 + POLICY.retry);
        books.check();
        prop_assert!(books.live().is_empty());
        books.scene.pass(POLICY.remember);
        prop_assert_eq!(books.scene.table.next_timeout(), None);
    }
}
