//! What forwarding a SIP message costs: the redirect server, Kamailio, and a bare UDP forwarder.
//!
//! All subjects get the same calls, one after the other in each round, on loopback in a network
//! namespace: from the caller by way of the subject to the sink, and the sink's answers back. A call is
//! nine messages, of which the subject forwards each: INVITE, 180, 200, ACK, INVITE within the dialog,
//! 200, ACK, BYE, 200; both INVITEs and their 200s with a session description, 480 to 950 bytes each.
//! So one message in nine begins a call, four are requests within one, and four are responses.
//!
//! | subject | what it does |
//! |---|---|
//! | `redirect` | the redirect server as it is: admission, record of the call, Via, Record-Route and Route, Max-Forwards, a check that each response is to a request of its own |
//! | `kamailio` | the dispatcher's `ds_select_dst` by Call-ID, `forward()`, which adds a Via; nothing else |
//! | `kamailio-headers` | Max-Forwards, Record-Route and Route beside |
//! | `udp-floor` | `recvfrom` and `sendto` |
//!
//! Kamailio has one process for UDP, no TCP, logs nothing, and runs with its fast allocator.
//!
//! The subject is alone on one CPU, caller and sink share another. What counts is the CPU time that all
//! the subject's processes have taken, by the scheduler's own count (`/proc/…/schedstat`), over the
//! messages that have arrived: its inverse is what one core forwards a second, whatever else went on in
//! the machine. The throughput beside it is by the clock, and never more than caller and sink manage.

mod load;
mod messages;
mod subject;

use anyhow::{Context, Result};

use super::table::{Row, Unit};
use crate::daemons::{Daemons, Redirecting, Settings};
use crate::lab::{Lab, Scheduling, run_on_cpu};
use load::Load;
use std::net::SocketAddr;
use std::time::Duration;
use subject::Subject;

/// How much is measured, and where.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding {
    /// Calls a run.
    pub calls: u32,
    /// Rounds that count; one before them warms up.
    pub runs: u32,
    /// The subjects' CPU.
    pub cpu: usize,
    /// The CPU of caller and sink.
    pub load_cpu: usize,
}

/// What came out.
#[derive(Debug)]
pub struct Forwarded {
    /// Messages a second of one core, by CPU time: `forward/…`.
    pub rates: Vec<Row>,
    /// Messages a second, by the clock: `forward-throughput/…`.
    pub throughput: Vec<Row>,
    /// The redirect server's messages a second over Kamailio's of the same round.
    pub ratios: Vec<Row>,
}

/// Measures all subjects, taking turns.
///
/// # Errors
/// A program is not there, or messages are lost.
pub fn measure(plan: Forwarding, mut progress: impl FnMut(u32)) -> Result<Forwarded> {
    let lab = Lab::of(1)?;
    let settings = Settings {
        period: Duration::from_millis(100),
        redirecting: Some(Redirecting::default()),
        ..Settings::patient()
    };
    let daemons = Daemons::configure(&lab, settings)?;
    let (node, sink) = (lab.node(1), daemons.sip_server(1));
    let at = |port: u16| SocketAddr::new(sink.ip(), port);
    // What is started here stays on the CPU that this thread is on.
    run_on_cpu(plan.cpu, Scheduling::Ordinary).with_context(|| format!("CPU {}", plan.cpu))?;
    let subjects = [
        Subject::redirect(&daemons)?,
        Subject::kamailio(&lab, "kamailio", at(5064), sink, false)?,
        Subject::kamailio(&lab, "kamailio-headers", at(5066), sink, true)?,
        Subject::floor(node, at(5068), sink)?,
    ];
    run_on_cpu(plan.load_cpu, Scheduling::Ordinary)
        .with_context(|| format!("CPU {}", plan.load_cpu))?;
    let mut load = Load::open(node, sink)?;
    let mut rates = vec![Vec::new(); subjects.len()];
    let mut throughput = rates.clone();
    for round in 0..=plan.runs {
        progress(round);
        for (index, subject) in subjects.iter().enumerate() {
            let before = subject.cpu_time_ns()?;
            let passed = load.run(subject.address, plan.calls)?;
            let time = subject.cpu_time_ns()? - before;
            if round > 0 {
                let messages = f64::from(passed.messages);
                rates[index].push(messages * 1e9 / time as f64);
                throughput[index].push(messages / passed.took.as_secs_f64());
            }
        }
    }
    let rows = |group: &str, runs: &[Vec<f64>]| -> Vec<Row> {
        let named = subjects.iter().zip(runs);
        let row = |(subject, runs): (&Subject, &Vec<f64>)| {
            let name = format!("{group}/{}", subject.name);
            Row::new(&name, Unit::FramesPerSecond, runs)
        };
        named.map(row).collect()
    };
    let ratio = |other: usize| {
        let pairs = rates[0].iter().zip(&rates[other]);
        let runs: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        let name = format!("forward/redirect-to-{}", subjects[other].name);
        Row::new(&name, Unit::Ratio, &runs)
    };
    Ok(Forwarded {
        rates: rows("forward", &rates),
        throughput: rows("forward-throughput", &throughput),
        ratios: (1..subjects.len()).map(ratio).collect(),
    })
}
