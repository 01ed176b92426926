//! The task that carries deferred datagrams to their nodes.

use std::collections::HashSet;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use lb_common::Reason;
use lb_common::maps::{NO_NODE, Node};
use tokio::sync::watch;

use super::counters::{Counters, Loss};
use super::frame::{self, FrameError, Headers, Link};
use super::origin::admit;
use super::sockets::{FrameSocket, OpenError, VipSocket};
use super::system::Received;
use super::view::steer_by_maps;
use super::waiting::{self, Held, Waiting};
use crate::plane::Maps;
use crate::plane::clock::Clock;

/// No UDP datagram is longer.
const BUFFER: usize = 65_536;
/// Datagrams read before other tasks get their turn.
const BATCH: usize = 64;

/// The userspace path: its sockets, and what waits in it.
///
/// Opened while the process still has its capabilities; works without any afterwards.
pub struct Deferred {
    vips: Vec<VipSocket>,
    sender: Sender,
    buffer: Box<[u8]>,
    /// Where the next batch starts, so that no VIP starves the others.
    turn: usize,
}

impl Deferred {
    /// Opens a socket on every VIP, and one for frames. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`OpenError`], naming the VIP.
    pub fn open(
        vips: &[SocketAddr],
        maps: Arc<Maps>,
        clock: Arc<Clock>,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            vips: vips
                .iter()
                .map(|vip| VipSocket::open(*vip))
                .collect::<Result<_, _>>()?,
            sender: Sender {
                maps,
                clock,
                frames: FrameSocket::open()?,
                vips: vips.iter().copied().collect(),
                waiting: Waiting::default(),
                counters: Arc::default(),
                identification: rand_seed(),
            },
            buffer: vec![0; BUFFER].into_boxed_slice(),
            turn: 0,
        })
    }

    /// The counters, for `/metrics`.
    pub fn counters(&self) -> Arc<Counters> {
        self.sender.counters.clone()
    }

    /// Serves until the future is dropped; that loses the datagrams that wait for a link address, a
    /// second's worth at most. `vips` says which VIPs there are after a reload; its sender may go.
    pub async fn run(mut self, mut vips: watch::Receiver<Vec<SocketAddr>>) {
        let mut reloads = true;
        loop {
            let somebody_waits = !self.sender.waiting.is_empty();
            tokio::select! {
                changed = vips.changed(), if reloads => match changed {
                    Ok(()) => {
                        let now = vips.borrow_and_update().clone();
                        self.listen(&now);
                    }
                    Err(_) => reloads = false,
                },
                () = tokio::time::sleep(waiting::INTERVAL), if somebody_waits => {}
                () = poll_fn(|context| self.poll_batch(context)) => {
                    tokio::task::yield_now().await;
                }
            }
            self.sender.release(Instant::now());
        }
    }

    /// Listens on these VIPs and no others. One that cannot be listened on is told and left out: the
    /// others go on.
    fn listen(&mut self, vips: &[SocketAddr]) {
        self.vips.retain(|socket| vips.contains(&socket.vip()));
        for vip in vips {
            if self.vips.iter().any(|socket| socket.vip() == *vip) {
                continue;
            }
            match VipSocket::open(*vip) {
                Ok(socket) => self.vips.push(socket),
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "VIP"),
            }
        }
        self.sender.vips = vips.iter().copied().collect();
    }

    /// Reads datagrams, at least one, at most a batch, and passes them on.
    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut read = 0;
        // Sockets in a row that had nothing.
        let mut quiet = 0;
        while read < BATCH && quiet < self.vips.len() {
            self.turn = (self.turn + 1) % self.vips.len();
            let Some(socket) = self.vips.get_mut(self.turn) else {
                break;
            };
            match socket.poll_receive(context, &mut self.buffer) {
                Poll::Ready(Ok(received)) => {
                    (read, quiet) = (read + 1, 0);
                    let lost = socket.newly_lost(&received);
                    self.sender.counters.lost(Loss::QueueFull, lost);
                    if let Some(payload) = self.buffer.get(..received.len) {
                        self.sender.take(socket.vip(), &received, payload);
                    }
                }
                // Nothing that a UDP socket reports is worth ending for; what it was is gone.
                Poll::Ready(Err(_)) => (read, quiet) = (read + 1, 0),
                Poll::Pending => quiet += 1,
            }
        }
        if read > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Where this life's identifications begin: fragments of an earlier one may still be on their way.
fn rand_seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}

/// Steers datagrams and sends them on.
struct Sender {
    maps: Arc<Maps>,
    clock: Arc<Clock>,
    frames: FrameSocket,
    vips: HashSet<SocketAddr>,
    waiting: Waiting,
    counters: Arc<Counters>,
    identification: u32,
}

impl Sender {
    fn take(&mut self, vip: SocketAddr, received: &Received, payload: &[u8]) {
        if let Err(loss) = self.steer(vip, received, payload) {
            self.counters.lost(loss, 1);
        }
    }

    fn steer(&mut self, vip: SocketAddr, received: &Received, payload: &[u8]) -> Result<(), Loss> {
        let client = received.source;
        admit(client, received.hop_limit, |address| {
            self.vips.contains(&address)
        })?;
        let steering = steer_by_maps(&self.maps, self.clock.now(), client, payload)
            .map_err(|_| Loss::NoMap)?;
        if steering.node == NO_NODE {
            return Err(match steering.reason {
                Reason::Passive => Loss::Passive,
                Reason::Gathering => Loss::Gathering,
                _ => Loss::NoNode,
            });
        }
        self.counters.steered(&steering);
        self.identification = self.identification.wrapping_add(1);
        let headers = Headers {
            client,
            vip,
            hop_limit: received.hop_limit,
            traffic_class: received.traffic_class,
            identification: self.identification,
        };
        let node = self.maps.node(steering.node).map_err(|_| Loss::NoMap)?;
        if node.is_reachable() && !self.waiting.has(steering.node) {
            return self.send(&node, &headers, payload);
        }
        self.counters.held();
        let held = Held {
            node: steering.node,
            headers,
            payload: payload.to_vec(),
            since: Instant::now(),
        };
        if self.waiting.hold(held) {
            Ok(())
        } else {
            Err(Loss::WaitingFull)
        }
    }

    fn send(&self, node: &Node, headers: &Headers, payload: &[u8]) -> Result<(), Loss> {
        let mtu = self.frames.mtu(node.ifindex).map_err(|_| Loss::Unsent)?;
        let link = Link {
            destination: node.destination_mac,
            source: node.source_mac,
            mtu,
        };
        if !leads_away(&link) {
            return Err(Loss::NoNeighbour);
        }
        let frames = frame::build(&link, headers, payload).map_err(|error| match error {
            FrameError::HopLimit => Loss::HopLimit,
            FrameError::MixedFamilies | FrameError::TooLong(_) | FrameError::SmallMtu(_) => {
                Loss::Unframed
            }
        })?;
        for frame in &frames {
            self.frames
                .send(node.ifindex, frame)
                .map_err(|_| Loss::Unsent)?;
        }
        self.counters.sent(frames.len());
        Ok(())
    }

    /// Sends what waits for link addresses that have become known.
    fn release(&mut self, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        let maps = &self.maps;
        let reachable = |id| maps.node(id).is_ok_and(|node| node.is_reachable());
        let released = self.waiting.release(now, reachable);
        self.counters.lost(Loss::NoNeighbour, released.expired);
        for held in released.ready {
            let sent = match self.maps.node(held.node) {
                Ok(node) => self.send(&node, &held.headers, &held.payload),
                Err(_) => Err(Loss::NoMap),
            };
            if let Err(loss) = sent {
                self.counters.lost(loss, 1);
            }
        }
    }
}

/// Whether a link leads to another machine: not to all of them, and not back to this one.
fn leads_away(link: &Link) -> bool {
    let [first, ..] = link.destination;
    first & 1 == 0 && link.destination != [0; 6] && link.destination != link.source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_back_or_to_everybody_are_told_apart() {
        let link = |destination| Link {
            destination,
            source: [2, 0, 0, 0, 0, 1],
            mtu: 1_500,
        };
        assert!(leads_away(&link([2, 0, 0, 0, 0, 2])));
        for destination in [[2, 0, 0, 0, 0, 1], [0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            assert!(!leads_away(&link(destination)));
        }
    }
}
