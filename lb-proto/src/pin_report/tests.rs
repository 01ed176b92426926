//! Cases and properties of both sides.

use super::wire::{Answer, Message, REPORT_LEN, Report, ReportBytes, Verdict};
use super::*;
use crate::call::Call;
use crate::fixtures::KEYS;
use crate::network::{Queue, Weather};
use crate::random::Random;
use crate::sealed::SealError;
use crate::status::query;
use lb_common::beacon::{Beacon, BeaconError};
use lb_common::siphash::SipKey;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const NODE: u16 = 7;

fn signer() -> Signer {
    Signer {
        cluster: 5,
        node: NODE,
        key: KEYS[0],
    }
}

fn lbs(count: u8) -> Vec<SocketAddr> {
    (0..count)
        .map(|n| SocketAddr::from(([192, 0, 2, n + 1], 7700)))
        .collect()
}

fn reporter(count: u8) -> Reporter {
    Reporter::new(signer(), &lbs(count)).expect("good addresses")
}

fn receiver() -> Receiver {
    Receiver::new(5, KEYS.to_vec())
}

fn call(number: u64) -> Call {
    Call::from_key(number)
}

fn report(epoch: u32, sequence: u32) -> Report {
    Report {
        cluster: 5,
        node: NODE,
        key_id: 1,
        recipient: 0,
        epoch,
        sequence,
        beacon_sequence: 100,
        call: call(u64::from(sequence)),
    }
}

/// What a controller knows that heard beacon 100 of epoch 5 last.
fn known(node: u16) -> Option<Known> {
    (node == NODE).then_some(Known {
        is_origin: true,
        stamp: Some(5 << 32 | 100),
    })
}

fn receive(receiver: &mut Receiver, now: Duration, bytes: &[u8]) -> Result<Taken, Refusal> {
    receiver.receive(now, bytes, known)
}

fn sent(reporter: &mut Reporter, now: Duration) -> Vec<(SocketAddr, ReportBytes)> {
    std::iter::from_fn(|| reporter.poll_transmit(now)).collect()
}

fn read_answer(bytes: &[u8]) -> Answer {
    match Message::read(bytes, &KEYS).expect("an answer") {
        Message::Answer(answer) => answer,
        Message::Report(report) => panic!("{report:?}"),
    }
}

#[test]
fn a_report_goes_to_every_lb_and_is_over_when_all_have_answered() {
    let (mut reporter, mut first, mut second) = (reporter(2), receiver(), receiver());
    reporter.report(MS, call(3), (5, 100)).expect("room");
    let datagrams = sent(&mut reporter, MS);
    assert_eq!(datagrams.len(), 2);
    for ((to, bytes), (lb, receiver)) in datagrams
        .iter()
        .zip(lbs(2).iter().zip([&mut first, &mut second]))
    {
        assert_eq!(to, lb);
        assert_eq!(reporter.poll_outcome(MS), None);
        let Ok(Taken::New(report)) = receive(receiver, MS, bytes) else {
            panic!("not taken");
        };
        assert_eq!((report.node, report.call), (NODE, call(3)));
        let answer = receiver.settle(&report, Verdict::Pinned);
        assert!(reporter.answered(&read_answer(&answer)));
        assert!(!reporter.answered(&read_answer(&answer)), "a copy");
    }
    assert_eq!(
        reporter.poll_outcome(MS),
        Some((call(3), Outcome::Everywhere))
    );
    assert_eq!(reporter.poll_outcome(MS * 1000), None);
    assert_eq!(reporter.next_timeout(), None);
}

#[test]
fn who_does_not_answer_is_told_five_times() {
    let mut reporter = reporter(2);
    reporter
        .report(Duration::ZERO, call(3), (5, 100))
        .expect("room");
    let mut times = Vec::new();
    let mut now = Duration::ZERO;
    let outcome = loop {
        for (to, bytes) in sent(&mut reporter, now) {
            times.push((now, to));
            // The first LB answers what it is told first.
            if to == lbs(1)[0] {
                let Ok(Message::Report(report)) = Message::read(&bytes, &KEYS) else {
                    panic!("no report");
                };
                let verdict = Verdict::AtHome;
                assert!(reporter.answered(&Answer { report, verdict }));
            }
        }
        if let Some((_, outcome)) = reporter.poll_outcome(now) {
            break outcome;
        }
        now = reporter.next_timeout().expect("it is not over");
    };
    assert_eq!((now, outcome), (GIVE_UP, Outcome::TimedOut { lbs: 1 }));
    let second: Vec<Duration> = times
        .iter()
        .filter(|(_, to)| *to == lbs(2)[1])
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(second, [0, 10, 20, 30, 40].map(|ms| MS * ms));
    assert_eq!(times.len(), 6, "who has answered is told no more");
}

#[test]
fn an_lb_without_room_says_so() {
    let (mut reporter, mut receiver) = (reporter(1), receiver());
    reporter.report(MS, call(3), (5, 100)).expect("room");
    let (_, bytes) = reporter.poll_transmit(MS).expect("due");
    let Ok(Taken::New(report)) = receive(&mut receiver, MS, &bytes) else {
        panic!("not taken");
    };
    let answer = receiver.settle(&report, Verdict::Full);
    assert_eq!(
        receive(&mut receiver, MS * 2, &bytes),
        Ok(Taken::Again(answer)),
        "the same, when asked again"
    );
    reporter.answered(&read_answer(&answer));
    let outcome = reporter.poll_outcome(MS);
    assert_eq!(outcome, Some((call(3), Outcome::Refused { lbs: 1 })));
}

#[test]
fn without_lbs_there_is_nothing_to_wait_for() {
    let mut reporter = reporter(0);
    reporter.report(MS, call(3), (5, 100)).expect("room");
    assert_eq!(reporter.poll_transmit(MS), None);
    let outcome = reporter.poll_outcome(MS);
    assert_eq!(outcome, Some((call(3), Outcome::Everywhere)));
}

#[test]
fn the_table_has_an_end_and_comes_back() {
    let mut reporter = reporter(1);
    for number in 0..MOST_OPEN as u64 {
        reporter.report(MS, call(number), (5, 100)).expect("room");
    }
    assert_eq!(
        reporter.report(MS, call(MOST_OPEN as u64), (5, 100)),
        Err(Full)
    );
    assert_eq!(reporter.report(MS, call(0), (5, 100)), Ok(()), "under way");
    let late = MS + GIVE_UP;
    let outcomes = std::iter::from_fn(|| reporter.poll_outcome(late));
    assert_eq!(outcomes.count(), MOST_OPEN);
    assert_eq!((reporter.open(), reporter.next_timeout()), (0, None));
    assert_eq!(reporter.report(late, call(0), (5, 100)), Ok(()));
}

#[test]
fn a_list_of_lbs_is_checked() {
    let nine = Reporter::new(signer(), &lbs(9)).map(drop);
    assert_eq!(nine, Err(LbError::TooMany(9)));
    let group = SocketAddr::from(([239, 255, 77, 1], 7700));
    let error = Reporter::new(signer(), &[group]).map(drop);
    assert!(matches!(error, Err(LbError::Address(_))), "{error:?}");
}

/// What was not settled, because a map could not be written, is carried out with its repetition.
#[test]
fn what_is_not_settled_comes_again() {
    let mut receiver = receiver();
    let bytes = report(5, 0).write(KEYS[0].key);
    for _ in 0..3 {
        let taken = receive(&mut receiver, MS, &bytes);
        assert_eq!(taken, Ok(Taken::New(report(5, 0))));
    }
    let answer = receiver.settle(&report(5, 0), Verdict::Pinned);
    assert_eq!(receive(&mut receiver, MS, &bytes), Ok(Taken::Again(answer)));
}

#[test]
fn every_refusal_has_its_reason() {
    let mut receiver = receiver();
    let held = report(5, 5000);
    let bytes = held.write(KEYS[0].key);
    assert_eq!(receive(&mut receiver, MS, &bytes), Ok(Taken::New(held)));
    receiver.settle(&held, Verdict::Pinned);
    let signed = |report: Report| report.write(KEYS[0].key);
    let other = Report {
        call: call(1),
        ..held
    };
    let answer = wire::Answer {
        report: held,
        verdict: Verdict::Pinned,
    };
    let mut newer = bytes;
    newer[4] = 2;
    use Refusal::*;
    let cases: [(&[u8], Refusal); 11] = [
        (b"noise", Seal(SealError::Foreign)),
        (&bytes[..111], Seal(SealError::Malformed)),
        (&newer, Seal(SealError::Malformed)),
        (
            &signed(Report { key_id: 2, ..held }),
            Seal(SealError::UnknownKey),
        ),
        (&held.write(KEYS[1].key), Seal(SealError::Forged)),
        (&answer.write(KEYS[0].key), Answer),
        (&signed(Report { cluster: 6, ..held }), Cluster),
        (&signed(Report { node: 8, ..held }), UnknownNode),
        (&signed(report(4, 6000)), OldEpoch),
        (&signed(other), Replayed),
        (&signed(report(5, 5000 - WINDOW)), Replayed),
    ];
    for (bytes, refusal) in cases {
        assert_eq!(receive(&mut receiver, MS, bytes), Err(refusal), "{refusal}");
    }
    let elsewhere = |_| {
        Some(Known {
            is_origin: false,
            stamp: None,
        })
    };
    let next = signed(report(5, 5001));
    assert_eq!(receiver.receive(MS, &next, elsewhere), Err(Origin));
    let much_later = |_| {
        Some(Known {
            is_origin: true,
            stamp: Some(5 << 32 | 2000),
        })
    };
    assert_eq!(receiver.receive(MS, &next, much_later), Err(Stale));
    let late = Duration::from_secs(3);
    assert_eq!(receive(&mut receiver, late, &bytes), Err(Replayed));
    for sequence in [5001, 5000 - WINDOW + 2, 4999] {
        let bytes = signed(report(5, sequence));
        let taken = receive(&mut receiver, MS, &bytes);
        assert_eq!(taken, Ok(Taken::New(report(5, sequence))), "{sequence}");
    }
    let mut names: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Refusal::ALL.len());
}

#[test]
fn a_life_begins_anew_and_the_last_one_is_over() {
    let mut receiver = receiver();
    for (epoch, sequence, is_taken) in [
        (5, 900, true),
        (6, 3, true),
        (5, 901, false),
        (6, 2, true),
        (7, 0, true),
        (6, 4, false),
    ] {
        let bytes = report(epoch, sequence).write(KEYS[0].key);
        let taken = receive(&mut receiver, MS, &bytes);
        assert_eq!(taken.is_ok(), is_taken, "{epoch} {sequence}");
    }
}

#[test]
fn one_node_cannot_keep_a_controller_busy() {
    let mut receiver = receiver();
    let mut take = |now, sequence| {
        let bytes = report(5, sequence).write(KEYS[0].key);
        receive(&mut receiver, now, &bytes)
    };
    for sequence in 0..REPORTS_PER_SECOND {
        assert!(take(MS, sequence).is_ok());
    }
    assert_eq!(take(MS, REPORTS_PER_SECOND), Err(Refusal::Rate));
    let later = MS + Duration::from_secs(1) / REPORTS_PER_SECOND * 2 + MS / 1000;
    assert!(take(later, REPORTS_PER_SECOND).is_ok(), "not lost by that");
    assert!(take(later, REPORTS_PER_SECOND + 1).is_ok());
    assert_eq!(take(later, REPORTS_PER_SECOND + 2), Err(Refusal::Rate));
}

#[test]
fn keys_change_without_a_miss() {
    let (mut reporter, mut receiver) = (reporter(1), receiver());
    for (number, key) in [(0, KEYS[0]), (1, KEYS[1])] {
        reporter.set_key(key);
        reporter.report(MS, call(number), (5, 100)).expect("room");
        let (_, bytes) = reporter.poll_transmit(MS).expect("due");
        assert_eq!(bytes[6], key.id);
        assert!(matches!(
            receive(&mut receiver, MS, &bytes),
            Ok(Taken::New(_))
        ));
    }
    receiver.set_keys(vec![KEYS[1]]);
    let old = report(5, 7).write(KEYS[0].key);
    let refusal = receive(&mut receiver, MS, &old);
    assert_eq!(refusal, Err(Refusal::Seal(SealError::UnknownKey)));
}

/// 100,000 reports that are forged, flipped, under a wrong key, of an old life, played back, or from
/// elsewhere, each of a kind: none is carried out, none is answered, and each is refused for its
/// reason.
#[test]
fn of_a_hundred_thousand_reports_none_is_taken() {
    let mut random = Random::new(29);
    let mut receiver = receiver();
    let epoch = 1000;
    let at = |epoch, sequence| report(epoch, sequence);
    let mut genuine: Vec<ReportBytes> = Vec::new();
    for sequence in 0..3000u32 {
        let report = at(epoch, sequence);
        let bytes = report.write(KEYS[0].key);
        let now = MS * sequence;
        assert_eq!(receive(&mut receiver, now, &bytes), Ok(Taken::New(report)));
        receiver.settle(&report, Verdict::Pinned);
        genuine.push(bytes);
    }
    let next = at(epoch, 3000);
    for round in 0..100_000u32 {
        let now = Duration::from_secs(5) + MS / 10 * round;
        let some = |random: &mut Random, below: u32| random.below(below.into()) as u32;
        let mut is_origin = true;
        let (bytes, refusal) = match round % 8 {
            0 => {
                let mut bytes = next.write(KEYS[0].key);
                let bit = some(&mut random, REPORT_LEN as u32 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                (bytes, None)
            }
            1 => {
                let (k0, k1) = (random.next(), random.next());
                let forged = next.write(SipKey { k0, k1 });
                (forged, Some(Refusal::Seal(SealError::Forged)))
            }
            2 => {
                let key_id = 10 + some(&mut random, 240) as u8;
                let unknown = Report { key_id, ..next }.write(KEYS[0].key);
                (unknown, Some(Refusal::Seal(SealError::UnknownKey)))
            }
            3 => {
                let old = at(some(&mut random, epoch), random.next() as u32);
                (old.write(KEYS[0].key), Some(Refusal::OldEpoch))
            }
            4 => {
                let copy = genuine[some(&mut random, 3000) as usize];
                (copy, Some(Refusal::Replayed))
            }
            5 => {
                is_origin = false;
                (next.write(KEYS[0].key), Some(Refusal::Origin))
            }
            6 => {
                // A stamp that was used, for a call of the forger's choice, under a stolen MAC.
                let mut bytes = genuine[some(&mut random, 3000) as usize];
                bytes[24..32].copy_from_slice(&(random.next() | 1 << 63).to_be_bytes());
                (bytes, Some(Refusal::Seal(SealError::Forged)))
            }
            _ => {
                let cluster = 6 + some(&mut random, u32::MAX - 6);
                let foreign = Report { cluster, ..next }.write(KEYS[0].key);
                (foreign, Some(Refusal::Cluster))
            }
        };
        let stamp = Some(u64::from(epoch) << 32 | 100);
        let got = receiver.receive(now, &bytes, |node| {
            (node == NODE).then_some(Known { is_origin, stamp })
        });
        assert!(got.is_err(), "round {round}: {got:?}");
        if let Some(refusal) = refusal {
            assert_eq!(got, Err(refusal), "round {round}");
        }
    }
    let bytes = next.write(KEYS[0].key);
    let now = Duration::from_secs(20);
    assert_eq!(receive(&mut receiver, now, &bytes), Ok(Taken::New(next)));
}

/// Neither is ever taken for a beacon or a query, though they share keys and form.
#[test]
fn reports_are_nothing_else() {
    let report = report(5, 0);
    let verdict = Verdict::AtHome;
    let answer = Answer { report, verdict }.write(KEYS[0].key);
    for bytes in [report.write(KEYS[0].key), answer] {
        assert_eq!(
            Beacon::read(&bytes[..], 0, REPORT_LEN as u32),
            Err(BeaconError::Foreign)
        );
        let query = query::Message::read(&bytes, &KEYS);
        assert_eq!(query, Err(SealError::Foreign));
    }
    let query = query::Query {
        cluster: 5,
        node: NODE,
        key_id: 1,
        nonce: 1,
    };
    let read = Message::read(&query.write(KEYS[0].key), &KEYS);
    assert_eq!(read, Err(SealError::Foreign));
}

fn any_report() -> impl Strategy<Value = Report> {
    (
        any::<(u32, u16, u8, u32, u32, u32, u64)>(),
        prop_oneof![Just(1u8), Just(9)],
    )
        .prop_map(
            |((cluster, node, recipient, epoch, sequence, beacon_sequence, key), key_id)| Report {
                cluster,
                node,
                key_id,
                recipient,
                epoch,
                sequence,
                beacon_sequence,
                call: Call::from_key(key),
            },
        )
}

proptest! {
    #[test]
    fn round_trip(report in any_report(), verdict in 0usize..3) {
        let key = KEYS[usize::from(report.key_id == 9)].key;
        let verdict = [Verdict::Pinned, Verdict::AtHome, Verdict::Full][verdict];
        let answer = Answer { report, verdict };
        prop_assert_eq!(Message::read(&report.write(key), &KEYS), Ok(Message::Report(report)));
        prop_assert_eq!(Message::read(&answer.write(key), &KEYS), Ok(Message::Answer(answer)));
    }

    /// Over a network that loses, doubles and reorders: every report has one outcome within 50 ms;
    /// `Everywhere` only when every LB has carried it out; no LB carries a stamp out twice; and with
    /// little loss, next to all get through.
    #[test]
    fn reports_are_over_in_time_and_carried_out_once(
        seed: u64,
        count in 1u8..4,
        loss in prop_oneof![Just(0u64), Just(10), Just(500), Just(1000)],
        calls in 1u32..80,
    ) {
        let weather = Weather {
            loss_permille: loss,
            duplicates_permille: 100,
            delay: MS * 4,
        };
        let mut random = Random::new(seed);
        let mut reporter = reporter(count);
        let mut receivers: Vec<Receiver> = (0..count).map(|_| receiver()).collect();
        let mut done: Vec<BTreeSet<Call>> = vec![BTreeSet::new(); count.into()];
        // Datagrams under way: when they arrive, where (an LB, or the node), and what.
        let mut wire: Queue<(Option<usize>, ReportBytes)> = Queue::new();
        let mut began: BTreeMap<Call, Duration> = BTreeMap::new();
        let mut outcomes: BTreeMap<Call, Outcome> = BTreeMap::new();
        let mut put = |wire: &mut Queue<_>, now: Duration, to, bytes| {
            for delay in weather.delays(&mut random) {
                wire.put(now + delay, (to, bytes));
            }
        };
        for ms in 0..calls + 70 {
            let now = MS * ms;
            if ms < calls {
                reporter.report(now, call(ms.into()), (5, 100)).expect("room");
                began.insert(call(ms.into()), now);
            }
            while let Some((to, bytes)) = reporter.poll_transmit(now) {
                let to = lbs(count).iter().position(|lb| *lb == to);
                put(&mut wire, now, to, bytes);
            }
            while let Some((at, (to, bytes))) = wire.take(now) {
                match to {
                    Some(lb) => {
                        let answer = match receive(&mut receivers[lb], at, &bytes) {
                            Ok(Taken::New(report)) => {
                                prop_assert!(done[lb].insert(report.call), "twice");
                                receivers[lb].settle(&report, Verdict::Pinned)
                            }
                            Ok(Taken::Again(answer)) => answer,
                            Err(refusal) => return Err(TestCaseError::fail(refusal.to_string())),
                        };
                        put(&mut wire, at, None, answer);
                    }
                    None => {
                        reporter.answered(&read_answer(&bytes));
                    }
                }
            }
            while let Some((call, outcome)) = reporter.poll_outcome(now) {
                prop_assert!(now - began[&call] <= GIVE_UP);
                if outcome == Outcome::Everywhere {
                    prop_assert!(done.iter().all(|done| done.contains(&call)));
                }
                prop_assert_eq!(outcomes.insert(call, outcome), None);
            }
            let timeout = reporter.next_timeout();
            prop_assert!(timeout.is_none_or(|timeout| timeout > now));
        }
        prop_assert_eq!(outcomes.len(), calls as usize);
        prop_assert_eq!(reporter.open(), 0);
        let failed = outcomes.values().filter(|outcome| **outcome != Outcome::Everywhere).count();
        match loss {
            0 | 10 => prop_assert_eq!(failed, 0),
            1000 => prop_assert_eq!(failed, calls as usize),
            _ => {}
        }
    }
}
