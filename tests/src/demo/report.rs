//! The report: one screen, one line for each promise.

use std::time::Duration;

use serde::Serialize;

use super::failover::{self, Failover};
use super::fates::Fates;
use super::full::{self, Moves};
use super::screen::{self, count};
use super::show::Evidence;
use super::{KILLED, NODES};
use crate::stall;
use crate::traffic::BaselineRun;

/// The figures, as `--json` writes them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Calls begun.
    calls: u32,
    /// Calls that did not go through, whatever the reason.
    failed: u32,
    /// Of these, calls that the killed node had, or that came to it before the data plane knew.
    failed_in_detection_window: u64,
    /// Of these, calls that the killed node had answered before it died.
    failed_answered_by_killed_node: u64,
    /// … calls that it had rung.
    failed_ringing_on_killed_node: u64,
    /// … calls that met silence, and that retransmission should have saved.
    failed_unsaved: u64,
    /// Calls that failed anywhere else.
    failed_elsewhere: u64,
    /// Of these, calls that began while the controller was dead.
    failed_without_controller: u64,
    /// Calls that began while the controller was dead.
    calls_without_controller: u64,
    /// New calls that met the dead node and went through elsewhere.
    saved_by_retransmission: u64,
    /// Calls whose messages reached several nodes, none of which had died.
    split: u64,
    /// Calls of the killed node whose later messages went elsewhere.
    moved_off_killed_node: u64,
    /// Calls a second without a load balancer.
    baseline_cps: u32,
    /// Calls a second through it.
    cps: f64,
    /// Requests that the switch sent again.
    retransmissions: u32,
    /// The same without a load balancer, for as many calls as `baseline_calls` says.
    baseline_retransmissions: u32,
    /// Calls of the baseline.
    baseline_calls: u32,
    /// From the killed node's last beacon to the last new call that came to it.
    detection_ms: f64,
    /// What it may be.
    detection_limit_ms: f64,
    /// The machine's longest stall around the node's death.
    stall_ms: f64,
    /// The machine's longest stall in the whole run.
    longest_stall_ms: f64,
    /// New calls by node: node 1 first.
    spread: Vec<u64>,
    /// Frames that the recorders missed: if there are any, the other figures are not to be trusted.
    missed_by_recorders: u64,
    /// Calls made while a node was full, those redirected, those redirected by who then took them, and
    /// those that failed.
    full_calls: u32,
    full_redirected: u32,
    full_redirected_by_taker: u32,
    full_failed: u32,
    /// Calls in progress when the main LB was lost, and how many of them lived away from home.
    failover_calls: usize,
    failover_away: usize,
    /// From the main's last sign of life until the stand-by had the leases of most nodes.
    failover_decided_ms: f64,
    /// From the loss until the switch had the answer to a new call by way of the stand-by.
    failover_served_ms: f64,
    /// From the takeover until dialogs were steered again.
    failover_gathered_ms: f64,
    /// Calls in progress, and new ones meanwhile, that did not survive it.
    failover_lost: usize,
    /// Requests that the switch sent again because of it.
    failover_retransmissions: u32,
    /// The machine's longest stall around the loss.
    failover_stall_ms: f64,
    /// Frames by reason.
    reasons: std::collections::BTreeMap<String, u64>,
    /// The promises.
    promises: Vec<Promise>,
}

/// A promise, and whether it was kept.
#[derive(Clone, Debug, Serialize)]
struct Promise {
    /// `None`: could not be judged in this run.
    kept: Option<bool>,
    text: String,
}

impl Report {
    /// Sums up.
    pub(super) fn new(
        baseline: &BaselineRun,
        evidence: &Evidence,
        moves: &Moves,
        failover: &Failover,
    ) -> Self {
        let fates = Fates::read(evidence);
        let millis = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
        let begun = f64::from(evidence.stats.started);
        Self {
            calls: evidence.stats.started,
            failed: evidence.stats.failed,
            failed_in_detection_window: fates.failed_in_detection_window(),
            failed_answered_by_killed_node: fates.lost_answered,
            failed_ringing_on_killed_node: fates.lost_ringing,
            failed_unsaved: fates.lost_unsaved,
            failed_elsewhere: fates.failed_elsewhere,
            failed_without_controller: fates.failed_without_controller,
            calls_without_controller: fates.calls_without_controller,
            saved_by_retransmission: fates.saved,
            split: fates.split,
            moved_off_killed_node: fates.moved,
            baseline_cps: baseline.rate,
            cps: (begun / fates.calling.as_secs_f64().max(0.001)).round(),
            retransmissions: evidence.stats.retransmissions,
            baseline_retransmissions: baseline.stats.retransmissions,
            baseline_calls: baseline.stats.started,
            detection_ms: millis(fates.detection),
            detection_limit_ms: millis(evidence.detection_limit),
            stall_ms: millis(evidence.stall_at_kill),
            longest_stall_ms: millis(evidence.stall),
            spread: fates.spread.clone(),
            missed_by_recorders: fates.missed,
            full_calls: moves.calls,
            full_redirected: moves.redirected,
            full_redirected_by_taker: moves.by_the_taker,
            full_failed: moves.failed,
            failover_calls: failover.calls,
            failover_away: failover.away,
            failover_decided_ms: millis(failover.decided),
            failover_served_ms: millis(failover.served),
            failover_gathered_ms: millis(failover.gathered),
            failover_lost: failover.lost,
            failover_retransmissions: failover.retransmissions,
            failover_stall_ms: millis(failover.stall),
            reasons: evidence.reasons.iter().cloned().collect(),
            promises: promises(evidence, &fates, moves, failover),
        }
    }

    /// Whether no promise was broken.
    pub(super) fn all_kept(&self) -> bool {
        self.promises
            .iter()
            .all(|promise| promise.kept != Some(false))
    }

    /// Prints it, in one screen.
    pub(super) fn print(&self) {
        screen::step("Report");
        let row = |name: &str, without: String, with: String| {
            screen::line(format_args!("{name:<34}{without:>14}{with:>18}"));
        };
        row("", "without LB".to_owned(), "through the LB".to_owned());
        row("calls", count(self.baseline_calls), count(self.calls));
        row(
            "calls a second",
            count(self.baseline_cps),
            count(self.cps as u64),
        );
        row("failed", "0".to_owned(), count(self.failed));
        row(
            "retransmissions",
            count(self.baseline_retransmissions),
            count(self.retransmissions),
        );
        println!();
        screen::line(format_args!(
            "node {KILLED} killed: last beacon → last new call there  {:.1} ms  (longest stall of \
             the machine then: {:.1} ms)",
            self.detection_ms, self.stall_ms
        ));
        screen::line(format_args!(
            "  new calls that met it dead, saved by retransmission  {}",
            count(self.saved_by_retransmission)
        ));
        screen::line(format_args!(
            "  calls lost with it  {} = {} answered by it + {} ringing + {} that met silence",
            count(self.failed_in_detection_window),
            count(self.failed_answered_by_killed_node),
            count(self.failed_ringing_on_killed_node),
            count(self.failed_unsaved),
        ));
        let total: u64 = self.spread.iter().sum::<u64>().max(1);
        let spread = (1..=NODES).zip(&self.spread).map(|(node, calls)| {
            format!(
                "{node}: {} ({} %)",
                count(*calls),
                (calls * 100 + total / 2) / total
            )
        });
        screen::line(format_args!(
            "new calls by node   {}",
            spread.collect::<Vec<_>>().join("   ")
        ));
        screen::line(format_args!(
            "frames by reason    {}",
            self.reasons_in_words()
        ));
        println!();
        for promise in &self.promises {
            let word = match promise.kept {
                Some(true) => "PASS",
                Some(false) => "FAIL",
                None => "VOID",
            };
            screen::line(format_args!("{}  {}", screen::verdict(word), promise.text));
        }
    }

    /// The most frequent first.
    fn reasons_in_words(&self) -> String {
        let mut reasons: Vec<_> = self
            .reasons
            .iter()
            .filter(|(_, count)| **count > 0)
            .collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let words = reasons
            .iter()
            .map(|(name, number)| format!("{name} {}", count(**number)));
        words.collect::<Vec<_>>().join(", ")
    }
}

fn promises(
    evidence: &Evidence,
    fates: &Fates,
    moves: &Moves,
    failover: &Failover,
) -> Vec<Promise> {
    let promise = |kept: bool, text: String| Promise {
        kept: Some(kept),
        text,
    };
    let limit = evidence.detection_limit.as_millis();
    let detection = if evidence.stall_at_kill > stall::LIMIT {
        Promise {
            kept: None,
            text: format!(
                "new calls stop within {limit} ms of the last beacon: the machine itself stalled \
                 for {} ms meanwhile",
                evidence.stall_at_kill.as_millis()
            ),
        }
    } else {
        promise(
            fates.detection <= evidence.detection_limit,
            format!(
                "new calls stop within {limit} ms of a node's last beacon: {:.1} ms",
                fates.detection.as_secs_f64() * 1e3
            ),
        )
    };
    let mut promises = vec![
        promise(
            fates.failed_elsewhere == 0,
            format!(
                "no call fails on a node that lives: {} of {}",
                count(fates.failed_elsewhere),
                count(evidence.stats.started)
            ),
        ),
        promise(
            fates.split == 0,
            format!(
                "no call reaches two nodes while its own lives: {}",
                count(fates.split)
            ),
        ),
        promise(
            fates.lost_unsaved == 0,
            format!(
                "new calls that meet a dead node's silence are saved: {} of {}",
                count(fates.saved),
                count(fates.saved + fates.lost_unsaved)
            ),
        ),
        detection,
        promise(
            fates.failed_without_controller == 0 && fates.calls_without_controller > 0,
            format!(
                "the controller's death costs nothing: {} failed of {} calls meanwhile",
                count(fates.failed_without_controller),
                count(fates.calls_without_controller)
            ),
        ),
        promise(
            moves.redirected > 0 && moves.by_the_taker == moves.redirected && moves.failed == 0,
            format!(
                "what node {} has no room for, others take, and say so: {} of {} redirected calls, {} \
                 failed",
                full::FULL,
                count(moves.by_the_taker),
                count(moves.redirected),
                count(moves.failed)
            ),
        ),
    ];
    promises.extend(failover_promises(failover));
    if fates.missed > 0 {
        promises.push(Promise {
            kept: None,
            text: format!("the recorders missed {} frames", count(fates.missed)),
        });
    }
    promises
}

fn failover_promises(failover: &Failover) -> [Promise; 3] {
    let in_time = |what: &str, limit: Duration, took: Duration| {
        let limit_ms = limit.as_millis();
        let is_void = failover.stall > stall::LIMIT;
        Promise {
            kept: (!is_void).then_some(took <= limit),
            text: if is_void {
                let stall = failover.stall.as_millis();
                format!(
                    "{what} within {limit_ms} ms: the machine itself stalled for {stall} ms meanwhile"
                )
            } else {
                format!(
                    "{what} within {limit_ms} ms: {:.1} ms",
                    took.as_secs_f64() * 1e3
                )
            },
        }
    };
    [
        in_time("the stand-by decides", failover::DECIDED, failover.decided),
        in_time(
            "new calls are served after the main's loss",
            failover::SERVED,
            failover.served,
        ),
        Promise {
            kept: Some(failover.lost == 0 && failover.calls > 0),
            text: format!(
                "no call in progress is lost with the main: {} of {}, {} of them away from home",
                count(failover.lost as u64),
                count(failover.calls as u64),
                count(failover.away as u64),
            ),
        },
    ]
}
