//! What the controller's machine tells: said to the operator, and what follows from it.

use std::time::Duration;

use lb_proto::failover::controller::{Event, GaveUp};
use tokio::time::Instant;

use super::PairTask;
use crate::pair::report;

/// How often an error is said that lasts.
const SAY_AGAIN: Duration = Duration::from_secs(60);

impl PairTask {
    pub(super) fn follow(&mut self, event: Event) {
        match event {
            Event::Following { main, term } => {
                tracing::info!(%main, %term, "stands by");
                self.other_reigned = true;
                self.give_way();
            }
            Event::Missed { main, silence } => {
                tracing::warn!(%main, ?silence, "the main is missed, and asked");
            }
            Event::Answered { main, after } => {
                tracing::info!(%main, ?after, "the main is heard after all");
            }
            Event::Ceased { main } => tracing::info!(%main, "the main has stepped down"),
            Event::Candidate { term, reason } => {
                let reason = reason.name();
                tracing::info!(%term, reason, "asks the nodes for leases");
            }
            Event::Granted { node, after } => tracing::debug!(%node, ?after, "granted its lease"),
            Event::GaveUp { term, why, after } => {
                tracing::info!(%term, why = why.name(), ?after, "the candidacy is over");
                // A data plane that was found at work, by a controller that is alive and cannot be
                // main: another may be.
                if matches!(why, GaveUp::NodesHearMain | GaveUp::OutOfTime) {
                    self.give_way();
                }
            }
            Event::OlderConfiguration { own, newer, of } => {
                let now = Instant::now();
                if self.said_older.is_none_or(|at| now >= at + SAY_AGAIN) {
                    self.said_older = Some(now);
                    tracing::error!(
                        own,
                        newer,
                        %of,
                        "nobody is the main, and this controller may not be: its configuration is \
                         older; write the newer one into its file, or raise `version` in [pair] if \
                         it is right"
                    );
                }
            }
            Event::DifferentConfiguration { of, version } => {
                tracing::error!(
                    version,
                    %of,
                    "the other controller's configuration has the same version and says something \
                     else: make the files alike and raise `version` in [pair]"
                );
            }
            Event::NodesChange(stage) => {
                tracing::info!("nodes change: {}", report::whose_leases_count(stage));
            }
            Event::Stalled(gap) => {
                tracing::warn!(
                    ?gap,
                    "this process did not run: no silence is counted from it"
                );
            }
            Event::Asked { main, successor } => {
                tracing::info!(%main, %successor, "the main is asked to yield");
            }
            Event::AskFailed { main, successor } => {
                tracing::warn!(%main, %successor, "the main did not yield");
            }
            Event::AskRefused { by, successor, why } => {
                tracing::warn!(%by, %successor, %why, "does not yield");
            }
            Event::YieldFailed { to } => {
                tracing::warn!(%to, "did not take over in time");
            }
        }
    }
}
