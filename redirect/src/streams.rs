//! The TCP streams that are open, and how many each peer has.
//!
//! A stream costs a file descriptor and a task. So there is a most of them in all, and a most for each
//! peer's address, or one host could keep all others out.

use bytes::Bytes;
use std::collections::HashMap;
use std::net::IpAddr;
use tokio::sync::mpsc;

/// Streams at a time. One more is closed at once.
const MOST: usize = 4096;
/// Streams of one address at a time, likewise. A switch needs a few, and so do the phones behind one
/// address translator; chosen: 16 such peers fill the node.
const MOST_OF_PEER: usize = 256;
/// Messages that wait for one stream. One more is dropped and counted: its peer does not read.
const WAITING: usize = 128;

#[derive(Debug)]
struct Stream {
    peer: IpAddr,
    writer: mpsc::Sender<Bytes>,
}

/// All of them, by numbers that are not used again.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: HashMap<u32, Stream>,
    /// How many each peer has; those with none are not here.
    peers: HashMap<IpAddr, usize>,
    last: u32,
}

impl Streams {
    /// Takes one more: its number, and what is to be written to it. `None` when there are enough of
    /// them, or of this peer's.
    pub(crate) fn open(&mut self, peer: IpAddr) -> Option<(u32, mpsc::Receiver<Bytes>)> {
        let of_peer = self.peers.get(&peer).copied().unwrap_or_default();
        if self.open.len() >= MOST || of_peer >= MOST_OF_PEER {
            return None;
        }
        self.peers.insert(peer, of_peer + 1);
        self.last = self.last.wrapping_add(1);
        let (writer, bytes) = mpsc::channel(WAITING);
        self.open.insert(self.last, Stream { peer, writer });
        Some((self.last, bytes))
    }

    /// Writes to one. Whether it is there and keeps up.
    pub(crate) fn write(&self, number: u32, bytes: Bytes) -> bool {
        let stream = self.open.get(&number);
        stream.is_some_and(|stream| stream.writer.try_send(bytes).is_ok())
    }

    /// One has ended.
    pub(crate) fn close(&mut self, number: u32) {
        let Some(Stream { peer, .. }) = self.open.remove(&number) else {
            return;
        };
        if let Some(of_peer) = self.peers.get_mut(&peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn peer(number: usize) -> IpAddr {
        Ipv4Addr::from(0xc000_0200 + number as u32).into()
    }

    #[test]
    fn one_peer_keeps_no_other_out() {
        let mut streams = Streams::default();
        let greedy: Vec<_> = (0..MOST).map_while(|_| streams.open(peer(0))).collect();
        assert_eq!(greedy.len(), MOST_OF_PEER);
        assert!(streams.open(peer(1)).is_some());
        // One that ends makes room for one, however often that is said.
        streams.close(greedy[0].0);
        streams.close(greedy[0].0);
        assert!(streams.open(peer(0)).is_some());
        assert!(streams.open(peer(0)).is_none());
    }

    #[test]
    fn there_is_an_end_to_all_of_them() {
        let mut streams = Streams::default();
        let open = (0..2 * MOST).filter_map(|number| streams.open(peer(number / 2)));
        let open: Vec<_> = open.collect();
        assert_eq!(open.len(), MOST);
        for (number, _) in &open {
            streams.close(*number);
        }
        assert!(streams.open.is_empty() && streams.peers.is_empty());
    }

    #[test]
    fn what_a_peer_does_not_read_is_dropped() {
        let mut streams = Streams::default();
        let (number, mut bytes) = streams.open(peer(0)).expect("the first");
        let text = Bytes::from_static(b"x");
        let written = (0..2 * WAITING).filter(|_| streams.write(number, text.clone()));
        assert_eq!(written.count(), WAITING);
        assert!(bytes.try_recv().is_ok() && streams.write(number, text.clone()));
        streams.close(number);
        assert!(!streams.write(number, text));
    }
}
