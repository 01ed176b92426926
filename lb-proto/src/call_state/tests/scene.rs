//! Nodes with calls, a controller that asks them, and links that lose, delay and repeat.

use super::record::{Record, Truth};
use crate::call::Call;
use crate::call_state::collector::{Collector, Mode, Output, Pace, Settings};
use crate::call_state::database::{Completeness, Filter, Standing};
use crate::call_state::responder::{self, Calls, Responder};
use crate::call_state::wire::{self, Message};
use crate::call_state::{Priority, State};
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) const TERM: u64 = 5;
pub(super) const CLUSTER: u32 = 7;
pub(super) const CONTROLLER: u16 = 1;

/// All that a responder has to send, and what it does for it, `most` calls at a time.
pub(super) fn drain(
    responder: &mut Responder,
    calls: &impl Calls,
    most: usize,
) -> Vec<responder::Output> {
    let mut outputs = Vec::new();
    loop {
        outputs.extend(std::iter::from_fn(|| responder.poll()));
        if !responder.has_more() {
            return outputs;
        }
        responder.go_on(calls, most);
    }
}

/// A node.
pub(super) struct SimNode {
    pub responder: Responder,
    pub record: Record,
    /// It answers.
    pub is_alive: bool,
    /// It dies when it has sent so many more messages.
    pub dies_after: Option<usize>,
    /// There is a link to it.
    pub is_linked: bool,
    random: Random,
    link: u32,
}

/// What happens by itself.
#[derive(Clone, Debug)]
enum Event {
    ToNode {
        node: u16,
        link: u32,
        bytes: Vec<u8>,
    },
    /// The next portion of an answer is due.
    GoOn {
        node: u16,
        link: u32,
    },
    /// Also over a link that is gone: it may come late.
    ToController {
        node: u16,
        bytes: Vec<u8>,
    },
    Up {
        node: u16,
    },
    Down {
        node: u16,
    },
    Lease {
        node: u16,
    },
}

/// A request, as it left the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Keys,
    Records,
    Reset,
}

pub(super) struct Scene {
    pub now: Duration,
    pub collector: Collector,
    pub nodes: BTreeMap<u16, SimNode>,
    pub pace: Pace,
    pub asked: Vec<(Duration, u16, Ask)>,
    /// What the collector said, but for requests.
    pub said: Vec<(Duration, Output)>,
    /// Messages in a thousand that come twice.
    pub repeated: u64,
    /// A message takes 1 ms to this long.
    pub slowest: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    count: u64,
    /// Calls that were ever there.
    pub ever: BTreeSet<(u16, Call)>,
    /// Calls that are there, and stay as they are, all the time.
    pub fixed: BTreeMap<(u16, Call), Truth>,
    /// Whether the whole database is looked at after each event.
    pub is_watched: bool,
    /// Calls that a node looks at in a millisecond.
    pub portion: usize,
}

impl Scene {
    pub(super) fn new(nodes: u16, pace: Pace, seed: u64) -> Self {
        let settings = Settings {
            cluster: CLUSTER,
            controller: CONTROLLER,
            capacity: 2_000_000,
            pace,
        };
        let node = |node: u16| {
            let mut responder = Responder::new(CLUSTER, node);
            responder.accepted(TERM, CONTROLLER);
            let it = SimNode {
                responder,
                record: Record::of(node),
                is_alive: true,
                dies_after: None,
                is_linked: false,
                random: Random::new(seed ^ u64::from(node) << 32),
                link: 0,
            };
            (node, it)
        };
        Self {
            now: Duration::from_secs(100),
            collector: Collector::new(settings, 1..=nodes, seed),
            nodes: (1..=nodes).map(node).collect(),
            pace,
            asked: Vec::new(),
            said: Vec::new(),
            repeated: 0,
            slowest: Duration::from_millis(20),
            queue: BTreeMap::new(),
            count: 0,
            ever: BTreeSet::new(),
            fixed: BTreeMap::new(),
            is_watched: false,
            portion: 2_000,
        }
    }

    pub(super) fn node(&mut self, node: u16) -> &mut SimNode {
        self.nodes.get_mut(&node).expect("a node")
    }

    /// A call that stays as it is.
    pub(super) fn fix(&mut self, node: u16, call: Call, truth: Truth) {
        self.put(node, call, truth);
        self.fixed.insert((node, call), truth);
    }

    /// A call as it is now.
    pub(super) fn put(&mut self, node: u16, call: Call, truth: Truth) {
        self.node(node).record.put(call, truth);
        self.ever.insert((node, call));
    }

    /// Gives every node so many calls that stay: a tenth early, a hundredth emergencies.
    pub(super) fn fill(&mut self, calls_of: impl Fn(u16) -> u64, random: &mut Random) {
        let nodes: Vec<u16> = self.nodes.keys().copied().collect();
        for node in nodes {
            for _ in 0..calls_of(node) {
                let truth = self.some_truth(random);
                self.fix(node, Call::from_key(random.next()), truth);
            }
        }
    }

    pub(super) fn some_truth(&self, random: &mut Random) -> Truth {
        let state = match random.below(10) {
            0 => State::Early,
            1 | 2 => State::Held,
            _ => State::Confirmed,
        };
        let priority = match random.below(100) {
            0 => Priority::Emergency,
            1 => Priority::Urgent,
            2 => Priority::NonUrgent,
            _ => Priority::Normal,
        };
        let started = self
            .now
            .saturating_sub(Duration::from_millis(random.below(90_000)));
        Truth {
            state,
            priority,
            started,
        }
    }

    pub(super) fn begin(&mut self, mode: Mode) {
        let mut out = Vec::new();
        self.collector.begin(self.now, TERM, mode, &mut out);
        self.carry(out);
    }

    pub(super) fn link_all(&mut self) {
        let nodes: Vec<u16> = self.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.link(node));
    }

    pub(super) fn link(&mut self, node: u16) {
        let it = self.node(node);
        (it.link, it.is_linked) = (it.link + 1, true);
        let mut out = Vec::new();
        self.collector.linked(self.now, node, &mut out);
        self.carry(out);
    }

    pub(super) fn lose(&mut self, node: u16) {
        let it = self.node(node);
        (it.link, it.is_linked) = (it.link + 1, false);
        it.responder.closed(CONTROLLER);
        let mut out = Vec::new();
        self.collector.lost(self.now, node, &mut out);
        self.carry(out);
    }

    pub(super) fn link_at(&mut self, at: Duration, node: u16) {
        self.later(at, Event::Up { node });
    }

    pub(super) fn lose_at(&mut self, at: Duration, node: u16) {
        self.later(at, Event::Down { node });
    }

    pub(super) fn grant_at(&mut self, at: Duration, node: u16) {
        self.later(at, Event::Lease { node });
    }

    fn later(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.queue.insert((at, self.count), event);
    }

    fn carry(&mut self, out: Vec<Output>) {
        for output in out {
            let Output::Request { node, message } = output else {
                self.check(&output);
                self.said.push((self.now, output));
                continue;
            };
            self.note(node, &message);
            let slowest = self.slowest;
            let it = self.node(node);
            let (at, link) = (it.delay(slowest), it.link);
            let event = Event::ToNode {
                node,
                link,
                bytes: message,
            };
            self.later(self.now + at, event);
        }
    }

    /// Nobody is asked sooner than is allowed.
    fn note(&mut self, node: u16, message: &[u8]) {
        let ask = match Message::read(message) {
            Ok(Message::Hello { .. }) => return,
            Ok(Message::Keys { .. }) => Ask::Keys,
            Ok(Message::Records { .. }) => Ask::Records,
            Ok(Message::Reset { .. }) => Ask::Reset,
            other => panic!("{other:?}"),
        };
        let mut before = self.asked.iter().rev().take(400);
        if let Some((at, ..)) = before.find(|(_, other, _)| *other == node) {
            assert!(
                *at + self.pace.apart <= self.now,
                "{node} is asked too often"
            );
        }
        self.asked.push((self.now, node, ask));
    }

    /// What is said is true.
    fn check(&self, output: &Output) {
        match output {
            Output::Pin { call, node, .. } => {
                assert!(self.ever.contains(&(*node, *call)), "{output:?}");
            }
            Output::Ended { call, node } => {
                assert!(self.ever.contains(&(*node, *call)), "{output:?}");
                assert!(!self.fixed.contains_key(&(*node, *call)), "{output:?}");
            }
            Output::Request { .. }
            | Output::KeysComplete { .. }
            | Output::NodeComplete { .. }
            | Output::Unreachable { .. }
            | Output::Refused { .. }
            | Output::Complete { .. } => {}
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut idle = 0;
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let due = self.collector.next_timeout();
            let Some(at) = [next, due].into_iter().flatten().min() else {
                break;
            };
            if at > until {
                break;
            }
            idle = if at > self.now { 0 } else { idle + 1 };
            assert!(idle < 10_000, "time stands still");
            self.now = self.now.max(at);
            if next == Some(at) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
            } else {
                let mut out = Vec::new();
                self.collector.on_timeout(self.now, &mut out);
                self.carry(out);
            }
            if self.is_watched {
                self.look();
            }
        }
        self.now = until;
    }

    /// A node sends what it has to say, and a portion more.
    fn answer(&mut self, node: u16, link: u32) {
        let (now, repeated, slowest) = (self.now, self.repeated, self.slowest);
        let portion = self.portion;
        let it = self.node(node);
        if !it.is_alive || it.link != link {
            return;
        }
        it.record.now = now;
        it.responder.go_on(&it.record, portion);
        let mut sent = Vec::new();
        while let Some(output) = it.responder.poll() {
            // The other controllers' links are nothing here.
            let responder::Output::Send { message, .. } = output else {
                continue;
            };
            assert!(message.len() <= wire::MAX_MESSAGE);
            if let Some(left) = &mut it.dies_after {
                if *left == 0 {
                    it.is_alive = false;
                    break;
                }
                *left -= 1;
            }
            let copies = 1 + usize::from(it.random.below(1_000) < repeated);
            for _ in 0..copies {
                sent.push((it.delay(slowest), message.clone()));
            }
        }
        let has_more = it.responder.has_more();
        for (at, bytes) in sent {
            self.later(now + at, Event::ToController { node, bytes });
        }
        if has_more {
            let soon = now + Duration::from_millis(1);
            self.later(soon, Event::GoOn { node, link });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToNode { node, link, bytes } => {
                let it = self.node(node);
                if it.is_alive && it.link == link {
                    assert!(it.responder.message(CONTROLLER, &bytes, &mut it.record));
                    self.answer(node, link);
                }
            }
            Event::GoOn { node, link } => self.answer(node, link),
            Event::ToController { node, bytes } => {
                let mut out = Vec::new();
                let taken = self.collector.message(self.now, node, &bytes, &mut out);
                taken.expect("a message");
                self.carry(out);
            }
            Event::Up { node } => self.link(node),
            Event::Down { node } => self.lose(node),
            Event::Lease { node } => self.node(node).responder.accepted(TERM, CONTROLLER),
        }
    }

    /// Whatever is in the database was there; and of what stays as it is, it says nothing false.
    pub(super) fn look(&self) {
        let page = self
            .collector
            .database()
            .page(self.now, Filter::default(), None, usize::MAX);
        assert_eq!(page.next, None);
        assert_eq!(page.calls.len(), self.collector.database().len());
        for view in &page.calls {
            let place = (view.node, view.call);
            assert!(self.ever.contains(&place), "{view:?}");
            let Some(truth) = self.fixed.get(&place) else {
                continue;
            };
            if let Standing::Known(state) = view.standing {
                assert_eq!(state, truth.state);
            }
            assert_eq!(view.priority, truth.priority);
            if let Some(record) = &view.record {
                let record_age = self.now - record.age;
                let off = truth.started.abs_diff(record_age);
                // It was some milliseconds on its way, and grows older in whole ones.
                assert!(off <= self.slowest + Duration::from_millis(2), "{off:?}");
                assert_eq!(record.node, view.node);
            }
        }
    }

    /// The database is what these nodes have, wholly and with their records.
    pub(super) fn is_exact(&self, nodes: impl IntoIterator<Item = u16>) {
        let database = self.collector.database();
        for node in nodes {
            assert_eq!(
                database.completeness(node),
                Some(Completeness::Ok),
                "{node}"
            );
            let filter = Filter {
                node: Some(node),
                standing: None,
            };
            let page = database.page(self.now, filter, None, usize::MAX);
            let has: Vec<(Call, Standing, Priority)> = page
                .calls
                .iter()
                .map(|view| (view.call, view.standing, view.priority))
                .collect();
            let truth: Vec<(Call, Standing, Priority)> = self.nodes[&node]
                .record
                .calls
                .iter()
                .map(|(call, truth)| (*call, Standing::Known(truth.state), truth.priority))
                .collect();
            assert!(
                has == truth,
                "node {node}: {} of {}",
                has.len(),
                truth.len()
            );
            assert!(page.calls.iter().all(|view| view.record.is_some()));
        }
    }

    /// When each node was first complete, since `from`.
    pub(super) fn completions(&self, from: Duration) -> BTreeMap<u16, Duration> {
        let mut completions = BTreeMap::new();
        for (at, output) in &self.said {
            if let Output::NodeComplete { node, .. } = output {
                completions.entry(*node).or_insert(*at - from);
            }
        }
        completions
    }

    /// What was said at last of all that is complete: nodes, unreachable ones, calls, and how long it
    /// took.
    pub(super) fn complete(&self) -> Option<(usize, usize, usize, Duration)> {
        let mut complete = self.said.iter().filter_map(|(_, output)| match output {
            Output::Complete {
                nodes,
                unreachable,
                calls,
                took,
            } => Some((*nodes, *unreachable, *calls, *took)),
            _ => None,
        });
        let first = complete.next();
        assert_eq!(complete.next(), None, "it is said once");
        first
    }
}

impl SimNode {
    fn delay(&mut self, slowest: Duration) -> Duration {
        let range = slowest.as_micros() as u64 - 1_000;
        Duration::from_micros(1_000 + self.random.below(range))
    }
}
