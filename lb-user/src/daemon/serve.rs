//! Serving: the tasks, and what interrupts them.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use lb_net::{metrics, systemd};
use lb_proto::keys::KeyRing;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::{Daemon, Intent, Render, Vitals, paired};
use crate::apply;
use crate::config::{Config, NodeConfig};
use crate::pair::{Control, Wires};
use crate::plan::{self, Plan};
use crate::plane::clock::Clock;
use crate::plane::{Maps, Plane, Site};
use crate::status::{Learnt, Roster, StatusCounts, StatusTask};

/// The clock is set anew this often, which bounds its error to a tick.
const CALIBRATION: Duration = Duration::from_secs(10);

/// What remains with the loop when the tasks have been sent off.
pub(super) struct Serving {
    pub(super) path: PathBuf,
    pub(super) intent: Intent,
    pub(super) plan: Plan,
    pub(super) own: BTreeSet<IpAddr>,
    pub(super) maps: Arc<Maps>,
    pub(super) clock: Arc<Clock>,
    pub(super) drain_until: Option<Instant>,
    /// When nodes that were learnt or forgotten change the plan.
    pub(super) replan_at: Option<Instant>,
    pub(super) channels: Channels,
    status_counts: Arc<StatusCounts>,
    status_task: AbortHandle,
    /// Where control datagrams go.
    control: Option<mpsc::Sender<Control>>,
    tasks: JoinSet<&'static str>,
    plane: Plane,
    /// Held, so that no other controller serves from the same directory.
    _site: Site,
}

/// How tasks learn of a reload. `watch`, because only the latest counts.
pub(super) struct Channels {
    pub(super) nodes: watch::Sender<Vec<NodeConfig>>,
    pub(super) vips: watch::Sender<Vec<SocketAddr>>,
    pub(super) session: watch::Sender<Duration>,
    pub(super) roster: watch::Sender<Roster>,
    /// Written by the status task.
    pub(super) learnt: watch::Sender<Learnt>,
    /// The pair's, if there is one.
    pub(super) intents: Option<watch::Sender<Intent>>,
}

pub(super) async fn serve(daemon: Daemon, render: Render) -> anyhow::Result<()> {
    let Daemon {
        mut shutdown,
        mut reloads,
        ..
    } = daemon;
    let config = &daemon.intent.config;
    let maps = daemon.plane.shared_maps();
    let vitals = Vitals {
        maps: maps.clone(),
        clock: daemon.clock.clone(),
        status: daemon.status_counts.clone(),
        learnt: daemon.learnt.subscribe(),
        sweeps: daemon.sweeper.counts(),
        deferred: daemon.deferred.counters(),
        interfaces: daemon.interfaces.into(),
        pair: daemon.pair.as_ref().map(|pair| pair.wires.report.clone()),
    };
    let (nodes, node_changes) = watch::channel(config.nodes.clone());
    let (vips, vip_changes) = watch::channel(config.vips.clone());
    let (session, session_changes) = watch::channel(config.pins.session);
    let (own, mut own_changes) = watch::channel(daemon.own.clone());

    let mut tasks = JoinSet::new();
    let status_task = spawn(&mut tasks, "status plane", daemon.status.run());
    let follow = daemon.neighbours.run(daemon.watch, node_changes, own);
    spawn(&mut tasks, "neighbours", follow);
    spawn(
        &mut tasks,
        "deferred datagrams",
        daemon.deferred.run(vip_changes),
    );
    spawn(
        &mut tasks,
        "pin expiry",
        daemon.sweeper.run(session_changes),
    );
    let control = daemon.pair.as_ref().map(|pair| pair.wires.control.clone());
    let mut fetched = None;
    let mut intents = None;
    if let Some(pair) = daemon.pair {
        let Wires {
            asker,
            intents: sender,
            fetched: wishes,
            ..
        } = pair.wires;
        (fetched, intents) = (Some(wishes), Some(sender));
        spawn(&mut tasks, "pair", pair.task.run());
        spawn(&mut tasks, "VIPs", pair.keeper.run());
        spawn(&mut tasks, "ports", pair.ports.run());
        let answering = paired::answer(pair.admin, asker, shutdown.clone());
        tasks.spawn(async move {
            answering.await;
            // It ends with the shutdown, as the loop does.
            pending::<()>().await;
            "admin socket"
        });
    }
    if let Some(listener) = daemon.metrics {
        let page = move || std::future::ready(render(&vitals));
        spawn(
            &mut tasks,
            "metrics",
            metrics::serve(listener, shutdown.clone(), page),
        );
    }

    let mut serving = Serving {
        path: daemon.path,
        intent: daemon.intent,
        plan: daemon.plan,
        own: daemon.own,
        maps,
        clock: daemon.clock,
        drain_until: None,
        replan_at: None,
        channels: Channels {
            nodes,
            vips,
            session,
            roster: daemon.roster,
            learnt: daemon.learnt,
            intents,
        },
        status_counts: daemon.status_counts,
        status_task,
        control,
        tasks,
        plane: daemon.plane,
        _site: daemon.site,
    };
    serving.begin_drain();
    let mut learnt = serving.channels.learnt.subscribe();
    let mut calibration = tokio::time::interval(CALIBRATION);
    loop {
        tokio::select! {
            // First, because tasks may end for the same reason.
            biased;
            () = shutdown.requested() => break,
            _ = reloads.recv() => serving.reload(),
            () = wished(&mut fetched) => serving.reload(),
            _ = calibration.tick() => serving.calibrate(),
            Ok(()) = learnt.changed() => serving.hear_of_learnt(),
            // Before the next change, which may have waited for it.
            () = until(serving.drain_until) => serving.finish_drain(),
            () = until(serving.replan_at) => serving.follow_learnt(),
            Ok(()) = own_changes.changed() => {
                let own = own_changes.borrow_and_update().clone();
                serving.take_own_addresses(own);
            }
            Some(ended) = serving.tasks.join_next() => unless_replaced(ended)?,
        }
    }
    systemd::stopping();
    tracing::info!("stopping; the data plane goes on as it is (`pointsman detach` ends it)");
    Ok(())
}

fn spawn(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    tasks.spawn(async move {
        task.await;
        name
    })
}

/// A task that was replaced was cancelled; no task ends by itself.
fn unless_replaced(ended: Result<&'static str, JoinError>) -> anyhow::Result<()> {
    match ended {
        Err(error) if error.is_cancelled() => Ok(()),
        Err(error) => Err(anyhow::Error::new(error).context("a task broke down")),
        Ok(name) => Err(anyhow!("task `{name}` ended")),
    }
}

/// Waits for a wish to read the configuration; for ever where nobody has any.
async fn wished(wishes: &mut Option<mpsc::Receiver<()>>) {
    let wish = match wishes {
        Some(wishes) => wishes.recv().await,
        None => None,
    };
    if wish.is_none() {
        pending::<()>().await;
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

impl Serving {
    /// Starts the drain's time if an old table still keeps its dialogs. After a restart it starts
    /// over: how much of it had passed nobody knows, and longer does no harm.
    pub(super) fn begin_drain(&mut self) {
        match apply::is_draining(&self.maps) {
            Ok(true) => self.drain_until = Some(Instant::now() + self.intent.config.drain),
            Ok(false) => self.drain_until = None,
            Err(error) => complain("cannot read the turnout", &error),
        }
    }

    fn finish_drain(&mut self) {
        self.drain_until = None;
        match apply::finish_drain(&self.maps, &self.plan) {
            Ok(()) => tracing::info!("the old steering table has drained"),
            Err(error) => complain("cannot end the drain", &error),
        }
    }

    fn calibrate(&self) {
        if let Err(error) = self.clock.calibrate(&self.plane) {
            complain("cannot set the clock; it goes on as before", &error);
        }
    }

    fn take_own_addresses(&mut self, own: BTreeSet<IpAddr>) {
        let services = plan::services(&self.intent.config, &own);
        match apply::apply_services(&self.maps, &services) {
            Ok(()) => self.own = own,
            Err(error) => complain("cannot enter this machine's addresses", &error),
        }
    }

    /// Tells the tasks who there is and whom to believe.
    pub(super) fn tell_nodes(&self, config: &Config, keys: &KeyRing) {
        let effective = self.effective(config);
        let roster = Roster::of(config, &self.channels.learnt.borrow(), keys);
        self.channels.roster.send_if_modified(|known| {
            let is_new = *known != roster;
            *known = roster;
            is_new
        });
        self.channels.nodes.send_replace(effective.nodes);
    }

    /// Opens the status plane's sockets anew and replaces the task.
    pub(super) fn restart_status(
        &mut self,
        intent: &Intent,
    ) -> Result<(), crate::status::StatusError> {
        let known = self.channels.learnt.borrow().clone();
        let (roster, changes) = watch::channel(Roster::of(&intent.config, &known, &intent.keys));
        let task = StatusTask::open(
            &intent.config,
            changes,
            (self.channels.learnt.clone(), self.control.clone()),
            (self.maps.clone(), self.clock.clone()),
            self.status_counts.clone(),
        )?;
        self.channels.roster = roster;
        self.status_task.abort();
        self.status_task = spawn(&mut self.tasks, "status plane", task.run());
        Ok(())
    }
}

pub(super) fn complain(what: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::error!(error, "{what}");
}
