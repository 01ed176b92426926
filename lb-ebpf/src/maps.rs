//! The maps. Who writes and who reads each, and what absence means, stands in `lb_common::maps`.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG};
use aya_ebpf::btf_maps::{Array, DevMap, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use lb_common::maps::{
    BeaconKey, Counts, DEFAULT_MAX_PINS, EVENT_RING_LEN, MAX_KEYS, MAX_PORTS, Pin, Tracks as Layout,
};

const READ_ONLY: usize = BPF_F_RDONLY_PROG as usize;

#[btf_map]
pub(crate) static TRACKS: Array<Layout, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub(crate) static KEYS: Array<BeaconKey, { MAX_KEYS as usize }, READ_ONLY> = Array::new();
#[btf_map]
pub(crate) static PINS: HashMap<u64, Pin, { DEFAULT_MAX_PINS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static COUNTS: PerCpuArray<Counts, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<(), { EVENT_RING_LEN as usize }> = RingBuf::new();
#[btf_map]
pub(crate) static PORTS: DevMap<{ MAX_PORTS as usize }> = DevMap::new();
