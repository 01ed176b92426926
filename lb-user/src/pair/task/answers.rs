//! What the task tells of itself: in keep-alives, to whoever asks, and for metrics.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lb_common::choose::{Liveness, judge, reference_at};
use lb_proto::call::Call as CallName;
use lb_proto::call_state::State;
use lb_proto::call_state::database::{Completeness, Cursor, Filter, Standing};
use lb_proto::failover::wire::{Report, Role, Status};
use tokio::time::Instant;

use super::PairTask;
use crate::pair::ask::{Answer, Place, Question};
use crate::pair::report::{Call, ClusterReport, Sources};
use crate::pair::setup;
use crate::plane::AccessError;

/// How often what keep-alives and metrics say is looked up.
const LOOK: Duration = Duration::from_millis(500);
/// Calls in one answer, at most.
const PAGE: usize = 500;

impl PairTask {
    pub(super) fn look(&mut self) {
        self.look_at = Instant::now() + LOOK;
        let now = self.now();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        self.machine.set_wall(now, wall.unwrap_or_default());
        match self.own_report() {
            Ok(report) => self.machine.set_report(now, report),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "cannot read the nodes' state");
            }
        }
        // Not the addresses: the kernel may take its time to tell them.
        let report = self.cluster();
        self.report.send_replace(report);
    }

    /// What keep-alives say.
    fn own_report(&self) -> Result<Report, AccessError> {
        let (settings, plane) = (self.maps.settings()?, self.maps.plane_status()?);
        let (reference, _) = reference_at(&plane, settings.hold, self.clock.now());
        let (mut calls, mut capacity, mut nodes_alive) = (0u32, 0u32, 0u16);
        for id in self.machine.members().nodes.keys() {
            let (node, status) = (self.maps.node(id.get())?, self.maps.status(id.get())?);
            if judge(&node, &status, &settings, reference) != Liveness::Down {
                nodes_alive += 1;
                calls = calls.saturating_add(status.active);
                capacity = capacity.saturating_add(status.capacity);
            }
        }
        let database = self.rebuild.database();
        let is_whole = database
            .nodes()
            .all(|node| node.completeness == Completeness::Ok);
        let status = match self.machine.role() {
            _ if !*self.is_reached.borrow() => Status::Unfit,
            Role::Main if is_whole => Status::Serving,
            Role::Main => Status::Degraded,
            Role::StandBy | Role::Candidate => Status::StandBy,
        };
        Ok(Report {
            calls,
            capacity,
            status,
            nodes_alive,
        })
    }

    /// All but the VIPs that are here, which take a question to the kernel.
    fn cluster(&self) -> ClusterReport {
        let now = self.now();
        let heard = self.maps.plane_status().map_or(0, |plane| plane.term_heard);
        let counts = self.endpoint.counts();
        let mut links: BTreeMap<String, u64> = counts
            .reasons()
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        links.insert("made".to_owned(), counts.made());
        links.insert("open".to_owned(), counts.open());
        ClusterReport::of(Sources {
            view: self.machine.view(now),
            now,
            steers: self
                .maps
                .turnout()
                .is_ok_and(|turnout| turnout.is_active(heard)),
            reached: *self.is_reached.borrow(),
            database: self.rebuild.database(),
            progress: self.rebuild.progress(),
            linked: self.rebuild.links.linked().collect(),
            links,
            activation: self.activation,
            vips: Vec::new(),
        })
    }

    pub(super) fn answer(&mut self, question: Question) -> Result<Answer, String> {
        let now = self.now();
        let done = |_| Answer::Done { done: true };
        match question {
            Question::Cluster => {
                let report = self.cluster();
                Ok(Answer::Cluster(Box::new(report)))
            }
            Question::Calls { after, node, state } => self.calls(after, node, state.as_deref()),
            Question::FailOver { to } => {
                let known = setup::controller_id(to);
                let to = known.ok_or_else(|| format!("{to} is no controller's id"))?;
                let begun = self.machine.fail_over(now, to);
                begun.map(done).map_err(|error| error.to_string())
            }
            Question::Resume => {
                let begun = self.machine.resume(now);
                begun.map(done).map_err(|error| error.to_string())
            }
        }
    }

    fn calls(
        &self,
        after: Option<Place>,
        node: Option<u16>,
        state: Option<&str>,
    ) -> Result<Answer, String> {
        let standing = match state {
            None => None,
            Some("unknown") => Some(Standing::Unknown),
            Some(name) => {
                let state = State::ALL.into_iter().find(|state| state.name() == name);
                let states = "early, confirmed, held or unknown";
                let state = state.ok_or_else(|| format!("`{name}` is none of {states}"))?;
                Some(Standing::Known(state))
            }
        };
        let after = after.map(|place| Cursor {
            node: place.node,
            call: CallName::from_key(place.key),
        });
        let filter = Filter { node, standing };
        let page = self
            .rebuild
            .database()
            .page(self.now(), filter, after, PAGE);
        Ok(Answer::Calls {
            role: self.machine.role().name().to_owned(),
            calls: page.calls.iter().map(Call::of).collect(),
            next: page.next.map(|next| Place {
                node: next.node,
                key: next.call.key(),
            }),
        })
    }
}
