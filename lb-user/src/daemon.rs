//! The controller's life, from start to stop.
//!
//! ```text
//!  claim ► load or adopt ► fill maps ► open sockets ► attach, pin ► drop capabilities ► serve ► stop
//! ```
//! Whatever can fail comes before the program is attached or replaced: a start that fails changes
//! nothing for traffic. Stopping changes nothing either; that is what `detach` is for.

mod guard;
mod learnt;
mod paired;
mod privileges;
mod reload;
mod report;
mod serve;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use lb_net::shutdown::Shutdown;
use lb_net::{metrics, systemd};
use lb_proto::keys::KeyRing;
use paired::Paired;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::apply;
use crate::config::Config;
use crate::config::shared::{self, Shared};
use crate::deferred::{self, Deferred};
use crate::neighbours::{self, Neighbours};
use crate::netlink::{Netlink, Watch};
use crate::pair::ClusterReport;
use crate::pins::{SweepCounts, Sweeper};
use crate::plan::Plan;
use crate::plane::attach::Attached;
use crate::plane::clock::Clock;
use crate::plane::{LoadOptions, Maps, Plane, Site};
use crate::status::{Learnt, Roster, StatusCounts, StatusTask};
use crate::turn;

pub use guard::guard;

/// What the daemon knows beyond the maps, for whoever reports on it.
#[derive(Clone)]
pub struct Vitals {
    /// The maps.
    pub maps: Arc<Maps>,
    /// The clock of their times.
    pub clock: Arc<Clock>,
    /// The status task's counters.
    pub status: Arc<StatusCounts>,
    /// Nodes that were learnt.
    pub learnt: watch::Receiver<Learnt>,
    /// The sweeper's.
    pub sweeps: Arc<SweepCounts>,
    /// Those of the path for deferred datagrams.
    pub deferred: Arc<deferred::Counters>,
    /// Interfaces that the program is on.
    pub interfaces: Arc<[Attached]>,
    /// The pair, if there is one.
    pub pair: Option<watch::Receiver<ClusterReport>>,
}

/// Makes the page of numbers for Prometheus.
pub type Render = fn(&Vitals) -> String;

/// A configuration and its keys.
#[derive(Clone)]
pub(crate) struct Intent {
    pub(crate) config: Config,
    pub(crate) keys: KeyRing,
    /// What both controllers of a pair must agree on.
    pub(crate) shared: Option<Shared>,
    /// The file.
    pub(crate) path: PathBuf,
}

impl Intent {
    /// Reads both files.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let found = shared::read(path)?;
        if let Some(notice) = &found.notice {
            notice.log();
        }
        let keys = lb_net::keys::read(&found.config.keys)?;
        Ok(Self {
            config: found.config,
            keys,
            shared: found.shared,
            path: path.to_owned(),
        })
    }
}

/// Takes the VIPs from this machine if a pair's controller brings them there: those that were removed.
///
/// # Errors
/// They cannot be looked for, or not be removed.
pub(crate) fn release_vips(config: &Config) -> anyhow::Result<Vec<IpAddr>> {
    let Some(pair) = &config.pair else {
        return Ok(Vec::new());
    };
    let runtime = one_thread()?;
    let _inside = runtime.enter();
    let (mover, _) = paired::mover(config, pair)?;
    let moved = mover.release();
    anyhow::ensure!(moved.failed.is_empty(), "cannot remove the VIPs: {moved}");
    Ok(moved.changed)
}

/// Everything that serves.
struct Daemon {
    path: PathBuf,
    intent: Intent,
    site: Site,
    plane: Plane,
    clock: Arc<Clock>,
    plan: Plan,
    own: BTreeSet<IpAddr>,
    status: StatusTask,
    status_counts: Arc<StatusCounts>,
    roster: watch::Sender<Roster>,
    learnt: watch::Sender<Learnt>,
    deferred: Deferred,
    neighbours: Neighbours,
    watch: Watch,
    sweeper: Sweeper,
    metrics: Option<TcpListener>,
    pair: Option<Paired>,
    shutdown: Shutdown,
    reloads: Signal,
    interfaces: Vec<Attached>,
}

/// One thread: capabilities are a thread's, and dropping them must drop them all.
fn one_thread() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("starting the runtime")
}

/// Runs the controller until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting, or a task of its own that ended by itself.
pub fn run(path: &Path, render: Render) -> anyhow::Result<()> {
    lb_net::telemetry::init();
    one_thread()?.block_on(async {
        let daemon = start(path).await?;
        systemd::ready("serving");
        serve::serve(daemon, render).await
    })
}

async fn start(path: &Path) -> anyhow::Result<Daemon> {
    // Before anything else, so that no signal ends a half-done start.
    let shutdown = Shutdown::on_signals().context("taking over signals")?;
    let reloads = signal(SignalKind::hangup()).context("taking over SIGHUP")?;
    let intent = Intent::read(path)?;
    let config = &intent.config;

    let (site, prepared) = Site::claim(&config.bpffs)?;
    report::bpffs(&prepared);
    let opened = site.open(&LoadOptions {
        max_pins: config.pins.max,
    })?;
    let plane = opened.plane;
    if opened.is_adopted {
        tracing::info!(dir = %site.dir().display(), "adopted the maps that are in use");
        report::fixed_sizes(config, plane.maps());
    }
    let clock = Arc::new(Clock::measure(&plane)?);
    tracing::debug!(jiffy_ns = clock.jiffy_ns(), "measured the kernel's clock");
    let maps = plane.shared_maps();

    let own = neighbours::own_addresses(&config.nodes)?;
    let known = learnt::adopt(config, &maps)?;
    let effective = learnt::with_learnt(config, &known);
    let plan = Plan::of(&effective, &intent.keys, clock.jiffy_ns(), &own);
    let applied = apply::apply(&maps, &plan)?;
    report::applied(&applied);
    let mut neighbours = Neighbours::new(maps.clone(), &effective, present_interfaces(config)?)?;
    neighbours.survey()?;

    let status_counts = Arc::new(StatusCounts::default());
    let (roster, changes) = watch::channel(Roster::of(config, &known, &intent.keys));
    let (learnt, _) = watch::channel(known);
    let pair = match &config.pair {
        Some(pair) => Some(Paired::open(
            &intent,
            pair,
            &maps,
            &clock,
            opened.is_adopted,
        )?),
        None => {
            turn::activate_for_good(&maps)?;
            None
        }
    };
    let control = pair.as_ref().map(|pair| pair.wires.control.clone());
    let status = StatusTask::open(
        config,
        changes,
        (learnt.clone(), control),
        (maps.clone(), clock.clone()),
        status_counts.clone(),
    )?;
    let deferred = Deferred::open(&config.vips, maps.clone(), clock.clone())?;
    let sweeper = Sweeper::new(maps.clone(), clock.clone());
    let watch = Watch::open()?;
    let metrics = match config.metrics {
        Some(address) => Some(bind_metrics(address).await?),
        None => None,
    };

    let attachment = site.attach(&plane, &config.interfaces)?;
    report::attachment(config, &attachment);
    let kept = pair.as_ref().map_or(&[][..], |pair| pair.capabilities);
    privileges::drop_all_but(kept).context("dropping capabilities")?;
    Ok(Daemon {
        path: path.to_owned(),
        intent,
        site,
        plane,
        clock,
        plan,
        own,
        status,
        status_counts,
        roster,
        learnt,
        deferred,
        neighbours,
        watch,
        sweeper,
        metrics,
        pair,
        shutdown,
        reloads,
        interfaces: attachment.interfaces,
    })
}

async fn bind_metrics(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "metrics are readable by whoever can reach this address");
    }
    Ok(metrics::bind(address).await?)
}

/// The numbers of the configured interfaces that exist; attaching complains about the others.
fn present_interfaces(config: &Config) -> anyhow::Result<Vec<u32>> {
    let mut netlink = Netlink::open()?;
    let mut present = Vec::new();
    for wanted in &config.interfaces {
        present.extend(netlink.link_named(&wanted.name)?.map(|link| link.index));
    }
    Ok(present)
}
