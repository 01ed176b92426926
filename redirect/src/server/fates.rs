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

/// All of them.
#[derive(Debug)]
pub(crate) struct Fates {
    capacity: usize,
    fates: KeyedMap<Transaction, Fate>,
    /// In the order of their ends. Each of `fates` is here once.
    ends: VecDeque<(Duration, Transaction)>,
}

impl Fates {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            fates: KeyedMap::default(),
            ends: VecDeque::new(),
        }
    }

    /// What became of it, if it came before.
    pub(crate) fn get(&mut self, now: Duration, transaction: Transaction) -> Option<&Fate> {
        while self.ends.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
        self.fates.get(&transaction)
    }

    /// Remembers.
    pub(crate) fn set(&mut self, now: Duration, transaction: Transaction, fate: Fate) {
        if self.fates.insert(transaction, fate).is_none() {
            self.ends.push_back((now + LIFETIME, transaction));
            if self.fates.len() > self.capacity {
                self.forget_first();
            }
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, transaction)) = self.ends.pop_front() {
            self.fates.remove(&transaction);
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
        let mut fates = Fates::new(3);
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
        let mut fates = Fates::new(3);
        for number in 0..5 {
            fates.set(Duration::ZERO, transaction(number), Fate::Forwarded);
        }
        let known = (0..5).filter(|number| {
            let fate = fates.get(Duration::ZERO, transaction(*number));
            fate.is_some()
        });
        assert_eq!(known.collect::<Vec<u32>>(), [2, 3, 4]);
        assert_eq!(fates.ends.len(), 3);
    }
}
