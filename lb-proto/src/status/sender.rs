//! When a node's beacons go out, and what stamp they carry.
//!
//! - One beacon every period to each group, give or take a tenth of it, so that nodes started
//!   together do not stay in step. Two groups are served a quarter of a period apart at least: sent at
//!   once, one beacon would overtake the other and be refused as a replay by who hears both.
//! - One more at once when the admission changes, but no closer to the last than a quarter of a
//!   period: a node that wavers sends at most four times as much.
//! - One as the answer to each authentic query, as far as [`ANSWERS_PER_SECOND`] go: a captured query
//!   that is played back buys nothing but a few datagrams.
//! - None while silenced. That is how a node says that its SIP server is gone: liveness must come
//!   from the path that serves calls, so the beacons stop with it, and queries stay unanswered.
//!
//! Every beacon has a greater stamp than all before it, whatever made it go out.

use super::query::Query;
use super::random::Random;
use crate::keys::NumberedKey;
use lb_common::beacon::{BEACON_LEN, Beacon};
use lb_common::{Address, Admission};
use std::time::Duration;

/// The bytes of a beacon.
pub type BeaconBytes = [u8; BEACON_LEN as usize];

/// Answers to queries in a second, and at once. Two controllers that doubt the node ask six times;
/// chosen with room to spare.
pub const ANSWERS_PER_SECOND: u32 = 100;

/// Who sends. Fixed for the life of the sender.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: u32,
    /// The node.
    pub node: u16,
    /// Which life of the node: greater than every one before it, and at least 1.
    pub epoch: u32,
    /// The key to sign with.
    pub key: NumberedKey,
    /// The UDP port of its SIP server.
    pub sip_port: u16,
    /// The UDP port of its redirect server; 0 while calls go straight to the SIP server.
    pub redirect_port: u16,
    /// Its IPv4 address, mapped; zero when it has none.
    pub address_v4: Address,
    /// Its IPv6 address; zero when it has none.
    pub address_v6: Address,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Does it take calls?
    pub admission: Admission,
    /// Calls that it can take in all.
    pub capacity: u32,
    /// Calls that it has.
    pub active: u32,
    /// Calls that came in the last second.
    pub calls_per_second: u32,
    /// The share of new calls that it can take, in thousandths.
    pub oc_permille: u16,
}

/// The sender of one node's beacons.
///
/// ```text
///   speaking ── silence() ──► silenced
///      ▲  every period: beacon   │
///      └─────── speak() ─────────┘ at once: beacon
/// ```
#[derive(Debug)]
pub struct Sender {
    identity: Identity,
    period: Duration,
    report: Report,
    /// Of the next beacon.
    sequence: u32,
    is_speaking: bool,
    groups: Vec<Group>,
    answers: Answers,
    random: Random,
}

/// What is known of one group that beacons go to.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// When its next beacon is due.
    due: Duration,
    last_sent: Option<Duration>,
}

impl Group {
    /// When a beacon may go out that is not one of the regular ones.
    fn earliest(&self, now: Duration, period: Duration) -> Duration {
        self.last_sent
            .map_or(now, |sent| (sent + period / 4).max(now))
    }
}

impl Sender {
    /// A sender to so many groups, one or two, whose first beacon is due at `now`. `seed` is for the jitter.
    pub fn new(
        identity: Identity,
        period: Duration,
        groups: u32,
        report: Report,
        now: Duration,
        seed: u64,
    ) -> Self {
        let apart = period / groups.max(1);
        let group = |number| Group {
            due: now + apart * number,
            last_sent: None,
        };
        Self {
            identity,
            period,
            report,
            sequence: 0,
            is_speaking: true,
            groups: (0..groups).map(group).collect(),
            answers: Answers {
                left: ANSWERS_PER_SECOND,
                since: now,
            },
            random: Random::new(seed),
        }
    }

    /// What the node says of itself now.
    pub fn report(&self) -> Report {
        self.report
    }

    /// Epoch and sequence of the next beacon. The epoch grows when sequence numbers have run out,
    /// after 497 days of a beacon every 10 ms: whoever keeps it over restarts must look.
    pub fn next_stamp(&self) -> (u32, u32) {
        (self.identity.epoch, self.sequence)
    }

    /// Whether beacons go out.
    pub fn is_speaking(&self) -> bool {
        self.is_speaking
    }

    /// Changes the addresses that beacons name: those of IPv4 and of IPv6.
    pub fn set_addresses(&mut self, [address_v4, address_v6]: [Address; 2]) {
        self.identity.address_v4 = address_v4;
        self.identity.address_v6 = address_v6;
    }

    /// Takes over a new report. A new admission goes out as soon as the rate allows.
    pub fn set_report(&mut self, now: Duration, report: Report) {
        let changed = report.admission != self.report.admission;
        self.report = report;
        if changed {
            for group in &mut self.groups {
                group.due = group.due.min(group.earliest(now, self.period));
            }
        }
    }

    /// No more beacons and no answers, until [`Sender::speak`].
    pub fn silence(&mut self) {
        self.is_speaking = false;
    }

    /// Beacons go out again, the first to every group as soon as the rate allows.
    pub fn speak(&mut self, now: Duration) {
        if !self.is_speaking {
            self.is_speaking = true;
            for group in &mut self.groups {
                group.due = group.earliest(now, self.period);
            }
        }
    }

    /// The beacon that answers a query, or nothing when silenced, asked for somebody else or asked
    /// too much.
    pub fn answer(&mut self, now: Duration, query: &Query) -> Option<BeaconBytes> {
        let is_for_us = query.node == self.identity.node && query.cluster == self.identity.cluster;
        (is_for_us && self.is_speaking() && self.answers.take(now)).then(|| self.make())
    }

    /// The last beacon of this life, one for each group: takes no new calls. Receivers need not wait
    /// to miss it.
    ///
    /// Silences the sender; when it speaks again, it says what it said before. Empty when it is silenced
    /// already.
    pub fn farewell(&mut self) -> Vec<BeaconBytes> {
        if !std::mem::take(&mut self.is_speaking) {
            return Vec::new();
        }
        let report = self.report;
        self.report.admission = Admission::Draining;
        let beacons = (0..self.groups.len()).map(|_| self.make()).collect();
        self.report = report;
        beacons
    }

    /// The beacon that is due at `now`, if one is, and the group that it is for, the first being 0.
    /// Call until there is none.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<(usize, BeaconBytes)> {
        if !self.is_speaking {
            return None;
        }
        let number = self.groups.iter().position(|group| group.due <= now)?;
        let tenth = u64::try_from(self.period.as_nanos() / 10).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.random.below(tenth.saturating_mul(2)));
        // From now, not from when it was due: what a stalled machine missed is not made up for.
        let mut due = now + self.period - self.period / 10 + jitter;
        let others = self
            .groups
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number);
        let near = |other: &Duration| other.abs_diff(due) < self.period / 4;
        if let Some(near) = others.map(|(_, other)| other.due).find(near) {
            // Sooner rather than later, if that is not too soon after this one.
            let quarter = self.period / 4;
            due = if near >= now + quarter * 3 {
                near - quarter * 2
            } else {
                near + quarter
            };
        }
        *self.groups.get_mut(number)? = Group {
            due,
            last_sent: Some(now),
        };
        Some((number, self.make()))
    }

    /// When to call [`Sender::poll_transmit`] next; `None` while silenced.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.groups
            .iter()
            .map(|group| group.due)
            .min()
            .filter(|_| self.is_speaking)
    }

    fn make(&mut self) -> BeaconBytes {
        let Identity {
            cluster,
            node,
            epoch,
            key,
            sip_port,
            redirect_port,
            ..
        } = self.identity;
        let beacon = Beacon {
            admission: self.report.admission,
            key_id: key.id,
            cluster,
            node,
            epoch,
            sequence: self.sequence,
            capacity: self.report.capacity,
            active: self.report.active,
            headroom: self.report.capacity.saturating_sub(self.report.active),
            calls_per_second: self.report.calls_per_second,
            oc_permille: self.report.oc_permille,
            period_ms: u16::try_from(self.period.as_millis()).unwrap_or(u16::MAX),
            sip_port,
            redirect_port,
            address_v4: self.identity.address_v4,
            address_v6: self.identity.address_v6,
        };
        match self.sequence.checked_add(1) {
            Some(next) => self.sequence = next,
            None => {
                self.sequence = 0;
                self.identity.epoch = epoch.saturating_add(1);
            }
        }
        beacon.write(key.key)
    }
}

/// The bucket that answers are taken from.
#[derive(Debug)]
struct Answers {
    left: u32,
    since: Duration,
}

impl Answers {
    fn take(&mut self, now: Duration) -> bool {
        let each = Duration::from_secs(1) / ANSWERS_PER_SECOND;
        let earned = now.saturating_sub(self.since).as_nanos() / each.as_nanos();
        if earned >= u128::from(ANSWERS_PER_SECOND - self.left) {
            (self.left, self.since) = (ANSWERS_PER_SECOND, now);
        } else {
            self.left += earned as u32;
            self.since += each * earned as u32;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::status::query;
    use lb_common::beacon::is_authentic;
    use lb_common::siphash::SipKey;
    use proptest::prelude::*;

    pub(crate) const KEY: NumberedKey = NumberedKey {
        id: 1,
        key: SipKey { k0: 3, k1: 4 },
    };
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
        assert_eq!(
            query::QUERY_LEN,
            BEACON_LEN,
            "an answer is no longer than its question"
        );
    }

    #[test]
    fn sequence_numbers_that_run_out_begin_a_new_epoch() {
        let mut sender = sender();
        sender.sequence = u32::MAX;
        let last = poll(&mut sender, ZERO).expect("due");
        assert_eq!((last.epoch, last.sequence), (5, u32::MAX));
        assert_eq!(sender.next_stamp(), (6, 0));
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
            groups in 1u32..3,
            seed: u64,
        ) {
            let says = report(Admission::Free);
            let mut sender = Sender::new(identity(7), PERIOD, groups, says, ZERO, seed);
            let mut now = ZERO;
            let mut stamp = None;
            let mut last = [None; 2];
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
}
