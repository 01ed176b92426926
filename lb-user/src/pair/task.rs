//! Everything that happens to the pair's machines, in order: datagrams, links, time, disk, questions.
//!
//! - `reign`: what the controller's machine wants done.
//! - `events`: what it tells.
//! - `answers`: what the task tells of itself.

mod answers;
mod events;
mod reign;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use lb_net::epoch;
use lb_net::link::{Endpoint, Identity, Limits, Listener, Roster};
use lb_proto::call_state::collector::{self, Collector, Mode, Pace};
use lb_proto::failover::Term;
use lb_proto::failover::controller::{Controller, Electors, Setup};
use lb_proto::keys::KeyRing;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::ask::{Answer, Asked, Asker};
use super::carry::{self, FetchError};
use super::links::Links;
use super::rebuild::Rebuild;
use super::report::ClusterReport;
use super::{electors, setup, term};
use crate::config::Config;
use crate::config::pair::Pair;
use crate::config::shared::Shared;
use crate::daemon::Intent;
use crate::plane::Maps;
use crate::plane::clock::Clock;
use crate::takeover::Mover;

/// Control datagrams that wait for the task; more are dropped, and come again.
const WAITING: usize = 1_024;
/// Questions that wait.
const QUESTIONS: usize = 8;

/// A control datagram from the status port.
pub struct Control {
    /// Where it came from.
    pub from: IpAddr,
    /// What came.
    pub bytes: Bytes,
}

/// The other ends of what the task is wired to.
pub(crate) struct Wires {
    /// Where control datagrams are put that come to the status port.
    pub(crate) control: mpsc::Sender<Control>,
    /// Who asks.
    pub(crate) asker: Asker,
    /// What was last to be told.
    pub(crate) report: watch::Receiver<ClusterReport>,
    /// Tells the task of another configuration.
    pub(crate) intents: watch::Sender<Intent>,
    /// A newer configuration was fetched: it is to be read.
    pub(crate) fetched: mpsc::Receiver<()>,
}

/// Drives the pair's machines.
pub(crate) struct PairTask {
    machine: Controller,
    rebuild: Rebuild,
    mode: Mode,
    mover: Mover,
    /// Whether the switch reaches this machine.
    is_reached: watch::Receiver<bool>,
    /// Whether the data plane and the VIPs may be here; `false` when both are known not to be.
    may_be_here: bool,
    activation: Option<Duration>,
    activating: Instant,
    /// Another was the main since this one last was, or since the start.
    other_reigned: bool,
    /// A claim of the VIPs is due, when the keep-alives that silence the old main have gone out.
    claims: bool,
    /// The term that is to be kept next.
    next_term: Option<Term>,
    /// Whose leases count, to be kept next.
    next_electors: Option<(u32, Electors)>,
    /// They could not be kept, which was said.
    said_unkept: bool,
    /// When it was last said that this configuration is too old.
    said_older: Option<Instant>,
    /// Since when the program has given way to a later term, although this controller is the main.
    superseded: Option<Instant>,
    maps: Arc<Maps>,
    clock: Arc<Clock>,
    origin: Instant,
    socket: UdpSocket,
    /// Of everybody: the status port.
    port: u16,
    own: IpAddr,
    state_dir: PathBuf,
    cluster: u32,
    endpoint: Endpoint,
    keys: watch::Sender<KeyRing>,
    roster: watch::Sender<Roster>,
    listener: Listener,
    shared: Option<Shared>,
    shared_path: PathBuf,
    /// The own file.
    config_path: PathBuf,
    control: mpsc::Receiver<Control>,
    questions: mpsc::Receiver<Asked>,
    intents: watch::Receiver<Intent>,
    fetched: mpsc::Sender<()>,
    report: watch::Sender<ClusterReport>,
    keeping: JoinSet<(reign::Kept, io::Result<()>)>,
    fetching: JoinSet<Result<(), FetchError>>,
    look_at: Instant,
}

impl PairTask {
    /// Opens sockets and what is kept. `is_at_work`: the data plane was found steering.
    ///
    /// # Errors
    /// Whatever cannot be had.
    pub(crate) fn open(
        intent: &Intent,
        pair: &Pair,
        (maps, clock): (Arc<Maps>, Arc<Clock>),
        (mover, is_reached): (Mover, watch::Receiver<bool>),
        is_at_work: bool,
    ) -> anyhow::Result<(Self, Wires)> {
        let config = &intent.config;
        let own = pair.own_address().context("the own [[controller]]")?;
        let id = setup::controller_id(pair.id).context("the own id")?;
        let seed = || lb_net::random::seed().context("no randomness");
        let origin = Instant::now();
        let setup = Setup {
            id,
            cluster: config.cluster,
            epoch: epoch::begin(&pair.state_dir)?,
            term: term::last(&pair.state_dir)?.max(term::known(&maps)?),
            electors: electors::last(&pair.state_dir, config.cluster)?,
            seed: seed()?,
        };
        let machine = setup::machine(intent, pair)?;
        let machine = Controller::new(Duration::ZERO, setup, machine);
        let (keys, ring) = watch::channel(intent.keys.clone());
        let identity = Identity::Controller(pair.id);
        let endpoint = Endpoint::new(config.cluster, identity, ring, Limits::default());
        let (roster, whom) = watch::channel(setup::roster(pair));
        let port = config.status.port;
        let listener = endpoint.listen(&[SocketAddr::new(own, port)], whom)?;
        let collector = collector::Settings {
            cluster: config.cluster,
            controller: pair.id,
            capacity: collector::DEFAULT_CAPACITY,
            pace: Pace::DEFAULT,
        };
        let nodes = nodes(config);
        let collector = Collector::new(collector, nodes.keys().copied(), seed()?);
        let links = Links::new(endpoint.clone(), own, port);
        let socket = std::net::UdpSocket::bind((own, 0)).with_context(|| {
            format!("cannot send from {own}; is that this machine's [[controller]] address?")
        })?;
        socket.set_nonblocking(true)?;
        let (control, controls) = mpsc::channel(WAITING);
        let (asker, questions) = mpsc::channel(QUESTIONS);
        let (report, reports) = watch::channel(ClusterReport::default());
        let (fetched, fetches) = mpsc::channel(1);
        let (intents, changes) = watch::channel(intent.clone());
        let mut task = Self {
            machine,
            rebuild: Rebuild::new(collector, links, (maps.clone(), clock.clone()), nodes),
            mode: setup::mode(pair),
            mover,
            is_reached,
            may_be_here: true,
            activation: None,
            activating: origin,
            other_reigned: false,
            claims: false,
            next_term: None,
            next_electors: None,
            said_unkept: false,
            said_older: None,
            superseded: None,
            maps,
            clock,
            origin,
            socket: UdpSocket::from_std(socket)?,
            port,
            own,
            state_dir: pair.state_dir.clone(),
            cluster: config.cluster,
            endpoint,
            keys,
            roster,
            listener,
            shared: intent.shared.clone(),
            shared_path: Shared::path(pair),
            config_path: intent.path.clone(),
            control: controls,
            questions,
            intents: changes,
            fetched,
            report,
            keeping: JoinSet::new(),
            fetching: JoinSet::new(),
            look_at: origin,
        };
        if is_at_work {
            tracing::info!("the data plane is at work, and stays so until a main is known");
        } else {
            task.give_way();
        }
        let wires = Wires {
            control,
            asker: Asker(asker),
            report: reports,
            intents,
            fetched: fetches,
        };
        Ok((task, wires))
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Serves until the future is dropped. Data plane and addresses stay as they are then.
    pub(crate) async fn run(mut self) {
        loop {
            // What has come is heard before anybody's silence is judged.
            for _ in 0..WAITING {
                let Ok(control) = self.control.try_recv() else {
                    break;
                };
                self.hear(&control);
            }
            self.machine.handle_timeout(self.now());
            self.outbid();
            self.rebuild.on_timeout(self.now());
            self.carry_out();
            self.ask_obedient();
            if Instant::now() >= self.look_at {
                self.look();
            }
            let mut due = self.machine.next_timeout();
            if let Some(rebuild) = self.rebuild.next_timeout() {
                due = due.min(rebuild);
            }
            let due = (self.origin + due).min(self.look_at);
            tokio::select! {
                biased;
                Some(control) = self.control.recv() => self.hear(&control),
                () = sleep_until(due) => {}
                arrival = self.rebuild.links.next() => {
                    let now = self.origin.elapsed();
                    self.rebuild.take(now, arrival);
                    // There may be many: the sockets are read in between, acknowledgements among all.
                    tokio::task::yield_now().await;
                }
                Some(kept) = self.keeping.join_next() => {
                    if let Ok((kept, result)) = kept {
                        self.kept(kept, result);
                    }
                }
                Some(fetched) = self.fetching.join_next() => {
                    if let Ok(fetched) = fetched {
                        self.take_shared(fetched);
                    }
                }
                link = self.listener.accept() => {
                    if let Some(shared) = &self.shared {
                        tokio::spawn(carry::serve(link, shared.text.clone()));
                    }
                }
                Some(Asked { question, answer }) = self.questions.recv() => {
                    let mut answered = self.answer(question);
                    let mover = self.mover.clone();
                    // Leases must not wait for what this machine's network is asked.
                    tokio::task::spawn_blocking(move || {
                        if let Ok(Answer::Cluster(report)) = &mut answered {
                            let vips = mover.present().unwrap_or_default();
                            report.vips = vips.into_iter().collect();
                        }
                        // Who asked may have lost patience.
                        let _ = answer.send(answered);
                    });
                }
                Ok(()) = self.is_reached.changed() => self.look_at = Instant::now(),
                Ok(()) = self.intents.changed() => {
                    let intent = self.intents.borrow_and_update().clone();
                    self.configure(&intent);
                }
            }
        }
    }

    /// Asks nodes for their calls that hold this controller's lease.
    fn ask_obedient(&mut self) {
        if !self.rebuild.is_waiting() {
            return;
        }
        let now = self.now();
        let leases = self.machine.view(now).leases;
        let held = leases.iter().filter(|lease| lease.remaining.is_some());
        let held: Vec<u16> = held.map(|lease| lease.node.get()).collect();
        self.rebuild.ask_obedient(now, |node| held.contains(&node));
    }

    fn hear(&mut self, control: &Control) {
        let (now, from) = (self.now(), control.from);
        if let Err(refusal) = self.machine.receive(now, from, &control.bytes) {
            tracing::debug!(%from, %refusal, "refused a control datagram");
        }
    }

    /// Another configuration: what the pair's machines take from it.
    fn configure(&mut self, intent: &Intent) {
        let config = &intent.config;
        let Some(pair) = &config.pair else { return };
        let now = self.now();
        match setup::machine(intent, pair) {
            Ok(machine) => self.machine.configure(now, machine),
            // The check of the file lets none pass.
            Err(error) => tracing::error!(%error, "the pair's timing stays as it was"),
        }
        self.mode = setup::mode(pair);
        self.port = config.status.port;
        self.shared.clone_from(&intent.shared);
        self.keys.send_replace(intent.keys.clone());
        self.roster.send_replace(setup::roster(pair));
        self.rebuild.set_nodes(now, nodes(config));
        let moved = self.mover.configure(config.vips.iter().map(SocketAddr::ip));
        reign::say_moved("changed", &moved);
    }

    /// A shared configuration was fetched and kept: it is to be read by whoever reads configurations.
    fn take_shared(&mut self, fetched: Result<(), FetchError>) {
        match fetched {
            // One wish to read it is enough.
            Ok(()) => drop(self.fetched.try_send(())),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot take the newer configuration");
            }
        }
    }
}

/// Where nodes are that can be asked for their calls.
fn nodes(config: &Config) -> BTreeMap<u16, IpAddr> {
    let speaking = config.speaking_nodes();
    speaking.map(|node| (node.id, node.address)).collect()
}
