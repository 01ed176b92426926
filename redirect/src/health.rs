//! Is the SIP server there, and does it want calls? A machine fed with the answers to OPTIONS.
//!
//! ```text
//!             any final answer but 408 and 503
//!   Unknown ─────────────────────────────────► Alive ◄───────────────┐ Retry-After is over
//!      │                                       │  ▲ └────── 503 ──► Overloaded
//!      │ 3 missed in a row       3 missed      │  │ such an answer     │ 3 missed in a row
//!      └──────────────────────► Dead ◄─────────┘  │                    │
//!                                │ ▲───────────────────────────────────┘
//!                                └────────────────┘        (503 from anywhere: Overloaded)
//! ```
//! Missed is: no answer before the next question is due, a 408 (RFC 3261 §21.4.9: somebody behind the
//! server did not answer), or a port that nobody listens at. The last is certain knowledge, so the
//! next question follows after 20 ms instead of a whole interval: a server that crashed is `Dead`
//! about 40 ms after the first question that it missed.
//!
//! A 503 without `Retry-After` holds until the next answer can have come (§21.5.4 would have it taken
//! for a 500, which says nothing about the next request; but a server that refuses OPTIONS wants no
//! INVITE either).

use crate::options::Answer;
use std::time::Duration;

/// Questions missed in a row that make a server `Dead`.
pub(crate) const MISSES: u32 = 3;
/// From the refusal of one question to the next question.
const AGAIN: Duration = Duration::from_millis(20);

/// What the answers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Unknown,
    /// It answers.
    Alive,
    /// It answers that it wants no calls before this.
    Overloaded { until: Duration },
    /// It does not answer.
    Dead,
}

/// The last final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub status: u16,
    pub at: Duration,
    /// From question to answer.
    pub took: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    number: u32,
    asked: Duration,
}

#[derive(Debug)]
pub(crate) struct Health {
    interval: Duration,
    verdict: Verdict,
    /// Missed in a row.
    misses: u32,
    open: Option<Question>,
    /// When the next question is due.
    due: Duration,
    /// Questions asked; the number of the last.
    asked: u32,
    last: Option<Last>,
}

impl Health {
    /// Asks the first question at `now`, and then one every `interval`.
    pub(crate) fn new(interval: Duration, now: Duration) -> Self {
        Self {
            interval,
            verdict: Verdict::Unknown,
            misses: 0,
            open: None,
            due: now,
            asked: 0,
            last: None,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub(crate) fn last(&self) -> Option<Last> {
        self.last
    }

    pub(crate) fn misses(&self) -> u32 {
        self.misses
    }

    /// Lets time pass. The number of the question to ask now, if one is due.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<u32> {
        if let Verdict::Overloaded { until } = self.verdict
            && now >= until
        {
            self.verdict = Verdict::Alive;
        }
        if self.due > now {
            return None;
        }
        if self.open.take().is_some() {
            self.miss();
        }
        self.asked = self.asked.wrapping_add(1);
        self.open = Some(Question {
            number: self.asked,
            asked: now,
        });
        self.due = now + self.interval;
        Some(self.asked)
    }

    /// When to call [`Health::poll`] next.
    pub(crate) fn next_timeout(&self) -> Duration {
        match self.verdict {
            Verdict::Overloaded { until } => until.min(self.due),
            Verdict::Unknown | Verdict::Alive | Verdict::Dead => self.due,
        }
    }

    /// An answer came. Only the one to the open question counts.
    pub(crate) fn answered(&mut self, now: Duration, answer: Answer) {
        let Some(question) = self
            .open
            .filter(|question| question.number == answer.number)
        else {
            return;
        };
        self.open = None;
        let took = now.saturating_sub(question.asked);
        self.last = Some(Last {
            status: answer.status,
            at: now,
            took,
        });
        match answer.status {
            408 => self.miss(),
            503 => {
                self.misses = 0;
                let pause = answer.retry_after.unwrap_or(self.interval * 2);
                self.verdict = Verdict::Overloaded { until: now + pause };
            }
            _ => {
                self.misses = 0;
                self.verdict = match self.verdict {
                    Verdict::Overloaded { until } => Verdict::Overloaded { until },
                    Verdict::Unknown | Verdict::Alive | Verdict::Dead => Verdict::Alive,
                };
            }
        }
    }

    /// The open question came to a port that nobody listens at.
    pub(crate) fn refused(&mut self, now: Duration) {
        if self.open.take().is_none() {
            return;
        }
        self.miss();
        if self.verdict != Verdict::Dead {
            self.due = self.due.min(now + AGAIN);
        }
    }

    fn miss(&mut self) {
        self.misses = self.misses.saturating_add(1);
        if self.misses >= MISSES {
            self.verdict = Verdict::Dead;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_millis(500);
    const RETRY: Duration = Duration::from_secs(10);

    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// 200, 404, 483 and all the others.
        Good,
        Status408,
        /// With a Retry-After of ten seconds.
        Status503,
        Silence,
        Refused,
    }

    fn answer(number: u32, status: u16) -> Answer {
        Answer {
            number,
            status,
            retry_after: (status == 503).then_some(RETRY),
        }
    }

    /// Asks, lets the event be the result, and polls when the next question is due.
    fn go(health: &mut Health, event: Event) {
        let asked = health.next_timeout();
        let number = health.poll(asked).expect("due");
        match event {
            Event::Good => health.answered(asked, answer(number, 200)),
            Event::Status408 => health.answered(asked, answer(number, 408)),
            Event::Status503 => health.answered(asked, answer(number, 503)),
            Event::Silence => {
                health.due = asked + INTERVAL;
                // What the next poll does first.
                health.open = None;
                health.miss();
            }
            Event::Refused => health.refused(asked),
        }
    }

    #[test]
    fn the_whole_table() {
        use Event::{Good, Refused, Silence, Status408, Status503};
        #[derive(Clone, Copy, Debug, PartialEq)]
        enum Is {
            Unknown,
            Alive,
            Overloaded,
            Dead,
        }
        use Is::{Alive, Dead, Overloaded, Unknown};
        let is = |health: &Health| match health.verdict() {
            Verdict::Unknown => Unknown,
            Verdict::Alive => Alive,
            Verdict::Overloaded { .. } => Overloaded,
            Verdict::Dead => Dead,
        };
        const EVENTS: [Event; 5] = [Good, Status408, Status503, Silence, Refused];
        let table: [(&[Event], [Is; 5]); 8] = [
            (&[], [Alive, Unknown, Overloaded, Unknown, Unknown]),
            (&[Silence, Refused], [Alive, Dead, Overloaded, Dead, Dead]),
            (&[Good], [Alive, Alive, Overloaded, Alive, Alive]),
            (
                &[Good, Silence, Silence],
                [Alive, Dead, Overloaded, Dead, Dead],
            ),
            (
                &[Good, Silence, Silence, Good],
                [Alive, Alive, Overloaded, Alive, Alive],
            ),
            (&[Status503], [Overloaded; 5]),
            (
                &[Status503, Silence, Status408],
                [Overloaded, Dead, Overloaded, Dead, Dead],
            ),
            (
                &[Silence, Silence, Silence],
                [Alive, Dead, Overloaded, Dead, Dead],
            ),
        ];
        for (before, after) in table {
            for (event, expected) in EVENTS.into_iter().zip(after) {
                let mut health = Health::new(INTERVAL, Duration::ZERO);
                before.iter().for_each(|event| go(&mut health, *event));
                go(&mut health, event);
                assert_eq!(is(&health), expected, "{before:?}, then {event:?}");
            }
        }
    }

    #[test]
    fn a_server_that_crashed_is_dead_in_40_ms() {
        let mut health = Health::new(INTERVAL, Duration::ZERO);
        go(&mut health, Event::Good);
        let crash = health.next_timeout();
        (0..3).for_each(|_| go(&mut health, Event::Refused));
        assert_eq!(health.verdict(), Verdict::Dead);
        // From then on it is asked at leisure.
        assert_eq!(health.next_timeout(), crash + AGAIN * 2 + INTERVAL);
    }

    #[test]
    fn a_server_that_hangs_is_dead_after_three_intervals() {
        let mut health = Health::new(INTERVAL, Duration::ZERO);
        go(&mut health, Event::Good);
        let mut asked = Vec::new();
        while health.verdict() != Verdict::Dead {
            let now = health.next_timeout();
            assert!(health.poll(now).is_some());
            asked.push(now);
        }
        assert_eq!(asked.last(), Some(&(INTERVAL * 4)));
        assert_eq!(health.misses(), 3);
    }

    #[test]
    fn overload_lasts_as_long_as_it_said() {
        let mut health = Health::new(INTERVAL, Duration::ZERO);
        go(&mut health, Event::Status503);
        let tick = Duration::from_nanos(1);
        while health.next_timeout() < RETRY {
            go(&mut health, Event::Good);
        }
        health.poll(RETRY - tick);
        assert_eq!(health.verdict(), Verdict::Overloaded { until: RETRY });
        health.poll(RETRY);
        assert_eq!(health.verdict(), Verdict::Alive);
        // Without a time, until the next answer can have come.
        let asked = health.next_timeout();
        let number = health.poll(asked).expect("due");
        health.answered(
            asked,
            Answer {
                number,
                status: 503,
                retry_after: None,
            },
        );
        assert_eq!(
            health.verdict(),
            Verdict::Overloaded {
                until: asked + INTERVAL * 2
            }
        );
    }

    #[test]
    fn late_and_foreign_answers_do_not_count() {
        let mut health = Health::new(INTERVAL, Duration::ZERO);
        let first = health.poll(Duration::ZERO).expect("due");
        let second = health.poll(INTERVAL).expect("due");
        assert_ne!(first, second);
        health.answered(INTERVAL, answer(first, 200));
        health.answered(INTERVAL, answer(second + 1, 200));
        assert_eq!((health.verdict(), health.last()), (Verdict::Unknown, None));
        health.answered(INTERVAL * 3 / 2, answer(second, 486));
        let last = Last {
            status: 486,
            at: INTERVAL * 3 / 2,
            took: INTERVAL / 2,
        };
        assert_eq!(
            (health.verdict(), health.last()),
            (Verdict::Alive, Some(last))
        );
        // What is refused when nothing is open was counted already.
        health.refused(INTERVAL * 3 / 2);
        assert_eq!(health.misses(), 0);
    }

    proptest! {
        /// Whatever comes: time-outs lie ahead, and only three misses in a row make a server dead.
        #[test]
        fn death_takes_three_misses(events in proptest::collection::vec(0u8..6, 1..100)) {
            let mut health = Health::new(INTERVAL, Duration::ZERO);
            let mut now = Duration::ZERO;
            let mut number = 0;
            for event in events {
                match event {
                    0 => health.answered(now, answer(number, 200)),
                    1 => health.answered(now, answer(number, 408)),
                    2 => health.answered(now, answer(number, 503)),
                    3 => health.refused(now),
                    4 => now += Duration::from_millis(70),
                    _ => now = now.max(health.next_timeout()),
                }
                if let Some(asked) = health.poll(now) {
                    prop_assert_eq!(asked, number + 1);
                    number = asked;
                }
                prop_assert!(health.next_timeout() > now);
                prop_assert_eq!(health.verdict() == Verdict::Dead, health.misses() >= MISSES);
            }
        }
    }
}
