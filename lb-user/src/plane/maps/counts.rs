//! Counters, summed over all CPUs.

use lb_common::maps::{Counts, MAX_VIPS};

use super::{AccessError, Maps, beyond};
use crate::plane::raw::Raw;
use crate::plane::tracks::VIPS_BEFORE;

impl Maps {
    /// Frames by reason, what was sent to each node, and frames for each service address, by its
    /// [`Vip::index`](lb_common::maps::Vip::index), over all CPUs.
    pub fn counts(&self) -> Result<Counts, AccessError> {
        let mut counts = self.counts_since_the_start()?;
        for (index, count) in (0..).zip(&mut counts.vips) {
            *count = count.saturating_sub(self.get(&VIPS_BEFORE, index)?);
        }
        Ok(counts)
    }

    /// Starts a service address's count from 0, before its index is given to another.
    pub fn clear_vip_count(&self, index: u32) -> Result<(), AccessError> {
        let counts = self.counts_since_the_start()?;
        let count = counts.vips.get(index as usize).copied();
        let count = count.ok_or_else(|| beyond(index, MAX_VIPS))?;
        self.set(&VIPS_BEFORE, index, count)
    }

    /// The same, but of all service addresses that ever had an index.
    fn counts_since_the_start(&self) -> Result<Counts, AccessError> {
        let per_cpu = self.counts.get(&0, 0).map_err(|source| AccessError {
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
}
