//! Watches both LBs all the time: the maps that decide who steers, every millisecond; what the daemons
//! say of themselves, and who answers for the VIP, every 20 ms.
//!
//! The maps are the truth: the program steers by them, whatever the daemon says or does not say.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_user::plane::Maps;
use pointsman_tests::lab::{Lab, eventually, wait_until};
use pointsman_tests::pair::Service;
use pointsman_tests::stall::{LIMIT, StallWitness};
use serde_json::Value;

use super::questions::Questioner;

/// How often daemons are asked, and how long one may take to answer.
const POLL: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_millis(100);

/// What was seen since it was last taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Whether each LB steers now.
    pub(super) steers: [bool; 2],
    /// Times at which that changed, and to what.
    pub(super) changes: Vec<(Instant, [bool; 2])>,
    /// The longest time in which both steered.
    pub(super) both: Duration,
    /// Polls in which both daemons said that they are main of more than half of the nodes.
    pub(super) two_mains: u32,
    /// Polls in which both daemons answered.
    pub(super) polls: u32,
    /// Answers for the VIPs, by LB: for the IPv4 one, for the IPv6 one.
    pub(super) answers: [[u32; 2]; 2],
    /// What the daemons said last; nothing of one that does not answer.
    pub(super) reports: [Option<Value>; 2],
    /// What has gone wrong with watching.
    error: Option<String>,
}

/// Watches until it is dropped.
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    stalls: StallWitness,
    sockets: [PathBuf; 2],
    nodes: Vec<PathBuf>,
}

/// A place in [`Seen`]'s arrays.
pub(super) const fn place(controller: u16) -> usize {
    controller as usize - 1
}

/// The other of two controllers.
pub(super) const fn other(controller: u16) -> u16 {
    3 - controller
}

impl Watch {
    pub(super) fn start(service: &Service<'_>) -> Result<Self> {
        let lab = service.daemons.lab();
        let maps = [1, 2].map(|id| Maps::open(&service.daemons.pins_of(id)));
        let [one, two] = maps;
        let maps = [one?, two?];
        let sockets = [1, 2].map(|id| {
            lab.directory()
                .join(format!("controller-{id}/controller.sock"))
        });
        let nodes = lab.node_ids();
        let nodes = nodes.map(|id| lab.directory().join(format!("redirect-{id}/redirect.sock")));
        let macs = [1, 2].map(|id| lab.balancer(id).mac);
        let mut watch = Self {
            seen: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
            stalls: StallWitness::start(),
            sockets: sockets.clone(),
            nodes: nodes.collect(),
        };
        watch.spawn(move |seen, stop| watch_maps(&maps, seen, stop));
        watch.spawn(move |seen, stop| watch_daemons(&sockets, seen, stop));
        let mut questioner = Questioner::open(lab)?;
        watch.spawn(move |seen, stop| watch_answers(&mut questioner, macs, seen, stop));
        Ok(watch)
    }

    fn spawn(
        &mut self,
        work: impl FnOnce(&Mutex<Seen>, &AtomicBool) -> Result<()> + Send + 'static,
    ) {
        let (seen, stop) = (self.seen.clone(), self.stop.clone());
        self.threads.push(thread::spawn(move || {
            if let Err(error) = work(&seen, &stop) {
                lock(&seen).error.get_or_insert(format!("{error:#}"));
            }
        }));
    }

    /// What has been seen.
    pub(super) fn look(&self) -> Result<Seen> {
        let seen = lock(&self.seen).clone();
        ensure!(
            seen.error.is_none(),
            "the watch has ended: {:?}",
            seen.error
        );
        Ok(seen)
    }

    /// Forgets what has been seen.
    pub(super) fn forget(&self) {
        let mut seen = lock(&self.seen);
        *seen = Seen {
            steers: seen.steers,
            reports: seen.reports.clone(),
            error: seen.error.take(),
            ..Seen::default()
        };
        self.stalls.take();
    }

    /// Waits until exactly these LBs steer, and gives the time that it took since `since`.
    pub(super) fn expect(
        &self,
        steers: [bool; 2],
        since: Instant,
        limit: Duration,
    ) -> Result<Duration> {
        wait_until(&format!("{steers:?} to steer"), limit, || {
            let seen = self.look()?;
            if seen.steers != steers {
                return Ok(None);
            }
            let last = seen.changes.last();
            Ok(Some(last.map_or(Duration::ZERO, |(at, _)| {
                at.saturating_duration_since(since)
            })))
        })
        .with_context(|| format!("{:?}", lock(&self.seen)))
    }

    /// Watches on for a while.
    pub(super) fn stay(&self, time: Duration) -> Result<Seen> {
        let end = Instant::now() + time;
        eventually("the time to pass", time * 2 + LIMIT * 50, || {
            Ok(Instant::now() >= end)
        })?;
        self.look()
    }

    /// Two LBs never steered at a time since the watch forgot. The machine's own stalls are allowed for:
    /// a daemon that did not run could not turn its data plane.
    pub(super) fn expect_one_at_most(&self) -> Result<Seen> {
        let seen = self.expect_both_at_most(Duration::ZERO)?;
        ensure!(seen.polls > 0, "both were never asked");
        Ok(seen)
    }

    /// The same of a main whose daemon is dead or stopped: its program steers until it hears the next one.
    pub(super) fn expect_hand_over(&self) -> Result<Seen> {
        self.expect_both_at_most(POLL)
    }

    fn expect_both_at_most(&self, limit: Duration) -> Result<Seen> {
        let seen = self.look()?;
        let stall = self.stalls.longest();
        ensure!(seen.two_mains == 0, "two mains with a majority: {seen:?}");
        ensure!(
            seen.both <= limit || stall > LIMIT,
            "both steered for {:?}; the machine's longest stall was {stall:?}: {:?}",
            seen.both,
            seen.changes
        );
        Ok(seen)
    }

    /// Whether times that were measured since the watch forgot count.
    pub(super) fn is_calm(&self) -> bool {
        self.stalls.longest() <= LIMIT
    }

    /// Fails if something took longer than it may, unless the machine itself stood still meanwhile.
    pub(super) fn expect_in_time(
        &self,
        what: &str,
        after: Duration,
        limit: Duration,
    ) -> Result<()> {
        ensure!(
            after <= limit || !self.is_calm(),
            "{what} after {after:?}, not {limit:?}"
        );
        Ok(())
    }

    /// What a controller says of the pair; nothing when it does not answer.
    pub(super) fn cluster(&self, controller: u16) -> Option<Value> {
        ask(&self.sockets[place(controller)], "cluster")
    }

    /// How often a controller has counted something.
    pub(super) fn count(&self, controller: u16, what: &str) -> Result<u64> {
        let report = self.cluster(controller).context("no answer")?;
        let count = report["counts"][what].as_u64();
        count.with_context(|| format!("no count of {what}: {report:#}"))
    }

    /// What the nodes say of the controllers; nothing of one that does not answer.
    pub(super) fn witnesses(&self) -> Vec<Option<Value>> {
        let of = |socket: &PathBuf| Some(ask(socket, "status")?["witness"].take());
        self.nodes.iter().map(of).collect()
    }

    /// Waits until all is well, and gives the main: it reigns with the leases of all nodes, and with a link
    /// to each, and nobody else would.
    pub(super) fn wait_until_well(&self, limit: Duration) -> Result<u16> {
        let mut last = String::new();
        wait_until("one main, and all as it should be", limit, || {
            let main = self.main_if_well();
            last = match &main {
                Ok(_) => String::new(),
                Err(why) => why.clone(),
            };
            Ok(main.ok())
        })
        .with_context(|| last.clone())
    }

    /// The same, and it must be this one.
    pub(super) fn wait_for_main(&self, expected: u16, limit: Duration) -> Result<()> {
        let main = self.wait_until_well(limit)?;
        ensure!(
            main == expected,
            "controller {main} is the main, not {expected}"
        );
        Ok(())
    }

    fn main_if_well(&self) -> Result<u16, String> {
        let steers = lock(&self.seen).steers;
        let main = match steers {
            [true, false] => 1,
            [false, true] => 2,
            _ => return Err(format!("{steers:?} steer")),
        };
        let [mut own, mut others] = [main, other(main)].map(|id| self.cluster(id));
        let (Some(own), Some(others)) = (own.take(), others.take()) else {
            return Err("a controller does not answer".to_owned());
        };
        let leases = own["leases"].as_array().map_or(&[][..], Vec::as_slice);
        let is_held = |lease: &&Value| !lease["remaining_ms"].is_null() && lease["linked"] == true;
        let is_well = own["role"] == "main"
            && others["role"] == "stand-by"
            && others["main"] == main
            && others["term"] == own["term"]
            && leases.iter().filter(is_held).count() == self.nodes.len();
        if !is_well {
            return Err(format!("{own:#}\n{others:#}"));
        }
        let witnesses = self.witnesses();
        let obeys = |node: &Option<Value>| {
            let node = node.as_ref();
            node.is_some_and(|node| node["main"] == main && node["missed"] == false)
        };
        if !witnesses.iter().all(obeys) {
            return Err(format!("{witnesses:?}"));
        }
        Ok(main)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch_maps(maps: &[Maps; 2], seen: &Mutex<Seen>, stop: &AtomicBool) -> Result<()> {
    let mut since = None;
    while !stop.load(Ordering::Relaxed) {
        let [one, two] = maps.each_ref().map(steers);
        let steers = [one?, two?];
        let now = Instant::now();
        {
            let mut seen = lock(seen);
            if seen.steers != steers || seen.changes.is_empty() {
                seen.steers = steers;
                seen.changes.push((now, steers));
            }
            if steers == [true; 2] {
                let since = *since.get_or_insert(now);
                // At least as long as from one look to the next.
                let lasted = now.saturating_duration_since(since) + Duration::from_micros(1);
                seen.both = seen.both.max(lasted);
            } else {
                since = None;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn steers(maps: &Maps) -> Result<bool> {
    let turnout = maps.turnout()?;
    Ok(turnout.is_active(maps.plane_status()?.term_heard))
}

fn watch_daemons(sockets: &[PathBuf; 2], seen: &Mutex<Seen>, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let reports = sockets.each_ref().map(|socket| ask(socket, "cluster"));
        let took = begin.elapsed();
        {
            let mut seen = lock(seen);
            if reports.iter().all(Option::is_some) {
                seen.polls += 1;
            }
            let is_main = |report: &Option<Value>| report.as_ref().is_some_and(holds_majority);
            // Two answers that are further apart than a reign can change hands say nothing together.
            if reports.iter().all(is_main) && took < POLL {
                seen.two_mains += 1;
            }
            seen.reports = reports;
        }
        thread::sleep(POLL.saturating_sub(took));
    }
    Ok(())
}

/// Whether a controller says that it is main, and of enough nodes.
fn holds_majority(report: &Value) -> bool {
    let leases = report["leases"].as_array().map_or(0, |leases| {
        let held = leases
            .iter()
            .filter(|lease| !lease["remaining_ms"].is_null());
        held.count() as u64
    });
    report["role"] == "main"
        && report["needed"]
            .as_u64()
            .is_some_and(|needed| leases >= needed)
}

fn watch_answers(
    questioner: &mut Questioner,
    macs: [[u8; 6]; 2],
    seen: &Mutex<Seen>,
    stop: &AtomicBool,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        questioner.ask()?;
        thread::sleep(POLL);
        let answers = questioner.answers()?;
        let mut seen = lock(seen);
        for (counts, mac) in seen.answers.iter_mut().zip(macs) {
            for (_, vip) in answers.iter().filter(|(of, _)| *of == mac) {
                counts[usize::from(vip.is_ipv6())] += 1;
            }
        }
    }
    Ok(())
}

/// Asks a daemon at its admin socket. `None`: it does not answer.
pub(super) fn ask(socket: &Path, verb: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    writeln!(stream, "{{\"verb\":\"{verb}\"}}").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    let answer: Value = serde_json::from_str(&line).ok()?;
    answer["error"].is_null().then_some(answer)
}

/// A new call of the switch reaches a node: `name` tells it from all others.
pub(super) fn expect_a_call(lab: &Lab, name: &str, limit: Duration) -> Result<Duration> {
    use pointsman_tests::record::{CallHash, Recorder};
    use pointsman_tests::traffic::Client;

    let client = Client::open(lab, lab.vip_v4())?;
    let recorder = Recorder::start(&lab.nodes)?;
    let begin = Instant::now();
    let mut number = 0;
    eventually(&format!("a call to arrive, {name}"), limit, || {
        number += 1;
        client.send(&client.call(format!("{name}-{number}@switch")).invite())?;
        let is_here = |number| {
            let call = CallHash::of(&format!("{name}-{number}@switch"));
            let has = |tape| {
                recorder.look(tape, |tape: &pointsman_tests::record::Tape| {
                    tape.sightings.iter().any(|sighting| sighting.call == call)
                })
            };
            (0..lab.nodes.len()).any(has)
        };
        Ok((1..=number).any(is_here))
    })?;
    Ok(begin.elapsed())
}
