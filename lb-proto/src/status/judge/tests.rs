//! Tables, properties and cases of the judge.

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
fn pass(judge: &mut Judge, from: Duration, to: Duration, heard: &[u16]) -> Vec<(Duration, Action)> {
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

/// The first node that there is comes long after the judge: its plane is not broken for that.
#[test]
fn who_had_nobody_to_hear_has_missed_nobody() {
    let mut judge = judge(&[]);
    assert_eq!(pass(&mut judge, Duration::ZERO, HOLD * 9, &[]), []);
    judge.configure(HOLD * 9, &[1]);
    let later = pass(&mut judge, HOLD * 9, HOLD * 20, &[]);
    assert_eq!(later, [(HOLD * 10, Action::PlaneBroken)]);
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
