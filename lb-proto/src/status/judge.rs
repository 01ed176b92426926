//! Confirms before it says `Down`, and makes those that flap wait: policy about one receiver's nodes.
//!
//! ```text
//!                    silent for the hold time: ask
//!            ┌──────────────────────────────────────────┐
//!            │                                          ▼
//!  start ─► Up ◄──────────────── heard ───────────── Asking ─┐ 20 ms without an answer, and fewer
//!            ▲                                          │ ▲  │ than 3 asked: ask again
//!            │                                          │ └──┘
//!            │ heard 3 times in a row,                  │ 20 ms after the third, and another
//!            │ and the hold-down is over                │ node heard since the first
//!            └───────────────── Down ◄──────────────────┘
//! ```
//! - **The witness.** A node is `Down` only if another was heard since it was asked. When a cable is
//!   pulled, nodes fall silent one after another within a period, and asking takes less than that:
//!   without a witness, the first would be blamed for what befell all.
//! - **All silent at once.** The status plane is broken, not the nodes: nobody is asked, nobody is
//!   `Down`, and the alarm is raised. When the first is heard again, the others get a hold time.
//! - **Stalls.** A caller that did not call for more than half a hold time has not listened either. It
//!   must empty its sockets before it calls; what it still misses gets another period, and questions
//!   are asked anew.
//! - **Flapping.** Each time a node goes `Down` it must wait twice as long as the last time before it
//!   is `Up` again: 1 s, 2 s, 4 s … 60 s. Each minute that it was `Up` takes one doubling back.
//!
//! With three questions 20 ms apart, `Down` comes 60 ms after the hold time, or with the next beacon
//! of anybody else if that is later. The kernel program says `Down` by itself after ten periods, with
//! nobody to ask.

use super::random::Random;
use super::{GOOD_BEACONS, Timing};
use std::collections::BTreeMap;
use std::time::Duration;

/// Questions asked before a node is `Down`.
pub const QUESTIONS: u8 = 3;
/// From one question to the next, and from the last to the verdict.
///
/// Chosen: an answer takes under a millisecond in one building, and a busy node's task is not kept
/// from running for much longer than this by anything but a stall.
pub const QUESTION_INTERVAL: Duration = Duration::from_millis(20);
/// How long a node that went `Down` for the first time stays so at least.
pub const FIRST_HOLD_DOWN: Duration = Duration::from_secs(1);
/// How long a node that flaps stays `Down` at most.
pub const LONGEST_HOLD_DOWN: Duration = Duration::from_secs(60);
/// Time `Up` that takes back one doubling of the hold-down.
pub const STABLE: Duration = Duration::from_secs(60);
/// Doublings that lead from the first hold-down past the longest.
const MOST_FLAPS: u32 = 6;

/// What the caller is to do, or to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the node a [query](super::query) with this nonce.
    Ask {
        /// Whom.
        node: u16,
        /// The query's nonce.
        nonce: u64,
    },
    /// The node is `Down` as of now.
    Down {
        /// Which.
        node: u16,
        /// It is not `Up` before this, whatever it sends.
        blocked_until: Duration,
    },
    /// The node is `Up` again as of now.
    Up {
        /// Which.
        node: u16,
    },
    /// Nobody is heard: alarm. Nobody will be `Down` until somebody is heard.
    PlaneBroken,
    /// Somebody is heard again.
    PlaneMended,
    /// The caller itself stalled, for this long: nobody is judged for a period.
    Stalled(Duration),
}

/// What the judge thinks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It is heard.
    Up,
    /// It is silent, and is being asked.
    Asking,
    /// It is silent and did not answer, or must still wait.
    Down {
        /// It is not `Up` before this.
        blocked_until: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Asking {
        asked: u8,
        /// When the last question's time is over.
        until: Duration,
        /// When the first question was asked.
        began: Duration,
    },
    Down {
        blocked_until: Duration,
        /// Good beacons in a row since, up to 255.
        run: u8,
    },
}

#[derive(Clone, Copy, Debug)]
struct Node {
    state: State,
    /// When it was last heard; before that, when the judge came to know of it.
    heard: Duration,
    /// When it last became `Up`.
    up_since: Duration,
    /// How often the next hold-down is doubled.
    flaps: u32,
}

/// The judge of one receiver's nodes.
#[derive(Debug)]
pub struct Judge {
    timing: Timing,
    nodes: BTreeMap<u16, Node>,
    last_poll: Duration,
    /// When anybody was last heard; before that, when the judge was made.
    last_heard: Duration,
    /// Silence says nothing before this.
    lenient_until: Duration,
    is_plane_broken: bool,
    random: Random,
}

impl Judge {
    /// A judge without nodes. `seed` is for the nonces.
    pub fn new(timing: Timing, now: Duration, seed: u64) -> Self {
        Self {
            timing,
            nodes: BTreeMap::new(),
            last_poll: now,
            last_heard: now,
            lenient_until: now,
            is_plane_broken: false,
            random: Random::new(seed),
        }
    }

    /// Makes `nodes` the ones to judge: those that send beacons. New ones start `Up`, with a hold
    /// time to be heard in; what is known of the others stays.
    pub fn configure(&mut self, now: Duration, nodes: &[u16]) {
        self.nodes.retain(|node, _| nodes.contains(node));
        for node in nodes {
            self.nodes.entry(*node).or_insert(Node {
                state: State::Up,
                heard: now,
                up_since: now,
                flaps: 0,
            });
        }
    }

    /// Takes over from an earlier judge that a node is `Down`.
    pub fn resume_down(&mut self, node: u16, blocked_until: Duration) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.state = State::Down {
                blocked_until,
                run: 0,
            };
            node.flaps = 1;
        }
    }

    /// A good, new beacon of the node came, be it multicast or an answer.
    pub fn heard(&mut self, now: Duration, node: u16) {
        let Some(node) = self.nodes.get_mut(&node) else {
            return;
        };
        let silence = now.saturating_sub(node.heard);
        node.state = match node.state {
            State::Up | State::Asking { .. } => State::Up,
            State::Down { blocked_until, .. } if silence > self.timing.hold() => State::Down {
                blocked_until,
                run: 1,
            },
            State::Down { blocked_until, run } => State::Down {
                blocked_until,
                run: run.saturating_add(1),
            },
        };
        node.heard = now;
        self.last_heard = now;
    }

    /// What the judge thinks of a node.
    pub fn opinion(&self, node: u16) -> Option<Opinion> {
        Some(match self.nodes.get(&node)?.state {
            State::Up => Opinion::Up,
            State::Asking { .. } => Opinion::Asking,
            State::Down { blocked_until, .. } => Opinion::Down { blocked_until },
        })
    }

    /// Whether nobody is heard.
    pub fn is_plane_broken(&self) -> bool {
        self.is_plane_broken
    }

    /// Judges, one action at a time. Empty the sockets first; then call until there is none.
    pub fn poll(&mut self, now: Duration) -> Option<Action> {
        if let Some(gap) = self.notice_stall(now) {
            return Some(Action::Stalled(gap));
        }
        if let Some(action) = self.judge_plane(now) {
            return Some(action);
        }
        let ids: Vec<u16> = self.nodes.keys().copied().collect();
        ids.into_iter().find_map(|id| self.judge_node(now, id))
    }

    /// When to call [`Judge::poll`] next, at the latest: sooner than a stall would be noticed.
    pub fn next_timeout(&self) -> Duration {
        let mut next = self.last_poll + self.timing.hold() / 4;
        if !self.is_plane_broken {
            next = next.min(self.silent_from(self.last_heard));
        }
        for node in self.nodes.values() {
            let due = match node.state {
                State::Up if self.is_plane_broken => continue,
                State::Up => self.silent_from(node.heard),
                State::Asking {
                    asked,
                    until,
                    began,
                } => {
                    if asked == QUESTIONS && self.last_heard < began {
                        continue;
                    }
                    until
                }
                State::Down { blocked_until, run } => {
                    if run < GOOD_BEACONS || blocked_until > node.heard + self.timing.hold() {
                        continue;
                    }
                    blocked_until
                }
            };
            next = next.min(due);
        }
        // What is due already waits for something else than time.
        if next > self.last_poll {
            next
        } else {
            self.last_poll + self.timing.hold() / 4
        }
    }

    /// From when on silence since `heard` speaks against somebody.
    fn silent_from(&self, heard: Duration) -> Duration {
        (heard + self.timing.hold()).max(self.lenient_until)
    }

    fn notice_stall(&mut self, now: Duration) -> Option<Duration> {
        let gap = now.saturating_sub(self.last_poll);
        self.last_poll = now;
        if gap <= self.timing.hold() / 2 {
            return None;
        }
        self.lenient_until = self.lenient_until.max(now + self.timing.period);
        self.ask_nobody();
        Some(gap)
    }

    fn judge_plane(&mut self, now: Duration) -> Option<Action> {
        let is_broken = !self.nodes.is_empty() && now >= self.silent_from(self.last_heard);
        if is_broken == self.is_plane_broken {
            return None;
        }
        self.is_plane_broken = is_broken;
        if is_broken {
            self.ask_nobody();
            return Some(Action::PlaneBroken);
        }
        self.lenient_until = self.lenient_until.max(now + self.timing.hold());
        Some(Action::PlaneMended)
    }

    fn ask_nobody(&mut self) {
        for node in self.nodes.values_mut() {
            if let State::Asking { .. } = node.state {
                node.state = State::Up;
            }
        }
    }

    fn judge_node(&mut self, now: Duration, id: u16) -> Option<Action> {
        let node = *self.nodes.get(&id)?;
        match node.state {
            State::Up => {
                let is_silent = !self.is_plane_broken && now >= self.silent_from(node.heard);
                is_silent.then(|| self.ask(now, id, 1, now))
            }
            State::Asking { until, .. } if now < until => None,
            State::Asking { asked, began, .. } if asked < QUESTIONS => {
                Some(self.ask(now, id, asked + 1, began))
            }
            State::Asking { began, .. } => {
                // Its own beacon would have ended the asking: whoever was heard is another.
                let has_witness = self.last_heard >= began;
                has_witness.then(|| self.condemn(now, id, node))
            }
            State::Down { blocked_until, run } => {
                let is_back = run >= GOOD_BEACONS
                    && now >= blocked_until
                    && now.saturating_sub(node.heard) <= self.timing.hold();
                is_back.then(|| self.readmit(now, id, node))
            }
        }
    }

    fn ask(&mut self, now: Duration, id: u16, asked: u8, began: Duration) -> Action {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.state = State::Asking {
                asked,
                until: now + QUESTION_INTERVAL,
                began,
            };
        }
        Action::Ask {
            node: id,
            nonce: self.random.next(),
        }
    }

    fn condemn(&mut self, now: Duration, id: u16, node: Node) -> Action {
        let up_for = now.saturating_sub(node.up_since).as_secs() / STABLE.as_secs();
        let flaps = node
            .flaps
            .saturating_sub(u32::try_from(up_for).unwrap_or(u32::MAX));
        let hold_down = (FIRST_HOLD_DOWN * (1 << flaps)).min(LONGEST_HOLD_DOWN);
        let blocked_until = now + hold_down;
        let state = State::Down {
            blocked_until,
            run: 0,
        };
        let flaps = (flaps + 1).min(MOST_FLAPS);
        self.nodes.insert(
            id,
            Node {
                state,
                flaps,
                ..node
            },
        );
        Action::Down {
            node: id,
            blocked_until,
        }
    }

    fn readmit(&mut self, now: Duration, id: u16, node: Node) -> Action {
        self.nodes.insert(
            id,
            Node {
                state: State::Up,
                up_since: now,
                ..node
            },
        );
        Action::Up { node: id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIOD: Duration = Timing::DEFAULT.period;
    const HOLD: Duration = Duration::from_millis(300);
    const MS: Duration = Duration::from_millis(1);

    fn judge(nodes: &[u16]) -> Judge {
        let mut judge = Judge::new(Timing::DEFAULT, Duration::ZERO, 1);
        judge.configure(Duration::ZERO, nodes);
        judge
    }

    /// Lets time pass as a good caller does, with beacons of `heard` every 50 ms.
    fn pass(
        judge: &mut Judge,
        from: Duration,
        to: Duration,
        heard: &[u16],
    ) -> Vec<(Duration, Action)> {
        let mut actions = Vec::new();
        let mut now = from;
        let mut beacon = from;
        loop {
            if now == beacon {
                heard.iter().for_each(|node| judge.heard(now, *node));
                beacon += PERIOD / 2;
            }
            while let Some(action) = judge.poll(now) {
                actions.push((now, action));
            }
            let timeout = judge.next_timeout();
            assert!(timeout > now, "{timeout:?} after {now:?}: {judge:?}");
            now = timeout.min(beacon);
            if now > to {
                return actions;
            }
        }
    }

    fn is_ask(action: &(Duration, Action)) -> bool {
        matches!(action.1, Action::Ask { .. })
    }

    #[test]
    fn a_silent_node_is_asked_three_times_then_down() {
        let mut judge = judge(&[1, 2]);
        let actions = pass(&mut judge, Duration::ZERO, HOLD * 2, &[2]);
        let times: Vec<Duration> = actions.iter().filter(|a| is_ask(a)).map(|a| a.0).collect();
        assert_eq!(times, [HOLD, HOLD + MS * 20, HOLD + MS * 40]);
        let verdict = HOLD + MS * 60;
        let blocked_until = verdict + FIRST_HOLD_DOWN;
        assert_eq!(
            actions.last(),
            Some(&(
                verdict,
                Action::Down {
                    node: 1,
                    blocked_until
                }
            ))
        );
        assert_eq!(actions.len(), 4);
        assert_eq!(judge.opinion(1), Some(Opinion::Down { blocked_until }));
        assert_eq!(judge.opinion(2), Some(Opinion::Up));
    }

    #[test]
    fn nonces_differ() {
        let mut judge = judge(&[1, 2]);
        let actions = pass(&mut judge, Duration::ZERO, HOLD * 2, &[2]);
        let mut nonces: Vec<u64> = actions
            .iter()
            .filter_map(|(_, action)| match action {
                Action::Ask { nonce, .. } => Some(*nonce),
                _ => None,
            })
            .collect();
        nonces.dedup();
        assert_eq!(nonces.len(), 3);
    }

    #[test]
    fn a_node_comes_back_after_three_and_the_hold_down() {
        let mut judge = judge(&[1, 2]);
        let down = HOLD + MS * 60;
        pass(&mut judge, Duration::ZERO, down, &[2]);
        let actions = pass(
            &mut judge,
            down + MS,
            down + FIRST_HOLD_DOWN + PERIOD,
            &[1, 2],
        );
        assert_eq!(actions, [(down + FIRST_HOLD_DOWN, Action::Up { node: 1 })]);
        // Long after the hold-down, three beacons are what it takes.
        pass(
            &mut judge,
            Duration::from_secs(2),
            Duration::from_secs(20),
            &[2],
        );
        let back = Duration::from_secs(20) + MS;
        let actions = pass(&mut judge, back, back + HOLD, &[1, 2]);
        assert_eq!(actions, [(back + PERIOD, Action::Up { node: 1 })]);
    }

    #[test]
    fn who_flaps_waits_longer_and_who_is_stable_is_forgiven() {
        let mut judge = judge(&[1, 2]);
        let mut now = Duration::ZERO;
        let mut flap = |judge: &mut Judge, stable: Duration| {
            pass(judge, now, now + stable, &[1, 2]);
            now += stable;
            let actions = pass(judge, now + MS, now + HOLD * 2, &[2]);
            now += HOLD * 2 + MS;
            let Some((at, Action::Down { blocked_until, .. })) = actions.last() else {
                panic!("not down: {actions:?}");
            };
            let wait = *blocked_until - *at;
            pass(judge, now, now + wait + HOLD, &[1, 2]);
            now += wait + HOLD;
            assert_eq!(judge.opinion(1), Some(Opinion::Up));
            wait.as_secs()
        };
        let waits: Vec<u64> = (0..8).map(|_| flap(&mut judge, PERIOD)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(flap(&mut judge, STABLE * 3 + HOLD), 8);
        assert_eq!(flap(&mut judge, STABLE * 30), 1);
    }

    #[test]
    fn when_all_fall_silent_nobody_is_down() {
        let mut judge = judge(&[1, 2, 3]);
        pass(&mut judge, Duration::ZERO, PERIOD * 10, &[1, 2, 3]);
        // One after another within a period, as when a cable is pulled.
        let last = PERIOD * 10;
        for (node, ms) in [(1, 10), (2, 50), (3, 95)] {
            judge.heard(last + MS * ms, node);
        }
        let actions = pass(&mut judge, last + MS * 96, last + PERIOD * 100, &[]);
        assert!(
            !actions.iter().any(|a| matches!(a.1, Action::Down { .. })),
            "{actions:?}"
        );
        assert_eq!(
            actions.last(),
            Some(&(last + MS * 95 + HOLD, Action::PlaneBroken))
        );
        assert!(judge.is_plane_broken());
        // The first that is heard again gives the others a hold time.
        let mended = last + PERIOD * 101;
        let actions = pass(&mut judge, mended, mended + HOLD - MS, &[2]);
        assert_eq!(actions, [(mended, Action::PlaneMended)]);
        let actions = pass(&mut judge, mended + HOLD, mended + HOLD + MS * 100, &[1, 2]);
        let down: Vec<_> = actions
            .iter()
            .filter(|a| matches!(a.1, Action::Down { .. }))
            .collect();
        assert!(
            matches!(down[..], [(_, Action::Down { node: 3, .. })]),
            "{actions:?}"
        );
    }

    #[test]
    fn a_stalled_receiver_judges_nobody_for_a_period() {
        let mut judge = judge(&[1, 2]);
        pass(&mut judge, Duration::ZERO, PERIOD * 10, &[1, 2]);
        let awake = PERIOD * 20;
        assert!(matches!(judge.poll(awake), Some(Action::Stalled(gap)) if gap > HOLD));
        assert_eq!(judge.poll(awake), None, "neither node nor plane");
        assert_eq!(judge.next_timeout(), awake + HOLD / 4);
        let actions = pass(&mut judge, awake + MS, awake + PERIOD * 10, &[1, 2]);
        assert_eq!(actions, []);
    }

    #[test]
    fn a_stall_while_asking_asks_anew() {
        let mut judge = judge(&[1, 2]);
        let asking = HOLD + MS * 45;
        pass(&mut judge, Duration::ZERO, asking, &[2]);
        assert_eq!(judge.opinion(1), Some(Opinion::Asking));
        let awake = asking + HOLD;
        assert!(matches!(judge.poll(awake), Some(Action::Stalled(_))));
        assert_eq!(judge.opinion(1), Some(Opinion::Up));
        let actions = pass(&mut judge, awake, awake + PERIOD * 3, &[2]);
        assert_eq!(actions.iter().filter(|a| is_ask(a)).count(), 3);
        assert_eq!(actions[0].0, awake + PERIOD);
    }

    #[test]
    fn a_judge_takes_over_from_another() {
        let mut judge = judge(&[1, 2]);
        let blocked_until = HOLD * 4;
        judge.resume_down(1, blocked_until);
        let actions = pass(&mut judge, Duration::ZERO, HOLD * 5, &[1, 2]);
        assert_eq!(actions, [(blocked_until, Action::Up { node: 1 })]);
        judge.configure(HOLD * 5, &[2]);
        assert_eq!(judge.opinion(1), None);
        assert_eq!(pass(&mut judge, HOLD * 5 + MS, HOLD * 9, &[2]), []);
    }

    /// Every state against every event.
    #[test]
    fn the_whole_table() {
        use Opinion::{Asking, Down, Up};
        #[derive(Clone, Copy, Debug)]
        enum Event {
            Heard,
            OtherHeard,
            QuestionOver,
            HoldOver,
            Stall,
        }
        const EVENTS: [Event; 5] = [
            Event::Heard,
            Event::OtherHeard,
            Event::QuestionOver,
            Event::HoldOver,
            Event::Stall,
        ];
        let began = HOLD;
        let blocked_until = HOLD + MS * 50;
        let asking = |asked| State::Asking {
            asked,
            until: began + QUESTION_INTERVAL,
            began,
        };
        let down = |run| State::Down { blocked_until, run };
        let sentence = Down {
            blocked_until: began + MS * 21 + FIRST_HOLD_DOWN,
        };
        let table: [(State, [Opinion; 5]); 6] = [
            (State::Up, [Up, Up, Up, Asking, Up]),
            (asking(1), [Up, Asking, Asking, Asking, Up]),
            (asking(2), [Up, Asking, Asking, Asking, Up]),
            (asking(3), [Up, Asking, sentence, sentence, Up]),
            (down(0), [Down { blocked_until }; 5]),
            (down(2), [Down { blocked_until }; 5]),
        ];
        for (state, expected) in table {
            for (event, expected) in EVENTS.into_iter().zip(expected) {
                let mut judge = judge(&[1, 2]);
                judge.last_poll = began;
                judge.heard(began, 2);
                // Up: heard so late that the hold time is not over yet.
                let heard = if state == State::Up {
                    began
                } else {
                    Duration::ZERO
                };
                *judge.nodes.get_mut(&1).expect("a node") = Node {
                    state,
                    heard,
                    up_since: Duration::ZERO,
                    flaps: 0,
                };
                let now = match event {
                    Event::Heard | Event::OtherHeard => began + MS,
                    Event::QuestionOver => began + MS * 21,
                    Event::HoldOver if state == State::Up => {
                        judge.last_poll = began + HOLD - MS;
                        judge.heard(began + HOLD - MS, 2);
                        began + HOLD
                    }
                    Event::HoldOver => began + MS * 21,
                    Event::Stall => began + HOLD - MS,
                };
                match event {
                    Event::Heard => judge.heard(now, 1),
                    Event::OtherHeard => judge.heard(now, 2),
                    Event::QuestionOver | Event::HoldOver | Event::Stall => {}
                }
                while judge.poll(now).is_some() {}
                assert_eq!(judge.opinion(1), Some(expected), "{state:?}, {event:?}");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Heard(u16),
        Wait(u64),
        Stall(u64),
        Configure(Vec<u16>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (1u16..5).prop_map(Step::Heard),
            8 => (1u64..120).prop_map(Step::Wait),
            1 => (100u64..2000).prop_map(Step::Stall),
            1 => proptest::collection::vec(1u16..5, 0..4).prop_map(Step::Configure),
        ]
    }

    proptest! {
        /// Whatever happens: `Down` only after three questions in a row, each with its time, and a
        /// witness; `Up` only after `Down`, three beacons and the hold-down; and time-outs lie ahead.
        #[test]
        fn the_judge_is_fair(steps in proptest::collection::vec(step(), 1..200)) {
            let mut judge = judge(&[1, 2, 3]);
            let mut now = Duration::ZERO;
            let mut heard: BTreeMap<u16, Vec<Duration>> = BTreeMap::new();
            let mut asked: BTreeMap<u16, Vec<Duration>> = BTreeMap::new();
            let mut down: BTreeMap<u16, Duration> = BTreeMap::new();
            for step in steps {
                let until = match step {
                    Step::Heard(node) => {
                        judge.heard(now, node);
                        if judge.opinion(node).is_some() {
                            heard.entry(node).or_default().push(now);
                        }
                        now
                    }
                    Step::Wait(ms) => now + MS * ms as u32,
                    Step::Stall(ms) => {
                        now += MS * ms as u32;
                        now
                    }
                    Step::Configure(nodes) => {
                        judge.configure(now, &nodes);
                        down.retain(|node, _| nodes.contains(node));
                        now
                    }
                };
                loop {
                    while let Some(action) = judge.poll(now) {
                        match action {
                            Action::Ask { node, .. } => asked.entry(node).or_default().push(now),
                            Action::Down { node, blocked_until } => {
                                let asked = &asked[&node];
                                let burst = &asked[asked.len() - 3..];
                                prop_assert!(now >= burst[2] + QUESTION_INTERVAL);
                                prop_assert!(burst[2] - burst[0] <= HOLD);
                                let silent = heard.get(&node).and_then(|h| h.last());
                                prop_assert!(silent.is_none_or(|last| *last + HOLD <= burst[0]));
                                let witness = heard.iter().any(|(other, times)| {
                                    *other != node && times.last() >= Some(&burst[0])
                                });
                                prop_assert!(witness);
                                prop_assert_eq!(down.insert(node, blocked_until), None);
                            }
                            Action::Up { node } => {
                                let blocked_until = down.remove(&node);
                                prop_assert!(blocked_until.is_some_and(|until| until <= now));
                                let heard = &heard[&node];
                                prop_assert!(now - heard[heard.len() - 3] <= HOLD * 3);
                            }
                            Action::PlaneBroken => {
                                let last = heard.values().flatten().max();
                                prop_assert!(last.is_none_or(|last| *last + HOLD <= now));
                            }
                            Action::PlaneMended | Action::Stalled(_) => {}
                        }
                    }
                    let timeout = judge.next_timeout();
                    prop_assert!(timeout > now);
                    if timeout > until {
                        break;
                    }
                    now = timeout;
                }
                now = until;
            }
        }
    }
}
