//! This element's own Via: what its branch is made of, and whether a response's is genuine.
//!
//! The branch is a hash of what tells the transaction from others (RFC 3261 §16.11): so copies of a
//! request, its CANCEL and the ACK of its refusal go on with the branch that it had, and nothing needs
//! to be remembered. The hash is keyed, and what it is made of comes back in the response's second
//! Via: so a response to a request that never went through here is known for what it is.
//!
//! Behind the hash stands the way that the request came by, which is the way back:
//! `z9hG4bKpm` hash, 16 hexadecimal digits; `u` and the listener's number, or `t` and the stream's.
//!
//! Where a response goes stands in the second Via, which everybody can change who has seen ours. So a
//! parameter beside the branch is a hash of that address: nobody can have responses sent to others. It
//! is no part of the branch, which must stay the same when a client's port changes.

use super::ways::{Hop, Way};
use lb_common::siphash::{SipKey, siphash13};
use lb_sip::build::HostPort;
use lb_sip::headers::Via;
use lb_sip::uri::Host;
use lb_sip::{Essentials, Message};
use std::fmt::Write as _;
use std::net::SocketAddr;

const PREFIX: &[u8] = b"z9hG4bKpm";
const DIGITS: usize = 16;
/// The parameter with the hash of where the response goes.
const TO: &str = "pm-to";

/// What tells one transaction from others: the same for an INVITE, its copies, its CANCEL and the ACK
/// of its refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Transaction(u64);

impl Transaction {
    /// As a tag for To, which must be the same for every response to one request (§8.2.6.2).
    pub(crate) fn tag(self) -> String {
        format!("pm{:016x}", self.0)
    }
}

/// Makes and checks branches.
#[derive(Debug)]
pub(crate) struct Branches {
    key: SipKey,
    scratch: Vec<u8>,
}

impl Branches {
    /// Under a key made of the cluster's secret, so that answers to what was forwarded before a
    /// restart still find their way.
    pub(crate) fn new(secret: SipKey) -> Self {
        let word = |label: &[u8]| siphash13(secret, label);
        let key = SipKey {
            k0: word(b"pointsman branch 0"),
            k1: word(b"pointsman branch 1"),
        };
        Self {
            key,
            scratch: Vec::with_capacity(256),
        }
    }

    /// The transaction of a message that has this Via on top, or would have it but for ours. `None`
    /// for a message that was not validated.
    pub(crate) fn transaction(&mut self, via: &Via<'_>, message: &Message) -> Option<Transaction> {
        let number = message.cseq().ok()?.number;
        Some(self.transaction_of(via, message.call_id().ok()?, number))
    }

    /// The same of what was read of such a message already.
    pub(crate) fn transaction_of(
        &mut self,
        via: &Via<'_>,
        call_id: &[u8],
        cseq: u32,
    ) -> Transaction {
        let text = &mut self.scratch;
        text.clear();
        // Clients that keep RFC 2543 have no branch, or one that says little.
        text.extend_from_slice(via.written_branch().unwrap_or_default());
        text.push(b' ');
        match via.host {
            Host::Name(name) => text.extend_from_slice(name.as_bytes()),
            Host::V4(address) => text.extend_from_slice(&address.octets()),
            Host::V6(address) => text.extend_from_slice(&address.octets()),
        }
        text.extend_from_slice(&via.port.unwrap_or_default().to_le_bytes());
        text.push(b' ');
        text.extend_from_slice(call_id);
        text.extend_from_slice(&cseq.to_le_bytes());
        Transaction(siphash13(self.key, text))
    }

    /// What our Via begins with for all that leaves by one way.
    pub(crate) fn via(transport: &str, sent_by: SocketAddr) -> String {
        let sent_by = HostPort(sent_by);
        format!("SIP/2.0/{transport} {sent_by};branch=z9hG4bKpm")
    }

    /// Writes our Via, which begins with `begin`, for a request whose answer goes to `reply`.
    pub(crate) fn write_via(
        &self,
        text: &mut String,
        begin: &str,
        transaction: Transaction,
        reply: Hop,
    ) {
        text.clear();
        text.push_str(begin);
        push_digits(text, self.hash(transaction, reply.way));
        // Writing to a string does not fail.
        let _ = match reply.way {
            Way::Datagram(listener) => write!(text, "u{listener};rport;{TO}="),
            Way::Stream(stream) => write!(text, "t{stream};rport"),
        };
        if let Way::Datagram(_) = reply.way {
            push_digits(text, self.hash_of_address(transaction, reply.address));
        }
    }

    /// Where a response goes to whose top Via is ours. `None` if it is not.
    pub(crate) fn way_back(&mut self, next: &Via<'_>, response: &Essentials<'_>) -> Option<Hop> {
        let branch = response.via.written_branch()?.strip_prefix(PREFIX)?;
        let (digits, way) = branch.split_at_checked(DIGITS)?;
        let (kind, number) = way.split_first()?;
        let number = str::from_utf8(number).ok()?;
        let way = match kind {
            b'u' => Way::Datagram(number.parse().ok()?),
            b't' => Way::Stream(number.parse().ok()?),
            _ => return None,
        };
        let transaction = self.transaction_of(next, response.call_id, response.cseq.number);
        let reply = reply_to(next, way)?;
        let is_there = match way {
            Way::Datagram(_) => {
                let to = self.hash_of_address(transaction, reply.address);
                read_digits(response.via.params.get(TO)?)? == to
            }
            Way::Stream(_) => true,
        };
        let is_ours = read_digits(digits)? == self.hash(transaction, way);
        (is_ours && is_there).then_some(reply)
    }

    fn hash_of_address(&self, transaction: Transaction, address: SocketAddr) -> u64 {
        let mut bytes = [0; 26];
        bytes[..8].copy_from_slice(&transaction.0.to_le_bytes());
        bytes[8..24].copy_from_slice(&lb_common::Address::from(address.ip()).octets());
        bytes[24..].copy_from_slice(&address.port().to_le_bytes());
        siphash13(self.key, &bytes)
    }

    fn hash(&self, transaction: Transaction, way: Way) -> u64 {
        let (kind, number) = match way {
            Way::Datagram(listener) => (0_u32, u32::from(listener)),
            Way::Stream(stream) => (1, stream),
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&transaction.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&kind.to_le_bytes());
        bytes[12..].copy_from_slice(&number.to_le_bytes());
        siphash13(self.key, &bytes)
    }
}

/// By hand: formatting takes several times as long.
fn push_digits(text: &mut String, hash: u64) {
    for place in (0..DIGITS).rev() {
        let digit = (hash >> (4 * place)) as usize & 15;
        text.push(char::from(b"0123456789abcdef"[digit]));
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Where a response to a request with this top Via goes (RFC 3261 §18.2.2, RFC 3581 §4); a stream
/// leads back to who opened it. `None` if no address is written there.
pub(crate) fn reply_to(via: &Via<'_>, way: Way) -> Option<Hop> {
    let ip = via.received().or_else(|| via.host.address())?;
    let port = via.rport().or(via.port).unwrap_or(5060);
    let address = SocketAddr::new(ip.to_canonical(), port);
    Some(Hop { way, address })
}
