//! What stands in messages, and what does not.

use super::record::{Truth, record_of};
use crate::call::Call;
use crate::call_state::record::{CallRecord, MOST_RECORD, MOST_TEXT, Side};
use crate::call_state::wire::{
    self, Ending, Filter, MAX_MESSAGE, MOST_NAMED, Message, Party, Request,
};
use crate::call_state::{CallKey, Designated, Place, Priority, State};
use proptest::prelude::*;
use std::time::Duration;

fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

/// A record's parts that are borrowed, and the rest.
type Parts = ([Vec<u8>; 3], [Option<Vec<u8>>; 2], [Option<u32>; 2]);

fn parts() -> impl Strategy<Value = Parts> {
    let tag = || proptest::option::of(text());
    let cseq = || proptest::option::of(any::<u32>());
    ([text(), text(), text()], [tag(), tag()], [cseq(), cseq()])
}

fn record<'a>(parts: &'a Parts, word: u64) -> CallRecord<'a> {
    let (texts, tags, cseqs) = parts;
    let time = |shift: u32| Duration::from_millis(word >> shift);
    let side = |index: usize| Side {
        address: &texts[1 + index],
        tag: tags[index].as_deref(),
        cseq: cseqs[index],
    };
    CallRecord {
        call: Call::from_key(word),
        call_id: &texts[0],
        caller: side(0),
        callee: side(1),
        state: State::ALL[(word % 3) as usize],
        priority: Priority::ALL[(word % 4) as usize],
        age: time(9),
        answered: (word & 16 != 0).then(|| time(20)),
        session: (word & 32 != 0).then(|| time(40)),
        away: word & 64 != 0,
        outgoing: word & 128 != 0,
        cut: false,
        dialogs: word as u8,
        node: word as u16,
    }
}

fn place() -> impl Strategy<Value = Option<Place>> {
    proptest::option::of(any::<[u64; 3]>().prop_map(Place))
}

proptest! {
    #[test]
    fn a_record_comes_as_it_went(parts in parts(), word: u64) {
        let record = record(&parts, word);
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        prop_assert_eq!(CallRecord::read(&bytes), Some(record));
        bytes.push(0);
        prop_assert_eq!(CallRecord::read(&bytes), None, "something behind it");
    }

    #[test]
    fn what_is_asked_comes_as_it_went(
        number: u32, term: u64, limit: u16, after in place(), keys in proptest::collection::vec(any::<u64>(), 0..50)
    ) {
        let request = Request(number);
        let is_read = |bytes: Vec<u8>, wanted: Message<'_>| {
            assert_eq!(Message::read(&bytes), Ok(wanted));
        };
        is_read(wire::keys(request, term), Message::Keys { request, term });
        let filter = Filter::All { after, limit };
        is_read(
            wire::records_page(request, term, after, limit),
            Message::Records { request, term, filter },
        );
        let named = wire::records_of(request, term, keys.iter().copied().map(Call::from_key));
        let Ok(Message::Records { filter: Filter::Some(calls), .. }) = Message::read(&named) else {
            return Err(TestCaseError::fail("another message"));
        };
        prop_assert_eq!(calls.iter().map(Call::key).collect::<Vec<_>>(), keys);
        for designated in Designated::ALL {
            let message = Message::Reset { request, term, designated };
            is_read(wire::reset(request, term, designated), message);
        }
        let left = number;
        is_read(wire::reset_part(request, left), Message::ResetPart { request, left });
        is_read(wire::refused(request, term), Message::Refused { request, term });
        for party in [Party::Controller(limit), Party::Node(limit)] {
            let message = Message::Hello { cluster: number, party, term };
            is_read(wire::hello(number, party, term), message);
        }
    }

    /// Messages of every kind, one byte of which is another, one that ends sooner, and noise.
    #[test]
    fn nothing_that_comes_is_too_much(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        kind in 0_u8..10,
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut begun = vec![1, kind];
        begun.extend_from_slice(&noise);
        look_through(&begun);
        look_through(&noise);
        for message in one_of_each() {
            look_through(&message[..at.index(message.len())]);
            let mut other = message.clone();
            *at.get_mut(&mut other) = byte;
            look_through(&other);
        }
    }
}

/// Reads all that there is to read.
fn look_through(bytes: &[u8]) {
    match Message::read(bytes) {
        Ok(Message::KeysPart { keys, .. }) => {
            assert_eq!(keys.iter().count(), (bytes.len() - 9) / 10);
        }
        Ok(Message::RecordsPart { records, .. }) => {
            for (record, bytes) in records.iter() {
                assert_eq!(CallRecord::read(bytes), Some(record));
            }
        }
        Ok(_) | Err(_) => {}
    }
}

fn one_of_each() -> Vec<Vec<u8>> {
    let request = Request(7);
    let truth = Truth {
        state: State::Held,
        priority: Priority::Emergency,
        started: Duration::from_secs(5),
    };
    let text = b"some text".to_vec();
    let record = record_of(Call::from_key(9), 3, &truth, Duration::from_secs(9), &text);
    let key = CallKey {
        call: Call::from_key(9),
        state: State::Held,
        priority: Priority::Emergency,
    };
    let place = Place([1, 2, 3]);
    let mut all = vec![
        wire::hello(1, Party::Node(2), 3),
        wire::keys(request, 4),
        wire::records_page(request, 4, Some(place), 10),
        wire::records_of(request, 4, [key.call; 3]),
        wire::reset(request, 4, Designated::Drop),
        wire::reset_part(request, 5),
        wire::refused(request, 6),
    ];
    all.extend(wire::keys_parts(request, 0, &[key; 3], true));
    all.extend(wire::records_parts(
        request,
        0,
        &[record; 2],
        Ending::Page(place),
    ));
    all
}

#[test]
fn every_byte_of_a_message_counts() {
    for message in one_of_each() {
        assert!(Message::read(&message).is_ok());
        for len in 0..message.len() {
            let is_list = matches!(message[1], 2..=4);
            let shorter = Message::read(&message[..len]);
            assert!(shorter.is_err() || is_list, "{:?}", &message[..len]);
        }
        let mut longer = message.clone();
        longer.push(0);
        assert!(Message::read(&longer).is_err(), "{longer:?}");
    }
    assert!(Message::read(&vec![0; MAX_MESSAGE + 1]).is_err());
}

#[test]
fn no_message_is_too_long_and_nothing_is_lost_between_them() {
    let request = Request(1);
    let keys: Vec<CallKey> = (0..10_000)
        .map(|key| CallKey {
            call: Call::from_key(key),
            state: State::Early,
            priority: Priority::Normal,
        })
        .collect();
    let mut read = Vec::new();
    let parts = wire::keys_parts(request, 0, &keys, true);
    for (number, part) in parts.iter().enumerate() {
        assert!(part.len() <= MAX_MESSAGE);
        match Message::read(part) {
            Ok(Message::KeysPart {
                part,
                is_last,
                keys,
                ..
            }) => {
                assert_eq!(usize::from(part), number);
                assert_eq!(is_last, number + 1 == parts.len());
                read.extend(keys.iter());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((read, parts.len()), (keys, 4));
    let none = wire::keys_parts(request, 0, &[], true);
    assert_eq!(none.len(), 1, "none is an answer");
    let none = wire::records_parts(request, 0, &[], Ending::Whole);
    assert_eq!(none.len(), 1);

    let named = wire::records_of(request, 1, (0..1 << 20).map(Call::from_key));
    assert!(named.len() <= MAX_MESSAGE && named.len() > MAX_MESSAGE - 8);
    assert_eq!((named.len() - 15) / 8, MOST_NAMED);

    // The longest records that there can be, and longer texts, which are cut.
    let long = vec![b'x'; 40_000];
    let parts: Parts = (
        [long.clone(), long.clone(), long.clone()],
        [Some(long.clone()), Some(long.clone())],
        [Some(u32::MAX); 2],
    );
    let longest = record(&parts, u64::MAX);
    let mut bytes = Vec::new();
    longest.write(&mut bytes);
    assert!(bytes.len() <= MOST_RECORD, "{}", bytes.len());
    let next = Place([1; 3]);
    let parts = wire::records_parts(request, 0, &[longest; 20], Ending::Page(next));
    let mut count = 0;
    for (number, part) in parts.iter().enumerate() {
        assert!(part.len() <= MAX_MESSAGE);
        match Message::read(part) {
            Ok(Message::RecordsPart {
                records,
                next: read,
                is_last,
                ..
            }) => {
                assert_eq!(is_last, number + 1 == parts.len());
                assert_eq!(read, is_last.then_some(next));
                for (record, _) in records.iter() {
                    assert!(record.cut && record.call_id.len() == MOST_TEXT);
                    count += 1;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(count, 20);
}

#[test]
fn a_record_grows_older() {
    let parts = Parts::default();
    let record = CallRecord {
        age: Duration::from_secs(10),
        answered: Some(Duration::from_secs(4)),
        session: Some(Duration::from_secs(3)),
        ..record(&parts, 0)
    };
    let later = record.later(Duration::from_secs(5));
    assert_eq!(later.age, Duration::from_secs(15));
    assert_eq!(later.answered, Some(Duration::from_secs(9)));
    assert_eq!(later.session, Some(Duration::ZERO));
}
