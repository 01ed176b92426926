//! Beacons through the real program: what is genuine is taken over, everything else is refused and
//! counted, and a node that was `Down` needs several good beacons.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::beacon::{BEACON_LEN, Beacon};
use lb_common::maps::{BeaconKey, Node, NodeStatus, VipUse};
use lb_common::siphash::SipKey;
use lb_common::{Address, Admission, Outcome, Reason};
use lb_proto::keys::NumberedKey;
use lb_proto::status::Timing;
use lb_proto::status::map::{AvailabilityMap, Membership};
use pointsman_tests::packets::build;
use pointsman_tests::packets::fixture::{self, NodeState};
use pointsman_tests::packets::mutate::Dice;
use pointsman_tests::packets::world::World;

const KEY_ID: u8 = 3;
const KEY: SipKey = SipKey {
    k0: 0x0123_4567_89ab_cdef,
    k1: 0xfedc_ba98_7654_3210,
};
const NEXT_KEY_ID: u8 = 4;
const NEXT_KEY: SipKey = SipKey { k0: 7, k1: 9 };
const GROUP: &str = "239.255.77.1:7700";
const GROUP_V6: &str = "[ff05::4d:1]:7700";
const NODE: u16 = 2;
const PERIOD: Duration = Duration::from_millis(100);

/// A world whose nodes have never been heard.
struct Air(World);

impl Air {
    fn new() -> Result<Self> {
        let world = World::load()?;
        world.set(&fixture::World::default(), "none")?;
        let silent = NodeState {
            never_heard: true,
            ..NodeState::default()
        };
        for node in 1..=4 {
            world.set_node(node, &silent)?;
        }
        world.add_vip(GROUP, VipUse::Status, 10)?;
        world.add_vip(GROUP_V6, VipUse::Status, 11)?;
        let air = Self(world);
        air.set_key(KEY_ID, KEY, true)?;
        Ok(air)
    }

    fn set_key(&self, id: u8, key: SipKey, valid: bool) -> Result<()> {
        let valid = u64::from(valid);
        Ok(self.0.plane.maps().set_key(id, BeaconKey { key, valid })?)
    }

    fn status(&self) -> Result<NodeStatus> {
        Ok(self.0.plane.maps().status(NODE)?)
    }

    /// Sends bytes to the group and returns what is counted for them.
    fn send_to(&self, group: &str, bytes: &[u8]) -> Result<Reason> {
        let maps = self.0.plane.maps();
        let frame = build::datagram(group.parse()?, bytes);
        let before = maps.counts()?.reasons;
        let (reason, out) = self.0.meet(&frame)?;
        let after = maps.counts()?.reasons;
        let counted: Vec<_> = Reason::ALL
            .iter()
            .map(|reason| (*reason, after[*reason as usize] - before[*reason as usize]))
            .filter(|(_, times)| *times > 0)
            .collect();
        ensure!(counted == [(reason, 1)], "counted: {counted:?}");
        ensure!(out == frame, "{reason:?}: {out:02x?}");
        Ok(reason)
    }

    fn send(&self, bytes: &[u8]) -> Result<Reason> {
        self.send_to(GROUP, bytes)
    }

    /// Sends bytes that must be refused, for this reason, without a trace in the status.
    fn refuses(&self, bytes: &[u8], reason: Reason) -> Result<()> {
        let before: Vec<_> = self.all_statuses()?;
        let plane = self.0.plane.maps().plane_status()?;
        let found = self.send(bytes)?;
        ensure!(found == reason, "{found:?} instead of {reason:?}");
        ensure!(
            before == self.all_statuses()?,
            "{reason:?}: it left a trace"
        );
        ensure!(
            plane == self.0.plane.maps().plane_status()?,
            "{reason:?}: it counts as heard"
        );
        Ok(())
    }

    fn all_statuses(&self) -> Result<Vec<NodeStatus>> {
        let all = (0..=255).map(|id| self.0.plane.maps().status(id));
        Ok(all.collect::<Result<_, _>>()?)
    }

    /// Makes the node look as if its last beacon had come that long ago, others having been heard
    /// since.
    fn silence(&self, time: Duration) -> Result<()> {
        let maps = self.0.plane.maps();
        let mut status = maps.status(NODE)?;
        status.last_seen = status.last_seen.saturating_sub(self.0.clock.jiffies(time));
        Ok(maps.set_status(NODE, status)?)
    }
}

fn beacon(sequence: u32) -> Beacon {
    Beacon {
        admission: Admission::Busy,
        key_id: KEY_ID,
        cluster: 1,
        node: NODE,
        epoch: 1_000,
        sequence,
        capacity: 500,
        active: 120,
        headroom: 380,
        calls_per_second: 17,
        oc_permille: 1_000,
        period_ms: 100,
        sip_port: 5060,
        redirect_port: 5070,
        address_v4: Address::default(),
        address_v6: Address::default(),
    }
}

#[test]
fn a_genuine_beacon_is_taken_over() -> Result<()> {
    let air = Air::new()?;
    let before = air.0.clock.now();
    for (sequence, group) in [(1, GROUP), (2, GROUP_V6)] {
        ensure!(air.send_to(group, &beacon(sequence).write(KEY))? == Reason::Beacon);
    }
    let status = air.status()?;
    let after = air.0.clock.now() + 1;
    // The clocks' tick may fall between two looks at them.
    ensure!(
        (before.saturating_sub(1)..=after).contains(&status.last_seen),
        "{status:?}"
    );
    ensure!(air.0.plane.maps().plane_status()?.last_beacon == status.last_seen);
    let expected = NodeStatus {
        stamp: 1_000 << 32 | 2,
        beacons: 2,
        headroom: 380,
        capacity: 500,
        active: 120,
        calls_per_second: 17,
        admission: Admission::Busy as u8,
        run: 2,
        needed: 1,
        ready: 1,
        key_id: KEY_ID,
        // Times, and what they were checked against above.
        last_seen: status.last_seen,
        last_seen_ns: status.last_seen_ns,
        up_since: status.up_since,
        started_before: status.started_before,
        reserved: [0; 3],
    };
    ensure!(status == expected, "{status:?}");
    ensure!(
        status.last_seen_ns > 0 && (before.saturating_sub(1)..=after).contains(&status.up_since)
    );
    Ok(())
}

/// After a time in which nobody was heard, a node goes on where it was: it is the plane that was away.
#[test]
fn an_outage_of_all_beacons_costs_no_node_its_run() -> Result<()> {
    let air = Air::new()?;
    for sequence in 1..=5 {
        ensure!(air.send(&beacon(sequence).write(KEY))? == Reason::Beacon);
    }
    let long = Duration::from_secs(180 * 60);
    air.silence(long)?;
    let maps = air.0.plane.maps();
    let before = air.status()?;
    let mut plane = maps.plane_status()?;
    plane.last_beacon -= air.0.clock.jiffies(long);
    maps.set_plane_status(plane)?;

    ensure!(air.send(&beacon(6).write(KEY))? == Reason::Beacon);
    let (after, resumed) = (air.status()?, maps.plane_status()?);
    ensure!(
        (after.run, after.ready, after.up_since) == (6, 1, before.up_since),
        "{after:?}"
    );
    ensure!(
        (resumed.before_outage, resumed.resumed) == (plane.last_beacon, after.last_seen),
        "{resumed:?}"
    );
    Ok(())
}

#[test]
fn every_flipped_bit_is_refused() -> Result<()> {
    let air = Air::new()?;
    let genuine = beacon(1).write(KEY);
    for bit in 0..BEACON_LEN as usize * 8 {
        let mut forged = genuine;
        forged[bit / 8] ^= 1 << (bit % 8);
        let reason = match bit / 8 {
            // Not our magic, or not our cluster: somebody else's.
            0..=3 | 8..=11 => Reason::ForeignStatus,
            4 => Reason::BeaconMalformed,
            // The two low bits of the admission make other admissions; those above make none.
            5 if bit % 8 >= 2 => Reason::BeaconMalformed,
            6 => Reason::BeaconUnknownKey,
            _ => Reason::BeaconForged,
        };
        air.refuses(&forged, reason)
            .with_context(|| format!("bit {bit}"))?;
    }
    ensure!(air.send(&genuine)? == Reason::Beacon, "the genuine one");
    Ok(())
}

#[test]
fn other_lengths_are_refused() -> Result<()> {
    let air = Air::new()?;
    let genuine = beacon(1).write(KEY);
    for len in 0..genuine.len() {
        let reason = if len < 8 {
            Reason::ForeignStatus
        } else {
            Reason::BeaconMalformed
        };
        air.refuses(&genuine[..len], reason)
            .with_context(|| format!("{len} bytes"))?;
    }
    for more in [1, 8, 112, 1_000] {
        let mut longer = genuine.to_vec();
        longer.resize(genuine.len() + more, 0);
        air.refuses(&longer, Reason::BeaconMalformed)?;
    }
    air.refuses(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n", Reason::ForeignStatus)
}

#[test]
fn replayed_and_reordered_beacons_are_refused() -> Result<()> {
    let air = Air::new()?;
    ensure!(air.send(&beacon(5).write(KEY))? == Reason::Beacon);
    for sequence in [5, 4, 0] {
        air.refuses(&beacon(sequence).write(KEY), Reason::BeaconReplayed)?;
    }
    ensure!(
        air.send(&beacon(9).write(KEY))? == Reason::Beacon,
        "a gap is no harm"
    );
    for sequence in [6, 7, 8, 9] {
        air.refuses(&beacon(sequence).write(KEY), Reason::BeaconReplayed)?;
    }
    ensure!(air.send(&beacon(u32::MAX).write(KEY))? == Reason::Beacon);
    air.refuses(&beacon(0).write(KEY), Reason::BeaconReplayed)
}

#[test]
fn an_earlier_life_is_refused_and_a_later_one_begins_anew() -> Result<()> {
    let air = Air::new()?;
    let life = |epoch, sequence| {
        Beacon {
            epoch,
            ..beacon(sequence)
        }
        .write(KEY)
    };
    ensure!(air.send(&life(1_000, 50))? == Reason::Beacon);
    ensure!(
        air.send(&life(1_001, 0))? == Reason::Beacon,
        "after a reboot"
    );
    air.refuses(&life(1_000, 51), Reason::BeaconOldEpoch)?;
    air.refuses(&life(0, u32::MAX), Reason::BeaconOldEpoch)?;
    air.refuses(&life(1_001, 0), Reason::BeaconReplayed)?;
    ensure!(air.send(&life(1_001, 1))? == Reason::Beacon);
    Ok(())
}

#[test]
fn wrong_keys_clusters_and_nodes_are_refused() -> Result<()> {
    let air = Air::new()?;
    air.refuses(&beacon(1).write(NEXT_KEY), Reason::BeaconForged)?;
    let under_another = Beacon {
        key_id: NEXT_KEY_ID,
        ..beacon(1)
    };
    air.refuses(&under_another.write(KEY), Reason::BeaconUnknownKey)?;
    let elsewhere = Beacon {
        cluster: 2,
        ..beacon(1)
    };
    air.refuses(&elsewhere.write(KEY), Reason::ForeignStatus)?;
    for node in [0, 5, 255, 256, 258, u16::MAX] {
        let stranger = Beacon { node, ..beacon(1) };
        air.refuses(&stranger.write(KEY), Reason::BeaconUnknownNode)
            .with_context(|| format!("node {node}"))?;
    }
    Ok(())
}

#[test]
fn keys_change_without_a_miss() -> Result<()> {
    let air = Air::new()?;
    let next = |sequence| {
        Beacon {
            key_id: NEXT_KEY_ID,
            ..beacon(sequence)
        }
        .write(NEXT_KEY)
    };
    ensure!(air.send(&beacon(1).write(KEY))? == Reason::Beacon);
    air.refuses(&next(2), Reason::BeaconUnknownKey)?;
    air.set_key(NEXT_KEY_ID, NEXT_KEY, true)?;
    ensure!(air.send(&next(2))? == Reason::Beacon && air.status()?.key_id == NEXT_KEY_ID);
    ensure!(
        air.send(&beacon(3).write(KEY))? == Reason::Beacon,
        "both are valid"
    );
    ensure!(air.send(&next(4))? == Reason::Beacon);
    air.set_key(KEY_ID, KEY, false)?;
    air.refuses(&beacon(5).write(KEY), Reason::BeaconUnknownKey)?;
    ensure!(air.send(&next(5))? == Reason::Beacon);
    Ok(())
}

#[test]
fn after_stale_one_beacon_is_enough_and_after_down_three_are_needed() -> Result<()> {
    let air = Air::new()?;
    let mut sequence = 0;
    let mut hear = |expected: (u8, u8, u8)| -> Result<()> {
        sequence += 1;
        ensure!(air.send(&beacon(sequence).write(KEY))? == Reason::Beacon);
        let status = air.status()?;
        let found = (status.run, status.needed, status.ready);
        ensure!(
            found == expected,
            "beacon {sequence}: {found:?} instead of {expected:?}"
        );
        Ok(())
    };
    hear((1, 1, 1)).context("never heard")?;
    hear((2, 1, 1))?;
    air.silence(Duration::from_secs(90 * 60))?;
    hear((1, 1, 1)).context("stale")?;
    hear((2, 1, 1))?;
    air.silence(Duration::from_secs(180 * 60))?;
    hear((1, 3, 0)).context("down by silence")?;
    hear((2, 3, 0))?;
    hear((3, 3, 1))?;
    hear((4, 3, 1))?;
    air.silence(Duration::from_secs(180 * 60))?;
    hear((1, 3, 0)).context("down again")?;
    // It falls silent before it is up: that is no merely stale node.
    air.silence(Duration::from_secs(90 * 60))?;
    hear((1, 3, 0)).context("stale before it was up")?;
    hear((2, 3, 0))?;
    hear((3, 3, 1))?;

    // Confirmed by the controller, though beacons have come all the time.
    let maps = air.0.plane.maps();
    let mut node = maps.node(NODE)?;
    node.flags |= Node::JUDGED;
    node.down_at = air.status()?.up_since;
    maps.set_node(NODE, node)?;
    // Within the tick of the judgement a new run cannot be told from the old one.
    while air.0.clock.now() <= node.down_at + 1 {
        std::thread::yield_now();
    }
    hear((1, 3, 0)).context("down by the controller's word")?;
    hear((2, 3, 0))?;
    hear((3, 3, 1))?;
    Ok(())
}

#[test]
fn a_run_counts_up_to_255() -> Result<()> {
    let air = Air::new()?;
    for sequence in 1..=300 {
        ensure!(air.send(&beacon(sequence).write(KEY))? == Reason::Beacon);
    }
    let status = air.status()?;
    ensure!(
        status.run == u8::MAX && status.ready == 1 && status.beacons == 300,
        "{status:?}"
    );
    Ok(())
}

/// 100,000 beacons that are not genuine or not new, of every kind: the kernel takes none, and for each
/// it counts the reason that userspace has for refusing it.
#[test]
fn of_a_hundred_thousand_beacons_none_is_taken() -> Result<()> {
    let air = Air::new()?;
    let key = NumberedKey {
        id: KEY_ID,
        key: KEY,
    };
    let mut userspace = AvailabilityMap::new(
        beacon(1).cluster,
        vec![key],
        Timing::DEFAULT,
        Membership::Configured,
    );
    userspace.configure(&[1, 2, 3, 4]);
    let held = beacon(50_000);
    ensure!(air.send(&held.write(KEY))? == Reason::Beacon);
    ensure!(userspace.receive(PERIOD, &held.write(KEY)) == Ok(held));
    let taken = air.status()?;
    let next = beacon(50_001);
    let mut dice = Dice::new(23);
    let mut counted = BTreeMap::new();
    for round in 0..100_000 {
        let mut number = |below: u32| dice.below(below as usize) as u32;
        let bytes = match round % 8 {
            0 => {
                let mut bytes = next.write(KEY);
                let bit = number(BEACON_LEN * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            }
            1 => next.write(SipKey {
                k0: number(u32::MAX).into(),
                k1: number(u32::MAX).into(),
            }),
            2 => {
                let key_id = KEY_ID + 1 + number(250) as u8;
                Beacon { key_id, ..next }.write(KEY)
            }
            3 => {
                let (epoch, sequence) = (number(next.epoch), number(u32::MAX));
                let old = Beacon { epoch, ..next };
                Beacon { sequence, ..old }.write(KEY)
            }
            // Played back, overtaken, or doubled.
            4 => beacon(number(50_000)).write(KEY),
            5 => held.write(KEY),
            6 => {
                let node = 5 + number(60_000) as u16;
                Beacon { node, ..next }.write(KEY)
            }
            _ => {
                let cluster = 2 + number(u32::MAX - 2);
                Beacon { cluster, ..next }.write(KEY)
            }
        };
        let reason = air.send(&bytes)?;
        ensure!(reason.outcome() != Outcome::Pass || reason == Reason::ForeignStatus);
        let theirs = userspace.receive(PERIOD * 2, &bytes);
        ensure!(
            theirs == Err(reason),
            "round {round}: {reason:?} in the kernel, {theirs:?} in userspace"
        );
        ensure!(air.status()? == taken, "round {round} left a trace");
        *counted.entry(reason.name()).or_insert(0) += 1;
    }
    println!("100,000 of 100,000 refused: {counted:?}");
    ensure!(
        air.send(&next.write(KEY))? == Reason::Beacon,
        "the next one"
    );
    ensure!(userspace.receive(PERIOD * 2, &next.write(KEY)) == Ok(next));
    Ok(())
}
