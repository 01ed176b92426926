//! Counters, summed over all CPUs.

use aya::maps::MapError;
use lb_common::maps::{Counts, MAX_VIPS};

use super::{AccessError, Maps, beyond};
use crate::plane::raw::Raw;
use crate::plane::tracks;

impl Maps {
    /// Frames by reason, and what was sent to each node, over all CPUs. And frames by the index of their VIP,
    /// whichever had that since the maps were made: see [`Maps::vip_count`].
    pub fn counts(&self) -> Result<Counts, AccessError> {
        let per_cpu = self
            .counts
            .get(&0, 0)
            .map_err(|source: MapError| AccessError {
                map: "COUNTS",
                source,
            })?;
        let mut sum = Counts::default();
        for Raw(counts) in per_cpu.iter() {
            for (total, count) in sum.reasons.iter_mut().zip(counts.reasons) {
                *total += count;
            }
            for (total, counts) in sum.nodes.iter_mut().zip(counts.nodes) {
                total.packets += counts.packets;
                total.bytes += counts.bytes;
                total.started += counts.started;
                total.pinned += counts.pinned;
            }
            for (total, count) in sum.vips.iter_mut().zip(counts.vips) {
                *total += count;
            }
        }
        Ok(sum)
    }

    /// Frames for a service address, by its [`Vip::index`](lb_common::maps::Vip::index), over all CPUs.
    pub fn vip_count(&self, index: u32) -> Result<u64, AccessError> {
        let before = self.get(&tracks::VIPS_BEFORE, index)?;
        Ok(self.vip_count_of_all(index)?.saturating_sub(before))
    }

    /// Starts a service address's count from 0, before its index is given to another.
    pub fn clear_vip_count(&self, index: u32) -> Result<(), AccessError> {
        let count = self.vip_count_of_all(index)?;
        self.set(&tracks::VIPS_BEFORE, index, count)
    }

    /// Frames for all service addresses that ever had this index.
    fn vip_count_of_all(&self, index: u32) -> Result<u64, AccessError> {
        let count = self.counts()?.vips.get(index as usize).copied();
        count.ok_or_else(|| beyond(index, MAX_VIPS))
    }
}
