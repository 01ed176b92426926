//! What the controller's machine wants done: the data plane turned, VIPs moved, terms kept, datagrams sent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lb_net::link::Identity;
use lb_proto::call_state::collector::Mode;
use lb_proto::failover::controller::Output;
use lb_proto::failover::wire::{self, Role};
use lb_proto::failover::{Party, Term};
use tokio::time::Instant;

use super::{PairTask, carry};
use crate::pair::{electors, term};
use crate::plane::AccessError;
use crate::takeover::Moved;
use crate::turn;

/// Longer than a keep-alive takes from the program to this task, so that a true one has been heard.
const OUTBID_AFTER: Duration = Duration::from_millis(20);

/// What was to be kept on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    Term(Term),
    /// What had this number.
    Electors(u32),
}

impl PairTask {
    /// The program gives way to whoever has the key and names a later term. A main that is not deposed by
    /// that goes on above it: nobody reigns in that term, or the nodes say who does.
    pub(super) fn outbid(&mut self) {
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

    pub(super) fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { to, bytes } => self.send(to, &bytes),
                Output::Persist { term } => {
                    self.next_term = Some(term);
                    self.keep_next();
                }
                Output::KeepElectors => {
                    self.next_electors = Some(self.machine.electors());
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
                    let Some(at) = self.place(Party::Controller(from)) else {
                        continue;
                    };
                    if self.fetching.is_empty() {
                        tracing::info!(%from, version, "fetching a newer configuration");
                        let endpoint = self.endpoint.clone();
                        let peer = Identity::Controller(from.get().into());
                        let fetched = carry::fetch(endpoint, peer, at, self.own);
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

    /// Keeps what is to be kept, one after the other: a later one must not be overtaken.
    fn keep_next(&mut self) {
        if !self.keeping.is_empty() {
            return;
        }
        let state_dir = self.state_dir.clone();
        if let Some(term) = self.next_term.take() {
            self.keeping
                .spawn_blocking(move || (Kept::Term(term), term::keep(&state_dir, term)));
        } else if let Some((number, nodes)) = self.next_electors.take() {
            let cluster = self.cluster;
            self.keeping.spawn_blocking(move || {
                let result = electors::keep(&state_dir, cluster, &nodes);
                (Kept::Electors(number), result)
            });
        }
    }

    pub(super) fn kept(&mut self, kept: Kept, result: io::Result<()>) {
        let now = self.now();
        let path = self.state_dir.display();
        match (kept, result) {
            (Kept::Term(term), Ok(())) => self.machine.persisted(now, term),
            (Kept::Term(term), Err(error)) => {
                tracing::error!(%error, %path, "cannot keep a term: it is not asked for");
                self.machine.persist_failed(now, term);
            }
            (Kept::Electors(number), Ok(())) => {
                self.said_unkept = false;
                self.machine.electors_kept(now, number);
            }
            (Kept::Electors(number), Err(error)) => {
                if !std::mem::replace(&mut self.said_unkept, true) {
                    tracing::error!(
                        %error,
                        %path,
                        "cannot keep which nodes' leases count: until it can, no change of the nodes comes to its end"
                    );
                }
                self.machine.electors_not_kept(now, number);
            }
        }
        self.keep_next();
    }

    /// Somebody's status port.
    fn place(&self, of: Party) -> Option<SocketAddr> {
        let address = self.machine.members().addresses(of)?.first()?;
        Some(SocketAddr::new(*address, self.port))
    }

    fn send(&self, to: Party, bytes: &wire::Bytes) {
        let Some(at) = self.place(to) else {
            return;
        };
        if let Err(error) = self.socket.try_send_to(bytes, at) {
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
    pub(super) fn give_way(&mut self) {
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
}

pub(super) fn say_moved(what: &str, moved: &Moved) {
    if !moved.failed.is_empty() {
        tracing::error!("VIPs {what}: {moved}");
    } else if !moved.changed.is_empty() {
        tracing::info!("VIPs {what}: {moved}");
    }
}
