//! Counters, summed over all CPUs.

use aya::maps::PerCpuValues;
use lb_common::REASON_SLOTS;
use lb_common::maps::{NodeCounts, ReasonCounts};

use super::{AccessError, Maps, lock};
use crate::plane::raw::Raw;

impl Maps {
    /// Frames by reason, over all CPUs.
    pub fn reasons(&self) -> Result<ReasonCounts, AccessError> {
        let per_cpu = self.reasons.get(&0, 0).map_err(|source| AccessError {
            map: "REASONS",
            source,
        })?;
        let mut sum = [0; REASON_SLOTS];
        for counts in per_cpu.iter() {
            for (total, count) in sum.iter_mut().zip(counts) {
                *total += count;
            }
        }
        Ok(sum)
    }

    /// What was sent to a node, over all CPUs.
    pub fn node_counts(&self, id: u16) -> Result<NodeCounts, AccessError> {
        let per_cpu = self
            .node_counts
            .get(&id.into(), 0)
            .map_err(|source| AccessError {
                map: "NODE_COUNTS",
                source,
            })?;
        let mut sum = NodeCounts::default();
        for Raw(counts) in per_cpu.iter() {
            sum.packets += counts.packets;
            sum.bytes += counts.bytes;
            sum.started += counts.started;
            sum.pinned += counts.pinned;
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
