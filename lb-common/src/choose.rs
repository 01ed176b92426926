//! Which node gets this message? The policy, as a pure function of what is known.
//!
//! The kernel program and the controller's deferred path run this very code, each over its own
//! [`Fleet`]. Nearly every packet is settled before it, by [`is_plainly_up`]: home is up, and there
//! is nothing more to think about.
//!
//! ```text
//!  pinned, and that node not Down ───────────────────────────────► there      (pinned)
//!  part of a dialog, not known where, and nodes being asked ─────► nowhere    (gathering)
//!  part of a dialog, tables changing, old home not Down ─────────► old home   (old-table)
//!  home Up and willing ──────────────────────────────────────────► home       (home)
//!  home Down ── next willing, else next live by the table ───────► there, pin (home-down)
//!           └── nobody live ─────────────────────────────────────► home       (nobody-live)
//!  home unwilling ── part of a dialog ───────────────────────────► home       (in-dialog)
//!                ├── sent home within the last 64 s ─────────────► home       (remembered)
//!                ├── better of two willing candidates ───────────► there, pin (home-unwilling)
//!                └── nobody willing ─────────────────────────────► home       (overflow)
//! ```

use core::ops::ControlFlow;

use crate::maps::{
    MAX_NODES, NO_NODE, Node, NodeStatus, Settings, StatusPlane, TABLE_SLOTS, Turnout, slot_of,
};
use crate::{Admission, Reason};

/// Table slots probed forward from home before the nodes are simply gone through.
///
/// Chosen: with four of five nodes out, 64 probes miss the fifth once in a million times.
const PROBES: u32 = 64;

/// The headroom that a node without beacons is taken to have.
const SILENT_HEADROOM: u64 = 1 << 20;

/// How a message stands to the calls that exist.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An INVITE without a To tag: a new call.
    NewCall = 0,
    /// Another request without a To tag: REGISTER, SUBSCRIBE, OPTIONS and the like.
    NewRequest = 1,
    /// Everything else: it belongs to what some node already has.
    Existing = 2,
}

impl Standing {
    /// The standing with this number; `Existing` for all others.
    #[inline(always)]
    pub const fn from_index(index: u32) -> Self {
        match index {
            0 => Self::NewCall,
            1 => Self::NewRequest,
            _ => Self::Existing,
        }
    }
}

/// Is the node there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// Beacons come.
    Up,
    /// The hold time has passed without one, or a node that flaps is held down: no new calls.
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
    /// What is known of the status plane as a whole.
    fn plane(&self) -> StatusPlane;
    /// What the controller says of a node.
    fn node(&self, id: u16) -> Option<&Node>;
    /// What a node's beacons say.
    fn status(&self, id: u16) -> Option<&NodeStatus>;
    /// The node that a generation of the table gives for a slot.
    fn home(&self, generation: u32, slot: u32) -> u16;
    /// New calls sent to a node so far, over all CPUs.
    fn started(&self, id: u16) -> u64;

    /// Calls `step` with 0, 1, … below `times` until it breaks.
    ///
    /// The kernel has a helper for it, whose body the verifier looks at once instead of `times` times.
    #[inline(always)]
    fn repeat(&self, times: u32, mut step: impl FnMut(u32) -> ControlFlow<()>) {
        let _ = (0..times).try_for_each(&mut step);
    }

    /// What a node is to a message of this standing, at the moment `reference`.
    ///
    /// The kernel makes a function of its own of it, which the verifier looks at once.
    #[inline(always)]
    fn fitness(&self, id: u16, standing: Standing, reference: u64) -> Fitness
    where
        Self: Sized,
    {
        fitness(self, id, standing, reference)
    }

    /// Looks for other nodes than home. A function of its own in the kernel, likewise.
    #[inline(always)]
    fn search(
        &self,
        key: u64,
        generation: u32,
        home: u16,
        standing: Standing,
        reference: u64,
    ) -> Found
    where
        Self: Sized,
    {
        search(self, key, generation, home, standing, reference)
    }

    /// Calls that a node can still take. A function of its own in the kernel, likewise.
    #[inline(always)]
    fn headroom(&self, id: u16) -> u64
    where
        Self: Sized,
    {
        headroom(self, id)
    }
}

/// The chooser's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where to. [`NO_NODE`] while the table is empty, and for [`Reason::Gathering`].
    pub node: u16,
    /// Why.
    pub reason: Reason,
    /// A pin is to be made: the call will live away from home.
    pub pin: bool,
    /// Where the rest of the call would be sent without the pin, should it not fit; only with `pin`,
    /// and [`NO_NODE`] when nobody there can serve.
    pub fallback: u16,
}

impl Choice {
    #[inline(always)]
    const fn plain(node: u16, reason: Reason) -> Self {
        Self {
            node,
            reason,
            pin: false,
            fallback: NO_NODE,
        }
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
    reference_at(&fleet.plane(), fleet.settings().hold, fleet.now())
}

/// [`reference()`], given what it depends on.
///
/// When beacons come again, time stands still for another hold time, so that all nodes can be heard
/// before any is judged: else the first one back would get all new calls.
#[inline(always)]
pub fn reference_at(plane: &StatusPlane, hold: u64, now: u64) -> (u64, bool) {
    if age(now, plane.last_beacon) > hold {
        (plane.last_beacon, true)
    } else if plane.resumed != 0 && age(now, plane.resumed) <= hold {
        (plane.before_outage, true)
    } else {
        (now, false)
    }
}

#[inline(always)]
const fn age(now: u64, then: u64) -> u64 {
    let age = now.wrapping_sub(then);
    // Another CPU may have stamped a moment that this one has not reached.
    if age > u64::MAX / 2 { 0 } else { age }
}

/// Judges one node at the moment `reference` (see [`reference()`]).
#[inline(always)]
pub fn judge(node: &Node, status: &NodeStatus, settings: &Settings, reference: u64) -> Liveness {
    if node.flags & (Node::CONFIGURED | Node::LEAVING) == 0 {
        return Liveness::Down;
    }
    if node.flags & Node::SILENT != 0 {
        return Liveness::Up;
    }
    let is_judged = node.flags & Node::JUDGED != 0;
    if is_judged && status.up_since <= node.down_at {
        return Liveness::Down;
    }
    if reference == 0 {
        // No beacon of anybody, ever: nothing speaks against this node.
        return Liveness::Up;
    }
    let silence = age(reference, status.last_seen);
    if status.last_seen == 0 || silence > settings.down || status.ready == 0 {
        Liveness::Down
    } else if silence > settings.hold || is_judged && reference < node.blocked_until {
        Liveness::Stale
    } else {
        Liveness::Up
    }
}

/// Whether a node that is `Up` takes a message of this standing as something new; for one that is
/// nothing new, whether it would take a call.
#[inline(always)]
pub const fn is_willing(admission: u8, standing: Standing) -> bool {
    match standing {
        Standing::NewRequest => admission <= Admission::Busy as u8,
        Standing::NewCall | Standing::Existing => admission <= Admission::Free as u8,
    }
}

/// What one node is to one message.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// `Down`, or no such node.
    Out = 0,
    /// Live, but takes nothing new of this kind.
    Live = 1,
    /// Live, and willing.
    Willing = 2,
}

/// Judges a node and asks for its admission.
#[inline(always)]
pub fn fitness<F: Fleet>(fleet: &F, id: u16, standing: Standing, reference: u64) -> Fitness {
    let (Some(node), Some(status)) = (fleet.node(id), fleet.status(id)) else {
        return Fitness::Out;
    };
    match judge(node, status, fleet.settings(), reference) {
        Liveness::Down => Fitness::Out,
        Liveness::Stale => Fitness::Live,
        Liveness::Up if node.flags & Node::LEAVING != 0 => Fitness::Live,
        Liveness::Up if node.flags & Node::SILENT != 0 => Fitness::Willing,
        Liveness::Up if is_willing(status.admission, standing) => Fitness::Willing,
        Liveness::Up => Fitness::Live,
    }
}

/// Chooses, given the node that the call is pinned to ([`NO_NODE`] when it is not) and whether the
/// memory of new requests knows that it was sent home.
///
/// A pin to a node that is `Down` holds nobody: something new gets another pin in its place.
#[inline(always)]
pub fn choose<F: Fleet>(
    fleet: &F,
    key: u64,
    standing: Standing,
    turnout: u64,
    pinned: u16,
    remembered: bool,
) -> Choice {
    let (reference, _) = reference(fleet);
    let is_live = |id| fleet.fitness(id, Standing::Existing, reference) != Fitness::Out;
    if pinned != NO_NODE && is_live(pinned) {
        return Choice::plain(pinned, Reason::Pinned);
    }
    if turnout & Turnout::GATHERING != 0 && standing == Standing::Existing && !remembered {
        return Choice::plain(NO_NODE, Reason::Gathering);
    }
    let slot = slot_of(key);
    let generation = turnout as u32 & 1;
    let home = fleet.home(generation, slot);
    let stays = standing == Standing::Existing || remembered;
    let mut moves = pinned != NO_NODE && standing != Standing::Existing;
    let mut fallback = home;
    if turnout & Turnout::DRAINING != 0 {
        let old = fleet.home(generation ^ 1, slot);
        if old != home {
            if is_live(old) {
                if stays {
                    return Choice::plain(old, Reason::OldTable);
                }
                fallback = old;
            }
            // In-dialog requests will go by the old table: the call must be found all the same.
            moves |= !stays;
        }
    }
    let home_fitness = fleet.fitness(home, standing, reference);
    if home_fitness == Fitness::Willing {
        return Choice {
            node: home,
            reason: Reason::Home,
            pin: moves,
            fallback,
        };
    }
    if home_fitness == Fitness::Live && stays {
        let known = standing == Standing::Existing;
        return Choice::plain(
            home,
            if known {
                Reason::InDialog
            } else {
                Reason::Remembered
            },
        );
    }
    let found = fleet.search(key, generation, home, standing, reference);
    if home_fitness == Fitness::Live {
        return match found.best {
            NO_NODE => Choice {
                node: home,
                reason: Reason::Overflow,
                pin: moves,
                fallback,
            },
            node => Choice {
                node,
                reason: Reason::HomeUnwilling,
                pin: true,
                fallback,
            },
        };
    }
    let pin = standing != Standing::Existing;
    match if found.first == NO_NODE {
        found.live
    } else {
        found.first
    } {
        NO_NODE => Choice::plain(home, Reason::NobodyLive),
        node => Choice {
            node,
            reason: Reason::HomeDown,
            pin,
            fallback: NO_NODE,
        },
    }
}

/// What a search found besides home; [`NO_NODE`] where nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The first willing node.
    pub first: u16,
    /// Of the first two willing nodes the one with more headroom.
    pub best: u16,
    /// The first node that is live, but unwilling.
    pub live: u16,
}

impl Found {
    /// All three in one word, as a function of the kernel program can return it.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.first as u64 | (self.best as u64) << 16 | (self.live as u64) << 32
    }

    /// What was packed.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            first: word as u16,
            best: (word >> 16) as u16,
            live: (word >> 32) as u16,
        }
    }
}

/// Probes the table forward from home, then goes through all nodes from a place that the key gives.
#[inline(always)]
pub fn search<F: Fleet>(
    fleet: &F,
    key: u64,
    generation: u32,
    home: u16,
    standing: Standing,
    reference: u64,
) -> Found {
    let end = fleet.settings().node_end.min(MAX_NODES);
    let mut walk = Walk {
        fleet,
        generation,
        home,
        standing,
        reference,
        end,
        place: slot_of(key),
        id: (key >> 48) as u32 & (MAX_NODES - 1),
        first: NO_NODE,
        second: NO_NODE,
        live: NO_NODE,
    };
    fleet.repeat(PROBES + end, |step| walk.step(step));
    let Walk {
        first,
        second,
        live,
        ..
    } = walk;
    let best = if second != NO_NODE && fleet.headroom(second) > fleet.headroom(first) {
        second
    } else {
        first
    };
    Found { first, best, live }
}

/// A search under way.
///
/// In this order, so that what the compiler writes in one go is aligned: the verifier refuses other
/// accesses to the stack.
#[repr(C)]
struct Walk<'a, F> {
    fleet: &'a F,
    reference: u64,
    /// The slot probed last.
    place: u32,
    /// The node gone through last.
    id: u32,
    /// 1 + the highest node id.
    end: u32,
    generation: u32,
    first: u16,
    second: u16,
    live: u16,
    home: u16,
    standing: Standing,
}

impl<F: Fleet> Walk<'_, F> {
    /// Looks at one more candidate, until two are willing.
    #[inline(always)]
    fn step(&mut self, step: u32) -> ControlFlow<()> {
        let candidate = if step < PROBES {
            self.place = if self.place + 1 >= TABLE_SLOTS {
                0
            } else {
                self.place + 1
            };
            self.fleet.home(self.generation, self.place)
        } else {
            self.id = if self.id + 1 >= self.end {
                1
            } else {
                self.id + 1
            };
            self.id as u16
        };
        if candidate != self.home && candidate != self.first && candidate != NO_NODE {
            match self.fleet.fitness(candidate, self.standing, self.reference) {
                Fitness::Willing if self.first == NO_NODE => self.first = candidate,
                Fitness::Willing => {
                    self.second = candidate;
                    return ControlFlow::Break(());
                }
                Fitness::Live if self.live == NO_NODE => self.live = candidate,
                Fitness::Live => {}
                Fitness::Out => {}
            }
        }
        ControlFlow::Continue(())
    }
}

/// Calls that a node can still take: what it said last, less what it has been sent since.
#[inline(always)]
pub fn headroom<F: Fleet>(fleet: &F, id: u16) -> u64 {
    let (Some(node), Some(status)) = (fleet.node(id), fleet.status(id)) else {
        return 0;
    };
    if node.flags & Node::SILENT != 0 {
        return SILENT_HEADROOM;
    }
    let sent = fleet.started(id).saturating_sub(status.started_before);
    u64::from(status.headroom).saturating_sub(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: u64 = 75;

    fn plane(last_beacon: u64, before_outage: u64, resumed: u64) -> StatusPlane {
        StatusPlane {
            last_beacon,
            before_outage,
            resumed,
            ..StatusPlane::default()
        }
    }

    #[test]
    fn time_stands_still_while_nobody_is_heard_and_until_all_can_have_been() {
        for (plane, now, expected) in [
            (plane(1_000, 0, 0), 1_000 + HOLD, (1_000 + HOLD, false)),
            (plane(1_000, 0, 0), 1_000 + HOLD + 1, (1_000, true)),
            // Beacons come again at 9,000.
            (plane(9_000, 1_000, 9_000), 9_000, (1_000, true)),
            (plane(9_070, 1_000, 9_000), 9_000 + HOLD, (1_000, true)),
            (
                plane(9_070, 1_000, 9_000),
                9_000 + HOLD + 1,
                (9_000 + HOLD + 1, false),
            ),
            // And stay away again at once.
            (plane(9_000, 1_000, 9_000), 9_000 + HOLD + 1, (9_000, true)),
        ] {
            assert_eq!(
                reference_at(&plane, HOLD, now),
                expected,
                "{plane:?} at {now}"
            );
        }
    }
}
