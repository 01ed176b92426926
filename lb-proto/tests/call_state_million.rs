//! A million calls on fifty nodes: how long their rebuild takes, and how much memory.
//!
//! A test of its own, since the memory is that of the whole process. The nodes make their records when
//! they are asked for them, so that nearly all of it is the controller's.

use lb_proto::call::Call;
use lb_proto::call_state::collector::{Collector, Mode, Output, Pace, Settings};
use lb_proto::call_state::database::{Completeness, Filter, Standing};
use lb_proto::call_state::record::{CallRecord, Side};
use lb_proto::call_state::responder::{self, Calls, Responder};
use lb_proto::call_state::{CallKey, Designated, Place, Priority, State};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const NODES: u16 = 50;
const CALLS: u64 = 20_000;
const CLUSTER: u32 = 1;
const TERM: u64 = 2;
/// From one machine to another.
const ON_THE_WAY: Duration = Duration::from_millis(5);

/// Calls that a node looks at in a turn, and the time between two turns.
const PORTION: usize = 2_000;
const APART: Duration = Duration::from_millis(1);
/// What spreads the numbers of calls over all keys, and what undoes that: their product is 1.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const GATHER: u64 = 0xf1de_83e1_9937_733d;
const _: () = assert!(SPREAD.wrapping_mul(GATHER) == 1);

/// Which of its node's calls it is.
fn index_of(call: Call) -> u64 {
    call.key().wrapping_mul(GATHER) & u64::from(u32::MAX)
}

/// A node with [`CALLS`] calls: the first hundredth are emergencies, every tenth rings.
struct Node {
    node: u16,
    text: Vec<u8>,
}

impl Node {
    fn key(&self, index: u64) -> CallKey {
        let word = (u64::from(self.node) << 32 | index).wrapping_mul(SPREAD);
        CallKey {
            call: Call::from_key(word),
            state: match index % 10 {
                0 => State::Early,
                1 => State::Held,
                _ => State::Confirmed,
            },
            priority: match index {
                0..200 => Priority::Emergency,
                _ => Priority::Normal,
            },
        }
    }

    fn record(&self, index: u64) -> CallRecord<'_> {
        let text = |len: usize| {
            let from = (index % 1_000) as usize;
            self.text.get(from..from + len).unwrap_or_default()
        };
        let key = self.key(index);
        let age = Duration::from_secs(CALLS - index);
        let side = |cseq| Side {
            address: text(42),
            tag: Some(text(16)),
            cseq: Some(cseq),
        };
        CallRecord {
            call: key.call,
            call_id: text(48),
            caller: side(102),
            callee: side(1),
            state: key.state,
            priority: key.priority,
            age,
            answered: key.state.is_answered().then_some(age),
            session: Some(Duration::from_secs(900)),
            away: index.is_multiple_of(7),
            outgoing: false,
            cut: false,
            dialogs: 1,
            node: self.node,
        }
    }
}

impl Calls for Node {
    fn keys(&self, after: Option<Call>, most: usize) -> (Vec<CallKey>, Option<Call>) {
        let from = after.map_or(0, |call| index_of(call) + 1);
        let to = CALLS.min(from + most as u64);
        let keys: Vec<CallKey> = (from..to).map(|index| self.key(index)).collect();
        let next = keys.last().map(|key| key.call).filter(|_| to < CALLS);
        (keys, next)
    }

    fn page(&self, after: Option<Place>, limit: usize) -> (Vec<CallRecord<'_>>, Option<Place>) {
        let from = after.map_or(0, |Place([index, ..])| index + 1);
        let to = CALLS.min(from + limit as u64);
        let records = (from..to).map(|index| self.record(index)).collect();
        (records, (to < CALLS).then_some(Place([to - 1, 0, 0])))
    }

    fn records_of(&self, calls: &[Call]) -> Vec<CallRecord<'_>> {
        let all = (0..CALLS).filter(|index| calls.contains(&self.key(*index).call));
        all.map(|index| self.record(index)).collect()
    }

    fn reset(&mut self, _: Designated) {}

    fn left(&self) -> usize {
        0
    }
}

/// The most memory that this process has had, in bytes.
fn most_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
}

#[test]
fn a_million_calls_within_thirty_seconds_and_a_gibibyte() {
    let settings = Settings {
        cluster: CLUSTER,
        controller: 1,
        capacity: 1_000_000,
        pace: Pace::DEFAULT,
    };
    let mut collector = Collector::new(settings, 1..=NODES, 1);
    let text: Vec<u8> = (0..1_100_u32)
        .map(|at| b'a' + (at * at % 25) as u8)
        .collect();
    let mut nodes: BTreeMap<u16, (Responder, Node)> = BTreeMap::new();
    for node in 1..=NODES {
        let mut responder = Responder::new(CLUSTER, node);
        responder.accepted(TERM, 1);
        let text = text.clone();
        nodes.insert(node, (responder, Node { node, text }));
    }
    let before = most_memory();
    let wall = Instant::now();

    let begin = Duration::from_secs(1_000_000);
    let (mut now, mut out, mut queue, mut count) = (begin, Vec::new(), BTreeMap::new(), 0_u64);
    let (mut pins, mut keys_known, mut complete) = (0_u64, None, None);
    collector.begin(now, TERM, Mode::Hot, &mut out);
    for node in 1..=NODES {
        collector.linked(now, node, &mut out);
    }
    while complete.is_none() {
        for output in out.drain(..) {
            match output {
                Output::Request { node, message } => {
                    let (responder, calls) = nodes.get_mut(&node).expect("a node");
                    assert!(responder.message(1, &message, calls));
                    let mut at = now + 2 * ON_THE_WAY;
                    while responder.has_more() {
                        responder.go_on(calls, PORTION);
                        while let Some(responder::Output::Send { message, .. }) = responder.poll() {
                            count += 1;
                            queue.insert((at, count), (node, message));
                        }
                        at += APART;
                    }
                }
                Output::Pin { .. } => pins += 1,
                Output::KeysComplete { took, .. } => {
                    assert_eq!(pins, u64::from(NODES) * CALLS);
                    keys_known = Some(took);
                }
                Output::Complete {
                    nodes, calls, took, ..
                } => complete = Some((nodes, calls, took)),
                Output::NodeComplete { .. } => {}
                Output::Ended { .. } | Output::Unreachable { .. } | Output::Refused { .. } => {
                    panic!("{output:?}")
                }
            }
        }
        let arrival = queue.first_key_value().map(|((at, _), _)| *at);
        let due = collector.next_timeout().expect("it goes on");
        if arrival.is_some_and(|arrival| arrival <= due) {
            let ((at, _), (node, message)) = queue.pop_first().expect("an arrival");
            now = at;
            collector
                .message(now, node, &message, &mut out)
                .expect("a message");
        } else {
            now = due;
            collector.on_timeout(now, &mut out);
        }
    }
    let wall = wall.elapsed();
    let (complete, calls, took) = complete.expect("the loop ended");
    let memory = most_memory();
    println!(
        "{calls} calls of {complete} nodes: all keys after {keys_known:?}, all records after {took:?} \
         of the cluster's time, {wall:?} of work for both sides; memory {before:?} before, {memory:?} at most"
    );
    assert_eq!((complete, calls, pins), (50, 1_000_000, 1_000_000));
    assert!(took <= Duration::from_secs(30), "{took:?}");
    assert!(memory.is_none_or(|memory| memory < 1 << 30), "{memory:?}");

    let database = collector.database();
    assert_eq!((database.len(), database.full()), (1_000_000, 0));
    for (node, (_, truth)) in &nodes {
        assert_eq!(database.completeness(*node), Some(Completeness::Ok));
        let filter = Filter {
            node: Some(*node),
            standing: None,
        };
        let page = database.page(now, filter, None, usize::MAX);
        let (mut keys, _) = truth.keys(None, usize::MAX);
        keys.sort_unstable_by_key(|key| key.call);
        assert_eq!(page.calls.len(), keys.len());
        for (view, key) in page.calls.iter().zip(keys) {
            assert_eq!(view.call, key.call);
            assert_eq!(view.standing, Standing::Known(key.state));
            let record = view.record.expect("its record has come");
            assert_eq!((record.priority, record.node), (key.priority, *node));
            assert_eq!(record.call_id.len(), 48);
        }
    }
}
