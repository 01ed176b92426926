//! What lies in the BPF object: its bytes, its programs, and the shape of each of its maps.

use aya::maps::MapType;
use lb_common::maps::{BeaconKey, Counts, EVENT_RING_LEN, MAX_KEYS, MAX_PORTS, Pin, Tracks};

/// The compiled programs, embedded. Kept in the repository, so that stable Rust alone builds this.
pub static BYTES: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../lb-ebpf/prebuilt/pointsman.bpf.o"
));

/// The program that steers.
pub const STEERING: &str = "pointsman";
/// The program that tells the time, by test run only.
pub const CLOCK: &str = "pointsman_clock";

/// `BPF_F_RDONLY_PROG`: what the controller says, programs only read. The kernel sets it by itself on
/// device maps.
const READ_ONLY_TO_PROGRAMS: u32 = 1 << 7;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// The shape of a map: what must agree before a pinned map is adopted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// The map's name, and the name of its pin.
    pub name: &'static str,
    /// Its type.
    pub kind: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries. `None`: chosen when the map is made.
    pub entries: Option<u32>,
    /// `BPF_F_*` flags, as the kernel reports them.
    pub flags: u32,
}

const fn array<T>(name: &'static str, entries: u32) -> Shape {
    Shape {
        name,
        kind: MapType::Array,
        key_size: 4,
        value_size: size_of::<T>() as u32,
        entries: Some(entries),
        flags: 0,
    }
}

/// Every map of the object.
pub const MAPS: [Shape; 6] = [
    Shape {
        flags: MMAPABLE,
        ..array::<Tracks>("TRACKS", 1)
    },
    Shape {
        flags: READ_ONLY_TO_PROGRAMS,
        ..array::<BeaconKey>("KEYS", MAX_KEYS)
    },
    Shape {
        name: "PINS",
        kind: MapType::Hash,
        key_size: 8,
        value_size: size_of::<Pin>() as u32,
        entries: None,
        flags: 0,
    },
    Shape {
        kind: MapType::PerCpuArray,
        ..array::<Counts>("COUNTS", 1)
    },
    Shape {
        name: "EVENTS",
        kind: MapType::RingBuf,
        key_size: 0,
        value_size: 0,
        entries: Some(EVENT_RING_LEN),
        flags: 0,
    },
    Shape {
        name: "PORTS",
        kind: MapType::DevMap,
        key_size: 4,
        value_size: 8,
        entries: Some(MAX_PORTS),
        flags: READ_ONLY_TO_PROGRAMS,
    },
];
