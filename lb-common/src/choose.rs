//! Which node gets this message? The policy, as a pure function of what is known.
//!
//! The kernel program and the controller's deferred path run this very code, each over its own
//! [`Fleet`]. Nearly every packet is settled before it, by [`is_plainly_up`]: home is up, and there
//! is nothing more to think about.
//!
//! ```text
//!  pinned, and that node not Down ───────────────────────────────► there      (pinned)
//!  remembered from the last 64 s, and that node not Down ────────► there      (remembered)
//!  part of a dialog, tables changing, old home not Down ─────────► old home   (old-table)
//!  home Up and willing ──────────────────────────────────────────► home       (home)
//!  home Down ── next willing, else next live by the table ───────► there, pin (home-down)
//!           └── nobody live ─────────────────────────────────────► home       (nobody-live)
//!  home unwilling ── part of a dialog ───────────────────────────► home       (in-dialog)
//!                ├── better of two willing candidates ───────────► there, pin (home-unwilling)
//!                └── nobody willing ─────────────────────────────► home       (overflow)
//! ```

use crate::maps::{NO_NODE, Node, NodeStatus, Settings, TABLE_SLOTS, Turnout, slot_of};
use crate::{Admission, Reason};

/// Table slots probed forward from home before the nodes are simply gone through.
///
/// Chosen: with four of five nodes out, 64 probes miss the fifth once in a million times.
const PROBES: u32 = 64;

/// The headroom that a node without beacons is taken to have.
const SILENT_HEADROOM: u64 = 1 << 20;

/// How a message stands to the calls that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An INVITE without a To tag: a new call.
    NewCall,
    /// Another request without a To tag: REGISTER, SUBSCRIBE, OPTIONS and the like.
    NewRequest,
    /// Everything else: it belongs to what some node already has.
    Existing,
}

/// Is the node there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// Beacons come.
    Up,
    /// The hold time has passed without one: no new calls.
    Stale,
    /// Confirmed by the controller, or silent for ten periods.
    Down,
}

impl Liveness {
    /// The word of the vocabulary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "Up",
            Self::Stale => "Stale",
            Self::Down => "Down",
        }
    }
}

/// What is known of the nodes, as the chooser asks for it.
pub trait Fleet {
    /// The controller's settings.
    fn settings(&self) -> &Settings;
    /// The time, in jiffies.
    fn now(&self) -> u64;
    /// When the last good beacon of any node came, in jiffies; 0 for never.
    fn last_beacon(&self) -> u64;
    /// What the controller says of a node.
    fn node(&self, id: u16) -> Option<&Node>;
    /// What a node's beacons say.
    fn status(&self, id: u16) -> Option<&NodeStatus>;
    /// The node that a generation of the table gives for a slot.
    fn home(&self, generation: u32, slot: u32) -> u16;
    /// New calls sent to a node so far, over all CPUs.
    fn started(&self, id: u16) -> u64;
}

/// The chooser's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where to. [`NO_NODE`] only while the table is empty.
    pub node: u16,
    /// Why.
    pub reason: Reason,
    /// A pin is to be made: the call will live away from home.
    pub pin: bool,
    /// Home, should the pin not fit; only with `pin`, and [`NO_NODE`] when home cannot serve.
    pub fallback: u16,
}

impl Choice {
    #[inline(always)]
    const fn plain(node: u16, reason: Reason) -> Self {
        Self { node, reason, pin: false, fallback: NO_NODE }
    }
}

/// The fast answer for nearly every packet: the node is up and takes calls.
#[inline(always)]
pub fn is_plainly_up(node: &Node, status: &NodeStatus, settings: &Settings, now: u64) -> bool {
    if node.flags == Node::PLAIN {
        status.ready == 1
            && status.admission <= Admission::Free as u8
            && now.wrapping_sub(status.last_seen) as i64 <= settings.hold as i64
    } else {
        node.flags == Node::PLAIN | Node::SILENT
    }
}

/// The moment that ages are counted to, and whether that is not the present.
///
/// When every node looks stale at once, the status plane is broken, not the nodes: then time stands
/// still at the last beacon, so that nodes which were down before stay down and the others stay up.
#[inline(always)]
pub fn reference<F: Fleet>(fleet: &F) -> (u64, bool) {
    let (now, last) = (fleet.now(), fleet.last_beacon());
    if age(now, last) > fleet.settings().hold { (last, true) } else { (now, false) }
}

#[inline(always)]
const fn age(now: u64, then: u64) -> u64 {
    let age = now.wrapping_sub(then);
    // Another CPU may have stamped a moment that this one has not reached.
    if age > u64::MAX / 2 { 0 } else { age }
}

/// Judges one node at the moment `reference` (see [`reference`]).
#[inline(always)]
pub fn judge(node: &Node, status: &NodeStatus, settings: &Settings, reference: u64) -> Liveness {
    if node.flags & Node::CONFIGURED == 0 {
        return Liveness::Down;
    }
    if node.flags & Node::SILENT != 0 {
        return Liveness::Up;
    }
    if node.flags & Node::JUDGED != 0
        && (status.up_since <= node.down_at || reference < node.blocked_until)
    {
        return Liveness::Down;
    }
    if reference == 0 {
        // No beacon of anybody, ever: nothing speaks against this node.
        return Liveness::Up;
    }
    let silence = age(reference, status.last_seen);
    if status.last_seen == 0 || silence > settings.down || status.ready == 0 {
        Liveness::Down
    } else if silence > settings.hold {
        Liveness::Stale
    } else {
        Liveness::Up
    }
}

/// Whether a node that is `Up` takes a message of this standing.
#[inline(always)]
pub const fn is_willing(admission: u8, standing: Standing) -> bool {
    const FREE: u8 = Admission::Free as u8;
    const BUSY: u8 = Admission::Busy as u8;
    match standing {
        Standing::Existing => true,
        Standing::NewRequest => admission <= BUSY,
        Standing::NewCall => admission <= FREE,
    }
}

/// What one node is to one message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fitness {
    /// `Down`, or no such node.
    Out,
    /// Live, but takes nothing new.
    Live,
    /// Takes the message.
    Willing,
}

#[inline(always)]
fn fitness<F: Fleet>(fleet: &F, id: u16, standing: Standing, reference: u64) -> Fitness {
    let (Some(node), Some(status)) = (fleet.node(id), fleet.status(id)) else {
        return Fitness::Out;
    };
    match judge(node, status, fleet.settings(), reference) {
        Liveness::Down => Fitness::Out,
        Liveness::Stale if !matches!(standing, Standing::Existing) => Fitness::Live,
        Liveness::Stale | Liveness::Up => {
            if node.flags & Node::SILENT != 0 || is_willing(status.admission, standing) {
                Fitness::Willing
            } else {
                Fitness::Live
            }
        }
    }
}

/// Chooses, given the call's pin and what the memory of new requests says.
#[inline(always)]
pub fn choose<F: Fleet>(
    fleet: &F,
    key: u64,
    standing: Standing,
    turnout: u64,
    pinned: Option<u16>,
    remembered: Option<u16>,
) -> Choice {
    let (reference, _) = reference(fleet);
    let is_live = |id| fitness(fleet, id, Standing::Existing, reference) != Fitness::Out;
    if let Some(node) = pinned
        && is_live(node)
    {
        return Choice::plain(node, Reason::Pinned);
    }
    if let Some(node) = remembered
        && is_live(node)
    {
        return Choice::plain(node, Reason::Remembered);
    }
    let slot = slot_of(key);
    let generation = turnout as u32 & 1;
    let home = fleet.home(generation, slot);
    let mut moves = false;
    if turnout & Turnout::DRAINING != 0 {
        let old = fleet.home(generation ^ 1, slot);
        if old != home {
            if standing == Standing::Existing && is_live(old) {
                return Choice::plain(old, Reason::OldTable);
            }
            // In-dialog requests will go by the old table: the call must be found all the same.
            moves = standing != Standing::Existing;
        }
    }
    let is_new = standing != Standing::Existing;
    match fitness(fleet, home, standing, reference) {
        Fitness::Willing => {
            Choice { node: home, reason: Reason::Home, pin: moves, fallback: home }
        }
        Fitness::Live => {
            let found = search(fleet, key, generation, slot, home, standing, reference);
            match found.willing {
                NO_NODE => Choice::plain(home, Reason::Overflow),
                node => Choice { node, reason: Reason::HomeUnwilling, pin: true, fallback: home },
            }
        }
        Fitness::Out => {
            let found = search(fleet, key, generation, slot, home, standing, reference);
            let node = if found.first != NO_NODE { found.first } else { found.live };
            match node {
                NO_NODE => Choice::plain(home, Reason::NobodyLive),
                node => Choice { node, reason: Reason::HomeDown, pin: is_new, fallback: NO_NODE },
            }
        }
    }
}

/// What a search found besides home; [`NO_NODE`] where nothing.
struct Found {
    /// The first willing node.
    first: u16,
    /// Of the first two willing nodes the one with more headroom.
    willing: u16,
    /// The first live node.
    live: u16,
}

/// Probes the table forward from home, then goes through all nodes from a place that the key gives.
#[inline(always)]
fn search<F: Fleet>(
    fleet: &F,
    key: u64,
    generation: u32,
    slot: u32,
    home: u16,
    standing: Standing,
    reference: u64,
) -> Found {
    let (mut first, mut second, mut live) = (NO_NODE, NO_NODE, NO_NODE);
    let end = fleet.settings().node_end & 0xff;
    let mut place = slot;
    let mut id = (key >> 48) as u32 & 0xff;
    let mut step = 0;
    while step < PROBES + 256 {
        let candidate = if step < PROBES {
            place = if place + 1 == TABLE_SLOTS { 0 } else { place + 1 };
            fleet.home(generation, place)
        } else {
            if step - PROBES > end {
                break;
            }
            id = if id >= end { 0 } else { id + 1 };
            id as u16
        };
        step += 1;
        if candidate == home || candidate == first || candidate == NO_NODE {
            continue;
        }
        match fitness(fleet, candidate, standing, reference) {
            Fitness::Out => {}
            Fitness::Live => live = candidate,
            Fitness::Willing if first == NO_NODE => first = candidate,
            Fitness::Willing => {
                second = candidate;
                break;
            }
        }
    }
    let willing = if second != NO_NODE && headroom(fleet, second) > headroom(fleet, first) {
        second
    } else {
        first
    };
    Found { first, willing, live }
}

/// Calls that a node can still take: what it said last, less what it has been sent since.
#[inline(always)]
fn headroom<F: Fleet>(fleet: &F, id: u16) -> u64 {
    let (Some(node), Some(status)) = (fleet.node(id), fleet.status(id)) else { return 0 };
    if node.flags & Node::SILENT != 0 {
        return SILENT_HEADROOM;
    }
    let sent = fleet.started(id).saturating_sub(status.started_before);
    u64::from(status.headroom).saturating_sub(sent)
}
