//! Whether this node takes a call.
//!
//! ```text
//!  INVITE, or another node's question ──► Gate ──► Ok: it has its slot   (begin, reserve)
//!                                          ▲  └──► Err: why not
//!   SIP server's health ───────────────────┤
//!   /proc/pressure, every second or so ────┤
//!   drain, undrain ────────────────────────┤
//!   calls that end ────────────────────────┘ ──► what beacons say: Idle, Free, Busy, Draining, or none
//! ```
//! - [`Gate`] keeps what the decision goes by; [`decide`](mod@decide) is the decision.
//! - [`slots`]: which slots are taken, and which are held for calls that were promised one.
//! - [`rate`]: calls a second. [`pressure`]: CPU and memory. [`server`]: the SIP server.

pub mod decide;
pub mod pressure;
pub mod rate;
pub mod server;
pub mod slots;
#[cfg(test)]
mod tests;

use crate::call::Call;
use crate::status::sender::Report;
use decide::{Facts, Refusal};
use pressure::{Share, Strain, Threshold};
use rate::{Bucket, Meter, Rate};
use server::Server;
use slots::{Full, Lease, Slots, Taken};
use std::time::Duration;

/// What a node may take upon itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls at a time.
    pub calls: u32,
    /// New calls in a second; `None` for as many as come.
    pub rate: Option<Rate>,
    /// CPU pressure.
    pub cpu: Threshold,
    /// Memory pressure.
    pub memory: Threshold,
}

impl Limits {
    /// So many calls, at any rate, with the usual thresholds for pressure.
    pub const fn calls(calls: u32) -> Self {
        Self {
            calls,
            rate: None,
            cpu: Threshold::CPU,
            memory: Threshold::MEMORY,
        }
    }
}

/// The gate that calls come in by.
///
/// Calls are counted against the rate when they are promised a slot or given a free one, and so once
/// each. When the rate is spent, the node is `Busy` until half of the burst is there again; otherwise
/// its admission would change with every call.
#[derive(Debug)]
pub struct Gate {
    slots: Slots,
    bucket: Option<Bucket>,
    /// The rate was spent, and half of the burst is not there again.
    is_rate_spent: bool,
    meter: Meter,
    cpu: Strain,
    memory: Strain,
    server: Server,
    is_draining: bool,
}

impl Gate {
    /// A gate whose SIP server is not known to be there.
    pub fn new(limits: Limits) -> Self {
        Self {
            slots: Slots::new(limits.calls),
            bucket: limits.rate.map(Bucket::new),
            is_rate_spent: false,
            meter: Meter::default(),
            cpu: Strain::new(limits.cpu),
            memory: Strain::new(limits.memory),
            server: Server::Unknown,
            is_draining: false,
        }
    }

    /// Changes the limits. Calls stay.
    pub fn set_limits(&mut self, now: Duration, limits: Limits) {
        self.slots.set_capacity(limits.calls);
        self.cpu.set_threshold(limits.cpu);
        self.memory.set_threshold(limits.memory);
        match (&mut self.bucket, limits.rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(now, rate),
            (bucket, rate) => *bucket = rate.map(Bucket::new),
        }
    }

    /// What is known of the SIP server now.
    pub fn set_server(&mut self, server: Server) {
        self.server = server;
    }

    /// What is known of the SIP server.
    pub fn server(&self, now: Duration) -> Server {
        self.server.at(now)
    }

    /// Whether the node is to be emptied.
    pub fn set_draining(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    /// CPU pressure, by [`some_avg10`](pressure::some_avg10).
    pub fn feel_cpu(&mut self, share: Share) {
        self.cpu.read(share);
    }

    /// Memory pressure, likewise.
    pub fn feel_memory(&mut self, share: Share) {
        self.memory.read(share);
    }

    /// The call's INVITE has come: gives it the slot held for it or a free one.
    ///
    /// # Errors
    /// The [`Refusal`]; then it has none.
    pub fn begin(&mut self, now: Duration, call: Call) -> Result<Taken, Refusal> {
        if self.slots.has(call) {
            return Ok(Taken::Already);
        }
        let facts = self.facts(now);
        if self.slots.is_held_for(now, call) {
            decide::decide_promised(&facts)?;
        } else {
            decide::decide(&facts)?;
            self.count(now);
        }
        self.slots.begin(now, call).map_err(|Full| Refusal::Calls)
    }

    /// Another node asks whether the call may come: holds a slot for it.
    ///
    /// # Errors
    /// The [`Refusal`]; then none is held.
    pub fn reserve(&mut self, now: Duration, call: Call) -> Result<Lease, Refusal> {
        let facts = self.facts(now);
        if self.slots.has(call) || self.slots.is_held_for(now, call) {
            decide::decide_promised(&facts)?;
        } else {
            decide::decide(&facts)?;
            self.count(now);
        }
        self.slots.reserve(now, call).map_err(|Full| Refusal::Calls)
    }

    /// The call has ended. Whether it had a slot.
    pub fn end(&mut self, call: Call) -> bool {
        self.slots.end(call)
    }

    /// The call that a slot is held for does not come. Whether one was held.
    pub fn release(&mut self, call: Call) -> bool {
        self.slots.release(call)
    }

    /// The slots.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// What the next decision would go by.
    pub fn facts(&mut self, now: Duration) -> Facts {
        self.look_at_rate(now);
        Facts {
            server: self.server.at(now),
            is_draining: self.is_draining,
            active: self.slots.taken(),
            free: self.slots.free(now),
            is_rate_spent: self.is_rate_spent,
            is_cpu_strained: self.cpu.is_high(),
            is_memory_strained: self.memory.is_high(),
        }
    }

    /// What beacons are to say; `None`: none are to go out.
    ///
    /// Held slots count against the headroom, and it is no more than what the rate lets in within a
    /// second. It is zero whenever no call is taken.
    pub fn report(&mut self, now: Duration) -> Option<Report> {
        let facts = self.facts(now);
        let admission = decide::word(&facts)?;
        let is_open = decide::decide(&facts).is_ok();
        let by_rate = self
            .bucket
            .as_ref()
            .map_or(u32::MAX, |bucket| bucket.left_in_a_second(now));
        let bears = self.cpu.bears_permille().min(self.memory.bears_permille());
        Some(Report {
            admission,
            capacity: self.slots.capacity(),
            active: facts.active,
            headroom: if is_open { facts.free.min(by_rate) } else { 0 },
            calls_per_second: self.meter.per_second(now),
            oc_permille: if is_open { bears } else { 0 },
        })
    }

    /// When [`Gate::report`] may change by itself: a lease ends, or the pause of the SIP server.
    pub fn next_timeout(&self, now: Duration) -> Option<Duration> {
        let pause = match self.server {
            Server::Unavailable { until } if until > now => Some(until),
            Server::Unavailable { .. } | Server::Unknown | Server::Healthy | Server::Unhealthy => {
                None
            }
        };
        [self.slots.next_timeout(), pause]
            .into_iter()
            .flatten()
            .min()
    }

    fn count(&mut self, now: Duration) {
        self.meter.count(now);
        if let Some(bucket) = &mut self.bucket {
            bucket.take(now);
        }
    }

    fn look_at_rate(&mut self, now: Duration) {
        self.is_rate_spent = self.bucket.as_ref().is_some_and(|bucket| {
            if self.is_rate_spent {
                !bucket.is_half_full(now)
            } else {
                bucket.left(now) == 0
            }
        });
    }
}
