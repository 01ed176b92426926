//! The maps. Who writes and who reads each, and what absence means, stands in `lb_common::maps`.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG};
use aya_ebpf::btf_maps::{Array, DevMap, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use lb_common::maps::{
    BeaconKey, Counts, DEFAULT_MAX_PINS, EVENT_RING_LEN, MAX_KEYS, MAX_NODES, MAX_PORTS, MAX_VIPS,
    Node, NodeStatus, PIN_HINTS as HINTS, Pin, Settings, StatusPlane, TABLE_ELEMENTS, Turnout,
    VIP_SLOTS, Vip,
};
use lb_common::memory::MEMORY_WORDS;

const READ_ONLY: usize = BPF_F_RDONLY_PROG as usize;

#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 1, READ_ONLY> = Array::new();
#[btf_map]
pub(crate) static TURNOUT: Array<Turnout, 1, READ_ONLY> = Array::new();
#[btf_map]
pub(crate) static VIPS: Array<Vip, { VIP_SLOTS as usize }, READ_ONLY> = Array::new();
#[btf_map]
pub(crate) static TABLE: Array<u64, { 2 * TABLE_ELEMENTS as usize }, READ_ONLY> = Array::new();
#[btf_map]
pub(crate) static NODES: Array<Node, { MAX_NODES as usize }, READ_ONLY> = Array::new();
#[btf_map]
pub(crate) static STATUS: Array<NodeStatus, { MAX_NODES as usize }> = Array::new();
#[btf_map]
pub(crate) static PLANE: Array<StatusPlane, 1> = Array::new();
#[btf_map]
pub(crate) static KEYS: Array<BeaconKey, { MAX_KEYS as usize }, READ_ONLY> = Array::new();
#[btf_map]
pub(crate) static PINS: HashMap<u64, Pin, { DEFAULT_MAX_PINS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static PIN_HINTS: Array<u64, { HINTS as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();
#[btf_map]
pub(crate) static MEMORY: Array<u64, { 2 * MEMORY_WORDS as usize }> = Array::new();
#[btf_map]
pub(crate) static COUNTS: PerCpuArray<Counts, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static VIP_COUNTS: PerCpuArray<u64, { MAX_VIPS as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<(), { EVENT_RING_LEN as usize }> = RingBuf::new();
#[btf_map]
pub(crate) static PORTS: DevMap<{ MAX_PORTS as usize }> = DevMap::new();
