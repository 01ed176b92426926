//! A switch at work: re-INVITEs and new calls at a rate, and every call that proves itself.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Callers, Phase};
use crate::stall::StallWitness;

/// Steps from one call to the next that is changed; without a factor in common with any round number.
const STRIDE: usize = 7_919;
/// How long the machine is watched: longer than a takeover may take.
const WATCHED: Duration = Duration::from_millis(400);
/// SIP's own patience, and some.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a switch does.
#[derive(Clone, Debug)]
pub struct Bustle {
    /// Re-INVITEs, and how many a second.
    pub changes: (usize, u32),
    /// New calls, and how many a second.
    pub calls: (usize, u32),
    /// What their Call-IDs begin with.
    pub name: &'static str,
}

impl Callers {
    /// Calls that go on, and of which nothing is under way.
    pub fn up(&self) -> impl Iterator<Item = usize> {
        let calls = self.calls().iter().enumerate();
        let up = calls.filter(|(_, call)| call.phase == Phase::Up);
        up.map(|(number, _)| number)
    }

    /// Keeps busy until all of it has been answered or given up. How long the machine stood still in the
    /// first 400 ms, when what happened just before is decided.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn bustle(&mut self, bustle: &Bustle) -> Result<Duration> {
        let begin = Instant::now();
        let witness = StallWitness::start();
        let (mut changed, mut called, mut stalled) = (0, 0, None);
        let all: Vec<usize> = self.up().collect();
        let due = |(count, rate): (usize, u32)| {
            count.min((begin.elapsed().as_secs_f64() * f64::from(rate)) as usize)
        };
        self.run_until("all to be answered", PATIENCE, |switch| {
            while changed < due(bustle.changes) {
                // Every call is as likely as any other, the early ones and the late.
                let number = all[changed * STRIDE % all.len()];
                if switch.calls()[number].phase == Phase::Up {
                    switch.change(number);
                }
                changed += 1;
            }
            while called < due(bustle.calls) {
                switch.call(format!("{}-{called}@switch", bustle.name));
                called += 1;
            }
            if stalled.is_none() && begin.elapsed() > WATCHED {
                stalled = Some(witness.longest());
            }
            let is_over = changed == bustle.changes.0 && called == bustle.calls.0;
            Ok(is_over && switch.open_requests() == 0)
        })?;
        Ok(stalled.unwrap_or_else(|| witness.longest()))
    }

    /// Every call that goes on proves itself: by a re-INVITE, if it has not yet, and a BYE, answered by its
    /// own node; `window` requests at a time.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn prove_all(&mut self, window: usize) -> Result<()> {
        let all: Vec<usize> = self.up().collect();
        for is_end in [false, true] {
            let mut next = all.iter();
            self.run_until("all to be answered", PATIENCE * 2, |switch| {
                while switch.open_requests() < window {
                    let Some(number) = next.next() else { break };
                    let call = &switch.calls()[*number];
                    if is_end && call.phase == Phase::Up {
                        switch.hang_up(*number);
                    } else if !is_end && call.changes == 0 {
                        switch.change(*number);
                    }
                }
                Ok(next.len() == 0 && switch.open_requests() == 0)
            })?;
        }
        Ok(())
    }
}
