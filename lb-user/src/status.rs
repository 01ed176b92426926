//! The controller's side of the status plane: it hears beacons, asks those that fall silent, and
//! says `Down` when they do not answer.
//!
//! The program judges by itself, per packet, and is right with this task dead. What it cannot do is
//! ask: so this task confirms a silence within some tens of milliseconds after the hold time, where
//! the program alone waits for ten periods, and makes nodes that flap wait before they are `Up`
//! again. It speaks to the program through `down_at` and `blocked_until` of `NODES`.
//!
//! Beacons reach the sockets here only after the program has verified them; they are verified again,
//! because on other interfaces there is no program.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use lb_common::beacon::BEACON_LEN;
use lb_common::maps::Node;
use lb_net::interface::{Interface, InterfaceError};
use lb_net::multicast::{self, MulticastError};
use lb_proto::keys::KeyRing;
use lb_proto::status::judge::{Action, Judge};
use lb_proto::status::map::{AvailabilityMap, Membership};
use lb_proto::status::query::Query;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use crate::config::{Config, NodeConfig};
use crate::plane::clock::Clock;
use crate::plane::{AccessError, Maps};

/// A status datagram is as long as a beacon; longer ones are cut off and refused.
const BUFFER: usize = BEACON_LEN as usize + 1;
/// Datagrams read from one socket before the others get their turn. A flood cannot keep the judge
/// from judging.
const PORTION: usize = 256;

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

/// What the status task has seen, for `/metrics`.
#[derive(Debug, Default)]
pub struct StatusCounts {
    is_plane_broken: AtomicBool,
    accepted: AtomicU64,
    refused: AtomicU64,
    queries: AtomicU64,
    downs: AtomicU64,
    stalls: AtomicU64,
}

macro_rules! counts {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        $($(#[$doc])+
        pub fn $name(&self) -> u64 {
            self.$name.load(Ordering::Relaxed)
        })+
    };
}

impl StatusCounts {
    /// Whether nobody at all is heard: staleness is ignored, and somebody should look.
    pub fn is_plane_broken(&self) -> bool {
        self.is_plane_broken.load(Ordering::Relaxed)
    }

    counts! {
        /// Beacons that userspace took.
        accepted,
        /// Datagrams on the status port that userspace refused.
        refused,
        /// Questions asked of silent nodes.
        queries,
        /// Times that a node was declared `Down`.
        downs,
        /// Times that this process itself did not run for so long that it could not judge others.
        stalls,
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The sockets of the status plane.
struct Sockets {
    /// One for each group and interface.
    listeners: Vec<UdpSocket>,
    /// One for each family; they also hear the answers.
    speakers: Vec<UdpSocket>,
}

impl Sockets {
    fn open(config: &Config) -> Result<Self, StatusError> {
        let interfaces: Vec<Interface> = config
            .interfaces
            .iter()
            .map(|wanted| Interface::find(&wanted.name))
            .collect::<Result<_, _>>()?;
        let (groups, port) = (&config.status.groups, config.status.port);
        let mut listeners = Vec::new();
        for interface in &interfaces {
            for group in groups {
                listeners.push(multicast::listen(*group, port, interface)?);
            }
        }
        let mut speakers = Vec::new();
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        for local in any {
            let is_needed = config
                .speaking_nodes()
                .any(|node| node.address.is_ipv4() == local.is_ipv4());
            if let Some(interface) = interfaces.first().filter(|_| is_needed) {
                speakers.push(multicast::speak(local, port, interface)?);
            }
        }
        Ok(Self {
            listeners,
            speakers,
        })
    }

    fn all(&self) -> impl Iterator<Item = &UdpSocket> {
        self.listeners.iter().chain(&self.speakers)
    }

    /// Waits until one of them has something.
    async fn readable(&self) {
        poll_fn(|context| {
            // All are polled, so that all wake this task.
            let ready = self
                .all()
                .filter(|socket| socket.poll_recv_ready(context).is_ready());
            if ready.count() > 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let is_fit = |socket: &&UdpSocket| {
            socket
                .local_addr()
                .is_ok_and(|local| local.is_ipv4() == to.is_ipv4())
        };
        match self.speakers.iter().find(is_fit) {
            Some(speaker) => speaker.try_send_to(bytes, to).map(drop),
            None => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
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
    keys: KeyRing,
    cluster: u32,
    port: u16,
    addresses: BTreeMap<u16, IpAddr>,
    map: AvailabilityMap,
    judge: Judge,
}

impl StatusTask {
    /// Opens the sockets and takes over what an earlier controller has said of nodes. Needs a tokio
    /// runtime around it.
    ///
    /// # Errors
    /// [`StatusError`].
    pub fn open(
        config: &Config,
        keys: &KeyRing,
        maps: Arc<Maps>,
        clock: Arc<Clock>,
        counts: Arc<StatusCounts>,
    ) -> Result<Self, StatusError> {
        let timing = config.status.timing;
        let seed = lb_net::random::seed().map_err(StatusError::Random)?;
        let mut task = Self {
            maps,
            clock,
            counts,
            sockets: Sockets::open(config)?,
            origin: Instant::now(),
            keys: keys.clone(),
            cluster: config.cluster,
            port: config.status.port,
            addresses: addresses(config.speaking_nodes()),
            map: AvailabilityMap::new(
                config.cluster,
                keys.beacons().to_vec(),
                timing,
                Membership::Configured,
            ),
            judge: Judge::new(timing, Duration::ZERO, seed),
        };
        let ids: Vec<u16> = task.addresses.keys().copied().collect();
        task.map.configure(&ids);
        task.judge.configure(Duration::ZERO, &ids);
        task.counts.is_plane_broken.store(false, Ordering::Relaxed);
        for id in ids {
            task.take_over(id);
        }
        Ok(task)
    }

    /// A node that an earlier controller has declared `Down` is so until it has shown otherwise.
    fn take_over(&mut self, id: u16) {
        let Ok(node) = self.maps.node(id) else { return };
        if node.flags & Node::JUDGED == 0 {
            return;
        }
        let left = node.blocked_until.saturating_sub(self.clock.now());
        let blocked_until = self.now() + self.clock.duration(left);
        self.judge.resume_down(id, blocked_until);
        tracing::info!(
            node = id,
            "was declared Down by an earlier controller, and stays so"
        );
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Serves until the future is dropped; what the program was told stays.
    pub async fn run(mut self) {
        let mut buffer = [0; BUFFER];
        loop {
            let is_drained = self.listen(&mut buffer);
            if is_drained {
                self.judge();
            }
            let timeout = self.origin + self.judge.next_timeout();
            tokio::select! {
                () = sleep_until(timeout) => {}
                () = self.sockets.readable() => {}
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
                    Ok((len, _from)) => {
                        let bytes = buffer.get(..len).unwrap_or_default();
                        match self.map.receive(now, bytes) {
                            Ok(beacon) => {
                                self.judge.heard(now, beacon.node);
                                count(&self.counts.accepted);
                            }
                            Err(_reason) => count(&self.counts.refused),
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
                    self.counts.is_plane_broken.store(true, Ordering::Relaxed);
                    tracing::error!(
                        "no node is heard at all: the status plane is broken (multicast? the key \
                         file? the port?); staleness is ignored until somebody is heard"
                    );
                }
                Action::PlaneMended => {
                    self.counts.is_plane_broken.store(false, Ordering::Relaxed);
                    tracing::info!("nodes are heard again");
                }
                Action::Stalled(gap) => {
                    count(&self.counts.stalls);
                    let gap_ms = gap.as_millis() as u64;
                    tracing::warn!(gap_ms, "this process did not run: nobody is judged by it");
                }
            }
        }
    }

    fn ask(&self, node: u16, nonce: u64) {
        let Some(address) = self.addresses.get(&node) else {
            return;
        };
        let key = self.keys.sending();
        let query = Query {
            cluster: self.cluster,
            node,
            key_id: key.id,
            nonce,
        };
        count(&self.counts.queries);
        let to = SocketAddr::new(*address, self.port);
        if let Err(error) = self.sockets.send(&query.write(key.key), to) {
            tracing::debug!(node, %error, "cannot ask");
        }
    }

    fn declare_down(&self, id: u16, blocked_until: Duration) {
        count(&self.counts.downs);
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

fn addresses<'a>(nodes: impl Iterator<Item = &'a NodeConfig>) -> BTreeMap<u16, IpAddr> {
    nodes.map(|node| (node.id, node.address)).collect()
}

fn report(id: u16, error: &AccessError) {
    tracing::error!(
        node = id,
        error = error as &dyn std::error::Error,
        "cannot tell the program"
    );
}
