//! Cases and properties of the sender.

use super::*;
use crate::fixtures::{KEY, KEYS};
use lb_common::beacon::is_authentic;
use proptest::prelude::*;

const PERIOD: Duration = Duration::from_millis(100);
const ZERO: Duration = Duration::ZERO;

pub(crate) fn identity(node: u16) -> Identity {
    Identity {
        cluster: 9,
        node,
        epoch: 5,
        key: KEY,
        sip_port: 5060,
        redirect_port: 0,
        address_v4: Address::default(),
        address_v6: Address::default(),
    }
}

pub(crate) fn report(admission: Admission) -> Report {
    Report {
        admission,
        capacity: 100,
        active: 1,
        headroom: 99,
        calls_per_second: 0,
        oc_permille: 1000,
    }
}

fn sender() -> Sender {
    Sender::new(identity(7), PERIOD, 1, report(Admission::Free), ZERO, 1)
}

/// The beacon due of a sender to one group.
fn poll(sender: &mut Sender, now: Duration) -> Option<Beacon> {
    let (group, bytes) = sender.poll_transmit(now)?;
    assert_eq!(group, 0);
    Some(read(&bytes))
}

fn read(bytes: &BeaconBytes) -> Beacon {
    assert!(is_authentic(&bytes[..], 0, KEY.key));
    Beacon::read(&bytes[..], 0, BEACON_LEN).expect("a beacon")
}

fn ask(node: u16) -> Query {
    Query {
        cluster: 9,
        node,
        key_id: 1,
        nonce: 0,
    }
}

#[test]
fn the_first_beacon_is_at_once_and_says_all() {
    let mut sender = sender();
    let beacon = poll(&mut sender, ZERO).expect("due");
    assert_eq!((beacon.node, beacon.epoch, beacon.sequence), (7, 5, 0));
    assert_eq!(
        (beacon.capacity, beacon.active, beacon.headroom),
        (100, 1, 99)
    );
    assert_eq!((beacon.period_ms, beacon.admission), (100, Admission::Free));
    assert_eq!(poll(&mut sender, ZERO), None);
}

#[test]
fn a_new_admission_goes_out_early_but_not_too_often() {
    let mut sender = sender();
    poll(&mut sender, ZERO).expect("due");
    let quarter = PERIOD / 4;
    sender.set_report(Duration::from_millis(1), report(Admission::Busy));
    assert_eq!(poll(&mut sender, quarter - Duration::from_nanos(1)), None);
    assert_eq!(
        poll(&mut sender, quarter).expect("due").admission,
        Admission::Busy
    );
    // What changes twice in between goes out once, as it is by then.
    sender.set_report(quarter, report(Admission::Draining));
    sender.set_report(quarter, report(Admission::Free));
    assert_eq!(sender.next_timeout(), Some(quarter * 2));
    assert_eq!(
        poll(&mut sender, quarter * 2).expect("due").admission,
        Admission::Free
    );
    assert_eq!(poll(&mut sender, quarter * 2), None);
    // Long after the last beacon, at once.
    let later = sender.next_timeout().expect("speaking") - Duration::from_millis(1);
    sender.set_report(later, report(Admission::Busy));
    assert!(poll(&mut sender, later).is_some());
    // Another number is no other admission.
    sender.set_report(
        later,
        Report {
            active: 2,
            ..report(Admission::Busy)
        },
    );
    assert!(sender.next_timeout() > Some(later + PERIOD / 2));
}

#[test]
fn silence_is_whole_and_ends_at_once() {
    let mut sender = sender();
    poll(&mut sender, ZERO).expect("due");
    sender.silence();
    assert_eq!(sender.next_timeout(), None);
    assert_eq!(poll(&mut sender, PERIOD * 50), None);
    assert_eq!(sender.answer(PERIOD * 50, &ask(7)), None);
    assert!(sender.farewell().is_empty());
    sender.set_report(PERIOD * 50, report(Admission::Busy));
    assert_eq!(sender.next_timeout(), None);
    sender.speak(PERIOD * 51);
    let beacon = poll(&mut sender, PERIOD * 51).expect("due");
    assert_eq!((beacon.sequence, beacon.admission), (1, Admission::Busy));
}

#[test]
fn a_farewell_drains_and_silences() {
    let mut sender = sender();
    let last = sender.farewell();
    assert_eq!(last.len(), 1);
    assert_eq!(read(&last[0]).admission, Admission::Draining);
    assert!(!sender.is_speaking());
    sender.speak(PERIOD);
    assert_eq!(
        poll(&mut sender, PERIOD).expect("due").admission,
        Admission::Free
    );
}

#[test]
fn two_groups_are_served_apart() {
    let mut sender = Sender::new(identity(7), PERIOD, 2, report(Admission::Free), ZERO, 1);
    assert_eq!(sender.poll_transmit(ZERO).map(|(group, _)| group), Some(0));
    assert_eq!(sender.poll_transmit(ZERO), None);
    assert_eq!(sender.next_timeout(), Some(PERIOD / 2));
    let (group, bytes) = sender.poll_transmit(PERIOD / 2).expect("due");
    assert_eq!((group, read(&bytes).sequence), (1, 1));
    // What is new goes to both as soon as may be.
    sender.set_report(PERIOD / 2, report(Admission::Busy));
    assert_eq!(
        sender.poll_transmit(PERIOD / 2).map(|(group, _)| group),
        Some(0)
    );
    assert_eq!(sender.next_timeout(), Some(PERIOD * 3 / 4));
    assert_eq!(
        sender.poll_transmit(PERIOD * 3 / 4).map(|(group, _)| group),
        Some(1)
    );
    let stamps: Vec<u32> = sender
        .farewell()
        .iter()
        .map(|bytes| read(bytes).sequence)
        .collect();
    assert_eq!(stamps, [4, 5]);
    // However they came together, they part again.
    let mut sender = Sender::new(identity(7), PERIOD, 2, report(Admission::Free), ZERO, 1);
    sender.silence();
    sender.speak(ZERO);
    let mut last = None;
    for step in 0..10_000 {
        let now = sender.next_timeout().expect("speaking");
        assert!(
            last.is_none_or(|last| step == 1 || now - last >= PERIOD / 4),
            "{step}"
        );
        assert!(sender.poll_transmit(now).is_some());
        last = Some(now);
    }
    let mut sender = Sender::new(identity(7), PERIOD, 2, report(Admission::Free), ZERO, 1);
    let addresses = [Address::mapped(1), Address { high: 1, low: 2 }];
    sender.set_addresses(addresses);
    let beacon = read(&sender.poll_transmit(ZERO).expect("due").1);
    assert_eq!([beacon.address_v4, beacon.address_v6], addresses);
}

#[test]
fn queries_for_others_and_too_many_stay_unanswered() {
    let mut sender = sender();
    assert_eq!(sender.answer(ZERO, &ask(8)), None);
    assert_eq!(
        sender.answer(
            ZERO,
            &Query {
                cluster: 8,
                ..ask(7)
            }
        ),
        None
    );
    let answered = (0..1000)
        .filter(|_| sender.answer(ZERO, &ask(7)).is_some())
        .count();
    assert_eq!(answered, ANSWERS_PER_SECOND as usize);
    let a_second = Duration::from_secs(1);
    let answered = (0..1000)
        .filter(|i| sender.answer(a_second / 1000 * *i, &ask(7)).is_some())
        .count();
    assert!((98..=101).contains(&answered), "{answered}");
}

#[test]
fn sequence_numbers_that_run_out_begin_a_new_epoch() {
    let mut sender = sender();
    sender.sequence = u32::MAX;
    let last = poll(&mut sender, ZERO).expect("due");
    assert_eq!((last.epoch, last.sequence), (5, u32::MAX));
    assert_eq!(sender.next_stamp(), (6, 0));
}

#[test]
fn a_headroom_that_others_rely_on_is_news() {
    let says = |headroom| Report {
        headroom,
        ..report(Admission::Free)
    };
    let cases = [
        (100, 90, false),
        (100, 88, false),
        (100, 87, true),
        (50, 63, true),
        (1, 0, true),
        (0, 1, true),
        (10, 5, false),
        (10, 4, true),
        (50, 62, false),
    ];
    for (before, after, is_news) in cases {
        let mut sender = Sender::new(identity(7), PERIOD, 1, says(before), ZERO, 1);
        poll(&mut sender, ZERO).expect("due");
        sender.set_report(ZERO, says(after));
        let is_soon = sender.next_timeout() == Some(PERIOD / 4);
        assert_eq!(is_soon, is_news, "{before} to {after}");
    }
    // What creeps is news when it has crept far enough from what was said.
    let mut sender = Sender::new(identity(7), PERIOD, 1, says(100), ZERO, 1);
    poll(&mut sender, ZERO).expect("due");
    for headroom in (88..100).rev() {
        sender.set_report(ZERO, says(headroom));
        assert!(sender.next_timeout() > Some(PERIOD / 2), "{headroom}");
    }
    sender.set_report(ZERO, says(87));
    assert_eq!(sender.next_timeout(), Some(PERIOD / 4));
}

/// However much there is to say: at most four times as many beacons as without news.
#[test]
fn news_have_a_bounded_rate() {
    let mut sender = sender();
    let mut sent = 0;
    for ms in 0..10_000u32 {
        let now = Duration::from_millis(ms.into());
        let admission = if ms % 2 == 0 {
            Admission::Free
        } else {
            Admission::Busy
        };
        sender.set_report(now, report(admission));
        sent += u32::from(sender.poll_transmit(now).is_some());
    }
    assert!((350..=401).contains(&sent), "{sent} in 100 periods");
}

#[test]
fn three_groups_are_served_apart() {
    for seed in 0..20 {
        let mut sender = Sender::new(identity(7), PERIOD, 3, report(Admission::Free), ZERO, seed);
        let mut last = None;
        let mut counts = [0u32; 3];
        for _ in 0..3000 {
            let now = sender.next_timeout().expect("speaking");
            let (group, _) = sender.poll_transmit(now).expect("due");
            assert!(
                last.is_none_or(|last| now - last >= PERIOD / 6),
                "seed {seed}"
            );
            last = Some(now);
            counts[group] += 1;
        }
        let periods = last.expect("sent").as_millis() / PERIOD.as_millis();
        for count in counts {
            let count = u128::from(count);
            assert!(
                (periods * 9 / 10..=periods * 6 / 5).contains(&count),
                "{counts:?}"
            );
        }
    }
}

#[test]
fn another_key_and_a_higher_epoch() {
    let mut sender = sender();
    poll(&mut sender, ZERO).expect("due");
    let next = KEYS[1];
    sender.set_key(next);
    sender.raise_epoch(ZERO, 5);
    assert_eq!(sender.next_stamp(), (5, 1), "no higher one");
    sender.raise_epoch(ZERO, 9);
    assert_eq!(sender.next_timeout(), Some(PERIOD / 4));
    let (_, bytes) = sender.poll_transmit(PERIOD / 4).expect("due");
    assert!(is_authentic(&bytes[..], 0, next.key));
    let beacon = Beacon::read(&bytes[..], 0, BEACON_LEN).expect("a beacon");
    assert_eq!(
        (beacon.key_id, beacon.epoch, beacon.sequence),
        (next.id, 9, 0)
    );
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Admit(u8),
    Silence,
    Speak,
    Ask,
    Farewell,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u64..200).prop_map(Step::Wait),
        3 => (0u8..4).prop_map(Step::Admit),
        1 => Just(Step::Silence),
        1 => Just(Step::Speak),
        2 => Just(Step::Ask),
        1 => Just(Step::Farewell),
    ]
}

proptest! {
    /// Stamps only grow; to each group, beacons keep their distance and are no more than a period
    /// and a tenth apart while it speaks; and none goes out while it is silent.
    #[test]
    fn whatever_happens(
        steps in proptest::collection::vec(step(), 1..200),
        groups in 1u32..4,
        seed: u64,
    ) {
        let says = report(Admission::Free);
        let mut sender = Sender::new(identity(7), PERIOD, groups, says, ZERO, seed);
        let mut now = ZERO;
        let mut stamp = None;
        let mut last = [None; 3];
        for step in steps {
            let mut out = Vec::new();
            match step {
                Step::Wait(ms) => {
                    let until = now + Duration::from_millis(ms);
                    while let Some(due) = sender.next_timeout().filter(|due| *due <= until) {
                        now = now.max(due);
                        let sent = sender.poll_transmit(now);
                        prop_assert!(sent.is_some(), "a time-out with nothing due");
                        let (group, bytes) = sent.expect("asserted above");
                        if let Some(last) = last[group] {
                            let gap = now - last;
                            prop_assert!(gap >= PERIOD / 4, "{gap:?}");
                        }
                        last[group] = Some(now);
                        prop_assert!(sender.next_timeout() <= Some(now + PERIOD * 11 / 10));
                        out.push(bytes);
                    }
                    now = until;
                }
                Step::Admit(index) => {
                    let admission = Admission::from_index(index).expect("below four");
                    sender.set_report(now, report(admission));
                }
                Step::Silence => {
                    sender.silence();
                    prop_assert_eq!(sender.next_timeout(), None);
                }
                Step::Speak => {
                    sender.speak(now);
                    prop_assert!(sender.next_timeout() <= Some(now + PERIOD * 11 / 10));
                }
                Step::Ask => {
                    let answer = sender.answer(now, &ask(7));
                    prop_assert!(answer.is_none() || sender.is_speaking());
                    out.extend(answer);
                }
                Step::Farewell => {
                    out.extend(sender.farewell());
                    prop_assert!(!sender.is_speaking());
                }
            }
            for bytes in &out {
                let beacon = read(bytes);
                prop_assert!(Some(beacon.stamp()) > stamp);
                stamp = Some(beacon.stamp());
            }
        }
    }
}
