//! Whom a node answers, and what a database holds.

use super::record::{Record, Truth};
use super::scene::{CLUSTER, CONTROLLER, Scene, TERM, drain};
use crate::call::Call;
use crate::call_state::collector::{Collector, Mode, Output, Pace, Settings};
use crate::call_state::database::{Filter, Standing};
use crate::call_state::responder::{self, Responder};
use crate::call_state::wire::{self, Ending, Message, Party, Request};
use crate::call_state::{CallKey, Designated, Priority, State};
use crate::random::Random;
use std::time::Duration;

const OTHER: u16 = 2;

/// What a controller is answered by a node with one call.
fn ask(responder: &mut Responder, record: &mut Record, by: u16, message: &[u8]) -> Vec<Vec<u8>> {
    assert!(responder.message(by, message, record));
    let mut answers = Vec::new();
    for output in drain(responder, record, 2_000) {
        if let responder::Output::Send {
            controller,
            message,
        } = output
        {
            assert_eq!(controller, by);
            answers.push(message);
        }
    }
    answers
}

fn requests(term: u64) -> [Vec<u8>; 4] {
    let request = Request(9);
    [
        wire::keys(request, term),
        wire::records_page(request, term, None, 10),
        wire::records_of(request, term, [Call::from_key(1)]),
        wire::reset(request, term, Designated::Drop),
    ]
}

fn is_refused(answers: &[Vec<u8>], with: u64) -> bool {
    let [answer] = answers else { return false };
    let request = Request(9);
    Message::read(answer)
        == Ok(Message::Refused {
            request,
            term: with,
        })
}

#[test]
fn only_who_holds_the_lease_is_answered_and_only_with_its_term() {
    let mut record = Record::default();
    let truth = Truth {
        state: State::Confirmed,
        priority: Priority::Normal,
        started: Duration::ZERO,
    };
    record.put(Call::from_key(1), truth);
    let mut node = Responder::new(CLUSTER, 3);
    for message in requests(TERM) {
        assert!(is_refused(
            &ask(&mut node, &mut record, CONTROLLER, &message),
            0
        ));
    }
    node.accepted(TERM, CONTROLLER);
    for message in requests(TERM - 1) {
        assert!(is_refused(
            &ask(&mut node, &mut record, CONTROLLER, &message),
            TERM
        ));
    }
    for message in requests(TERM + 1) {
        assert!(is_refused(
            &ask(&mut node, &mut record, CONTROLLER, &message),
            TERM
        ));
    }
    for message in requests(TERM) {
        assert!(is_refused(
            &ask(&mut node, &mut record, OTHER, &message),
            TERM
        ));
    }
    assert_eq!(record.resets, []);
    let counts = node.counts();
    assert_eq!(
        (
            counts.unknown_term,
            counts.lower_term,
            counts.not_holder,
            counts.answered
        ),
        (8, 4, 4, 0)
    );
    for message in requests(TERM) {
        let answers = ask(&mut node, &mut record, CONTROLLER, &message);
        assert!(!answers.is_empty() && !is_refused(&answers, TERM));
    }
    assert_eq!(record.resets, [Designated::Drop]);
    let [.., reset] = requests(TERM);
    ask(&mut node, &mut record, CONTROLLER, &reset);
    assert_eq!(record.resets, [Designated::Drop], "once in a term");

    // It misses its main: not even that is answered, until it is heard again.
    node.missed();
    let close = |controller| Some(responder::Output::Close { controller });
    assert_eq!(node.poll(), close(CONTROLLER));
    node.missed();
    assert_eq!(node.poll(), None);
    for message in requests(TERM) {
        assert!(is_refused(
            &ask(&mut node, &mut record, CONTROLLER, &message),
            TERM
        ));
    }
    node.accepted(TERM, CONTROLLER);
    let [keys, ..] = requests(TERM);
    assert!(!is_refused(
        &ask(&mut node, &mut record, CONTROLLER, &keys),
        TERM
    ));

    // A higher term: the old controller's link is closed, with what waited for it.
    assert!(node.message(CONTROLLER, &keys, &mut record));
    node.accepted(TERM + 1, OTHER);
    assert_eq!(node.poll(), close(CONTROLLER));
    assert_eq!(node.poll(), None);
    for message in requests(TERM) {
        assert!(is_refused(
            &ask(&mut node, &mut record, CONTROLLER, &message),
            TERM + 1
        ));
    }
    node.accepted(TERM, CONTROLLER);
    assert_eq!(node.poll(), None, "a lower term is nothing");
    let [keys, .., reset] = requests(TERM + 1);
    assert!(!is_refused(
        &ask(&mut node, &mut record, OTHER, &keys),
        TERM + 1
    ));
    ask(&mut node, &mut record, OTHER, &reset);
    assert_eq!(record.resets.len(), 2, "another term, another reset");
}

#[test]
fn a_link_over_which_nonsense_comes_is_to_be_closed() {
    let mut record = Record::default();
    let mut node = Responder::new(CLUSTER, 3);
    node.accepted(TERM, CONTROLLER);
    let says = |party, cluster| wire::hello(cluster, party, TERM);
    let nonsense = [
        b"GET / HTTP/1.1".to_vec(),
        wire::reset_part(Request(1), 0),
        says(Party::Controller(OTHER), CLUSTER),
        says(Party::Node(CONTROLLER), CLUSTER),
        says(Party::Controller(CONTROLLER), CLUSTER + 1),
    ];
    for message in nonsense {
        assert!(!node.message(CONTROLLER, &message, &mut record));
        assert_eq!(node.poll(), None);
    }
    assert_eq!((node.counts().malformed, node.counts().foreign), (2, 3));
    let hello = says(Party::Controller(CONTROLLER), CLUSTER);
    let answers = ask(&mut node, &mut record, CONTROLLER, &hello);
    let own = Message::Hello {
        cluster: CLUSTER,
        party: Party::Node(3),
        term: TERM,
    };
    assert_eq!(
        answers
            .iter()
            .map(|it| Message::read(it))
            .collect::<Vec<_>>(),
        [Ok(own)]
    );

    // The controller's side.
    let mut scene = Scene::new(1, Pace::DEFAULT, 1);
    scene.begin(Mode::Hot);
    scene.link_all();
    let mut out = Vec::new();
    let taken = scene
        .collector
        .message(scene.now, 1, b"HTTP/1.1 400", &mut out);
    assert!(taken.is_err());
    let keys = wire::keys(Request(1), TERM);
    scene
        .collector
        .message(scene.now, 1, &keys, &mut out)
        .expect("a message");
    assert_eq!(scene.collector.counts().malformed, 2);
    // Answers of a kind, number or node that nobody asked for.
    let answers = [
        wire::keys_parts(Request(2), 0, &[], true),
        wire::records_parts(Request(1), 0, &[], Ending::Whole),
        vec![wire::reset_part(Request(1), 0)],
        vec![wire::refused(Request(7), 99)],
    ];
    for message in answers.iter().flatten() {
        scene
            .collector
            .message(scene.now, 1, message, &mut out)
            .expect("a message");
        scene
            .collector
            .message(scene.now, 9, message, &mut out)
            .expect("a message");
    }
    assert_eq!(scene.collector.counts().stale, 8);
    assert_eq!(out, []);
    scene.pass(Duration::from_secs(1));
    scene.is_exact([1]);
}

#[test]
fn an_answer_that_nobody_waits_for_any_more_is_dropped() {
    let mut record = Record::default();
    let mut random = Random::new(1);
    let truth = Scene::new(1, Pace::DEFAULT, 1).some_truth(&mut random);
    (0..20_000).for_each(|call| record.put(Call::from_key(call), truth));
    let mut node = Responder::new(CLUSTER, 3);
    node.accepted(TERM, CONTROLLER);
    assert!(node.message(CONTROLLER, &wire::keys(Request(1), TERM), &mut record));
    assert!(node.message(CONTROLLER, &wire::keys(Request(2), TERM), &mut record));
    let mut count = 0;
    for output in drain(&mut node, &record, 2_000) {
        let responder::Output::Send { message, .. } = output else {
            panic!("{output:?}");
        };
        let Ok(Message::KeysPart { request, keys, .. }) = Message::read(&message) else {
            panic!("another message");
        };
        assert_eq!(request, Request(2));
        count += keys.iter().count();
    }
    assert_eq!(count, 20_000);
    node.message(CONTROLLER, &wire::keys(Request(3), TERM), &mut record);
    node.go_on(&record, 2_000);
    node.closed(CONTROLLER);
    assert_eq!((node.poll(), node.has_more()), (None, false));
}

#[test]
fn pages_by_node_and_by_standing() {
    let mut scene = Scene::new(5, Pace::DEFAULT, 3);
    scene.fill(|node| 20 * u64::from(node), &mut Random::new(3));
    scene.begin(Mode::Hot);
    scene.link_all();
    scene.pass(Duration::from_secs(1));
    scene.lose(4);
    let database = scene.collector.database();
    let walk = |filter: Filter, limit: usize| {
        let (mut calls, mut after) = (Vec::new(), None);
        loop {
            let page = database.page(scene.now, filter, after, limit);
            assert!(page.calls.len() <= limit);
            calls.extend(
                page.calls
                    .iter()
                    .map(|view| (view.node, view.call, view.standing)),
            );
            after = page.next;
            if after.is_none() {
                return calls;
            }
        }
    };
    let all = walk(Filter::default(), usize::MAX);
    assert_eq!(all.len(), 300);
    assert!(all.is_sorted());
    for limit in [1, 7, 299, 300] {
        assert_eq!(walk(Filter::default(), limit), all);
        for node in [None, Some(1), Some(4), Some(9)] {
            for standing in Standing::ALL.map(Some).into_iter().chain([None]) {
                let filter = Filter { node, standing };
                let mut wanted = all.clone();
                wanted.retain(|(its, _, is)| {
                    node.is_none_or(|node| node == *its)
                        && standing.is_none_or(|standing| standing == *is)
                });
                assert_eq!(walk(filter, limit), wanted);
            }
        }
    }
    let unknown = Filter {
        node: None,
        standing: Some(Standing::Unknown),
    };
    assert_eq!(walk(unknown, 50).len(), 80);
    for summary in database.nodes() {
        let sum = summary.early + summary.confirmed + summary.held + summary.unknown;
        assert_eq!((sum, summary.awaited), (summary.calls, 0));
    }
}

#[test]
fn a_full_database_still_says_where_calls_live() {
    let settings = Settings {
        cluster: CLUSTER,
        controller: CONTROLLER,
        capacity: 10,
        pace: Pace::DEFAULT,
    };
    let mut collector = Collector::new(settings, [1, 2], 1);
    let (mut out, now) = (Vec::new(), Duration::ZERO);
    collector.begin(now, TERM, Mode::Hot, &mut out);
    let keys: Vec<CallKey> = (0..15)
        .map(|key| CallKey {
            call: Call::from_key(key),
            state: State::Confirmed,
            priority: Priority::Normal,
        })
        .collect();
    collector.linked(now, 1, &mut out);
    out.clear();
    for part in wire::keys_parts(Request(1), 0, &keys, true) {
        collector
            .message(now, 1, &part, &mut out)
            .expect("a message");
    }
    let pins = out
        .iter()
        .filter(|output| matches!(output, Output::Pin { .. }));
    assert_eq!(pins.count(), 15);
    assert_eq!(
        (collector.database().len(), collector.database().full()),
        (10, 5)
    );
    collector.set_nodes(now, [2]);
    assert!(collector.database().is_empty());
    assert_eq!(collector.database().nodes().count(), 1);
    collector.end();
    assert_eq!(collector.next_timeout(), None);
}
