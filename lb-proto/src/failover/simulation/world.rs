//! Machines with clocks, disks and sockets of their own, and how time passes for them.

use super::invariants::Watcher;
use super::machine::{Clock, Disk, Host, Inbox, Machine, Setting, Written};
use crate::failover::controller::{self, Config, Controller, Deactivation, Steps};
use crate::failover::fixtures::{CLUSTER, ms};
use crate::failover::trust::{Members, Refusal};
use crate::failover::wire::{Bytes, Reason};
use crate::failover::witness::{self, Witness};
use crate::failover::{ControllerId, NodeId, Party, Term};
use crate::fixtures::KEY;
use crate::network::{Cuts, Queue, Weather};
use crate::random::Random;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// What a socket holds while its machine does not read.
const SOCKET: usize = 400;
/// Datagrams that the attacker has recorded.
const RECORDED: usize = 500;

enum Event {
    /// The machine's next time-out, perhaps.
    Wake(usize),
    /// A datagram comes: from, to.
    Arrive(usize, usize, Bytes),
    /// Something is on the disk, in this life.
    Written(usize, u32, Written),
}

/// What scenarios look at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    Activated(Term, Reason, Steps),
    Deactivated(Deactivation),
    Of(controller::Event),
    OfNode(witness::Event),
    Fetch(u64),
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) setting: Setting,
    pub(super) now: Duration,
    pub(super) weather: Weather,
    pub(super) cuts: Cuts,
    pub(super) random: Random,
    pub(super) hosts: Vec<Host>,
    /// The nodes that each version of the configuration names: all, unless it says otherwise.
    pub(super) named: BTreeMap<u64, Vec<usize>>,
    queue: Queue<Event>,
    pub(super) watcher: Watcher,
    recorded: Vec<(usize, Bytes)>,
    /// Whether notes are kept; they cost time.
    pub(super) takes_notes: bool,
    /// Whether notes are printed, for the reader of a failed test.
    pub(super) is_told: bool,
    pub(super) notes: Vec<(Duration, usize, Note)>,
    /// Whether what arrives is kept.
    pub(super) records: bool,
    /// Who sent it, who read it, and what.
    pub(super) delivered: Vec<(usize, usize, Bytes)>,
    /// Datagrams carried, for the reader of a failed test.
    pub(super) carried: u64,
}

pub(super) fn controller_id(host: usize) -> ControllerId {
    ControllerId::new(host as u8 + 1).expect("few controllers")
}

impl World {
    pub(super) fn new(setting: Setting, weather: Weather, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let hosts = (0..setting.controllers + setting.nodes).map(|_| Host {
            clock: Clock::new(&mut random, setting.drifts),
            machine: None,
            disk: Disk::default(),
            writing: VecDeque::new(),
            disk_busy_until: Duration::ZERO,
            epoch: 0,
            frozen_until: None,
            inbox: VecDeque::new(),
            wakes_at: Duration::MAX,
            active: None,
            version: 1,
        });
        let hosts = hosts.collect();
        let mut world = Self {
            seed,
            setting,
            now: Duration::ZERO,
            weather,
            cuts: Cuts::default(),
            random,
            hosts,
            named: BTreeMap::new(),
            queue: Queue::new(),
            watcher: Watcher::default(),
            recorded: Vec::new(),
            takes_notes: false,
            is_told: false,
            notes: Vec::new(),
            records: false,
            delivered: Vec::new(),
            carried: 0,
        };
        for host in 0..world.hosts.len() {
            world.boot(host);
        }
        world
    }

    pub(super) fn controllers(&self) -> std::ops::Range<usize> {
        0..self.setting.controllers
    }

    pub(super) fn nodes(&self) -> std::ops::Range<usize> {
        self.setting.controllers..self.hosts.len()
    }

    pub(super) fn node_id(&self, host: usize) -> NodeId {
        NodeId::new((host - self.setting.controllers + 1) as u16).expect("few nodes")
    }

    pub(super) fn host_of(&self, party: Party) -> usize {
        match party {
            Party::Controller(id) => usize::from(id.get()) - 1,
            Party::Node(id) => self.setting.controllers + usize::from(id.get()) - 1,
        }
    }

    pub(super) fn address(&self, host: usize) -> IpAddr {
        [10, 0, 0, host as u8 + 1].into()
    }

    /// The nodes that a version of the configuration names.
    pub(super) fn nodes_of(&self, version: u64) -> Vec<usize> {
        let named = self.named.get(&version).cloned();
        named.unwrap_or_else(|| self.nodes().collect())
    }

    fn members(&self, nodes: impl IntoIterator<Item = usize>) -> Members {
        let mut members = Members::default();
        for host in self.controllers() {
            let addresses = vec![self.address(host)];
            members.controllers.insert(controller_id(host), addresses);
        }
        for host in nodes {
            let addresses = vec![self.address(host)];
            members.nodes.insert(self.node_id(host), addresses);
        }
        members
    }

    pub(super) fn config(&self, host: usize) -> Config {
        Config {
            keys: vec![KEY],
            members: self.members(self.nodes_of(self.hosts[host].version)),
            timing: self.setting.timing,
            switchback: self.setting.switchback,
            switchback_after: ms(1000),
            version: self.hosts[host].version,
            digest: self.hosts[host].version,
            force: false,
        }
    }

    /// The longest that a node waits after it lost its disk.
    fn longest(&self) -> Duration {
        self.setting.timing.lease() * 2
    }

    pub(super) fn local(&self, host: usize) -> Duration {
        self.hosts[host].clock.local(self.now)
    }

    pub(super) fn controller(&self, host: usize) -> Option<&Controller> {
        match self.hosts[host].machine.as_ref()? {
            Machine::Controller(controller) => Some(controller),
            Machine::Witness(_) => None,
        }
    }

    pub(super) fn witness(&self, host: usize) -> Option<&Witness> {
        match self.hosts[host].machine.as_ref()? {
            Machine::Witness(witness) => Some(witness),
            Machine::Controller(_) => None,
        }
    }

    /// Does something to a running controller, as its caller would.
    pub(super) fn with_controller<R>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Controller, Duration) -> R,
    ) -> Option<R> {
        if self.hosts[host].is_frozen() {
            return None;
        }
        let local = self.local(host);
        let result = match self.hosts[host].machine.as_mut()? {
            Machine::Controller(controller) => Some(act(controller, local)),
            Machine::Witness(_) => None,
        };
        self.drain(host);
        self.schedule(host);
        result
    }

    pub(super) fn is_alive(&self, host: usize) -> bool {
        self.hosts[host].machine.is_some()
    }

    /// Starts a machine that is off.
    pub(super) fn boot(&mut self, host: usize) {
        let (local, seed) = (self.local(host), self.random.next());
        let machine = if host < self.setting.controllers {
            let setup = controller::Setup {
                id: controller_id(host),
                cluster: CLUSTER,
                epoch: self.hosts[host].epoch + 1,
                term: self.hosts[host].disk.term,
                electors: self.hosts[host].disk.electors.clone(),
                seed,
            };
            let controller = Controller::new(local, setup, self.config(host));
            Machine::Controller(Box::new(controller))
        } else {
            let setup = witness::Setup {
                node: self.node_id(host),
                cluster: CLUSTER,
                epoch: self.hosts[host].epoch + 1,
                kept: self.hosts[host].disk.grant,
                longest_lease: self.longest(),
            };
            let witness = Witness::new(local, setup, vec![KEY], self.members(self.nodes()));
            Machine::Witness(Box::new(witness))
        };
        let one = &mut self.hosts[host];
        one.epoch += 1;
        one.inbox.clear();
        one.frozen_until = None;
        one.wakes_at = Duration::MAX;
        one.machine = Some(machine);
        self.turn(host);
    }

    /// Ends a machine, at whatever it is. What was being written is on the disk, or not.
    pub(super) fn kill(&mut self, host: usize) {
        let one = &mut self.hosts[host];
        one.machine = None;
        one.active = None;
        one.disk_busy_until = Duration::ZERO;
        let written = self.random.below(one.writing.len() as u64 + 1) as usize;
        for written in one.writing.drain(..).take(written) {
            one.disk.write(written);
        }
    }

    /// A machine that is off loses its disk.
    pub(super) fn wipe(&mut self, host: usize) {
        self.hosts[host].disk = Disk::default();
        self.watcher.wiped(host);
    }

    /// A machine does not run until then; its peers do.
    pub(super) fn freeze(&mut self, host: usize, until: Duration) {
        let one = &mut self.hosts[host];
        let until = one.frozen_until.map_or(until, |before| before.max(until));
        one.frozen_until = Some(until);
        one.wakes_at = until;
        self.queue.put(until, Event::Wake(host));
    }

    /// Has a machine read this at once, and carry out what comes of it.
    pub(super) fn inject(&mut self, to: usize, from: IpAddr, bytes: &[u8]) -> Result<(), Refusal> {
        let local = self.local(to);
        let result = match &mut self.hosts[to].machine {
            Some(Machine::Controller(controller)) => controller.receive(local, from, bytes),
            Some(Machine::Witness(witness)) => witness.receive(local, from, bytes),
            None => Ok(()),
        };
        self.drain(to);
        self.schedule(to);
        result
    }

    /// What waits in a machine's socket is lost.
    pub(super) fn forget_inbox(&mut self, host: usize) {
        self.hosts[host].inbox.clear();
    }

    /// Runs until that time.
    pub(super) fn run(&mut self, until: Duration) {
        while self.step(until) {}
        self.now = self.now.max(until);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.run(self.now + time);
    }

    /// One event; false when there is none until then.
    pub(super) fn step(&mut self, until: Duration) -> bool {
        let Some((at, event)) = self.queue.take(until) else {
            return false;
        };
        self.now = self.now.max(at);
        match event {
            Event::Wake(host) => self.wake(host),
            Event::Arrive(from, to, bytes) => {
                let host = &mut self.hosts[to];
                if host.machine.is_some() && host.inbox.len() < SOCKET {
                    host.inbox.push_back(Inbox::Datagram(from, bytes));
                    self.turn(to);
                }
            }
            Event::Written(host, epoch, written) => self.written(host, epoch, written),
        }
        Watcher::look(self);
        true
    }

    fn wake(&mut self, host: usize) {
        // Another time was put instead.
        if self.hosts[host].wakes_at == self.now {
            self.hosts[host].wakes_at = Duration::MAX;
            self.turn(host);
        }
    }

    fn written(&mut self, host: usize, epoch: u32, written: Written) {
        let one = &mut self.hosts[host];
        if one.epoch != epoch || one.machine.is_none() {
            return;
        }
        one.writing.pop_front();
        one.inbox.push_back(match &written {
            Written::Term(term) => Inbox::Persisted(*term),
            Written::Electors(number, _) => Inbox::ElectorsKept(*number),
            Written::Grant(grant) => Inbox::Persisted(grant.term),
        });
        one.disk.write(written);
        self.turn(host);
    }

    /// One turn of a machine's loop: drain first, judge after, then send.
    fn turn(&mut self, host: usize) {
        let now = self.now;
        let one = &mut self.hosts[host];
        if one.frozen_until.is_some_and(|until| now < until) {
            return;
        }
        one.frozen_until = None;
        let local = self.local(host);
        while let Some(item) = self.hosts[host].inbox.pop_front() {
            if let Inbox::Datagram(from, bytes) = item
                && self.records
            {
                self.delivered.push((from, host, bytes));
            }
            let address = match item {
                Inbox::Datagram(from, _) => self.address(from),
                Inbox::Persisted(_) | Inbox::ElectorsKept(_) => self.address(host),
            };
            let Some(machine) = &mut self.hosts[host].machine else {
                return;
            };
            // Refusals are counted by the machine.
            let _: Result<(), Refusal> = match (machine, item) {
                (Machine::Controller(controller), Inbox::Datagram(_, bytes)) => {
                    controller.receive(local, address, &bytes)
                }
                (Machine::Controller(controller), Inbox::Persisted(term)) => {
                    controller.persisted(local, term);
                    Ok(())
                }
                (Machine::Controller(controller), Inbox::ElectorsKept(number)) => {
                    controller.electors_kept(local, number);
                    Ok(())
                }
                (Machine::Witness(witness), Inbox::Datagram(_, bytes)) => {
                    witness.receive(local, address, &bytes)
                }
                (Machine::Witness(witness), Inbox::Persisted(term)) => {
                    witness.persisted(local, term);
                    Ok(())
                }
                (Machine::Witness(_), Inbox::ElectorsKept(_)) => Ok(()),
            };
        }
        match &mut self.hosts[host].machine {
            Some(Machine::Controller(controller)) => controller.handle_timeout(local),
            Some(Machine::Witness(witness)) => witness.handle_timeout(local),
            None => return,
        }
        self.drain(host);
        self.schedule(host);
    }

    /// Has a machine look at the time.
    pub(super) fn poke(&mut self, host: usize) {
        self.turn(host);
    }

    fn schedule(&mut self, host: usize) {
        let local = self.local(host);
        let now = self.now;
        let one = &mut self.hosts[host];
        let due = match &one.machine {
            Some(Machine::Controller(controller)) => Some(controller.next_timeout()),
            Some(Machine::Witness(witness)) => witness.next_timeout(local),
            None => None,
        };
        if let Some(due) = due {
            // Timers do not come before their time, and no finer than a scheduler has them.
            let at = one.clock.world(due).max(now + Duration::from_micros(50));
            if at < one.wakes_at || one.wakes_at <= now {
                one.wakes_at = at;
                self.queue.put(at, Event::Wake(host));
            }
        }
    }

    fn drain(&mut self, host: usize) {
        loop {
            let one = &mut self.hosts[host];
            match &mut one.machine {
                Some(Machine::Controller(controller)) => match controller.poll_output() {
                    Some(output) => self.carry_out(host, output),
                    None => return,
                },
                Some(Machine::Witness(witness)) => match witness.poll_output() {
                    Some(witness::Output::Send { to, bytes }) => {
                        self.send(host, self.host_of(Party::Controller(to)), bytes);
                    }
                    Some(witness::Output::Persist(grant)) => {
                        self.write(host, Written::Grant(grant));
                    }
                    Some(witness::Output::Event(event)) => self.note(host, Note::OfNode(event)),
                    None => return,
                },
                None => return,
            }
        }
    }

    fn carry_out(&mut self, host: usize, output: controller::Output) {
        match output {
            controller::Output::Send { to, bytes } => self.send(host, self.host_of(to), bytes),
            controller::Output::Persist { term } => self.write(host, Written::Term(term)),
            controller::Output::KeepElectors => {
                if let Some((number, electors)) = self.controller(host).map(Controller::electors) {
                    self.write(host, Written::Electors(number, electors));
                }
            }
            controller::Output::Activate {
                term,
                reason,
                steps,
            } => {
                self.hosts[host].active = Some(term);
                self.watcher.activated(self.seed, self.now, host, term);
                self.note(host, Note::Activated(term, reason, steps));
            }
            controller::Output::Raise { term } => {
                self.hosts[host].active = Some(term);
                self.watcher.activated(self.seed, self.now, host, term);
            }
            controller::Output::Deactivate { why } => {
                self.hosts[host].active = None;
                self.note(host, Note::Deactivated(why));
            }
            controller::Output::FetchConfig { version, .. } => {
                self.note(host, Note::Fetch(version));
            }
            controller::Output::Event(event) => self.note(host, Note::Of(event)),
        }
    }

    fn note(&mut self, host: usize, note: Note) {
        if self.is_told {
            eprintln!("{:?} host {host}: {note:?}", self.now);
        }
        if self.takes_notes {
            self.notes.push((self.now, host, note));
        }
    }

    fn write(&mut self, host: usize, written: Written) {
        let delay = self.random.below(self.setting.disk.as_nanos() as u64 + 1);
        let one = &mut self.hosts[host];
        one.writing.push_back(written.clone());
        let at = one.disk_busy_until.max(self.now) + Duration::from_nanos(delay);
        one.disk_busy_until = at;
        self.queue.put(at, Event::Written(host, one.epoch, written));
    }

    fn send(&mut self, from: usize, to: usize, bytes: Bytes) {
        self.carried += 1;
        Watcher::look_at_sent(self, from, &bytes);
        if self.recorded.len() < RECORDED {
            self.recorded.push((from, bytes));
        } else if self.random.below(8) == 0 {
            let place = self.random.below(RECORDED as u64) as usize;
            self.recorded[place] = (from, bytes);
        }
        if self.cuts.is_cut(from, to) {
            return;
        }
        let weather = self.weather;
        for delay in weather.delays(&mut self.random) {
            self.queue
                .put(self.now + delay, Event::Arrive(from, to, bytes));
        }
    }

    /// The attacker plays back what was recorded: from where it came or from elsewhere, as it was or
    /// with a bit turned, to anybody.
    pub(super) fn attack(&mut self, count: u32) {
        for _ in 0..count {
            if self.recorded.is_empty() {
                return;
            }
            let hosts = self.hosts.len() as u64;
            let place = self.random.below(self.recorded.len() as u64) as usize;
            let to = self.random.below(hosts) as usize;
            let (mut from, mut bytes) = self.recorded[place];
            match self.random.below(4) {
                0 => from = self.random.below(hosts) as usize,
                1 => {
                    let bit = self.random.below(bytes.len() as u64 * 8) as usize;
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                _ => {}
            }
            self.queue.put(self.now, Event::Arrive(from, to, bytes));
        }
    }
}
