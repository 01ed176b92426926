//! Everything that happens to the pair's machines, in order: datagrams, links, time, disk, questions.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use lb_common::choose::{Liveness, judge, reference_at};
use lb_net::epoch;
use lb_net::link::{Endpoint, Identity, Limits, Listener, Roster};
use lb_proto::call::Call as CallName;
use lb_proto::call_state::State;
use lb_proto::call_state::collector::{self, Collector, Mode, Pace};
use lb_proto::call_state::database::{Completeness, Cursor, Filter, Standing};
use lb_proto::failover::controller::{Controller, Event, GaveUp, Output, Setup};
use lb_proto::failover::wire::{self, Report, Role, Status};
use lb_proto::failover::{NodeId, Party, Term};
use lb_proto::keys::KeyRing;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::ask::{Answer, Asked, Asker, Place, Question};
use super::carry::{self, FetchError};
use super::links::Links;
use super::rebuild::Rebuild;
use super::report::{Call, ClusterReport, Sources};
use super::{setup, term};
use crate::config::Config;
use crate::config::pair::Pair;
use crate::config::shared::Shared;
use crate::daemon::Intent;
use crate::plane::clock::Clock;
use crate::plane::{AccessError, Maps};
use crate::takeover::{Moved, Mover};
use crate::turn;

/// Control datagrams that wait for the task; more are dropped, and come again.
const WAITING: usize = 1_024;
/// Questions that wait.
const QUESTIONS: usize = 8;
/// Calls in one answer, at most.
const PAGE: usize = 500;
/// Longer than a keep-alive takes from the program to this task, so that a true one has been heard.
const OUTBID_AFTER: Duration = Duration::from_millis(20);
/// How often an error is said that lasts.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// How often what keep-alives and metrics say is looked up.
const LOOK: Duration = Duration::from_millis(500);

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
    /// Whether the data plane and the VIPs may be here; `false` when both are known not to be.
    may_be_here: bool,
    activation: Option<Duration>,
    activating: Instant,
    /// Another was the main since this one last was, or since the start.
    other_reigned: bool,
    /// A claim of the VIPs is due, when the keep-alives that silence the old main have gone out.
    claims: bool,
    /// The term that is being kept, and the one that is to be kept next.
    next_term: Option<Term>,
    /// When it was last said that this configuration is too old.
    said_older: Option<Instant>,
    /// Since when the program has given way to a later term, although this controller is the main.
    superseded: Option<Instant>,
    maps: Arc<Maps>,
    clock: Arc<Clock>,
    origin: Instant,
    socket: UdpSocket,
    places: BTreeMap<Party, SocketAddr>,
    own: IpAddr,
    state_dir: PathBuf,
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
    keeping: JoinSet<(Term, io::Result<()>)>,
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
        mover: Mover,
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
            seed: seed()?,
        };
        let machine = setup::machine(config, pair, &intent.keys)?;
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
            may_be_here: true,
            activation: None,
            activating: origin,
            other_reigned: false,
            claims: false,
            next_term: None,
            said_older: None,
            superseded: None,
            maps,
            clock,
            origin,
            socket: UdpSocket::from_std(socket)?,
            places: places(config, pair),
            own,
            state_dir: pair.state_dir.clone(),
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
            // All that has come is heard before anybody's silence is judged.
            while let Ok(control) = self.control.try_recv() {
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
                    if let Ok((term, result)) = kept {
                        self.kept(term, result);
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
                    // Who asked may have lost patience.
                    let _ = answer.send(self.answer(question));
                }
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

    /// The program gives way to whoever has the key and names a later term. A main that is not deposed by
    /// that goes on above it: nobody reigns in that term, or the nodes say who does.
    fn outbid(&mut self) {
        let now = Instant::now();
        let heard = || -> Result<_, AccessError> {
            let heard = self.maps.plane_status()?.term_heard;
            Ok((heard > self.maps.turnout()?.term).then_some(Term(heard)))
        };
        // What cannot be read now is read in the next turn.
        let is_main = self.machine.role() == Role::Main;
        let Some(heard) = is_main.then(heard).and_then(|heard| heard.ok().flatten()) else {
            self.superseded = None;
            return;
        };
        if now.duration_since(*self.superseded.get_or_insert(now)) >= OUTBID_AFTER {
            self.superseded = None;
            tracing::warn!(%heard, "a later term was heard of, but this controller is the main");
            self.machine.outbid(self.now(), heard);
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { to, bytes } => self.send(to, &bytes),
                Output::Persist { term } => {
                    self.next_term = Some(term);
                    self.keep_next();
                }
                Output::Activate {
                    term,
                    reason,
                    steps,
                } => {
                    tracing::warn!(
                        %term,
                        reason = reason.name(),
                        silence = ?steps.silence,
                        query = ?steps.query,
                        leases = ?steps.leases,
                        "this controller is the main"
                    );
                    self.activate(term);
                }
                Output::Raise { term } => {
                    self.complain(turn::raise(&self.maps, term.0));
                    let now = self.now();
                    self.rebuild.raise(now, term.0);
                    tracing::info!(%term, "the reign goes on under a higher term");
                }
                Output::Deactivate { why } => {
                    self.give_way();
                    tracing::warn!(why = why.name(), "this controller is not the main any more");
                }
                Output::FetchConfig { from, version } => {
                    let Some(at) = self.places.get(&Party::Controller(from)) else {
                        continue;
                    };
                    if self.fetching.is_empty() {
                        tracing::info!(%from, version, "fetching a newer configuration");
                        let endpoint = self.endpoint.clone();
                        let peer = Identity::Controller(from.get().into());
                        let fetched = carry::fetch(endpoint, peer, *at, self.own);
                        let own = self.shared.as_ref().map_or(0, |own| own.version);
                        let paths = (self.config_path.clone(), self.shared_path.clone());
                        self.fetching.spawn(carry::take(fetched, own, paths));
                    }
                }
                Output::Event(event) => self.follow(event),
            }
        }
        if std::mem::take(&mut self.claims) {
            self.claim();
        }
    }

    /// Keeps the term that is to be kept, one after the other: a later one must not be overtaken.
    fn keep_next(&mut self) {
        if !self.keeping.is_empty() {
            return;
        }
        if let Some(term) = self.next_term.take() {
            let state_dir = self.state_dir.clone();
            let keep = move || (term, term::keep(&state_dir, term));
            self.keeping.spawn_blocking(keep);
        }
    }

    fn send(&self, to: Party, bytes: &wire::Bytes) {
        let Some(at) = self.places.get(&to) else {
            return;
        };
        if let Err(error) = self.socket.try_send_to(bytes, *at) {
            tracing::debug!(%to, %error, "cannot send a control datagram");
        }
    }

    /// Serves: new calls at once, dialogs when it is known where they live. Calls are reset only when they
    /// are taken over from another.
    fn activate(&mut self, term: Term) {
        self.activating = Instant::now();
        self.may_be_here = true;
        self.complain(turn::activate(&self.maps, term.0));
        self.claims = true;
        let mode = match std::mem::take(&mut self.other_reigned) {
            true => self.mode,
            false => Mode::Hot,
        };
        let now = self.now();
        self.rebuild.begin(now, term.0, mode);
        self.look_at = Instant::now();
    }

    fn claim(&mut self) {
        if self.machine.role() != Role::Main {
            return;
        }
        let moved = self.mover.claim();
        let activation = self.activating.elapsed();
        self.activation = Some(activation);
        say_moved("claimed", &moved);
        tracing::info!(?activation, "the data plane steers");
    }

    /// Does not serve: another does, or may.
    fn give_way(&mut self) {
        if !self.may_be_here {
            return;
        }
        self.claims = false;
        let turned = turn::deactivate(&self.maps);
        let moved = self.mover.release();
        say_moved("released", &moved);
        self.rebuild.end();
        self.may_be_here = turned.is_err() || !moved.failed.is_empty();
        self.complain(turned);
        self.look_at = Instant::now();
    }

    fn complain(&self, result: Result<(), AccessError>) {
        if let Err(error) = result {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "cannot turn the data plane");
        }
    }

    fn kept(&mut self, term: Term, result: io::Result<()>) {
        let now = self.now();
        match result {
            Ok(()) => self.machine.persisted(now, term),
            Err(error) => {
                let path = self.state_dir.display();
                tracing::error!(%error, %path, "cannot keep a term: it is not asked for");
                self.machine.persist_failed(now, term);
            }
        }
        self.keep_next();
    }

    fn follow(&mut self, event: Event) {
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

    /// Another configuration: what the pair's machines take from it.
    fn configure(&mut self, intent: &Intent) {
        let config = &intent.config;
        let Some(pair) = &config.pair else { return };
        let now = self.now();
        match setup::machine(config, pair, &intent.keys) {
            Ok(machine) => self.machine.configure(now, machine),
            // The check of the file lets none pass.
            Err(error) => tracing::error!(%error, "the pair's timing stays as it was"),
        }
        self.mode = setup::mode(pair);
        self.places = places(config, pair);
        self.shared.clone_from(&intent.shared);
        self.keys.send_replace(intent.keys.clone());
        self.roster.send_replace(setup::roster(pair));
        self.rebuild.set_nodes(now, nodes(config));
        let moved = self.mover.configure(config.vips.iter().map(SocketAddr::ip));
        say_moved("changed", &moved);
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

    fn look(&mut self) {
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
        let report = self.cluster(Vec::new());
        self.report.send_replace(report);
    }

    /// What keep-alives say.
    fn own_report(&self) -> Result<Report, AccessError> {
        let (settings, plane) = (self.maps.settings()?, self.maps.plane_status()?);
        let (reference, _) = reference_at(&plane, settings.hold, self.clock.now());
        let (mut calls, mut capacity, mut nodes_alive) = (0u32, 0u32, 0u16);
        for party in self.places.keys() {
            let Party::Node(id) = party else { continue };
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

    fn cluster(&self, vips: Vec<IpAddr>) -> ClusterReport {
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
            database: self.rebuild.database(),
            progress: self.rebuild.progress(),
            linked: self.rebuild.links.linked().collect(),
            links,
            activation: self.activation,
            vips,
        })
    }

    fn answer(&mut self, question: Question) -> Result<Answer, String> {
        let now = self.now();
        let done = |_| Answer::Done { done: true };
        match question {
            Question::Cluster => {
                let vips = self.mover.present().unwrap_or_default();
                let report = self.cluster(vips.into_iter().collect());
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

fn say_moved(what: &str, moved: &Moved) {
    if !moved.failed.is_empty() {
        tracing::error!("VIPs {what}: {moved}");
    } else if !moved.changed.is_empty() {
        tracing::info!("VIPs {what}: {moved}");
    }
}

/// Where nodes are that can be asked for their calls.
fn nodes(config: &Config) -> BTreeMap<u16, IpAddr> {
    let speaking = config.speaking_nodes();
    speaking.map(|node| (node.id, node.address)).collect()
}

/// Where everybody's status port is.
fn places(config: &Config, pair: &Pair) -> BTreeMap<Party, SocketAddr> {
    let port = config.status.port;
    let controllers = pair.others().filter_map(|(id, at)| {
        let party = Party::Controller(setup::controller_id(id)?);
        Some((party, SocketAddr::new(at, port)))
    });
    let nodes = config.speaking_nodes().filter_map(|node| {
        let party = Party::Node(NodeId::new(node.id)?);
        Some((party, SocketAddr::new(node.address, port)))
    });
    controllers.chain(nodes).collect()
}
