//! When a node's beacons go out, and what stamp they carry.
//!
//! - One beacon every period to each group, give or take a tenth of it, so that nodes started
//!   together do not stay in step. Two groups are served a quarter of a period apart at least, three a
//!   sixth: sent at once, one beacon would overtake the other and be refused as a replay by who hears
//!   both. A group may be a list of [peers](super::peers).
//! - One more at once when there is news: another admission, or a headroom that
//!   others should not go on relying on. But no closer to the last than a quarter of a period: a node
//!   that wavers sends at most four times as much.
//! - One as the answer to each authentic query, as far as [`ANSWERS_PER_SECOND`] go: a captured query
//!   that is played back buys nothing but a few datagrams.
//! - None while silenced. That is how a node says that its SIP server is gone: liveness must come
//!   from the path that serves calls, so the beacons stop with it, and queries stay unanswered.
//!
//! Every beacon has a greater stamp than all before it, whatever made it go out. That it is greater
//! than those of earlier lives, too, is the [challenge](super::challenge)'s concern.

use super::query::Query;
use crate::keys::NumberedKey;
use crate::random::Random;
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
    /// Calls that it can still take: less than the difference when slots are held, or calls come too
    /// fast.
    pub headroom: u32,
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
    said: Option<Said>,
}

/// What a group was told last.
#[derive(Clone, Copy, Debug)]
struct Said {
    admission: Admission,
    headroom: u32,
}

impl Said {
    const fn of(report: &Report) -> Self {
        Self {
            admission: report.admission,
            headroom: report.headroom,
        }
    }

    /// Whether a report should not wait for the next period: the admission is another one, or the
    /// headroom moved by an eighth of the capacity, from or to nothing, or to less than half.
    const fn is_news_in(&self, report: &Report) -> bool {
        let (before, after) = (self.headroom, report.headroom);
        self.admission as u8 != report.admission as u8
            || before.abs_diff(after) > report.capacity / 8
            || (before == 0) != (after == 0)
            || after < before / 2
    }
}

impl Group {
    /// When a beacon may go out that is not one of the regular ones.
    fn earliest(&self, now: Duration, period: Duration) -> Duration {
        self.last_sent
            .map_or(now, |sent| (sent + period / 4).max(now))
    }
}

impl Sender {
    /// A sender to so many groups, one to three, whose first beacon is due at `now`. `seed` is for the jitter.
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
            said: None,
        };
        Self {
            identity,
            period,
            report,
            sequence: 0,
            is_speaking: true,
            groups: (0..groups).map(group).collect(),
            answers: Answers::new(now),
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

    /// Signs with another key from now on. Who receives must have it already.
    pub fn set_key(&mut self, key: NumberedKey) {
        self.identity.key = key;
    }

    /// Begins a higher epoch, with a beacon to every group as soon as the rate allows; a lower one is
    /// no epoch to begin.
    pub(super) fn raise_epoch(&mut self, now: Duration, epoch: u32) {
        if epoch > self.identity.epoch {
            (self.identity.epoch, self.sequence) = (epoch, 0);
            for group in &mut self.groups {
                group.due = group.due.min(group.earliest(now, self.period));
            }
        }
    }

    /// Who sends.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Changes the addresses that beacons name: those of IPv4 and of IPv6.
    pub fn set_addresses(&mut self, [address_v4, address_v6]: [Address; 2]) {
        self.identity.address_v4 = address_v4;
        self.identity.address_v6 = address_v6;
    }

    /// Takes over a new report. What is news goes out as soon as the rate allows.
    pub fn set_report(&mut self, now: Duration, report: Report) {
        self.report = report;
        for group in &mut self.groups {
            if group.said.is_some_and(|said| said.is_news_in(&report)) {
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
        let wanted = now + self.period - self.period / 10 + jitter;
        let due = self.apart(now, number, wanted);
        *self.groups.get_mut(number)? = Group {
            due,
            last_sent: Some(now),
            said: Some(Said::of(&self.report)),
        };
        Some((number, self.make()))
    }

    /// The time nearest to `wanted` that is far enough from when the other groups are due.
    fn apart(&self, now: Duration, number: usize, wanted: Duration) -> Duration {
        let others = || {
            let all = self.groups.iter().enumerate();
            all.filter(move |(other, _)| *other != number)
                .map(|(_, group)| group.due)
        };
        let distance = self.period / (2 * self.groups.len().max(2) as u32);
        let range = now + self.period / 4..=now + self.period * 11 / 10;
        // Each of the others bars half a period or a third of it: of the range, some is left.
        others()
            .flat_map(|other| [other.saturating_sub(distance), other + distance])
            .chain([wanted])
            .filter(|due| {
                range.contains(due) && others().all(|other| other.abs_diff(*due) >= distance)
            })
            .min_by_key(|due| due.abs_diff(wanted))
            .unwrap_or(wanted)
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
            headroom: self.report.headroom,
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
pub(super) struct Answers {
    left: u32,
    since: Duration,
}

impl Answers {
    pub(super) const fn new(now: Duration) -> Self {
        Self {
            left: ANSWERS_PER_SECOND,
            since: now,
        }
    }

    pub(super) fn take(&mut self, now: Duration) -> bool {
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
pub(crate) mod tests;
