//! Counters, summed over all CPUs.

use aya::maps::PerCpuValues;
use lb_common::maps::Counts;

use super::{AccessError, Maps, lock};
use crate::plane::raw::Raw;

impl Maps {
    /// Frames by reason and what was sent to each node, over all CPUs.
    pub fn counts(&self) -> Result<Counts, AccessError> {
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
        }
        Ok(sum)
    }

    /// Frames for a service address, by its [`Vip::index`](lb_common::maps::Vip::index), over all CPUs.
    pub fn vip_count(&self, index: u32) -> Result<u64, AccessError> {
        let per_cpu = lock(&self.vip_counts).get(&index, 0);
        let per_cpu = per_cpu.map_err(|source| AccessError {
            map: "VIP_COUNTS",
            source,
        })?;
        Ok(per_cpu.iter().sum())
    }

    /// Starts a service address's count from 0, before its index is given to another.
    pub fn clear_vip_count(&self, index: u32) -> Result<(), AccessError> {
        let failed = |source| AccessError {
            map: "VIP_COUNTS",
            source,
        };
        let mut counts = lock(&self.vip_counts);
        let cpus = counts.get(&index, 0).map_err(failed)?.len();
        let zeros = PerCpuValues::try_from(vec![0; cpus]).map_err(|error| failed(error.into()))?;
        counts.set(index, zeros, 0).map_err(failed)
    }
}
