//! The daemon's one task: everything that happens to a [`Node`], in order.
//!
//! It owns the sockets, the machines and the clock; SIGTERM or SIGINT stops it. Beside it run the
//! admin socket's task and, if configured, the metrics'; both ask it through a short queue and wait
//! for its answer, so nobody shares its state.

pub(crate) mod question;

use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::health::Verdict;
use crate::node::{self, Node};
use crate::numbers;
use crate::overview::{Overview, Redirect};
use crate::prober::Prober;
use crate::redirecting::Redirecting;
use crate::report::{Report, SipServer, milliseconds};
use crate::sip::Wish;
use crate::sockets::Sockets;
use crate::witness::{NoCalls, Witnessing};
use anyhow::Context;
use lb_common::Address;
use lb_net::admin::Admin;
use lb_net::interface::Interface;
use lb_net::shutdown::Shutdown;
use lb_net::{epoch, metrics, random, systemd};
use lb_proto::keys::KeyRing;
use lb_proto::status::sender::BeaconBytes;
use question::{Asker, Question};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Calls in one answer, at most.
const PAGE: usize = 500;

/// How often the node's own addresses are looked up: they come late at boot, and may change.
const LOOK_AT_ADDRESSES: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT. SIGHUP reads the key file again.
pub(crate) async fn run(config: Config, keys: KeyRing) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals().context("cannot take over signals")?;
    let hangups = signal(SignalKind::hangup()).context("cannot take over SIGHUP")?;
    let (asker, questions) = Asker::new();
    // First all that may fail for want of a resource, so that no epoch is spent on it.
    let admin = Admin::open(&config.admin.socket)?;
    let metrics_listener = match &config.metrics {
        Some(metrics) => Some(metrics::bind(metrics.listen).await?),
        None => None,
    };
    let mut daemon = Daemon::open(&config, keys).await?;
    let answer = {
        let asker = asker.clone();
        move |question| admin::answer(question, asker.clone())
    };
    tokio::spawn(admin.serve(shutdown.clone(), answer));
    if let Some(listener) = metrics_listener {
        let render = move || page(asker.clone());
        tokio::spawn(metrics::serve(listener, shutdown.clone(), render));
    }
    tracing::info!(
        node = config.node,
        cluster = config.cluster,
        epoch = daemon.node.epoch(),
        groups = ?config.beacon.groups,
        port = config.beacon.port,
        interface = config.beacon.interface,
        "serving"
    );
    systemd::ready(&daemon.node.summary());
    daemon.serve(questions, hangups, shutdown).await;
    systemd::stopping();
    daemon.stop().await;
    Ok(())
}

async fn page(asker: Asker) -> String {
    asker
        .overview()
        .await
        .map(|overview| numbers::render(&overview))
        .unwrap_or_default()
}

/// Waits for the redirect server's sockets; for ever where there are none.
async fn ready(calls: &mut Option<Redirecting>) {
    match calls {
        Some(calls) => calls.sip.ready().await,
        None => std::future::pending().await,
    }
}

/// Waits for what a witness waits for; for ever where the node is none.
async fn has_news(witness: &mut Option<Witnessing>) {
    match witness {
        Some(witness) => witness.ready().await,
        None => std::future::pending().await,
    }
}

struct Daemon {
    clock: Clock,
    node: Node,
    prober: Prober,
    server: SocketAddr,
    sockets: Sockets,
    state_dir: PathBuf,
    /// The key file.
    keys: PathBuf,
    /// The epoch on the disk.
    kept_epoch: u32,
    /// Keeping the next one has failed, which was said.
    is_keeping_hard: bool,
    /// When to look up the own addresses again.
    look_at: Duration,
    /// Whether the last beacon went out, for each group.
    is_sending: Vec<bool>,
    /// The redirect server, if there is one.
    calls: Option<Redirecting>,
    /// What it is to a pair of controllers, if there is one.
    witness: Option<Witnessing>,
}

impl Daemon {
    async fn open(config: &Config, keys: KeyRing) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let interface = Interface::find(&config.beacon.interface)?;
        let sockets = Sockets::open(config.beacon.clone(), interface, &config.lb.status)?;
        let seed = || random::seed().context("no randomness");
        let server = config.sip.server;
        let prober = if config.sip.probe {
            Prober::asking(server, config.sip.probe_interval, clock.now(), seed()?).await?
        } else {
            Prober::Trusting
        };
        let calls = Redirecting::open(config, keys.clone(), clock.now(), seed()?)?;
        let epoch = epoch::begin(&config.state_dir)?;
        let witness = Witnessing::open(config, &keys, epoch, clock.now())?;
        let mut node = Node::new(
            config,
            keys,
            epoch,
            sockets.addresses(),
            clock.now(),
            seed()?,
        );
        node.set_lbs(&config.lb.status)?;
        Ok(Self {
            // At once, as the own address is to be among them.
            look_at: clock.now(),
            clock,
            node,
            prober,
            server,
            sockets,
            state_dir: config.state_dir.clone(),
            keys: config.keys.clone(),
            kept_epoch: epoch,
            is_keeping_hard: false,
            is_sending: vec![true; Sockets::group_count(&config.beacon)],
            calls,
            witness,
        })
    }

    async fn serve(
        &mut self,
        mut questions: mpsc::Receiver<Question>,
        mut hangups: Signal,
        mut shutdown: Shutdown,
    ) {
        loop {
            self.advance().await;
            let now = self.clock.now();
            let mut due = self.node.next_timeout(now).min(self.look_at);
            if let Some(calls) = &self.calls {
                due = due.min(calls.next_timeout(now));
            }
            if let Some(at) = self.witness.as_ref().and_then(|it| it.next_timeout(now)) {
                due = due.min(at);
            }
            let timeout = self
                .prober
                .next_timeout()
                .map_or(due, |probe| probe.min(due));
            tokio::select! {
                () = shutdown.requested() => return,
                _ = hangups.recv() => self.reload_keys(),
                () = tokio::time::sleep_until(self.clock.instant(timeout)) => {}
                () = self.prober.listen(&self.clock) => {}
                received = self.sockets.receive() => match received {
                    Ok(datagram) => {
                        let (now, from) = (self.clock.now(), datagram.from);
                        if let Some(witness) = &mut self.witness
                            && Witnessing::is_for(datagram.bytes)
                        {
                            witness.receive(now, from.ip(), datagram.bytes);
                            continue;
                        }
                        let answer = self.node.receive(now, from.ip(), datagram.bytes);
                        if let Some(calls) = &mut self.calls {
                            calls.hear(now, self.node.map(), datagram.bytes);
                        }
                        if let Some(answer) = answer {
                            self.answer(from, answer).await;
                        }
                    }
                    // News of a datagram sent earlier (its receiver is gone, say): nothing to do.
                    Err(error) => tracing::debug!(%error, "cannot receive on the status plane"),
                },
                () = ready(&mut self.calls) => {
                    if let Some(calls) = &mut self.calls {
                        calls.sip.turn(&self.clock, self.node.map());
                    }
                }
                () = has_news(&mut self.witness) => {}
                Some(question) = questions.recv() => self.say(question),
            }
        }
    }

    /// Another key file, all of it or none.
    fn reload_keys(&mut self) {
        match lb_net::keys::read(&self.keys) {
            Ok(keys) => {
                let sending = keys.sending().id;
                if let Some(calls) = &mut self.calls {
                    calls.sip.core.set_keys(keys.clone());
                }
                if let Some(witness) = &mut self.witness {
                    witness.set_keys(&keys);
                }
                self.node.set_keys(keys);
                tracing::info!(sending, "read the key file again");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the key file is wrong: the keys stay as they were");
            }
        }
    }

    /// Says farewell, so that nobody needs to miss this node.
    async fn stop(&mut self) {
        let beacons = self.node.farewell();
        self.announce_all(beacons).await;
        tracing::info!("stopped");
    }

    /// Lets time pass for all machines, and sends what is due.
    async fn advance(&mut self) {
        if self.clock.now() >= self.look_at {
            self.look_at = self.clock.now() + LOOK_AT_ADDRESSES;
            self.node.set_addresses(self.addresses());
        }
        self.prober.advance(self.clock.now()).await;
        let before = self.node.mood();
        let beacons = self.node.follow(self.clock.now(), self.prober.verdict());
        self.announce_all(beacons).await;
        self.advance_calls().await;
        self.advance_witness().await;
        if self.node.mood() != before {
            systemd::status(&self.node.summary());
        }
        while let Some((group, beacon)) = self.node.poll_transmit(self.clock.now()) {
            self.announce(group, beacon).await;
        }
        while let Some((lb, report)) = self.node.poll_report(self.clock.now()) {
            if let Err(error) = self.sockets.send(lb, &report).await {
                tracing::debug!(%error, %lb, "cannot report a call");
            }
        }
        while let Some((call, _)) = self.node.poll_reported(self.clock.now()) {
            if let Some(calls) = &mut self.calls {
                calls.sip.reported(call);
            }
        }
    }

    /// Tells gate and beacons of each other, and carries out what the redirect server wishes.
    async fn advance_calls(&mut self) {
        let Some(calls) = &mut self.calls else { return };
        let now = self.clock.now();
        let status = calls.advance(now, self.prober.verdict());
        for wish in calls.sip.take_wishes() {
            match wish {
                Wish::Report(call) => {
                    if self.node.report_away(now, call).is_err() {
                        calls.sip.reported(call);
                    }
                }
                Wish::Drained => tracing::info!("drained: the last call has gone"),
            }
        }
        let beacons = self.node.govern(now, status);
        self.announce_all(beacons).await;
    }

    /// Lets the witness act, on the calls that there are.
    async fn advance_witness(&mut self) {
        let Some(witness) = &mut self.witness else {
            return;
        };
        let clock = &self.clock;
        let transmits = match &mut self.calls {
            Some(calls) => calls
                .sip
                .ask_for_calls(clock.now(), |calls| witness.turn(clock, calls)),
            None => witness.turn(clock, &mut NoCalls),
        };
        for (to, bytes) in transmits {
            if let Err(error) = self.sockets.send(to, &bytes).await {
                tracing::debug!(%error, %to, "cannot send a control datagram");
            }
        }
    }

    /// The addresses that beacons name: where the redirect server has one of its own, that.
    fn addresses(&self) -> [Address; 2] {
        let [mut v4, mut v6] = self.sockets.addresses();
        match self
            .calls
            .as_ref()
            .map(|calls| calls.sip.core.ways().advertise().ip())
        {
            Some(ip) if ip.is_ipv4() => v4 = ip.into(),
            Some(ip) => v6 = ip.into(),
            None => {}
        }
        [v4, v6]
    }

    /// Answers. Who asked may have lost patience meanwhile.
    fn say(&mut self, question: Question) {
        let now = self.clock.now();
        match question {
            Question::Overview(answer) => {
                let overview = self.overview();
                let _ = answer.send(overview);
            }
            Question::Calls(after, answer) => {
                let calls = self.calls.as_ref();
                let _ = answer.send(calls.map(|calls| calls.sip.core.page(now, after, PAGE)));
            }
            Question::Drain(deadline, answer) => {
                if let Some(calls) = &mut self.calls {
                    tracing::info!(?deadline, "draining: new calls are offered elsewhere");
                    calls.sip.drain(now, deadline);
                }
                let _ = answer.send(self.calls.is_some());
            }
            Question::Undrain(answer) => {
                if let Some(calls) = &mut self.calls {
                    tracing::info!("taking calls again");
                    calls.sip.core.undrain();
                }
                let _ = answer.send(self.calls.is_some());
            }
        }
    }

    fn overview(&mut self) -> Overview {
        let (report, now) = (self.report(), self.clock.now());
        let redirect = self
            .calls
            .as_mut()
            .map(|calls| Redirect::of(&mut calls.sip, now));
        let witness = self.witness.as_ref().map(|witness| witness.report(now));
        Overview {
            report,
            redirect,
            witness,
        }
    }

    /// Sends each group its beacon.
    async fn announce_all(&mut self, beacons: Vec<BeaconBytes>) {
        for (group, beacon) in beacons.into_iter().enumerate() {
            self.announce(group, beacon).await;
        }
    }

    async fn announce(&mut self, group: usize, beacon: BeaconBytes) {
        self.keep_epoch();
        let sent = self.sockets.announce(group, &beacon).await;
        if sent.is_ok() {
            self.node.note_sent(&beacon);
        }
        self.note(group, sent);
    }

    async fn answer(&mut self, to: SocketAddr, answer: BeaconBytes) {
        self.keep_epoch();
        match self.sockets.send(to, &answer).await {
            Ok(()) => self.node.sent.answers += 1,
            Err(error) => {
                tracing::debug!(%error, %to, "cannot answer a query");
                self.node.sent.failed += 1;
            }
        }
    }

    /// Counts failures to send; logs when they begin and end, not each of them.
    fn note(&mut self, group: usize, sent: io::Result<()>) {
        self.node.sent.failed += u64::from(sent.is_err());
        let (Some(is_sending), Some(group)) =
            (self.is_sending.get_mut(group), self.sockets.group(group))
        else {
            return;
        };
        let was_sending = std::mem::replace(is_sending, sent.is_ok());
        match sent {
            Ok(()) if was_sending => {}
            Ok(()) => tracing::info!(%group, "beacons go out again"),
            Err(error) if was_sending => tracing::warn!(%group, %error, "beacons do not go out"),
            Err(_) => {}
        }
    }

    /// A new epoch is kept before anything of it goes out. There is one when a greater one is held of
    /// this node by others, and when sequence numbers have run out, after years.
    fn keep_epoch(&mut self) {
        let epoch = self.node.epoch();
        if epoch == self.kept_epoch {
            return;
        }
        match epoch::keep(&self.state_dir, epoch) {
            Ok(()) => self.kept_epoch = epoch,
            // Still good until the next boot, which goes by the clock, or asks again.
            Err(error) if !self.is_keeping_hard => {
                tracing::error!(%error, "cannot keep the new epoch");
                self.is_keeping_hard = true;
            }
            Err(_) => {}
        }
    }

    fn report(&self) -> Report {
        let now = self.clock.now();
        let verdict = self.prober.verdict();
        let (last, missed) = self.prober.last();
        let is_trusted = matches!(self.prober, Prober::Trusting);
        let server = SipServer {
            address: self.server,
            verdict: if is_trusted {
                "trusted"
            } else {
                node::name(verdict)
            }
            .to_owned(),
            overloaded_for_ms: match verdict {
                Verdict::Overloaded { until } => Some(milliseconds(until.saturating_sub(now))),
                Verdict::Unknown | Verdict::Alive | Verdict::Dead => None,
            },
            last_status: last.map(|last| last.status),
            last_answer_age_ms: last.map(|last| milliseconds(now.saturating_sub(last.at))),
            answer_ms: last.map(|last| last.took.as_secs_f64() * 1000.0),
            missed,
        };
        self.node.report(now, server)
    }
}
