//! Taking turns: every subject runs once a round, so that what the machine does meanwhile meets all
//! of them alike, and each is compared with its floor of the same round.

use anyhow::Result;

use super::bpf;
use super::subject::Bench;
use crate::packets::INGRESS;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Packets a run, at least as many as there are variants of it.
    pub packets: u32,
    /// Rounds that count; one before them warms up.
    pub runs: u32,
}

/// What was measured of one subject, each run's in nanoseconds of CPU time a packet.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// As measured.
    pub gross: Vec<f64>,
    /// Less the floor's time of the same round.
    pub net: Vec<f64>,
}

/// Measures all subjects, in their order.
///
/// # Errors
/// The kernel refuses a test run.
pub fn measure(bench: &Bench, plan: Plan, mut progress: impl FnMut(u32)) -> Result<Vec<Times>> {
    let mut all = vec![Times::default(); bench.subjects.len()];
    for round in 0..=plan.runs {
        progress(round);
        let mut gross = Vec::with_capacity(bench.subjects.len());
        for subject in &bench.subjects {
            let packets = plan.packets.max(subject.variants);
            let begin = bpf::thread_time_ns();
            bpf::test_run(bench.program(subject)?, &subject.frame, INGRESS, packets, 0)?;
            let time = bpf::thread_time_ns() - begin;
            gross.push(time as f64 / f64::from(packets));
        }
        if round == 0 {
            continue;
        }
        for (index, subject) in bench.subjects.iter().enumerate() {
            all[index].gross.push(gross[index]);
            if let Some(floor) = subject.floor {
                all[index].net.push(gross[index] - gross[floor]);
            }
        }
    }
    Ok(all)
}
