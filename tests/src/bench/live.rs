//! Real frames through a virtual link: `BPF_PROG_TEST_RUN` makes them, the program sends them back
//! out of the port they seem to have come by, and a program at the other end of the link drops them.
//! All of it happens on the one core that makes the frames, so frames a second are per core.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::bpf;
use super::subject::Bench;
use super::table::{Row, Unit};
use crate::bpf::{Hook, only};
use crate::lab::Lab;
use crate::packets::XDP_DROP;

/// The two ends of the link.
const NEAR: &str = "bench0";
const FAR: &str = "bench1";

/// A link in namespaces of its own, with a program at its far end that drops everything.
struct Link {
    lab: Lab,
    near: u32,
    _sink: OwnedFd,
}

impl Link {
    fn new() -> Result<Self> {
        let lab = Lab::of(1)?;
        let (near, far) = (&lab.lb.namespace, lab.bridge());
        near.ip(&format!(
            "link add {NEAR} type veth peer name {FAR} netns {}",
            far.name()
        ))?;
        let sink = far.attach(FAR, Hook::NativeXdp, "pm_sink", &only(XDP_DROP))?;
        near.ip(&format!("link set {NEAR} up"))?;
        far.ip(&format!("link set {FAR} up"))?;
        let near = lab.lb.port_index(NEAR)?;
        Ok(Self {
            lab,
            near,
            _sink: sink,
        })
    }

    /// Frames that the far end has received.
    fn received(&self) -> Result<u64> {
        let shown = self
            .lab
            .bridge()
            .ip(&format!("-json -stats link show {FAR}"))?;
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        shown[0]["stats64"]["rx"]["packets"]
            .as_u64()
            .context("what `ip -json -stats link show` says")
    }
}

/// Measures the subjects that send frames, taking turns, and returns their rows as `live/…`.
///
/// # Errors
/// The link cannot be made, or frames do not arrive at its far end.
pub fn measure(bench: &Bench, frames: u32, runs: u32) -> Result<Vec<Row>> {
    let link = Link::new()?;
    let maps = bench.world.plane.maps();
    for id in 1..=4 {
        let mut node = maps.node(id)?;
        node.ifindex = link.near;
        maps.set_node(id, node)?;
    }
    let sending: Vec<_> = bench
        .subjects
        .iter()
        .filter(|subject| subject.name == "floor/empty" || subject.name.starts_with("steer/"))
        .collect();
    let mut rates = vec![Vec::new(); sending.len()];
    for round in 0..=runs {
        for (subject, rates) in sending.iter().zip(&mut rates) {
            let program = bench.program(subject)?;
            let before = link.received()?;
            let rate = link.lab.lb.namespace.inside(|| -> Result<f64> {
                let begin = Instant::now();
                bpf::test_run(program, &subject.frame, link.near, frames, bpf::LIVE_FRAMES)?;
                Ok(f64::from(frames) / begin.elapsed().as_secs_f64())
            })??;
            let arrived = link.received()? - before;
            ensure!(
                arrived >= u64::from(frames) / 100 * 99,
                "{}: of {frames} frames {arrived} arrived",
                subject.name
            );
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let rows = sending.iter().zip(&rates);
    Ok(rows
        .map(|(subject, rates)| {
            Row::new(
                &format!("live/{}", subject.name),
                Unit::FramesPerSecond,
                rates,
            )
        })
        .collect())
}
