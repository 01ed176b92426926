//! Taking in a beacon: verified in the kernel, so that the view of the nodes is right with the
//! controller dead, and never older than the last beacon.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use lb_common::Reason;
use lb_common::beacon::{Beacon, BeaconError, is_authentic};
use lb_common::choose::reference_at;
use lb_common::maps::{Node, NodeStatus, Settings};
use lb_common::reign::{MOST_AHEAD, Reign};

use crate::fleet::{jiffies, started};
use crate::frame::Frame;
use crate::maps::KEYS;
use crate::tracks::Tracks;

/// Verifies the beacon of `len` bytes at `at` and takes it over. Returns a [`Reason`] as a number.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn take_beacon(ctx: *mut xdp_md, at: u32, len: u32) -> u32 {
    let Some(tracks) = Tracks::open() else {
        return Reason::NotReady as u32;
    };
    let settings = tracks.settings();
    let frame = Frame::of(ctx);
    let beacon = match Beacon::read(frame, at, len) {
        Ok(beacon) if beacon.cluster == settings.cluster => beacon,
        Ok(_) => return Reason::ForeignStatus as u32,
        Err(BeaconError::Foreign) => return hear_reign(frame, at, len, tracks) as u32,
        Err(BeaconError::Malformed) => return Reason::BeaconMalformed as u32,
    };
    let Some(key) = KEYS.get(beacon.key_id.into()).filter(|key| key.valid == 1) else {
        return Reason::BeaconUnknownKey as u32;
    };
    if !is_authentic(frame, at, key.key) {
        return Reason::BeaconForged as u32;
    }
    accept(&beacon, tracks) as u32
}

/// Gives way to the main of a later term. Whatever else it may be is for userspace to judge.
///
/// Of two CPUs that hear two mains at the same moment one may overwrite the other's later term; the next
/// keep-alive mends it.
#[inline(always)]
fn hear_reign(frame: Frame, at: u32, len: u32, tracks: Tracks) -> Reason {
    let turnout = tracks.turnout();
    // SAFETY: no other reference is alive here.
    let plane = unsafe { tracks.plane_mut() };
    let reign = Reign::read(frame, at, len)
        .filter(|reign| reign.cluster == tracks.settings().cluster)
        .filter(|reign| {
            let known = turnout.term.max(plane.term_heard);
            reign.term > known && reign.term - known < MOST_AHEAD
        });
    let Some(reign) = reign else {
        return Reason::ForeignStatus;
    };
    let key = KEYS.get(reign.key_id.into()).filter(|key| key.valid == 1);
    if !key.is_some_and(|key| is_authentic(frame, at, key.key)) {
        return Reason::ForeignStatus;
    }
    plane.term_heard = reign.term;
    Reason::Superseded
}

/// Takes over an authentic beacon, if it is later than the last.
///
/// Two CPUs that take two beacons of one node at the same moment may keep the earlier of the two;
/// both are genuine, and the next one mends it.
#[inline(always)]
fn accept(beacon: &Beacon, tracks: Tracks) -> Reason {
    let settings = tracks.settings();
    let id = u32::from(beacon.node);
    let Some(node) = tracks
        .node(id)
        .filter(|node| node.flags & Node::CONFIGURED != 0)
    else {
        return Reason::BeaconUnknownNode;
    };
    // SAFETY: no other reference is alive here.
    let Some(status) = (unsafe { tracks.status_mut(id) }) else {
        return Reason::BeaconUnknownNode;
    };
    if beacon.stamp() <= status.stamp {
        return if beacon.epoch < (status.stamp >> 32) as u32 {
            Reason::BeaconOldEpoch
        } else {
            Reason::BeaconReplayed
        };
    }
    let now = jiffies();
    // SAFETY: as above.
    let plane = unsafe { tracks.plane_mut() };
    if plane.last_beacon != 0 && now.wrapping_sub(plane.last_beacon) as i64 > settings.hold as i64 {
        plane.before_outage = plane.last_beacon;
        plane.resumed = now;
    }
    plane.last_beacon = now;
    let (reference, _) = reference_at(plane, settings.hold, now);
    judge_run(status, node, settings, reference, now);
    status.stamp = beacon.stamp();
    status.last_seen = now;
    // SAFETY: the helper takes nothing and returns a number.
    status.last_seen_ns = unsafe { bpf_ktime_get_ns() };
    status.started_before = started(beacon.node);
    status.beacons += 1;
    status.headroom = beacon.headroom;
    status.capacity = beacon.capacity;
    status.active = beacon.active;
    status.calls_per_second = beacon.calls_per_second;
    status.key_id = beacon.key_id;
    status.admission = beacon.admission as u8;
    Reason::Beacon
}

/// Continues the node's run of beacons or starts a new one; `reference` is the moment that silence
/// is counted to.
///
/// A node that was `Down` needs several good beacons before it is `Up` again; one that was merely
/// `Stale`, or has never been seen, needs one.
#[inline(always)]
fn judge_run(status: &mut NodeStatus, node: &Node, settings: &Settings, reference: u64, now: u64) {
    // Heard after the moment that counts: not silent at all.
    let silence = match reference.wrapping_sub(status.last_seen) {
        negative if negative as i64 <= 0 => 0,
        silence => silence,
    };
    let was_declared_down = node.flags & Node::JUDGED != 0 && status.up_since <= node.down_at;
    if silence > settings.hold || was_declared_down {
        let was_down = was_declared_down || silence > settings.down || status.ready == 0;
        let is_new = status.last_seen == 0;
        status.needed = if was_down && !is_new {
            settings.good_beacons as u8
        } else {
            1
        };
        status.up_since = now;
        status.run = 1;
    } else {
        status.run = status.run.saturating_add(1);
    }
    status.ready = u8::from(status.run >= status.needed);
}
