//! Answers that are made in portions, while calls begin and end between them.

use super::record::{Record, Truth};
use super::scene::{CLUSTER, CONTROLLER, TERM};
use crate::call::Call;
use crate::call_state::responder::{self, Responder};
use crate::call_state::wire::{self, Message, Request};
use crate::call_state::{Priority, State};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

/// What a controller asks for.
#[derive(Clone, Copy, Debug)]
enum Question {
    Keys,
    Page,
    Named,
}

/// A call begins, or ends.
#[derive(Clone, Copy, Debug)]
struct Turn {
    call: u64,
    begins: bool,
}

/// Of few calls, so that one often ends and begins again.
fn call() -> impl Strategy<Value = u64> {
    0..60_u64
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = (call(), any::<bool>()).prop_map(|(call, begins)| Turn { call, begins });
    proptest::collection::vec(turn, 0..6)
}

/// How urgent a call is, and when it began, are its own: it begins again as what it was.
fn truth(call: u64) -> Truth {
    Truth {
        state: State::Confirmed,
        priority: Priority::ALL[(call % 4) as usize],
        started: Duration::from_secs(call * 7 % 13),
    }
}

/// A node with these calls that is asked something.
fn asked(question: Question, calls: &BTreeSet<u64>) -> (Responder, Record) {
    let mut record = Record::default();
    for call in calls {
        record.put(Call::from_key(*call), truth(*call));
    }
    let request = Request(1);
    let message = match question {
        Question::Keys => wire::keys(request, TERM),
        Question::Page => wire::records_page(request, TERM, None, u16::MAX),
        Question::Named => wire::records_of(request, TERM, (0..60).map(Call::from_key)),
    };
    let mut node = Responder::new(CLUSTER, 1);
    node.accepted(TERM, CONTROLLER);
    assert!(node.message(CONTROLLER, &message, &mut record));
    (node, record)
}

/// What the next message of an answer tells, its number, and whether it is the last.
fn told(output: responder::Output) -> (Vec<Call>, u16, bool) {
    let responder::Output::Send { message, .. } = output else {
        panic!("{output:?}");
    };
    match Message::read(&message).expect("a message") {
        Message::KeysPart {
            part,
            is_last,
            keys,
            ..
        } => (keys.iter().map(|key| key.call).collect(), part, is_last),
        Message::RecordsPart {
            part,
            is_last,
            records,
            ..
        } => {
            let calls = records.iter().map(|(record, _)| record.call);
            (calls.collect(), part, is_last)
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_call_that_lives_throughout_is_told_and_no_portion_looks_at_too_many(
        question in prop_oneof![Just(Question::Keys), Just(Question::Page), Just(Question::Named)],
        first in proptest::collection::btree_set(call(), 0..60),
        most in 1..12_usize,
        between in proptest::collection::vec(turns(), 0..80),
    ) {
        let (mut node, mut record) = asked(question, &first);
        prop_assert_eq!(record.looked_at.get(), 0, "a request alone is no work");
        let (mut throughout, mut ever) = (first.clone(), first);
        let (mut answer, mut ends, mut between) = (BTreeSet::new(), 0, between.into_iter());
        let mut parts = 0..;
        while node.has_more() {
            let before = record.looked_at.get();
            node.go_on(&record, most);
            prop_assert!(record.looked_at.get() - before <= most);
            node.go_on(&record, most);
            prop_assert!(record.looked_at.get() - before <= most, "the link takes no more");
            while let Some(output) = node.poll() {
                let (calls, part, is_last) = told(output);
                prop_assert_eq!(Some(part), parts.next());
                answer.extend(calls.into_iter().map(Call::key));
                ends += u32::from(is_last);
                prop_assert_eq!(is_last, !node.has_more());
            }
            for Turn { call, begins } in between.next().unwrap_or_default() {
                if begins {
                    record.put(Call::from_key(call), truth(call));
                    ever.insert(call);
                } else {
                    record.remove(Call::from_key(call));
                    throughout.remove(&call);
                }
            }
        }
        prop_assert_eq!(ends, 1);
        prop_assert!(answer.is_superset(&throughout), "{:?}", throughout.difference(&answer));
        prop_assert!(answer.is_subset(&ever));
    }
}

#[test]
fn a_page_is_as_long_as_it_was_asked_for_whatever_it_is_made_of() {
    let (mut node, mut record) = asked(Question::Keys, &(0..50).collect());
    for most in [1, 4, 37, 200, 2_000] {
        let (mut walked, mut after) = (Vec::new(), None);
        loop {
            let page = wire::records_page(Request(2), TERM, after, 20);
            assert!(node.message(CONTROLLER, &page, &mut record));
            let (from, mut parts) = (walked.len(), 0);
            while node.has_more() {
                node.go_on(&record, most);
                while let Some(responder::Output::Send { message, .. }) = node.poll() {
                    let Ok(Message::RecordsPart { next, records, .. }) = Message::read(&message)
                    else {
                        panic!("another message");
                    };
                    walked.extend(records.iter().map(|(record, _)| record.call));
                    (after, parts) = (next, parts + 1);
                }
            }
            let told = walked.len() - from;
            assert_eq!(told, if after.is_some() { 20 } else { 10 });
            assert!(parts >= told / most, "{parts} parts of {told}");
            if after.is_none() {
                break;
            }
        }
        let all: BTreeSet<Call> = walked.iter().copied().collect();
        assert_eq!((all.len(), walked.len()), (50, 50));
    }
}

/// Who loses the lease in the middle of an answer is not told the rest.
/// What waits for the controller.
fn sent(node: &mut Responder) -> Vec<Vec<u8>> {
    let outputs = std::iter::from_fn(|| node.poll());
    let sends = outputs.filter_map(|output| match output {
        responder::Output::Send { message, .. } => Some(message),
        responder::Output::Close { .. } => None,
    });
    sends.collect()
}

/// The reign goes on under a later term in the middle of an answer: the controller is told, so that it asks
/// again at once and need not wait until it takes the node for dead.
#[test]
fn an_answer_under_an_earlier_term_is_refused_amid() {
    let (mut node, record) = asked(Question::Keys, &(0..50).collect());
    node.go_on(&record, 10);
    assert!(!sent(&mut node).is_empty() && node.has_more());
    node.accepted(TERM + 1, CONTROLLER);
    assert!(!node.has_more());
    let messages = sent(&mut node);
    let refused = messages.iter().map(|message| Message::read(message));
    let refused: Vec<_> = refused.collect::<Result<_, _>>().expect("its own messages");
    assert!(
        matches!(refused[..], [Message::Refused { request: Request(1), term }] if term == TERM + 1),
        "{refused:?}"
    );
}

#[test]
fn a_greeting_does_not_break_an_answer() {
    let (mut node, mut record) = asked(Question::Keys, &(0..50).collect());
    node.go_on(&record, 10);
    let hello = wire::hello(CLUSTER, wire::Party::Controller(CONTROLLER), TERM);
    assert!(node.message(CONTROLLER, &hello, &mut record));
    assert!(node.has_more());
    // The portion, and the greeting's answer.
    assert_eq!(sent(&mut node).len(), 2);
    // However many they are, not all of them wait.
    for _ in 0..1_000 {
        node.message(CONTROLLER, &hello, &mut record);
    }
    assert!(sent(&mut node).len() <= 64);
}

#[test]
fn an_answer_breaks_off_with_the_lease() {
    type Event = fn(&mut Responder);
    let events: [Event; 4] = [
        Responder::missed,
        |node| node.accepted(TERM + 1, CONTROLLER),
        |node| node.accepted(TERM + 1, CONTROLLER + 1),
        |node| node.closed(CONTROLLER),
    ];
    for event in events {
        let (mut node, record) = asked(Question::Keys, &(0..50).collect());
        node.go_on(&record, 10);
        assert!(node.poll().is_some() && node.has_more());
        node.accepted(TERM, CONTROLLER);
        assert!(node.has_more(), "a lease that is renewed changes nothing");
        event(&mut node);
        assert!(!node.has_more());
        let before = record.looked_at.get();
        node.go_on(&record, 10);
        assert_eq!(record.looked_at.get(), before);
    }
}
