//! What became of each INVITE that came without a To tag, for as long as it may come again.
//!
//! Its copies get what the first one got, whatever this node has become since, and so no copy reaches
//! a second node. And the ACK of a refusal, which comes to this node by its Call-ID whoever refused,
//! is known as such.

use super::Hop;
use super::branch::Transaction;
use super::keyed::KeyedMap;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// How long one is remembered: SIP's longest transaction (RFC 3261 §17: 64 · T1 · 2).
pub(crate) const LIFETIME: Duration = Duration::from_secs(64);

/// INVITEs remembered. When it is full, the oldest is forgotten: 2,000 calls a second fill it in its
/// lifetime. A copy of a forgotten one is judged anew, an ACK of one goes to the SIP server, which
/// knows of no such INVITE.
pub(crate) const CAPACITY: usize = 131_072;

/// Bytes of the messages remembered with them. An INVITE of usual length is handed on in 1 to 2 kB, so
/// that some 40,000 fit; when it is full, the oldest INVITEs are forgotten, too, with messages or not.
pub(crate) const MOST_BYTES: usize = 64 << 20;

/// What became of an INVITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It went on, and its ACK and CANCEL go on too.
    Forwarded,
    /// It was answered by this node, with these bytes.
    Answered { to: Hop, bytes: Bytes },
    /// It was given to another node, in these bytes.
    Relayed { to: Hop, bytes: Bytes },
    /// It went through this node to another, in these bytes, and its ACK and CANCEL go there too.
    Proxied { to: Hop, bytes: Bytes },
}

impl Fate {
    fn bytes(&self) -> usize {
        match self {
            Self::Forwarded => 0,
            Self::Answered { bytes, .. }
            | Self::Relayed { bytes, .. }
            | Self::Proxied { bytes, .. } => bytes.len(),
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Fates {
    capacity: usize,
    most_bytes: usize,
    /// Bytes of the messages in `fates`.
    bytes: usize,
    forgotten: u64,
    fates: KeyedMap<Transaction, Fate>,
    /// In the order of their ends. Each of `fates` is here once.
    ends: VecDeque<(Duration, Transaction)>,
}

impl Fates {
    pub(crate) fn new(capacity: usize, most_bytes: usize) -> Self {
        Self {
            capacity,
            most_bytes,
            bytes: 0,
            forgotten: 0,
            fates: KeyedMap::default(),
            ends: VecDeque::new(),
        }
    }

    /// What became of it, if it came before.
    pub(crate) fn get(&mut self, now: Duration, transaction: Transaction) -> Option<&Fate> {
        self.expire(now);
        self.fates.get(&transaction)
    }

    /// Remembers.
    pub(crate) fn set(&mut self, now: Duration, transaction: Transaction, fate: Fate) {
        self.expire(now);
        self.bytes += fate.bytes();
        match self.fates.insert(transaction, fate) {
            Some(before) => self.bytes -= before.bytes(),
            None => self.ends.push_back((now + LIFETIME, transaction)),
        }
        while self.fates.len() > self.capacity || self.bytes > self.most_bytes {
            self.forget_first();
            self.forgotten += 1;
        }
    }

    /// How many were forgotten before their time, to make room.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn expire(&mut self, now: Duration) {
        while self.ends.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, transaction)) = self.ends.pop_front() {
            let fate = self.fates.remove(&transaction);
            self.bytes -= fate.map_or(0, |fate| fate.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::branch::Branches;
    use super::*;
    use lb_common::siphash::SipKey;
    use lb_sip::Message;

    fn transaction(number: u32) -> Transaction {
        let text = format!(
            "OPTIONS sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{number}\r\n\
             From: <sip:b@c>;tag=1\r\nTo: <sip:a@c>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let message = Message::from_datagram(bytes::Bytes::from(text)).expect("SIP");
        let mut branches = Branches::new(SipKey { k0: 1, k1: 2 });
        let via = message.top_via().expect("a Via");
        branches.transaction(&via, &message).expect("validated")
    }

    #[test]
    fn each_is_remembered_for_64_s() {
        let mut fates = Fates::new(3, 0);
        let last = LIFETIME - Duration::from_nanos(1);
        fates.set(Duration::ZERO, transaction(1), Fate::Forwarded);
        // What becomes of it later does not prolong it.
        fates.set(last, transaction(1), Fate::Forwarded);
        assert!(fates.get(last, transaction(1)).is_some());
        assert!(fates.get(LIFETIME, transaction(1)).is_none());
        assert!(fates.fates.is_empty() && fates.ends.is_empty());
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut fates = Fates::new(3, 0);
        for number in 0..5 {
            fates.set(Duration::ZERO, transaction(number), Fate::Forwarded);
        }
        let known = (0..5).filter(|number| {
            let fate = fates.get(Duration::ZERO, transaction(*number));
            fate.is_some()
        });
        assert_eq!(known.collect::<Vec<u32>>(), [2, 3, 4]);
        assert_eq!((fates.ends.len(), fates.forgotten()), (3, 2));
    }

    /// A fate that keeps a message of this length.
    fn answered(len: usize) -> Fate {
        Fate::Answered {
            to: Hop {
                way: super::super::Way::Datagram(0),
                address: ([192, 0, 2, 9], 5060).into(),
            },
            bytes: Bytes::from(vec![b'x'; len]),
        }
    }

    #[test]
    fn the_oldest_makes_room_for_bytes() {
        let mut fates = Fates::new(100, 1_000);
        for (number, len) in [(0, 400), (1, 0), (2, 600)] {
            fates.set(Duration::ZERO, transaction(number), answered(len));
        }
        assert_eq!((fates.fates.len(), fates.forgotten()), (3, 0));
        fates.set(Duration::ZERO, transaction(3), answered(1));
        assert!(fates.get(Duration::ZERO, transaction(0)).is_none());
        assert_eq!(
            (fates.bytes, fates.fates.len(), fates.forgotten()),
            (601, 3, 1)
        );
        // What becomes of one later takes the place of what became of it first.
        fates.set(Duration::ZERO, transaction(3), answered(400));
        assert_eq!((fates.bytes, fates.forgotten()), (1_000, 1));
        // Those whose time is over make room by that.
        fates.set(LIFETIME, transaction(4), answered(1_000));
        assert_eq!(
            (fates.bytes, fates.fates.len(), fates.forgotten()),
            (1_000, 1, 1)
        );
        // Longer than all that may be kept: no message is, but none has come so.
        fates.set(LIFETIME, transaction(5), answered(1_001));
        assert_eq!(
            (fates.bytes, fates.fates.len(), fates.ends.len()),
            (0, 0, 0)
        );
    }
}
