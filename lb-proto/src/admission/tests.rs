//! Cases and properties of the gate.

use super::*;
use lb_common::Admission;
use proptest::prelude::*;

const ZERO: Duration = Duration::ZERO;
const MS: Duration = Duration::from_millis(1);

fn gate(limits: Limits) -> Gate {
    let mut gate = Gate::new(limits);
    gate.set_server(Server::Healthy);
    gate
}

fn call(number: u64) -> Call {
    Call::from_key(number)
}

fn said(gate: &mut Gate, now: Duration) -> Option<(Admission, u32)> {
    gate.report(now)
        .map(|report| (report.admission, report.headroom))
}

/// Seed 1, claims 2, 4 and 9: Idle, Free, full.
#[test]
fn a_node_fills_up_and_empties() {
    let mut gate = gate(Limits::calls(2));
    assert_eq!(said(&mut gate, ZERO), Some((Admission::Idle, 2)));
    assert_eq!(gate.begin(ZERO, call(1)), Ok(Taken::Free));
    assert_eq!(said(&mut gate, ZERO), Some((Admission::Free, 1)));
    assert!(gate.reserve(ZERO, call(2)).is_ok());
    assert_eq!(said(&mut gate, ZERO), Some((Admission::Busy, 0)));
    assert_eq!(gate.begin(ZERO, call(3)), Err(Refusal::Calls));
    assert_eq!(gate.reserve(ZERO, call(3)), Err(Refusal::Calls));
    assert_eq!(gate.begin(ZERO, call(2)), Ok(Taken::Leased));
    assert!(gate.end(call(1)) && gate.end(call(2)));
    assert_eq!(said(&mut gate, ZERO), Some((Admission::Idle, 2)));
    assert_eq!(
        gate.report(ZERO).map(|report| report.calls_per_second),
        Some(2)
    );
}

#[test]
fn a_lease_that_ends_gives_the_headroom_back() {
    let mut gate = gate(Limits::calls(1));
    gate.reserve(ZERO, call(1)).expect("free");
    let end = gate.next_timeout(ZERO).expect("a lease");
    assert_eq!(said(&mut gate, end - MS), Some((Admission::Busy, 0)));
    assert_eq!(said(&mut gate, end), Some((Admission::Idle, 1)));
}

#[test]
fn the_rate_is_spent_until_half_is_there_again() {
    let rate = Rate {
        per_second: 100,
        burst: 10,
    };
    let mut gate = gate(Limits {
        rate: Some(rate),
        ..Limits::calls(1000)
    });
    assert_eq!(said(&mut gate, ZERO), Some((Admission::Idle, 110)));
    let taken = (0..50)
        .filter(|number| gate.begin(ZERO, call(*number)).is_ok())
        .count();
    assert_eq!(taken, 10);
    assert_eq!(gate.begin(MS * 40, call(50)), Err(Refusal::Rate));
    assert_eq!(said(&mut gate, MS * 40), Some((Admission::Busy, 0)));
    assert_eq!(gate.begin(MS * 50, call(50)), Ok(Taken::Free));
    // A retransmission costs nothing.
    for _ in 0..100 {
        assert_eq!(gate.begin(MS * 50, call(50)), Ok(Taken::Already));
    }
    gate.reserve(MS * 50, call(51)).expect("a fifth is left");
    for _ in 0..100 {
        assert!(
            gate.reserve(MS * 50, call(51))
                .is_ok_and(|lease| lease.is_old)
        );
    }
    assert_eq!(gate.begin(MS * 50, call(51)), Ok(Taken::Leased));
    let taken = (60..100)
        .filter(|number| gate.begin(MS * 50, call(*number)).is_ok())
        .count();
    assert_eq!(taken, 3);
    gate.set_limits(MS * 50, Limits::calls(1000));
    assert!(gate.begin(MS * 50, call(200)).is_ok(), "as many as come");
}

#[test]
fn a_promise_is_kept_unless_the_server_is_gone() {
    let mut gate = gate(Limits::calls(10));
    gate.reserve(ZERO, call(1)).expect("free");
    gate.reserve(ZERO, call(2)).expect("free");
    gate.set_draining(true);
    gate.feel_cpu(Share::percent(90));
    gate.feel_memory(Share::percent(90));
    assert_eq!(gate.begin(ZERO, call(3)), Err(Refusal::Draining));
    assert_eq!(gate.begin(ZERO, call(1)), Ok(Taken::Leased));
    assert_eq!(said(&mut gate, ZERO), Some((Admission::Draining, 0)));
    gate.set_server(Server::Unhealthy);
    assert_eq!(gate.begin(ZERO, call(2)), Err(Refusal::NoServer));
    assert_eq!(said(&mut gate, ZERO), None);
    assert_eq!(gate.begin(ZERO, call(1)), Ok(Taken::Already), "it is there");
}

#[test]
fn pressure_and_the_server_pass() {
    let mut gate = gate(Limits::calls(10));
    gate.feel_cpu(Share::percent(50));
    assert_eq!(
        gate.report(ZERO).map(|report| report.oc_permille),
        Some(500)
    );
    gate.feel_cpu(Share::percent(60));
    assert_eq!(gate.begin(ZERO, call(1)), Err(Refusal::Cpu));
    gate.feel_cpu(Share::percent(30));
    gate.feel_memory(Share::percent(20));
    assert_eq!(gate.begin(ZERO, call(1)), Err(Refusal::Memory));
    gate.feel_memory(Share::percent(5));
    gate.set_server(gate.server(ZERO).answered(ZERO, 503, Some(MS * 100)));
    assert_eq!(gate.begin(ZERO, call(1)), Err(Refusal::Unavailable));
    assert_eq!(gate.next_timeout(ZERO), Some(MS * 100));
    assert_eq!(said(&mut gate, ZERO), Some((Admission::Busy, 0)));
    assert_eq!(gate.begin(MS * 100, call(1)), Ok(Taken::Free));
    assert_eq!(gate.next_timeout(MS * 100), None);
}

proptest! {
    /// What was said a moment ago is what happens: a node that says it takes calls takes one, one
    /// that says it does not takes none; and no more calls are taken than there are slots.
    #[test]
    fn words_and_deeds_agree(
        calls in 0u32..5,
        rate in proptest::option::of((1u32..50, 1u32..10)),
        steps in proptest::collection::vec((0u8..9, 0u64..10, 0u8..100), 1..200),
    ) {
        let rate = rate.map(|(per_second, burst)| Rate { per_second, burst });
        let mut gate = gate(Limits { rate, ..Limits::calls(calls) });
        let mut now = ZERO;
        for (step, number, percent) in steps {
            let call = call(number);
            let is_known = gate.slots.has(call) || gate.slots.is_held_for(now, call);
            let says = gate.report(now);
            let is_open = says.is_some_and(|says| says.admission <= Admission::Free);
            prop_assert_eq!(says.is_some_and(|says| says.headroom > 0), is_open);
            match step {
                0..=2 => {
                    let taken = gate.begin(now, call);
                    prop_assert!(is_known || taken.is_ok() == is_open, "{:?} {:?}", says, taken);
                }
                3 | 4 => {
                    let lease = gate.reserve(now, call);
                    prop_assert!(is_known || lease.is_ok() == is_open, "{:?} {:?}", says, lease);
                }
                5 => {
                    gate.end(call);
                }
                6 => gate.feel_cpu(Share::percent(percent)),
                7 => gate.set_draining(percent < 20),
                _ => now += MS * u32::from(percent) * 10,
            }
            let leased = gate.slots.leased(now);
            prop_assert!(gate.slots.taken() + leased <= calls);
        }
    }
}
