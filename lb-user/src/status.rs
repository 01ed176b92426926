//! The controller's side of the status plane: it hears beacons, asks those that fall silent, and
//! says `Down` when they do not answer.
//!
//! The program judges by itself, per packet, and is right with this task dead. What it cannot do is
//! ask: so this task confirms a silence within some tens of milliseconds after the hold time, where
//! the program alone waits for ten periods, and makes nodes that flap wait before they are `Up`
//! again. It speaks to the program through `down_at` and `blocked_until` of the nodes in `TRACKS`.
//!
//! It also pins the calls that nodes have taken away from their homes ([`pin_away`]), and tells nodes
//! that come back with an epoch that is too old which one is held of them.
//!
//! Beacons reach the sockets here only after the program has verified them; they are verified again,
//! because on other interfaces there is no program.

mod away;
mod counts;
mod discoverer;
mod discovery;
mod ear;
mod sockets;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lb_common::beacon::BEACON_LEN;
use lb_common::maps::Node;
use lb_net::interface::InterfaceError;
use lb_net::multicast::MulticastError;
use lb_proto::failover::wire::{Datagram, MAGIC};
use lb_proto::keys::KeyRing;
use lb_proto::status::judge::{Action, Judge};
use lb_proto::status::query::Query;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::config::{Config, NodeConfig};
use crate::pair::Control;
use crate::plan::is_candidate;
use crate::plane::clock::Clock;
use crate::plane::{AccessError, Maps};
pub use away::{end_away, pin_away};
pub use counts::{Reported, StatusCounts};
use discoverer::Discoverer;
use discovery::Reserved;
pub use discovery::{Learnt, NotLearnt};
use ear::{Ear, Heard};
use sockets::Sockets;

/// A status datagram is as long as a beacon; longer ones are cut off and refused.
const BUFFER: usize = BEACON_LEN as usize + 1;
/// Datagrams read from one socket before the others get their turn.
const PORTION: usize = 256;
/// Turns in which the sockets had more to give, after which nodes are judged all the same: a flood
/// cannot keep the judge from judging. No socket holds so many datagrams, so all are read by then that
/// had come when the first turn began.
const MOST_TURNS: u32 = 32;

/// The status plane's sockets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// An interface is not there.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// A group cannot be joined, or a port not be had.
    #[error(transparent)]
    Socket(#[from] MulticastError),
    /// No random numbers.
    #[error("random numbers for queries")]
    Random(#[source] io::Error),
}

/// Who is judged, and whom to believe. Changes lose nothing of what is known of those that stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The keys that are good.
    pub keys: KeyRing,
    /// The nodes that send beacons, and where they are reached: those that are configured, and those
    /// that were learnt.
    pub nodes: BTreeMap<u16, IpAddr>,
    reserved: Reserved,
}

impl Roster {
    /// What a configuration says, with the nodes that were learnt. Those of whom nobody knows where
    /// they are cannot be asked, and are not judged before they are heard.
    pub fn of(config: &Config, learnt: &Learnt, keys: &KeyRing) -> Self {
        let at = |node: &NodeConfig| (node.id, node.address);
        let reserved = Reserved {
            nodes: config.nodes.iter().map(at).collect(),
            addresses: config
                .vips
                .iter()
                .map(SocketAddr::ip)
                .chain(config.status.addresses.iter().copied())
                .collect(),
        };
        let learnt = learnt
            .iter()
            .filter(|(id, _)| !reserved.nodes.contains_key(id))
            .filter_map(|(id, address)| Some((*id, (*address)?)));
        Self {
            keys: keys.clone(),
            nodes: config.speaking_nodes().map(at).chain(learnt).collect(),
            reserved,
        }
    }

    /// Where every node is that may report its calls: nodes that send no beacons are among them.
    fn places(&self) -> BTreeMap<u16, IpAddr> {
        let mut places = self.reserved.nodes.clone();
        places.extend(&self.nodes);
        places
    }
}

/// Listens, judges, and tells the program.
///
/// One task owns it and drives it by [`run`](Self::run). The time of its machines is counted from
/// when it was made, on the monotonic clock.
pub struct StatusTask {
    maps: Arc<Maps>,
    clock: Arc<Clock>,
    counts: Arc<StatusCounts>,
    sockets: Sockets,
    origin: Instant,
    changes: watch::Receiver<Roster>,
    roster: Roster,
    cluster: u32,
    port: u16,
    ear: Ear,
    judge: Judge,
    discoverer: Discoverer,
    control: Option<mpsc::Sender<Control>>,
}

impl StatusTask {
    /// Opens the sockets and takes over what an earlier controller has said of nodes. Needs a tokio
    /// runtime around it. `changes` has the first roster, and brings others; `learnt` has who was
    /// learnt before, and is told of others; `control` is where a pair's control datagrams go.
    ///
    /// # Errors
    /// [`StatusError`].
    pub fn open(
        config: &Config,
        mut changes: watch::Receiver<Roster>,
        (learnt, control): (watch::Sender<Learnt>, Option<mpsc::Sender<Control>>),
        (maps, clock): (Arc<Maps>, Arc<Clock>),
        counts: Arc<StatusCounts>,
    ) -> Result<Self, StatusError> {
        let timing = config.status.timing;
        let seed = lb_net::random::seed().map_err(StatusError::Random)?;
        let sockets = Sockets::open(config)?;
        let roster = changes.borrow_and_update().clone();
        let cluster = config.cluster;
        let discovery = config.status.discovery;
        let ear = Ear::new(
            (cluster, &roster.keys),
            (timing, discovery),
            maps.clone(),
            clock.clone(),
            counts.clone(),
        );
        let mut task = Self {
            maps,
            clock,
            counts: counts.clone(),
            sockets,
            origin: Instant::now(),
            changes,
            cluster,
            port: config.status.port,
            roster: roster.clone(),
            ear,
            judge: Judge::new(timing, Duration::ZERO, seed),
            discoverer: Discoverer::new(discovery, learnt, counts),
            control,
        };
        task.follow(roster);
        task.counts.set_plane_broken(false);
        Ok(task)
    }

    /// Goes by another roster from now on.
    fn follow(&mut self, roster: Roster) {
        let ids: Vec<u16> = roster.nodes.keys().copied().collect();
        self.ear.follow(&roster);
        let is_new = |id: &&u16| self.judge.opinion(**id).is_none();
        let new: Vec<u16> = ids.iter().filter(is_new).copied().collect();
        self.judge.configure(self.now(), &ids);
        self.roster = roster;
        for id in new {
            self.take_over(id);
        }
        self.discoverer.follow(&self.roster.reserved);
    }

    /// A node that was declared `Down` before this judge knew it is so until it has shown otherwise.
    fn take_over(&mut self, id: u16) {
        let Ok(node) = self.maps.node(id) else { return };
        if node.flags & Node::JUDGED == 0 || is_candidate(&node) {
            return;
        }
        let left = node.blocked_until.saturating_sub(self.clock.now());
        let blocked_until = self.now() + self.clock.duration(left);
        self.judge.resume_down(id, blocked_until);
        tracing::info!(
            node = id,
            "was declared Down before, and stays so until it has shown otherwise"
        );
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Serves until the future is dropped; what the program was told stays.
    pub async fn run(mut self) {
        let mut buffer = [0; BUFFER];
        let mut may_reload = true;
        let mut turns = 0;
        loop {
            self.ear.woke(self.origin.elapsed());
            let is_drained = self.listen(&mut buffer);
            turns += 1;
            if is_drained || turns >= MOST_TURNS {
                self.judge();
                self.look();
                turns = 0;
            }
            self.discoverer.tell();
            let timeout = self.origin + self.judge.next_timeout();
            tokio::select! {
                () = sleep_until(timeout) => {}
                () = self.sockets.readable() => {}
                changed = self.changes.changed(), if may_reload => {
                    may_reload = changed.is_ok();
                    let roster = self.changes.borrow_and_update().clone();
                    self.follow(roster);
                }
            }
        }
    }

    /// Takes in what has come. `false`: there is more.
    fn listen(&mut self, buffer: &mut [u8]) -> bool {
        let now = self.origin.elapsed();
        let mut is_drained = true;
        for socket in self.sockets.all() {
            let mut read = 0;
            loop {
                match socket.try_recv_from(buffer) {
                    Ok((len, from)) => {
                        let bytes = buffer.get(..len).unwrap_or_default();
                        let heard = if bytes.starts_with(&MAGIC) {
                            self.pass_on(bytes, from.ip());
                            Heard::Nothing
                        } else {
                            self.ear.take(now, bytes, from)
                        };
                        match heard {
                            Heard::Beacon(beacon, from) => {
                                self.judge.heard(now, beacon.node);
                                self.discoverer.heard(&beacon, from, &self.roster.reserved);
                            }
                            Heard::Answer(answer) => {
                                if let Err(error) = self.sockets.send(&answer, from) {
                                    tracing::debug!(%from, %error, "cannot answer");
                                }
                            }
                            Heard::Nothing => {}
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // What an earlier query met on its way: the silence says it as well.
                    Err(_) => {}
                }
                read += 1;
                if read == PORTION {
                    is_drained = false;
                    break;
                }
            }
        }
        is_drained
    }

    /// A control datagram is for the pair's task. Without one, or when it has fallen behind, it is lost as
    /// any datagram may be. One that is not genuine is for its counters alone, and has half of the queue:
    /// a flood of forgeries crowds out no acknowledgement. One that is played back is genuine here.
    fn pass_on(&self, bytes: &[u8], from: IpAddr) {
        let is_genuine = || Datagram::read(bytes, self.roster.keys.beacons()).is_ok();
        let is_taken = |control: &mpsc::Sender<Control>| {
            let has_room = control.capacity() > control.max_capacity() / 2 || is_genuine();
            let (from, bytes) = (from.to_canonical(), Bytes::copy_from_slice(bytes));
            has_room && control.try_send(Control { from, bytes }).is_ok()
        };
        if !self.control.as_ref().is_some_and(is_taken) {
            self.counts.count_refused();
        }
    }

    /// Forgets learnt nodes that were silent for long, now and then.
    fn look(&mut self) {
        let now = self.now();
        if self.discoverer.look(now) {
            self.ear.map.forget_silent(now);
        }
    }

    fn judge(&mut self) {
        while let Some(action) = self.judge.poll(self.origin.elapsed()) {
            match action {
                Action::Ask { node, nonce } => self.ask(node, nonce),
                Action::Down {
                    node,
                    blocked_until,
                } => self.declare_down(node, blocked_until),
                Action::Up { node } => self.declare_up(node),
                Action::PlaneBroken => {
                    self.counts.set_plane_broken(true);
                    tracing::error!(
                        "no node is heard at all: the status plane is broken (multicast? the key \
                         file? the port?); staleness is ignored until somebody is heard"
                    );
                }
                Action::PlaneMended => {
                    self.counts.set_plane_broken(false);
                    tracing::info!("nodes are heard again");
                }
                Action::Stalled(gap) => {
                    self.counts.count_stall();
                    let gap_ms = gap.as_millis() as u64;
                    tracing::warn!(gap_ms, "this process did not run: nobody is judged by it");
                }
            }
        }
    }

    fn ask(&self, node: u16, nonce: u64) {
        let Some(address) = self.roster.nodes.get(&node) else {
            return;
        };
        let key = self.roster.keys.sending();
        let query = Query {
            cluster: self.cluster,
            node,
            key_id: key.id,
            nonce,
        };
        self.counts.count_query();
        let to = SocketAddr::new(*address, self.port);
        if let Err(error) = self.sockets.send(&query.write(key.key), to) {
            tracing::debug!(node, %error, "cannot ask");
        }
    }

    fn declare_down(&self, id: u16, blocked_until: Duration) {
        self.counts.count_down();
        let now = self.clock.now();
        let wait = blocked_until.saturating_sub(self.now());
        let result = self.change(id, |node| Node {
            flags: node.flags | Node::JUDGED,
            down_at: now,
            blocked_until: now + self.clock.jiffies(wait),
            ..node
        });
        let wait_ms = wait.as_millis() as u64;
        match result {
            Ok(()) => tracing::warn!(node = id, wait_ms, "Down: silent, and did not answer"),
            Err(error) => report(id, &error),
        }
    }

    fn declare_up(&self, id: u16) {
        let result = self.change(id, |node| Node {
            flags: node.flags & !Node::JUDGED,
            down_at: 0,
            blocked_until: 0,
            ..node
        });
        match result {
            Ok(()) => tracing::info!(node = id, "Up again"),
            Err(error) => report(id, &error),
        }
    }

    fn change(&self, id: u16, change: impl FnOnce(Node) -> Node) -> Result<(), AccessError> {
        self.maps.set_node(id, change(self.maps.node(id)?))
    }
}

fn report(id: u16, error: &AccessError) {
    tracing::error!(
        node = id,
        error = error as &dyn std::error::Error,
        "cannot tell the program"
    );
}
