//! What the program knows of the nodes, as the chooser asks for it.

use core::ffi::c_void;
use core::ops::ControlFlow;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_loop, bpf_map_lookup_percpu_elem};
use lb_common::choose::{self, Fitness, Fleet, Found, Standing};
use lb_common::maps::{Counts, MAX_NODES, Node, NodeStatus, Settings, StatusPlane};

use crate::maps::COUNTS;
use crate::tracks::Tracks;

/// CPUs whose counts are added up. Chosen: more are not built into one LB.
const MAX_CPUS: u32 = 256;

/// The time, in jiffies.
///
/// Inlined by the verifier to one load (since 5.6 on x86-64), where `bpf_ktime_get_ns` is a call.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: the helper takes nothing and reads one word.
    unsafe { bpf_jiffies64() }
}

/// Whether this data plane steers, and not another LB's.
#[inline(always)]
pub(crate) fn is_active(tracks: Tracks) -> bool {
    tracks.turnout().is_active(tracks.plane().term_heard)
}

/// New calls sent to a node so far, over all CPUs.
#[inline(always)]
pub(crate) fn started(id: u16) -> u64 {
    let mut sum = 0;
    let (key, mut cpu) = (0u32, 0);
    while cpu < MAX_CPUS {
        // SAFETY: the map lives as long as the program, the key is a u32 as the map wants it; the
        // helper (5.18) returns null past the last CPU.
        let counts = unsafe {
            let map = (&raw const COUNTS).cast_mut().cast();
            bpf_map_lookup_percpu_elem(map, (&raw const key).cast(), cpu).cast::<Counts>()
        };
        if counts.is_null() {
            break;
        }
        // SAFETY: not null, so a whole element of the map.
        sum += unsafe { (*counts).nodes[usize::from(id) & (MAX_NODES as usize - 1)].started };
        cpu += 1;
    }
    sum
}

/// [`choose::fitness`] as a function that the verifier looks at once, whatever its callers know.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn node_fitness(id: u32, standing: u32, reference: u64) -> u32 {
    let Some(tracks) = Tracks::open() else {
        return Fitness::Out as u32;
    };
    let kernel = Kernel {
        tracks,
        now: reference,
    };
    choose::fitness(
        &kernel,
        id as u16,
        Standing::from_index(standing),
        reference,
    ) as u32
}

/// [`choose::search`], likewise. `asked` packs the home, the generation and the standing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn search_nodes(key: u64, asked: u64, reference: u64) -> u64 {
    let Some(tracks) = Tracks::open() else {
        return 0;
    };
    let kernel = Kernel {
        tracks,
        now: reference,
    };
    let (home, generation) = (asked as u16, (asked >> 16) as u32 & 1);
    let standing = Standing::from_index((asked >> 32) as u32);
    choose::search(&kernel, key, generation, home, standing, reference).pack()
}

/// [`choose::headroom`], likewise.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn node_headroom(id: u32) -> u64 {
    let Some(tracks) = Tracks::open() else {
        return 0;
    };
    choose::headroom(&Kernel { tracks, now: 0 }, id as u16)
}

/// The maps, seen at one moment.
pub(crate) struct Kernel {
    pub(crate) tracks: Tracks,
    pub(crate) now: u64,
}

impl Fleet for Kernel {
    #[inline(always)]
    fn settings(&self) -> &Settings {
        self.tracks.settings()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        self.now
    }

    #[inline(always)]
    fn plane(&self) -> StatusPlane {
        *self.tracks.plane()
    }

    #[inline(always)]
    fn node(&self, id: u16) -> Option<&Node> {
        self.tracks.node(id.into())
    }

    #[inline(always)]
    fn status(&self, id: u16) -> Option<&NodeStatus> {
        self.tracks.status(id.into())
    }

    #[inline(always)]
    fn home(&self, generation: u32, slot: u32) -> u16 {
        self.tracks.home(generation, slot)
    }

    #[inline(always)]
    fn started(&self, id: u16) -> u64 {
        started(id)
    }

    #[inline(always)]
    fn repeat(&self, times: u32, mut step: impl FnMut(u32) -> ControlFlow<()>) {
        loop_in_kernel(times, &mut step);
    }

    #[inline(always)]
    fn fitness(&self, id: u16, standing: Standing, reference: u64) -> Fitness {
        match node_fitness(id.into(), standing as u32, reference) {
            0 => Fitness::Out,
            1 => Fitness::Live,
            _ => Fitness::Willing,
        }
    }

    #[inline(always)]
    fn search(
        &self,
        key: u64,
        generation: u32,
        home: u16,
        standing: Standing,
        reference: u64,
    ) -> Found {
        let asked = u64::from(home) | u64::from(generation) << 16 | (standing as u64) << 32;
        Found::unpack(search_nodes(key, asked, reference))
    }

    #[inline(always)]
    fn headroom(&self, id: u16) -> u64 {
        node_headroom(id.into())
    }
}

/// `bpf_loop` (5.17) over a closure.
#[inline(always)]
fn loop_in_kernel<F: FnMut(u32) -> ControlFlow<()>>(times: u32, step: &mut F) {
    extern "C" fn call<F: FnMut(u32) -> ControlFlow<()>>(index: u32, step: *mut F) -> i64 {
        // SAFETY: the kernel hands back the pointer it was given below.
        i64::from(unsafe { (*step)(index) }.is_break())
    }
    let call: extern "C" fn(u32, *mut F) -> i64 = call::<F>;
    // SAFETY: the callback has the signature that the helper asks for, and is not kept.
    unsafe { bpf_loop(times, call as *mut c_void, (step as *mut F).cast(), 0) };
}
