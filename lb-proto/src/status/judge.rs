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

pub use super::damping::{FIRST_HOLD_DOWN, LONGEST_HOLD_DOWN, STABLE};
use super::damping::{MOST_FLAPS, forgive, hold_down};
use super::{GOOD_BEACONS, Timing};
use crate::random::Random;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

/// Questions asked before a node is `Down`.
pub const QUESTIONS: u8 = 3;
/// From one question to the next, and from the last to the verdict.
///
/// Chosen: an answer takes under a millisecond in one building, and a busy node's task is not kept
/// from running for much longer than this by anything but a stall.
pub const QUESTION_INTERVAL: Duration = Duration::from_millis(20);

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
        if self.nodes.is_empty() {
            // Nobody was to be heard until now.
            self.last_heard = now;
        }
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
        let mut next = self.nodes.keys().next().copied();
        while let Some(id) = next {
            if let Some(action) = self.judge_node(now, id) {
                return Some(action);
            }
            next = self
                .nodes
                .range((Excluded(id), Unbounded))
                .next()
                .map(|(id, _)| *id);
        }
        None
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
        let flaps = forgive(node.flaps, now.saturating_sub(node.up_since));
        let blocked_until = now + hold_down(flaps);
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
mod tests;
