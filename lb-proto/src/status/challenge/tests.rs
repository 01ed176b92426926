//! Cases of the challenge, and what an attacker may try.

use super::*;
use crate::fixtures::KEY;
use crate::random::Random;
use crate::status::Timing;
use crate::status::map::Membership;
use crate::status::map::tests::beacon;
use crate::status::query::{Message, Query};
use crate::status::sender::tests::{identity, report};
use crate::status::sender::{Identity, Sender};
use lb_common::beacon::{BEACON_LEN, Beacon};
use lb_common::siphash::SipKey;
use lb_common::{Admission, Reason};

const PERIOD: Duration = Timing::DEFAULT.period;
const ZERO: Duration = Duration::ZERO;

fn sender(epoch: u32) -> Sender {
    let identity = Identity {
        epoch,
        ..identity(7)
    };
    Sender::new(identity, PERIOD, 1, report(Admission::Free), ZERO, 1)
}

fn map(held: &Beacon) -> AvailabilityMap {
    let mut map = AvailabilityMap::new(9, vec![KEY], Timing::DEFAULT, Membership::Learnt);
    map.receive(ZERO, &held.write(KEY.key)).expect("good");
    map
}

fn probe(bytes: &QueryBytes) -> Probe {
    match Message::read(bytes, &[KEY]) {
        Ok(Message::Probe(probe)) => probe,
        other => panic!("no probe: {other:?}"),
    }
}

fn held(bytes: &QueryBytes) -> Held {
    match Message::read(bytes, &[KEY]) {
        Ok(Message::Held(held)) => held,
        other => panic!("no answer: {other:?}"),
    }
}

#[test]
fn a_lost_epoch_is_found_again() {
    let old = beacon(7, 9, 1234);
    let mut map = map(&old);
    let (mut sender, mut challenge) = (sender(5), Challenge::new(PERIOD, 1));
    let (_, first) = sender.poll_transmit(ZERO).expect("due");
    assert_eq!(map.receive(ZERO, &first), Err(Reason::BeaconOldEpoch));
    let asked = challenge.poll_transmit(ZERO, &sender).expect("due");
    let mut answerer = Answerer::new(ZERO);
    let answer = answerer
        .answer(ZERO, &probe(&asked), &map, KEY)
        .expect("it holds more");
    assert_eq!(
        answerer.answer(ZERO, &probe(&asked), &map, KEY),
        None,
        "once"
    );
    let outcome = challenge.answered(ZERO, &held(&answer), &mut sender);
    let raised = Outcome::Raised {
        epoch: 10,
        is_contested: false,
    };
    assert_eq!(outcome, raised);
    let soon = sender.next_timeout().expect("speaking");
    assert!(soon <= PERIOD / 4, "{soon:?}");
    let (_, bytes) = sender.poll_transmit(soon).expect("due");
    assert!(map.receive(soon, &bytes).is_ok());
    for replay in [old, beacon(7, 9, u32::MAX)] {
        let refused = map.receive(soon, &replay.write(KEY.key));
        assert_eq!(refused, Err(Reason::BeaconOldEpoch));
    }
    // The same answer once more says nothing new.
    let outcome = challenge.answered(soon, &held(&answer), &mut sender);
    assert_eq!(outcome, Outcome::Passed);
    let due = challenge.next_timeout(soon, &sender).expect("speaking");
    let again = challenge.poll_transmit(due, &sender).expect("due");
    assert_eq!(
        answerer.answer(due, &probe(&again), &map, KEY),
        None,
        "all is well"
    );
}

#[test]
fn the_highest_of_several_answers_counts_in_any_order() {
    for order in [[9, 20, 12], [20, 9, 12], [12, 20, 9]] {
        let (mut sender, mut challenge) = (sender(5), Challenge::new(PERIOD, 1));
        let asked = probe(&challenge.poll_transmit(ZERO, &sender).expect("due"));
        for epoch in order {
            let map = map(&beacon(7, epoch, 3));
            let answer = Answerer::new(ZERO).answer(ZERO, &asked, &map, KEY);
            challenge.answered(ZERO, &held(&answer.expect("more")), &mut sender);
        }
        assert_eq!(sender.next_stamp(), (21, 0));
    }
}

#[test]
fn an_epoch_that_an_earlier_life_had_too_is_told_by_its_sequence() {
    let map = map(&beacon(7, 5, 100));
    let (mut sender, mut challenge) = (sender(5), Challenge::new(PERIOD, 1));
    let asked = probe(&challenge.poll_transmit(ZERO, &sender).expect("due"));
    let answer = Answerer::new(ZERO).answer(ZERO, &asked, &map, KEY);
    challenge.answered(ZERO, &held(&answer.expect("more")), &mut sender);
    assert_eq!(sender.next_stamp(), (6, 0));
}

#[test]
fn probes_come_in_a_burst_and_then_seldom() {
    let (mut sender, mut challenge) = (sender(5), Challenge::new(PERIOD, 1));
    sender.silence();
    assert_eq!(challenge.poll_transmit(ZERO, &sender), None);
    assert_eq!(challenge.next_timeout(ZERO, &sender), None);
    sender.speak(PERIOD);
    let mut now = challenge.next_timeout(PERIOD, &sender).expect("speaking");
    let mut times = Vec::new();
    while now < PERIOD * 200 {
        assert!(challenge.poll_transmit(now, &sender).is_some());
        assert!(challenge.poll_transmit(now, &sender).is_none());
        times.push(now);
        now = challenge.next_timeout(now, &sender).expect("speaking");
    }
    let burst: Vec<Duration> = (0..BURST).map(|n| PERIOD + PERIOD / 2 * n).collect();
    assert_eq!(times[..BURST as usize], burst);
    let seldom = times[BURST as usize - 1..]
        .windows(2)
        .map(|pair| pair[1] - pair[0]);
    let range = PERIOD * 14..PERIOD * 18;
    assert!(seldom.clone().all(|gap| range.contains(&gap)), "{times:?}");
    assert!(seldom.count() >= 10);
}

#[test]
fn the_ceiling_is_not_climbed() {
    let map = map(&beacon(7, CEILING, 0));
    let (mut sender, mut challenge) = (sender(5), Challenge::new(PERIOD, 1));
    let asked = probe(&challenge.poll_transmit(ZERO, &sender).expect("due"));
    let answer = Answerer::new(ZERO).answer(ZERO, &asked, &map, KEY);
    let outcome = challenge.answered(ZERO, &held(&answer.expect("more")), &mut sender);
    assert_eq!((outcome, sender.next_stamp()), (Outcome::Ceiling, (5, 0)));
}

/// Two nodes of one id refuse each other's epoch by turns: they climb slowly, and say so.
#[test]
fn two_of_the_same_id_climb_slowly_and_say_so() {
    let mut pair = [5, 6].map(|epoch| (sender(epoch), Challenge::new(PERIOD, epoch.into())));
    let mut map = map(&beacon(7, 4, 0));
    let mut answerer = Answerer::new(ZERO);
    let (mut contested, mut now) = (0, ZERO);
    let day = Duration::from_secs(24 * 3600);
    while now < day {
        for (sender, challenge) in &mut pair {
            if sender.next_timeout().is_some_and(|due| due <= now)
                && let Some((_, bytes)) = sender.poll_transmit(now)
            {
                let _ = map.receive(now, &bytes);
            }
            let asked = challenge.poll_transmit(now, sender);
            let answer = asked.and_then(|asked| answerer.answer(now, &probe(&asked), &map, KEY));
            if let Some(answer) = answer {
                let outcome = challenge.answered(now, &held(&answer), sender);
                contested += u32::from(matches!(
                    outcome,
                    Outcome::Raised {
                        is_contested: true,
                        ..
                    }
                ));
            }
        }
        let due = |(sender, challenge): &(Sender, Challenge)| {
            challenge
                .next_timeout(now, sender)
                .into_iter()
                .chain(sender.next_timeout())
                .min()
        };
        now = pair
            .iter()
            .filter_map(due)
            .min()
            .expect("they speak")
            .max(now + PERIOD / 10);
    }
    let epoch = pair[0].0.next_stamp().0.max(pair[1].0.next_stamp().0);
    assert!(contested > 10, "{contested}");
    assert!(epoch < 3000, "{epoch} after a day");
}

/// 100,000 answers that are not good for the node that gets them, and probes likewise: no epoch moves
/// and nobody answers.
#[test]
fn of_a_hundred_thousand_messages_none_is_believed() {
    let mut random = Random::new(17);
    let map = map(&beacon(7, 9, 1234));
    let (mut sender, mut challenge) = (sender(5), Challenge::new(PERIOD, 3));
    let mut answerer = Answerer::new(ZERO);
    // An earlier life of the same node asked, was answered, and was listened to.
    let mut earlier = Challenge::new(PERIOD, 99);
    let earlier: Vec<(QueryBytes, QueryBytes)> = (0..50)
        .filter_map(|second| {
            let now = Duration::from_secs(second * 10);
            let asked = earlier.poll_transmit(now, &sender)?;
            Some((asked, answerer.answer(now, &probe(&asked), &map, KEY)?))
        })
        .collect();
    assert_eq!(earlier.len(), 50);
    let asked = challenge.poll_transmit(ZERO, &sender).expect("due");
    let nonce = probe(&asked).nonce;
    let genuine = Held {
        cluster: 9,
        node: 7,
        key_id: KEY.id,
        nonce,
        stamp: beacon(7, 1_000_000, 0).stamp(),
    };
    for round in 0..100_000u32 {
        let pick = random.below(earlier.len() as u64) as usize;
        let bytes = match round % 9 {
            // A bit flipped.
            0 => {
                let mut bytes = genuine.write(KEY.key);
                let bit = random.below(u64::from(BEACON_LEN) * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            }
            // Under another key of the same id, and under the right one with another id.
            1 => genuine.write(SipKey {
                k0: random.next(),
                k1: random.next(),
            }),
            2 => Held {
                key_id: 2 + random.below(254) as u8,
                ..genuine
            }
            .write(KEY.key),
            // For another node, cluster or nonce.
            3 => Held {
                node: 8 + random.below(200) as u16,
                ..genuine
            }
            .write(KEY.key),
            4 => Held {
                cluster: random.next() as u32 | 1 << 31,
                ..genuine
            }
            .write(KEY.key),
            5 => Held {
                nonce: random.next(),
                ..genuine
            }
            .write(KEY.key),
            // Of the earlier life, and too old to matter.
            6 => earlier[pick].1,
            7 => Held {
                stamp: random.below(beacon(7, 5, 0).stamp()),
                ..genuine
            }
            .write(KEY.key),
            // A question, played back as an answer.
            _ => {
                let kind: [QueryBytes; 2] = [
                    asked,
                    Query {
                        cluster: 9,
                        node: 7,
                        key_id: KEY.id,
                        nonce,
                    }
                    .write(KEY.key),
                ];
                kind[random.below(2) as usize]
            }
        };
        if let Ok(Message::Held(held)) = Message::read(&bytes, &[KEY]) {
            let outcome = challenge.answered(ZERO, &held, &mut sender);
            let is_refused = matches!(outcome, Outcome::NotOurs | Outcome::Passed);
            assert!(is_refused, "round {round}: {outcome:?}");
        }
        assert_eq!(sender.next_stamp(), (5, 0), "round {round}");
    }
    // And the genuine one still counts.
    let Ok(Message::Held(held)) = Message::read(&genuine.write(KEY.key), &[KEY]) else {
        panic!("the genuine one is refused");
    };
    assert!(matches!(
        challenge.answered(ZERO, &held, &mut sender),
        Outcome::Raised { .. }
    ));
}

#[test]
fn probes_played_back_buy_little() {
    let map = map(&beacon(7, 9, 1234));
    let mut answerer = Answerer::new(ZERO);
    let sender = sender(5);
    let mut challenge = Challenge::new(PERIOD, 3);
    let probes: Vec<Probe> = (0..1000)
        .filter_map(|second| challenge.poll_transmit(Duration::from_secs(second * 10), &sender))
        .map(|bytes| probe(&bytes))
        .collect();
    let now = Duration::from_secs(1);
    let all = probes.iter().cycle().take(100_000);
    let answered = all
        .filter(|probe| answerer.answer(now, probe, &map, KEY).is_some())
        .count();
    assert!(answered <= 100, "{answered}");
    let stranger = Probe {
        cluster: 8,
        ..probes[0]
    };
    let unknown = Probe {
        node: 8,
        ..probes[0]
    };
    let later = Duration::from_secs(100);
    for probe in [stranger, unknown] {
        assert_eq!(answerer.answer(later, &probe, &map, KEY), None);
    }
    assert!(answerer.answer(later, &probes[0], &map, KEY).is_some());
}
