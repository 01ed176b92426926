//! Machines that all hear each other: what each consists of, and how time passes for them.

use super::calls::{Calls, Sip};
use crate::admission::server::Server;
use crate::admission::{Gate, Limits};
use crate::fixtures::KEY;
use crate::keys::NumberedKey;
use crate::network::{Queue, Weather};
use crate::offer::candidates::Chooser;
use crate::offer::hops::Hops;
use crate::random::Random;
use crate::status::Timing;
use crate::status::challenge::{Answerer, Challenge, Outcome};
use crate::status::map::{AvailabilityMap, Membership, Refusal};
use crate::status::query::Message;
use crate::status::sender::tests::{identity, report};
use crate::status::sender::{BeaconBytes, Identity, Sender};
use crate::status::stall::StallWatch;
use lb_common::Admission;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

pub(super) const CLUSTER: u32 = 9;
pub(super) const PERIOD: Duration = Timing::DEFAULT.period;
/// Datagrams that a machine's socket holds while the machine does not read.
const SOCKET: usize = 400;
/// Datagrams that the attacker has recorded.
const RECORDED: usize = 2_000;
/// What a clock of the day says that is right.
pub(super) const RIGHT_DAY: Duration = Duration::from_secs(1_700_000_000);

/// A datagram of the status plane, and which life of its sender it is of.
#[derive(Clone, Copy)]
pub(super) struct Datagram {
    from: u16,
    life: u32,
    bytes: BeaconBytes,
}

pub(super) enum Event {
    /// The machine's next time-out, perhaps.
    Wake(u16),
    /// A datagram comes to the machine.
    Status(u16, Datagram),
    /// Something about a call.
    Sip(Sip),
}

/// What a machine has while it runs.
pub(super) struct Life {
    number: u32,
    pub(super) sender: Sender,
    pub(super) challenge: Challenge,
    answerer: Answerer,
    pub(super) map: AvailabilityMap,
    watch: StallWatch,
    pub(super) gate: Gate,
    pub(super) chooser: Chooser,
    pub(super) hops: Hops,
    /// Of each machine the latest life taken, and its epoch.
    heard: BTreeMap<u16, (u32, u32)>,
}

pub(super) struct Machine {
    /// Its monotonic clock is ahead of the simulation's by this.
    ahead: Duration,
    /// What its clock of the day says at the beginning of the simulation.
    pub(super) day: Duration,
    /// The epoch on its disk.
    pub(super) disk: Option<u32>,
    /// Which side of a partition it is on.
    pub(super) side: u8,
    stalled_until: Duration,
    socket: VecDeque<Datagram>,
    wakes_at: Duration,
    /// The highest epoch of each life.
    peaks: Vec<u32>,
    pub(super) keys: Vec<NumberedKey>,
    pub(super) life: Option<Life>,
}

impl Machine {
    pub(super) fn local(&self, now: Duration) -> Duration {
        now + self.ahead
    }

    pub(super) fn time_of_day(&self, now: Duration) -> Duration {
        self.day + now
    }
}

pub(super) struct Fleet {
    pub(super) seed: u64,
    pub(super) now: Duration,
    pub(super) weather: Weather,
    pub(super) random: Random,
    pub(super) machines: Vec<Machine>,
    pub(super) queue: Queue<Event>,
    pub(super) calls: Calls,
    recorded: Vec<Datagram>,
    /// Beacons that were refused, by word.
    pub(super) refused: BTreeMap<&'static str, u64>,
    pub(super) raised: u32,
    /// Beacons taken of a life before the latest that the receiver knew, which with its epoch is
    /// beside it.
    taken_back: Vec<(u16, (u32, u32))>,
}

pub(super) fn address(id: u16) -> IpAddr {
    let [high, low] = id.to_be_bytes();
    [10, 0, high, low].into()
}

impl Fleet {
    pub(super) fn new(machines: u16, slots: u32, weather: Weather, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let machine = |_| Machine {
            ahead: Duration::from_secs(random.below(1 << 30)),
            day: RIGHT_DAY,
            disk: None,
            side: 0,
            stalled_until: Duration::ZERO,
            socket: VecDeque::new(),
            wakes_at: Duration::MAX,
            peaks: Vec::new(),
            keys: vec![KEY],
            life: None,
        };
        let machines = (1..=machines).map(machine).collect();
        let mut fleet = Self {
            seed,
            now: Duration::ZERO,
            weather,
            random,
            machines,
            queue: Queue::new(),
            calls: Calls::new(slots),
            recorded: Vec::new(),
            refused: BTreeMap::new(),
            raised: 0,
            taken_back: Vec::new(),
        };
        for id in fleet.ids() {
            fleet.boot(id);
        }
        fleet
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.machines.len() as u16
    }

    pub(super) fn machine(&mut self, id: u16) -> &mut Machine {
        &mut self.machines[usize::from(id) - 1]
    }

    pub(super) fn is_alive(&self, id: u16) -> bool {
        self.machines[usize::from(id) - 1].life.is_some()
    }

    pub(super) fn boot(&mut self, id: u16) {
        let (now, slots) = (self.now, self.calls.slots);
        let [a, b, c, d] = [(); 4].map(|()| self.random.next());
        let machine = self.machine(id);
        let local = machine.local(now);
        let clock = machine.time_of_day(now).as_secs() as u32;
        let epoch = machine.disk.map_or(1, |last| last + 1).max(clock);
        machine.disk = Some(epoch);
        machine.peaks.push(epoch);
        machine.socket.clear();
        machine.stalled_until = Duration::ZERO;
        let identity = Identity {
            epoch,
            key: machine.keys[0],
            address_v4: address(id).into(),
            ..identity(id)
        };
        let mut sender = Sender::new(identity, PERIOD, 1, report(Admission::Idle), local, a);
        sender.silence();
        let timing = Timing::DEFAULT;
        let keys = machine.keys.clone();
        let mut gate = Gate::new(Limits::calls(slots));
        gate.set_server(Server::Healthy);
        machine.life = Some(Life {
            number: machine.peaks.len() as u32,
            sender,
            challenge: Challenge::new(PERIOD, b),
            answerer: Answerer::new(local),
            map: AvailabilityMap::new(CLUSTER, keys, timing, Membership::Learnt),
            watch: StallWatch::new(timing, local),
            gate,
            chooser: Chooser::new(id, timing.hold(), c),
            hops: Hops::new(id, d),
            heard: BTreeMap::new(),
        });
        self.wake_at(id, now);
    }

    pub(super) fn kill(&mut self, id: u16) {
        self.machine(id).life = None;
        self.calls.lost_with(id);
    }

    pub(super) fn stall(&mut self, id: u16, until: Duration) {
        self.machine(id).stalled_until = until;
    }

    fn wake_at(&mut self, id: u16, time: Duration) {
        let machine = self.machine(id);
        let time = time.max(machine.stalled_until);
        if time < machine.wakes_at {
            machine.wakes_at = time;
            self.queue.put(time, Event::Wake(id));
        }
    }

    /// Runs until that time.
    pub(super) fn run(&mut self, until: Duration) {
        while let Some((at, event)) = self.queue.take(until) {
            self.now = self.now.max(at);
            match event {
                Event::Wake(id) => self.wake(id),
                Event::Status(to, datagram) => self.arrive(to, datagram),
                Event::Sip(sip) => self.sip(sip),
            }
        }
        self.now = until;
    }

    fn wake(&mut self, id: u16) {
        let now = self.now;
        let machine = self.machine(id);
        if machine.wakes_at != now || now < machine.stalled_until {
            // Another time was put instead.
            if machine.wakes_at == now {
                let until = machine.stalled_until;
                machine.wakes_at = Duration::MAX;
                self.wake_at(id, until);
            }
            return;
        }
        machine.wakes_at = Duration::MAX;
        self.turn(id);
    }

    fn arrive(&mut self, to: u16, datagram: Datagram) {
        let now = self.now;
        let machine = self.machine(to);
        if machine.life.is_none() {
            return;
        }
        if machine.socket.len() < SOCKET {
            machine.socket.push_back(datagram);
        }
        if now >= machine.stalled_until {
            self.turn(to);
        }
    }

    /// One turn of the machine's loop: drain first, judge after, then send.
    fn turn(&mut self, id: u16) {
        let now = self.now;
        let machine = self.machine(id);
        let local = machine.local(now);
        let Some(life) = &mut machine.life else {
            return;
        };
        if let Some(from) = life.watch.woke(local) {
            life.map.stalled(from, local);
        }
        while let Some(datagram) = self.machine(id).socket.pop_front() {
            self.read(id, datagram);
        }
        self.check_lives();
        self.send(id);
        let machine = self.machine(id);
        if let Some(life) = &machine.life {
            let timeouts = [
                Some(life.watch.next_timeout()),
                life.sender.next_timeout(),
                life.challenge.next_timeout(local, &life.sender),
                life.gate.next_timeout(local),
            ];
            let next = timeouts.into_iter().flatten().min().unwrap_or(local);
            let tick = Duration::from_micros(100);
            let next = next.saturating_sub(machine.ahead).max(now + tick);
            self.wake_at(id, next);
        }
    }

    fn read(&mut self, id: u16, datagram: Datagram) {
        let (now, seed) = (self.now, self.seed);
        let machine = self.machine(id);
        let local = machine.local(now);
        let Some(life) = &mut machine.life else {
            return;
        };
        let answer = match Message::read(&datagram.bytes, &machine.keys) {
            Ok(Message::Probe(probe)) => {
                let key = life.sender.identity().key;
                life.answerer.answer(local, &probe, &life.map, key)
            }
            Ok(Message::Held(held)) => {
                match life.challenge.answered(local, &held, &mut life.sender) {
                    Outcome::Raised {
                        epoch,
                        is_contested,
                    } => {
                        assert!(!is_contested, "seed {seed}: {id} at {now:?}");
                        machine.disk = Some(epoch);
                        machine.peaks.pop();
                        machine.peaks.push(epoch);
                        self.raised += 1;
                    }
                    Outcome::NotOurs | Outcome::Passed => {}
                    Outcome::Ceiling => panic!("seed {seed}: {id} at the ceiling"),
                }
                None
            }
            Ok(Message::Query(query)) => life.sender.answer(local, &query),
            Err(_) => {
                let from = address(datagram.from);
                match life.map.receive_from(local, from, &datagram.bytes) {
                    Ok(beacon) => {
                        life.chooser.heard(local, beacon.node);
                        let latest = life.heard.entry(beacon.node).or_default();
                        let before = *latest;
                        *latest = (datagram.life.max(before.0), beacon.epoch);
                        if datagram.life < before.0 {
                            self.taken_back.push((beacon.node, before));
                        }
                    }
                    Err(refusal) => {
                        let word = match refusal {
                            Refusal::Program(reason) => reason.name(),
                            Refusal::Origin | Refusal::Full => refusal.name(),
                        };
                        *self.refused.entry(word).or_default() += 1;
                    }
                }
                None
            }
        };
        if let Some(bytes) = answer {
            self.carry(id, datagram.from, bytes);
        }
    }

    /// Once a node has got beyond the epochs of its earlier lives, nobody who has heard it since takes
    /// any of theirs. (A receiver that has just booted knows no better as long as the node itself does
    /// not.)
    fn check_lives(&mut self) {
        let seed = self.seed;
        for (node, (life, epoch)) in std::mem::take(&mut self.taken_back) {
            let earlier = &self.machine(node).peaks[..life as usize - 1];
            let is_beyond = earlier.iter().all(|peak| *peak < epoch);
            assert!(!is_beyond, "seed {seed}: {node} is played back");
        }
    }

    fn send(&mut self, id: u16) {
        let now = self.now;
        let machine = self.machine(id);
        let local = machine.local(now);
        let Some(life) = &mut machine.life else {
            return;
        };
        match life.gate.report(local) {
            Some(report) => {
                life.sender.set_report(local, report);
                life.sender.speak(local);
            }
            None => life.sender.silence(),
        }
        let mut out = Vec::new();
        while let Some((_, bytes)) = life.sender.poll_transmit(local) {
            out.push(bytes);
        }
        out.extend(life.challenge.poll_transmit(local, &life.sender));
        for bytes in out {
            for to in self.ids() {
                self.carry(id, to, bytes);
            }
        }
    }

    fn carry(&mut self, from: u16, to: u16, bytes: BeaconBytes) {
        let life = self
            .machine(from)
            .life
            .as_ref()
            .map_or(0, |life| life.number);
        let datagram = Datagram { from, life, bytes };
        if self.recorded.len() < RECORDED {
            self.recorded.push(datagram);
        } else if self.random.below(8) == 0 {
            let place = self.random.below(RECORDED as u64) as usize;
            self.recorded[place] = datagram;
        }
        // A machine hears itself through no network.
        if self.machine(from).side == self.machine(to).side || from == to {
            for delay in self.weather.delays(&mut self.random) {
                self.queue
                    .put(self.now + delay, Event::Status(to, datagram));
            }
        }
    }

    /// The attacker plays back what was recorded, from the address that it came from, to anybody.
    pub(super) fn replay(&mut self, count: u32) {
        for _ in 0..count {
            if self.recorded.is_empty() {
                return;
            }
            let place = self.random.below(self.recorded.len() as u64) as usize;
            let to = 1 + self.random.below(self.machines.len() as u64) as u16;
            let datagram = self.recorded[place];
            self.queue.put(self.now, Event::Status(to, datagram));
        }
    }
}
