//! A cable that loses some frames and delays each of the others by another time: what passes it goes through
//! this process.
//!
//! The kernel has a queueing discipline for that (netem), which many kernels are built without.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use pointsman_tests::lab::{Lab, Namespace, Scheduling, cpus, run_on_cpu};
use pointsman_tests::packets::mutate::Dice;
use pointsman_tests::record::PacketSocket;

/// How often the sockets are emptied, and what is due is sent.
const TICK: Duration = Duration::from_micros(500);
const NEAR: &str = "weather0";
const FAR: &str = "weather1";

/// What happens to a frame, whichever way it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Of a thousand.
    pub(super) lost: usize,
    /// Each is delayed by up to this.
    pub(super) jitter: Duration,
}

/// Frames by when they are due; those of the same moment as they came.
type Queue = BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>;

/// Foul weather on one cable, until it is dropped.
pub(super) struct Foul<'lab> {
    bridge: &'lab Namespace,
    plug: &'static str,
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 2]>,
    thread: Option<JoinHandle<()>>,
}

impl<'lab> Foul<'lab> {
    /// On the cable whose end at the bridge has this name.
    pub(super) fn begin(lab: &'lab Lab, plug: &'static str, weather: Weather) -> Result<Self> {
        let bridge = lab.bridge();
        bridge.ip(&format!("link add {NEAR} type veth peer name {FAR}"))?;
        for end in [NEAR, FAR] {
            let off = format!("--offload {end} tx off");
            bridge.run("ethtool", &off)?;
            bridge.ip(&format!("link set {end} up"))?;
        }
        let sockets = [
            PacketSocket::open(bridge, plug)?,
            PacketSocket::open(bridge, FAR)?,
        ];
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let thread = thread::spawn({
            let (stop, counts) = (stop.clone(), counts.clone());
            move || carry(sockets, weather, &stop, &counts)
        });
        let foul = Self {
            bridge,
            plug,
            stop,
            counts,
            thread: Some(thread),
        };
        bridge.ip(&format!("link set {plug} nomaster"))?;
        bridge.ip(&format!("link set {NEAR} master br0"))?;
        Ok(foul)
    }

    /// Frames that were carried, and that were lost.
    pub(super) fn counts(&self) -> [u64; 2] {
        self.counts
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Foul<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // The lab goes soon; if not, what is wrong with it shows in what comes next.
        let _ = self.bridge.ip(&format!("link delete {NEAR}"));
        let _ = self
            .bridge
            .ip(&format!("link set {} master br0", self.plug));
    }
}

fn carry(
    mut sockets: [PacketSocket; 2],
    weather: Weather,
    stop: &AtomicBool,
    counts: &[AtomicU64; 2],
) {
    // Load on the machine is not the cable's. Where that may not be had, it is foul weather indeed.
    let cpu = cpus().first().copied().unwrap_or_default();
    let _: Result<Scheduling, _> = run_on_cpu(cpu, Scheduling::RealTime);
    let mut dice = Dice::new(1);
    let mut queues: [Queue; 2] = Default::default();
    let mut number = 0;
    let jitter_us = weather.jitter.as_micros() as usize;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        for (socket, queue) in sockets.iter_mut().zip(&mut queues) {
            let mut take = |frame: &[u8]| {
                let is_lost = dice.below(1_000) < weather.lost;
                counts[usize::from(is_lost)].fetch_add(1, Ordering::Relaxed);
                if !is_lost {
                    let delay = Duration::from_micros(dice.below(jitter_us) as u64);
                    number += 1;
                    queue.push(Reverse((now + delay, number, frame.to_vec())));
                }
            };
            while socket
                .receive(|frame| take(frame.bytes))
                .is_ok_and(|count| count > 0)
            {}
        }
        // What comes in at one end goes out at the other.
        for (queue, out) in queues.iter_mut().zip(sockets.iter().rev()) {
            while queue.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
                if let Some(Reverse((_, _, frame))) = queue.pop() {
                    // A port that takes no more loses it.
                    let _ = out.send(&frame);
                }
            }
        }
        thread::sleep(TICK);
    }
}
