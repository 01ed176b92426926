//! Datagrams whose node's link address is not known yet.
//!
//! ```text
//!  hold ──► waiting ── the address becomes known ──► released, in order
//!              └────── patience ends ──────────────► lost
//! ```
//! The first datagram to a node finds no neighbour entry; the kernel's own stack would queue it for
//! as long as it asks (RFC 4861 §7.2.2 wants at least one to wait), so this does too. A full queue
//! turns newcomers away: what waits longest is what a client has not yet repeated.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::Headers;

/// How long a datagram waits. Chosen: twice the T1 of SIP (RFC 3261 §17.1.1.1), after which the
/// client has repeated it anyway; asking for a neighbour takes milliseconds when it is there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How often to look whether an address has become known.
pub(crate) const INTERVAL: Duration = Duration::from_millis(20);

const MAX_DATAGRAMS: usize = 256;
const MAX_BYTES: usize = 1 << 20;

/// A datagram that waits.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) node: u16,
    pub(crate) headers: Headers,
    pub(crate) payload: Vec<u8>,
    pub(crate) since: Instant,
}

/// What came of a look at those that wait.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// Those that can be sent now, in the order in which they came.
    pub(crate) ready: Vec<Held>,
    /// How many have waited too long.
    pub(crate) expired: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queue: VecDeque<Held>,
    bytes: usize,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a datagram to this node waits, so that others must queue behind it.
    pub(crate) fn has(&self, node: u16) -> bool {
        self.queue.iter().any(|held| held.node == node)
    }

    /// Takes a datagram; false when there is no room.
    pub(crate) fn hold(&mut self, held: Held) -> bool {
        let bytes = self.bytes + held.payload.len();
        if self.queue.len() == MAX_DATAGRAMS || bytes > MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.queue.push_back(held);
        true
    }

    /// Lets go what can be sent and what has waited too long.
    pub(crate) fn release(&mut self, now: Instant, is_reachable: impl Fn(u16) -> bool) -> Released {
        let mut released = Released::default();
        for held in std::mem::take(&mut self.queue) {
            if is_reachable(held.node) {
                released.ready.push(held);
            } else if now.saturating_duration_since(held.since) >= PATIENCE {
                released.expired += 1;
            } else {
                self.queue.push_back(held);
            }
        }
        self.bytes = self.queue.iter().map(|held| held.payload.len()).sum();
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn held(node: u16, since: Instant, len: usize) -> Held {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let headers = Headers {
            client: address,
            vip: address,
            hop_limit: 64,
            traffic_class: 0,
            identification: 0,
        };
        Held {
            node,
            headers,
            payload: vec![0; len],
            since,
        }
    }

    #[test]
    fn what_waits_goes_in_order_once_its_node_is_known() {
        let start = Instant::now();
        let mut waiting = Waiting::default();
        for (len, node) in [1, 2, 1, 2, 1].into_iter().enumerate() {
            assert!(waiting.hold(held(node, start, len)));
        }
        let released = waiting.release(start, |node| node == 1);
        let lens: Vec<usize> = released
            .ready
            .iter()
            .map(|held| held.payload.len())
            .collect();
        assert_eq!((lens, released.expired), (vec![0, 2, 4], 0));
        assert!(waiting.has(2) && !waiting.has(1));
    }

    #[test]
    fn patience_ends() {
        let start = Instant::now();
        let mut waiting = Waiting::default();
        assert!(waiting.hold(held(1, start, 10)));
        assert!(waiting.hold(held(1, start + Duration::from_millis(1), 10)));
        let released = waiting.release(start + PATIENCE, |_| false);
        assert_eq!((released.ready.len(), released.expired), (0, 1));
        assert_eq!(waiting.bytes, 10);
        assert_eq!(waiting.release(start + 2 * PATIENCE, |_| false).expired, 1);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_full_queue_turns_newcomers_away() {
        let start = Instant::now();
        let mut waiting = Waiting::default();
        for _ in 0..MAX_DATAGRAMS {
            assert!(waiting.hold(held(1, start, 1)));
        }
        assert!(!waiting.hold(held(1, start, 1)));
        let mut waiting = Waiting::default();
        for _ in 0..MAX_BYTES / 60_000 {
            assert!(waiting.hold(held(1, start, 60_000)));
        }
        assert!(!waiting.hold(held(1, start, 60_000)));
        assert!(waiting.hold(held(1, start, 100)));
    }
}
