//! What lies in the BPF maps: who writes each, who reads it, what absence means.
//!
//! | map | key → value | written by | read by |
//! |---|---|---|---|
//! | `TRACKS` | 0 → [`Tracks`]: all that plain packets ask for | its fields: controller or program | both |
//! | `KEYS` | key id → [`BeaconKey`] | controller | program |
//! | `PINS` | call key → [`Pin`] | both | both |
//! | `COUNTS` | 0 → per-CPU [`Counts`] | program | both |
//! | `EVENTS` | ring of [`Event`] | program | controller |
//! | `PORTS` | device map | controller | program |
//!
//! Times are in **jiffies**, the kernel's timer ticks: reading them is one load, where the monotonic
//! clock is a call of 12 to 30 ns, and both sides need no more than a tick's resolution.

use crate::memory::MEMORY_WORDS;
use crate::shared;
use crate::siphash::SipKey;
use crate::{Address, REASON_SLOTS};

/// Version of everything in this module, and of what the values mean; part of the path that the maps
/// are pinned under. It stays 1 until the first release.
pub const LAYOUT_VERSION: u32 = 1;

/// Node ids are 1 to `MAX_NODES - 1`; 0 is none.
pub const MAX_NODES: u32 = 256;
/// No node.
pub const NO_NODE: u16 = 0;

/// Slots of the steering table: a prime just above 2¹⁶, whose remainder needs no division.
pub const TABLE_SLOTS: u32 = 65_537;

/// The slot of a call key: the key modulo [`TABLE_SLOTS`].
///
/// 2¹⁶ ≡ −1 (mod 2¹⁶ + 1), so the four 16-bit digits are added with alternating signs, and those of the
/// sum again. Without a branch: keys are random, and the processor would guess wrong half of the time.
#[inline(always)]
pub const fn slot_of(key: u64) -> u32 {
    let even = (key & 0xffff) as u32 + (key >> 32 & 0xffff) as u32;
    let odd = (key >> 16 & 0xffff) as u32 + (key >> 48) as u32;
    // 0 ≤ sum ≤ 2¹⁸
    let sum = even + 2 * TABLE_SLOTS - odd;
    // −4 ≤ slot < 2¹⁶
    let slot = (sum & 0xffff) as i32 - (sum >> 16) as i32;
    (slot + (slot >> 31 & TABLE_SLOTS as i32)) as u32
}

/// Node ids in one generation of the table: its slots, and as many more as fill the last word.
pub const TABLE_ROW: usize = TABLE_SLOTS.next_multiple_of(4) as usize;

/// All that plain packets ask for, in one value: one look-up instead of nine.
///
/// Both sides have it in their memory: the controller reads and writes it by words, in ascending order, the
/// program by fields. One that the controller owns the program only reads, and the other way about. What says
/// that others count (a VIP's purpose, a node's flags) is in the last word.
#[repr(C)]
pub struct Tracks {
    /// The controller's.
    pub settings: Settings,
    /// The controller's.
    pub turnout: Turnout,
    /// The program's.
    pub plane: StatusPlane,
    /// How many pins there are: all the hints together. While it is 0, none of them is asked for. Counted
    /// as they are.
    pub pins: u64,
    /// By slot. The controller's.
    pub vips: [Vip; VIP_SLOTS as usize],
    /// By node id. The controller's.
    pub nodes: [Node; MAX_NODES as usize],
    /// By node id. The program's.
    pub status: [NodeStatus; MAX_NODES as usize],
    /// By [`pin_hint_of`]: how many pins have a key that falls there; 0 spares the search. Both sides add and
    /// subtract, atomically.
    pub pin_hints: [u64; PIN_HINTS as usize],
    /// By [`memory::word_of`](crate::memory::word_of). Both sides', who overwrite words.
    pub memory: [u64; 2 * MEMORY_WORDS as usize],
    /// By generation and slot: node ids. The controller's.
    pub table: [[u16; TABLE_ROW]; 2],
    /// By [`Vip::index`]: what [`Counts::vips`] were over all CPUs when this VIP got the index. The
    /// controller's.
    pub vips_before: [u64; MAX_VIPS as usize],
}

const _: () = assert!(
    size_of::<Tracks>()
        == size_of::<Settings>()
            + size_of::<Turnout>()
            + size_of::<StatusPlane>()
            + size_of::<Vip>() * VIP_SLOTS as usize
            + (size_of::<Node>() + size_of::<NodeStatus>()) * MAX_NODES as usize
            + size_of::<u64>() * (1 + PIN_HINTS + 2 * MEMORY_WORDS + MAX_VIPS) as usize
            + size_of::<u16>() * TABLE_ROW * 2,
    "padding in Tracks",
);

const _: () = assert!(
    core::mem::offset_of!(Node, flags) >= size_of::<Node>() - 8
        && core::mem::offset_of!(Vip, purpose) >= size_of::<Vip>() - 8,
    "what makes the others count is not in the last word",
);

shared! {
    /// The controller's settings. Written before the program is attached and on `reload`.
    pub struct Settings {
        /// Secret of the call key.
        pub call_secret: SipKey,
        /// Age of the last beacon, in jiffies, past which a node is `Stale`.
        pub hold: u64,
        /// Age past which the program says `Down` by itself.
        pub down: u64,
        /// How jiffies become epochs of the memory: [`epoch_shift`](crate::memory::epoch_shift).
        pub epoch_shift: u64,
        /// Nanoseconds of a jiffy. 0: the maps are not filled yet.
        pub jiffy_ns: u64,
        /// The cluster that beacons must name.
        pub cluster: u32,
        /// One event in this many frames goes to the ring; 0 for none.
        pub sample: u32,
        /// Good beacons in a row that bring a node back from `Down`.
        pub good_beacons: u32,
        /// 1 + the highest node id that is configured.
        pub node_end: u32,
    }
}

shared! {
    /// Whether this data plane steers, and by which table.
    pub struct Turnout {
        /// Bit 0: the generation in use; then [`Turnout::DRAINING`] and the other bits. One word, so
        /// that each change is one store.
        pub word: u64,
        /// The term that this LB reigns in: a main of a later one, once heard of, ends it.
        pub term: u64,
    }
}

impl Turnout {
    /// The bit that says: the other generation still keeps its dialogs.
    pub const DRAINING: u64 = 2;
    /// The bit that says: another LB steers.
    pub const PASSIVE: u64 = 4;
    /// The bit that says: where calls live is being asked. What belongs to one that is not known yet is
    /// not steered.
    pub const GATHERING: u64 = 8;

    /// Whether the other generation still keeps its dialogs.
    #[inline(always)]
    pub const fn is_draining(self) -> bool {
        self.word & Self::DRAINING != 0
    }

    /// Whether home alone decides for a call without a pin.
    #[inline(always)]
    pub const fn is_at_rest(self) -> bool {
        self.word & (Self::DRAINING | Self::GATHERING) == 0
    }

    /// Whether this data plane steers, given the latest term that a main was heard of.
    #[inline(always)]
    pub const fn is_active(self, heard: u64) -> bool {
        self.word & Self::PASSIVE == 0 && self.term >= heard
    }
}

shared! {
    /// A service address, in a small open-addressed table: [`vip_slot`] gives the first place, the
    /// next [`VIP_PROBES`] are tried until an empty one.
    pub struct Vip {
        /// The address.
        pub address: Address,
        /// The UDP port, as it stands in the packet.
        pub port_be: u16,
        /// A [`VipUse`]. `Empty` ends the search, `Removed` does not.
        pub purpose: u8,
        /// Reserved.
        pub reserved: u8,
        /// The index of its counter: its place in the configuration.
        pub index: u32,
    }
}

/// What a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipUse {
    /// Nothing; the search ends here.
    Empty = 0,
    /// Nothing any more; the search goes on.
    Removed = 1,
    /// A VIP: SIP is steered.
    Sip = 2,
    /// The status group, or the controller's status address: beacons are verified.
    Status = 3,
}

/// Slots of the VIP table.
pub const VIP_SLOTS: u32 = 256;
/// Service addresses that the controller accepts: a quarter of the slots, so that searches are short.
pub const MAX_VIPS: u32 = 64;
/// Slots tried for one destination.
pub const VIP_PROBES: u32 = 8;

/// The first slot to try for a destination.
#[inline(always)]
pub const fn vip_slot(address: Address, port_be: u16) -> u32 {
    let mixed = address.high ^ address.low ^ port_be as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u32
}

shared! {
    /// What the controller says of a node.
    pub struct Node {
        /// The node's link address (or its next hop's), from the kernel's neighbour table.
        pub destination_mac: [u8; 6],
        /// The link address of the port that leads there.
        pub source_mac: [u8; 6],
        /// The port that leads there.
        pub ifindex: u32,
        /// When the controller confirmed the node `Down`, in jiffies: it is so until beacons come
        /// that started later. 0: never.
        pub down_at: u64,
        /// `Stale` at best before this time, in jiffies: the hold-down of a node that flaps. It keeps its
        /// calls meanwhile, and gets no new ones.
        pub blocked_until: u64,
        /// The port's place in `PORTS`.
        pub port: u32,
        /// [`Node::CONFIGURED`] and the other bits. In the last word: what makes the others count is written
        /// last.
        pub flags: u32,
    }
}

impl Node {
    /// The node is in the configuration.
    pub const CONFIGURED: u32 = 1;
    /// Its link address is known.
    pub const REACHABLE: u32 = 2;
    /// It sends no beacons, and counts as `Up` and `Free` (silent legacy nodes, `explain`).
    pub const SILENT: u32 = 4;
    /// `down_at` or `blocked_until` may matter.
    pub const JUDGED: u32 = 8;
    /// No longer in the configuration: it keeps the calls it has, until the old table has drained.
    pub const LEAVING: u32 = 16;
    /// What all nodes have that are steered to without a second thought.
    pub const PLAIN: u32 = Self::CONFIGURED | Self::REACHABLE;

    /// Whether frames can be sent to it.
    #[inline(always)]
    pub const fn is_reachable(&self) -> bool {
        self.flags & Self::REACHABLE != 0
    }
}

shared! {
    /// What a node's beacons say of it. Written by the program when a beacon has been verified.
    pub struct NodeStatus {
        /// Epoch (high half) and sequence of the last beacon: only a greater one is accepted.
        pub stamp: u64,
        /// When it came, in jiffies. 0: never.
        pub last_seen: u64,
        /// When it came, in nanoseconds of the monotonic clock.
        pub last_seen_ns: u64,
        /// When the present run of beacons began: the first after a gap longer than the hold time.
        pub up_since: u64,
        /// [`NodeCounts::started`], over all CPUs, when the last beacon came.
        pub started_before: u64,
        /// Beacons accepted.
        pub beacons: u64,
        /// Calls that the node says it can still take.
        pub headroom: u32,
        /// Calls that it can take in all.
        pub capacity: u32,
        /// Calls that it has.
        pub active: u32,
        /// Calls that came in the last second.
        pub calls_per_second: u32,
        /// An [`Admission`](crate::Admission).
        pub admission: u8,
        /// Good beacons in this run, counted up to 255.
        pub run: u8,
        /// Good beacons that the run needs before the node is `Up`.
        pub needed: u8,
        /// 1 when `run` has reached `needed`.
        pub ready: u8,
        /// The id of the key that the last beacon was under.
        pub key_id: u8,
        /// Reserved.
        pub reserved: [u8; 3],
    }
}

shared! {
    /// What the program knows of the status plane as a whole.
    pub struct StatusPlane {
        /// When the last good beacon of any node came, in jiffies. 0: never.
        pub last_beacon: u64,
        /// When the last one came before the last outage: a time longer than the hold time in which
        /// nobody was heard.
        pub before_outage: u64,
        /// When that outage ended. 0: there was none.
        pub resumed: u64,
        /// Choices made with staleness ignored, because every node was stale at once.
        pub ignored_staleness: u64,
        /// The latest term that another LB was heard to be the main of. 0: none.
        pub term_heard: u64,
    }
}

/// Ids of beacon keys are 0 to 255.
pub const MAX_KEYS: u32 = 256;

shared! {
    /// A key that beacons may be under.
    pub struct BeaconKey {
        /// The key of the MAC.
        pub key: SipKey,
        /// 1 when it is valid.
        pub valid: u64,
    }
}

shared! {
    /// The record that a call lives elsewhere than home.
    pub struct Pin {
        /// Where it lives.
        pub node: u16,
        /// [`Pin::CONFIRMED`] and the other bits.
        pub flags: u16,
        /// Reserved.
        pub reserved: u32,
        /// When it was made, in jiffies.
        pub created: u64,
        /// When a packet last went by it, in jiffies.
        pub last_seen: u64,
    }
}

impl Pin {
    /// The call was answered: an ACK has passed.
    pub const CONFIRMED: u16 = 1;
    /// The call has ended: a BYE or CANCEL has passed.
    pub const ENDED: u16 = 2;
    /// Made by the controller, not by the program.
    pub const BY_CONTROLLER: u16 = 4;
}

/// Pins that the map holds unless configured otherwise.
pub const DEFAULT_MAX_PINS: u32 = 262_144;

/// Counters in [`Tracks::pin_hints`].
pub const PIN_HINTS: u32 = 8_192;

/// The hint of a call key. Its bits are taken from where the table's slot takes none alone.
#[inline(always)]
pub const fn pin_hint_of(key: u64) -> u32 {
    (key >> 40) as u32 & (PIN_HINTS - 1)
}

/// Counts by reason, one CPU's.
pub type ReasonCounts = [u64; REASON_SLOTS];

shared! {
    /// What one CPU has counted. One value, so that a frame's counts take one look-up.
    pub struct Counts {
        /// Frames by reason.
        pub reasons: ReasonCounts,
        /// What was sent to each node.
        pub nodes: [NodeCounts; MAX_NODES as usize],
        /// Frames for each VIP, by [`Vip::index`].
        pub vips: [u64; MAX_VIPS as usize],
    }
}

shared! {
    /// What one CPU has sent to a node.
    pub struct NodeCounts {
        /// Frames.
        pub packets: u64,
        /// Bytes, link headers included.
        pub bytes: u64,
        /// New calls: INVITEs that the memory of new requests does not know. A re-INVITE more than an
        /// epoch later counts as one, and so does a retransmission across an epoch's end: that costs
        /// headroom until the node's next beacon, not a call.
        pub started: u64,
        /// Pins made to it.
        pub pinned: u64,
    }
}

shared! {
    /// One frame's verdict, for those who look on.
    pub struct Event {
        /// The call key, when the program had one.
        pub key: u64,
        /// Nanoseconds of the monotonic clock.
        pub time_ns: u64,
        /// Where in the frame the Call-ID stands.
        pub call_id_at: u32,
        /// Bytes of Call-ID; 0 when the program had none.
        pub call_id_len: u32,
        /// Bytes of frame.
        pub frame_len: u32,
        /// The port it came in by.
        pub ifindex: u32,
        /// The node, or 0.
        pub node: u16,
        /// A [`Reason`](crate::Reason).
        pub reason: u8,
        /// The XDP action returned.
        pub action: u8,
        /// The [`Reason`](crate::Reason) of the choice, also when it could not be carried out.
        pub choice: u8,
        /// Reserved.
        pub reserved: [u8; 3],
    }
}

/// Bytes of the event ring.
pub const EVENT_RING_LEN: u32 = 256 * 1024;
/// Ports that frames can be sent out of.
pub const MAX_PORTS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slot_is_the_remainder(key: u64) {
            prop_assert_eq!(u64::from(slot_of(key)), key % u64::from(TABLE_SLOTS));
        }
    }

    #[test]
    fn slot_is_the_remainder_at_the_edges() {
        for key in [
            0,
            65_536,
            65_537,
            65_538,
            u64::MAX,
            0xffff_0000_ffff_0000,
            0x0000_ffff_0000_ffff,
        ] {
            assert_eq!(
                u64::from(slot_of(key)),
                key % u64::from(TABLE_SLOTS),
                "{key:#x}"
            );
        }
    }
}
