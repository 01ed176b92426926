//! The network falls into parts, twenty times: there is never more than one main, one side with more than
//! half of the nodes and a controller has one, and when the network is whole again all is as before.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::lab::{Cut, Host, Lab, wait_until};

use super::begin::begin;
use super::watch::{Seen, Watch, expect_a_call, other, place};
use crate::lab::lab;

const INTERVAL: Duration = Duration::from_millis(50);
/// A node holds itself to a lease for 32 ms longer than the main does.
const LEASE: Duration = Duration::from_millis(250);

/// A main without its majority has stepped down after a lease, and some time for the scheduler.
const STEP_DOWN: Duration = Duration::from_millis(250 + 100);
/// The main is missed (150 ms) and asked (50 ms), the nodes' leases run out (282 ms after the last
/// renewal); a candidate that came too early waits for an interval and up to two leases, and asks again.
const TAKE_OVER: Duration = Duration::from_millis(1_200);
/// For how long nothing else may happen then.
const HOLD: Duration = Duration::from_millis(300);
const HEALED: Duration = Duration::from_secs(5);

/// Machines on the one side; `M` is the main, `S` the stand-by, digits are nodes. All others are on the
/// other side.
const SIDES: [&str; 13] = [
    "M", "S", "M1", "M12", "M123", "M1234", "MS", "MS1", "MS34", "1", "12", "S234", "MS3",
];

/// Who sends to whom in vain.
const ONE_WAY: [(&str, &str, Expected); 7] = [
    // Nodes forward the main's keep-alives.
    ("M", "S", Expected::Main),
    ("S", "M", Expected::Main),
    // Three nodes hear the main, but it does not hear them.
    ("123", "M", Expected::Deposed),
    // Three nodes do not hear it.
    ("M", "123", Expected::Deposed),
    ("M", "S1234", Expected::StandBy),
    ("S1234", "M", Expected::Deposed),
    // The stand-by cannot be asked for its opinion, and needs none.
    ("S", "M1234", Expected::Main),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The main stays the main.
    Main,
    /// The stand-by takes over.
    StandBy,
    /// Nobody is main.
    Nobody,
    /// The main steps down by itself, and the stand-by takes over.
    Deposed,
}

impl Expected {
    /// What must come of a network in two parts.
    fn of(side: &str) -> Self {
        let nodes = side.chars().filter(char::is_ascii_digit).count();
        let has_majority = |is_here: bool| if is_here { nodes > 2 } else { 4 - nodes > 2 };
        if has_majority(side.contains('M')) {
            Self::Main
        } else if has_majority(side.contains('S')) {
            Self::StandBy
        } else {
            Self::Nobody
        }
    }
}

/// The machines that letters and digits stand for.
fn hosts<'lab>(lab: &'lab Lab, main: u16, who: &str) -> Vec<&'lab Host> {
    let host = |letter| match letter {
        'M' => lab.balancer(main),
        'S' => lab.balancer(other(main)),
        // The lists above have nothing but digits beside these two.
        digit => lab.node(u32::from(digit).saturating_sub(u32::from('0')) as u16),
    };
    who.chars().map(host).collect()
}

fn part(lab: &Lab, main: u16, side: &str) -> Result<Vec<Cut>> {
    let rest: String = "MS1234"
        .chars()
        .filter(|one| !side.contains(*one))
        .collect();
    let (one, other) = (hosts(lab, main, side), hosts(lab, main, &rest));
    lab.part(&[&one, &other])
}

fn cut_one_way(lab: &Lab, main: u16, from: &str, to: &str) -> Result<Vec<Cut>> {
    let mut cuts = Vec::new();
    for one in hosts(lab, main, from) {
        for other in hosts(lab, main, to) {
            cuts.push(lab.cut_one_way(one, other)?);
        }
    }
    Ok(cuts)
}

#[test]
fn never_two_mains_and_one_wherever_there_can_be() -> Result<()> {
    let lab = lab()?;
    let pair = Pair {
        keepalive: INTERVAL,
        ..Pair::default()
    };
    let (service, watch) = begin(&lab, pair)?;
    let both = SIDES.map(|side| (side, "", Expected::of(side)));
    eprintln!("cut            expected  decided ms  longest both  healed ms");
    for (number, (from, to, expected)) in both.into_iter().chain(ONE_WAY).enumerate() {
        let what = match to {
            "" => format!("{from} alone"),
            to => format!("{from} -> {to}"),
        };
        let main = watch.wait_until_well(HEALED)?;
        watch.forget();
        let cuts = match to {
            "" => part(&lab, main, from)?,
            to => cut_one_way(&lab, main, from, to)?,
        };
        let begin = Instant::now();
        let decided = follow(&watch, main, expected, begin).with_context(|| {
            let logs = service.controllers.iter().flatten();
            let logs: Vec<String> = logs.map(|one| one.last_words()).collect();
            format!(
                "{what}: {expected:?}, the main was {main}{}",
                logs.join("\n")
            )
        })?;
        if expected != Expected::Nobody {
            expect_a_call(&lab, &format!("parted-{number}"), HEALED)
                .with_context(|| what.clone())?;
        }
        let healing = Instant::now();
        drop(cuts);
        watch
            .wait_until_well(HEALED)
            .with_context(|| format!("healing {what}"))?;
        let healed = healing.elapsed();
        let seen = watch.expect_one_at_most().with_context(|| what.clone())?;
        expect_a_call(&lab, &format!("healed-{number}"), HEALED)?;
        let (both, expected) = (seen.both, format!("{expected:?}"));
        eprintln!(
            "{what:14} {expected:9} {:10.0} {both:>13?} {:10.0}",
            decided.as_secs_f64() * 1e3,
            healed.as_secs_f64() * 1e3
        );
    }
    Ok(())
}

/// Sees what comes of a cut, and that it stays so. The time until it was decided.
fn follow(watch: &Watch, main: u16, expected: Expected, begin: Instant) -> Result<Duration> {
    let only = |id: u16| [id == 1, id == 2];
    match expected {
        Expected::Main => {
            watch.stay(LEASE * 2)?;
            let seen = answers_only(watch, only(main))?;
            ensure!(
                seen.changes.iter().all(|(_, steers)| *steers == only(main)) || !watch.is_calm(),
                "the main was none for a while: {:?}",
                seen.changes
            );
            Ok(Duration::ZERO)
        }
        Expected::StandBy => {
            let after = taken_over(watch, only(other(main)), begin)?;
            answers_only(watch, only(other(main)))?;
            Ok(after)
        }
        Expected::Nobody => {
            let after = watch.expect([false; 2], begin, STEP_DOWN * 2)?;
            watch.expect_in_time("stepped down", after, STEP_DOWN)?;
            watch.stay(LEASE * 2)?;
            answers_only(watch, [false; 2])?;
            Ok(after)
        }
        Expected::Deposed => {
            let after = wait_until("the main to step down", STEP_DOWN * 2, || {
                let changes = watch.look()?.changes;
                let mut without = changes.iter().filter(|(_, steers)| !steers[place(main)]);
                Ok(without
                    .next()
                    .map(|(at, _)| at.saturating_duration_since(begin)))
            })?;
            watch.expect_in_time("stepped down", after, STEP_DOWN)?;
            let after = taken_over(watch, only(other(main)), begin)?;
            answers_only(watch, only(other(main)))?;
            Ok(after)
        }
    }
}

/// For a while, these and no others steer, and answer whoever asks for the VIPs.
fn answers_only(watch: &Watch, steers: [bool; 2]) -> Result<Seen> {
    // Answers are read every 20 ms: one that was given before the change may be counted behind it.
    watch.stay(INTERVAL)?;
    let before = watch.look()?.answers;
    let seen = watch.stay(HOLD)?;
    ensure!(seen.steers == steers, "{seen:?}");
    for ((steers, before), now) in steers.iter().zip(before).zip(seen.answers) {
        let is_asked = |(before, now): (u32, u32)| now > before;
        let mut answers = before.into_iter().zip(now).map(is_asked);
        ensure!(
            answers.all(|has| has == *steers),
            "{before:?} answers became {now:?}: {seen:?}"
        );
    }
    Ok(seen)
}

fn taken_over(watch: &Watch, steers: [bool; 2], begin: Instant) -> Result<Duration> {
    let after = watch.expect(steers, begin, HEALED)?;
    watch.expect_in_time("taken over", after, TAKE_OVER)?;
    Ok(after)
}
