//! Which node gets a deferred datagram? The kernel's rules, in userspace.
//!
//! ```text
//!  a Call-ID ──► its key ──► pin, memory, lb_common::choose ──► steer-callid
//!  none      ──► key of the client's address and port ──► choose ──► steer-fallback
//! ```
//! The second kind is what a SIP server must see though it belongs to no call: keep-alives (double
//! CRLF, STUN) and malformed requests that it answers with 400. All of one client's go to one node,
//! live if any is, whatever its admission.
//!
//! Two things the kernel does and this cannot: count a new call for the headroom until the node's
//! next beacon, and count choices made with staleness ignored. Both lie in memory that only the
//! program writes.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use lb_common::choose::{Choice, Fitness, Fleet, Standing, choose, is_plainly_up, reference};
use lb_common::maps::{NO_NODE, Pin, Turnout};
use lb_common::sip::Method;
use lb_common::siphash::{SipKey, siphash13};
use lb_common::{Address, Outcome, Reason, memory};

use super::message::{self, Call};

/// Where calls are recorded: pins and the memory of new requests, shared with the kernel.
pub trait Records {
    /// What can go wrong.
    type Error;

    /// A call's pin.
    fn pin(&self, key: u64) -> Result<Option<Pin>, Self::Error>;
    /// Makes a pin unless the call has one; false when it has, or when there is no room.
    fn insert_pin(&self, key: u64, pin: Pin) -> Result<bool, Self::Error>;
    /// Overwrites a pin.
    fn update_pin(&self, key: u64, pin: Pin) -> Result<(), Self::Error>;
    /// A word of the memory.
    fn memory(&self, index: u32) -> Result<u64, Self::Error>;
    /// Overwrites a word of the memory.
    fn set_memory(&self, index: u32, word: u64) -> Result<(), Self::Error>;
}

/// Where a datagram goes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    /// The node; [`NO_NODE`] only while the table is empty.
    pub node: u16,
    /// Why this one.
    pub reason: Reason,
    /// Where in the message the Call-ID stands that was steered by. `None`: by the client's address.
    pub call_id: Option<Range<usize>>,
    /// The key.
    pub key: u64,
}

impl Steering {
    /// What becomes of a datagram while another LB steers.
    pub const PASSIVE: Self = Self {
        node: NO_NODE,
        reason: Reason::Passive,
        call_id: None,
        key: 0,
    };

    /// By what the datagram was steered.
    pub fn outcome(&self) -> Outcome {
        match self.call_id {
            Some(_) => Outcome::SteerCallId,
            None => Outcome::SteerFallback,
        }
    }
}

/// Steers one datagram by what steers, `turnout`: nowhere when that is being asked (see
/// [`Turnout::GATHERING`]).
///
/// # Errors
/// What the records answer.
pub fn steer<F: Fleet, R: Records>(
    fleet: &F,
    records: &R,
    turnout: Turnout,
    client: SocketAddr,
    payload: &[u8],
) -> Result<Steering, R::Error> {
    let secret = fleet.settings().call_secret;
    match message::call(payload, secret) {
        Some(call) => by_call(fleet, records, turnout, payload, call),
        None => Ok(by_client(fleet, turnout, client, secret)),
    }
}

fn by_client<F: Fleet>(
    fleet: &F,
    turnout: Turnout,
    client: SocketAddr,
    secret: SipKey,
) -> Steering {
    let key = client_key(client, secret);
    let Choice { node, reason, .. } =
        choose(fleet, key, Standing::Existing, turnout.word, NO_NODE, false);
    Steering {
        node,
        reason,
        call_id: None,
        key,
    }
}

/// The key of what can only be told apart by where it comes from.
pub fn client_key(client: SocketAddr, secret: SipKey) -> u64 {
    let mut bytes = [0; 18];
    let (address, port) = bytes.split_at_mut(16);
    address.copy_from_slice(&Address::from(IpAddr::to_canonical(&client.ip())).octets());
    port.copy_from_slice(&client.port().to_be_bytes());
    siphash13(secret, &bytes)
}

fn by_call<F: Fleet, R: Records>(
    fleet: &F,
    records: &R,
    turnout: Turnout,
    payload: &[u8],
    call: Call,
) -> Result<Steering, R::Error> {
    let Call {
        key,
        call_id,
        method,
    } = call;
    let pinned = pinned(records, key, method, fleet.now())?;
    let remembered = is_remembered(fleet, records, key)?;
    let is_lost = pinned != NO_NODE
        && fleet.fitness(pinned, Standing::Existing, reference(fleet).0) == Fitness::Out;
    let standing = if pinned == NO_NODE || is_lost {
        message::standing(payload, method)
    } else {
        // A pinned call's node is asked first, whatever the message is.
        Standing::Existing
    };
    let choice = choose(fleet, key, standing, turnout.word, pinned, remembered);
    // Where home is plainly up the kernel does not look for a To tag, and remembers them all.
    let is_plain = pinned == NO_NODE && turnout.is_at_rest();
    let is_plain = is_plain && choice.reason == Reason::Home && is_up(fleet, choice.node);
    if is_plain && method.may_start() && !remembered {
        remember(fleet, records, key)?;
    }
    let stands = Stands {
        standing,
        remembered,
        is_lost,
    };
    let (node, reason) = carry_out(fleet, records, choice, key, stands)?;
    Ok(Steering {
        node,
        reason,
        call_id: Some(call_id),
        key,
    })
}

fn is_up<F: Fleet>(fleet: &F, id: u16) -> bool {
    let known = fleet.node(id).zip(fleet.status(id));
    known.is_some_and(|(node, status)| is_plainly_up(node, status, fleet.settings(), fleet.now()))
}

/// How a message stands to what is recorded.
struct Stands {
    standing: Standing,
    /// It was sent home before.
    remembered: bool,
    /// Its call is pinned to a node that is `Down`.
    is_lost: bool,
}

/// Makes the pin that the choice asks for, or remembers that home was chosen.
fn carry_out<F: Fleet, R: Records>(
    fleet: &F,
    records: &R,
    choice: Choice,
    key: u64,
    stands: Stands,
) -> Result<(u16, Reason), R::Error> {
    let is_to_be_remembered = stands.standing != Standing::Existing && !stands.remembered;
    if !choice.pin {
        if is_to_be_remembered {
            remember(fleet, records, key)?;
        }
        return Ok((choice.node, choice.reason));
    }
    let pin = Pin {
        node: choice.node,
        flags: 0,
        reserved: 0,
        created: fleet.now(),
        last_seen: fleet.now(),
    };
    if stands.is_lost {
        records.update_pin(key, pin)?;
        return Ok((choice.node, choice.reason));
    }
    if records.insert_pin(key, pin)? {
        return Ok((choice.node, choice.reason));
    }
    // The kernel may have been faster with a copy of the same message: its choice counts.
    if let Some(pin) = records.pin(key)? {
        return Ok((pin.node, Reason::Pinned));
    }
    if choice.fallback == NO_NODE {
        return Ok((choice.node, Reason::PinsFull));
    }
    if is_to_be_remembered {
        remember(fleet, records, key)?;
    }
    Ok((choice.fallback, Reason::PinsFull))
}

/// The node that the call is pinned to, or [`NO_NODE`]. Passing messages keep the pin alive and tell
/// its state.
///
/// Between reading and writing, a message of the same call may pass in the kernel and its mark on
/// the pin be lost; so nothing is written that would say nothing new.
fn pinned<R: Records>(records: &R, key: u64, method: Method, now: u64) -> Result<u16, R::Error> {
    let Some(pin) = records.pin(key)? else {
        return Ok(NO_NODE);
    };
    let flags = match method {
        Method::Ack => Pin::CONFIRMED,
        Method::Bye | Method::Cancel => Pin::ENDED,
        Method::Response | Method::Invite | Method::InDialogOnly | Method::Other => 0,
    };
    let after = Pin {
        flags: pin.flags | flags,
        last_seen: now,
        ..pin
    };
    if after != pin {
        records.update_pin(key, after)?;
    }
    Ok(pin.node)
}

/// Whether a request of this call was sent home in this epoch or the last. Or in the next: userspace
/// derives its jiffies, and may be a tick behind the kernel's.
fn is_remembered<F: Fleet, R: Records>(fleet: &F, records: &R, key: u64) -> Result<bool, R::Error> {
    let epoch = memory::epoch_of(fleet.now(), fleet.settings().epoch_shift);
    for epoch in [epoch, epoch.wrapping_sub(1), epoch.wrapping_add(1)] {
        if memory::has(records.memory(memory::word_of(key, epoch))?, key, epoch) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Remembers that a new request is sent home. What the kernel adds to the same word between reading
/// and writing is lost, so a word that says it already is left alone.
fn remember<F: Fleet, R: Records>(fleet: &F, records: &R, key: u64) -> Result<(), R::Error> {
    let epoch = memory::epoch_of(fleet.now(), fleet.settings().epoch_shift);
    let index = memory::word_of(key, epoch);
    let word = records.memory(index)?;
    if memory::has(word, key, epoch) {
        return Ok(());
    }
    records.set_memory(index, memory::with(word, key, epoch))
}

#[cfg(test)]
mod tests;
