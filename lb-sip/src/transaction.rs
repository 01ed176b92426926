//! Transactions (RFC 3261 §17, RFC 6026): what is sent again, what is answered again, what ends when.
//!
//! ```text
//!               bytes in                                         bytes out
//!   transport ────────────► ┌──────────────┐ ◄── send, respond ── user
//!             ◄──────────── │ Transactions │ ──────────────────►  (redirect server, gateway, …)
//!               Send        └──────────────┘  responses, ACKs, ends
//!                    one machine each, by key, with its deadline
//! ```
//! - [`invite_client`], [`plain_client`]: the machines of those that ask.
//! - [`invite_server`], [`plain_server`]: the machines of those that answer.
//! - [`key`]: which message belongs to which transaction (§17.1.3, §17.2.3).
//! - [`table`]: all of a process's transactions, bounded, with their deadlines.
//!
//! The machines never look into a message: they hold what is sent again as bytes, and are told what
//! it is. "Plain" is what the RFC calls non-INVITE. Time is a [`Duration`] since an origin of the
//! caller's choosing, on a monotonic clock.

pub(crate) mod deadlines;
pub mod invite_client;
pub mod invite_server;
pub mod key;
pub mod plain_client;
pub mod plain_server;
pub mod table;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use std::time::Duration;

/// The RFC's timers, in the three numbers that they are made of (§17.1.1.1, Table 4), and the
/// bounds on how long a transaction waits for its user or for a final response.
///
/// The same for all transactions of a process. `t1` must not be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A round trip, estimated: the first interval of retransmission.
    pub t1: Duration,
    /// The longest interval of retransmission, except an INVITE's.
    pub t2: Duration,
    /// How long a message may remain in the network.
    pub t4: Duration,
    /// Timer C (§16.6 step 11): how long an INVITE may go without a final response and without
    /// another provisional one. The RFC wants more than three minutes.
    pub c: Duration,
    /// How long an INVITE that came in may go without any answer of its user's. No timer of the
    /// RFC: chosen a minute above timer C, so that it ends only what its user forgot.
    pub patience: Duration,
}

impl Timing {
    /// 500 ms, 4 s, 5 s (RFC 3261 Table 4), 181 s, 241 s.
    pub const DEFAULT: Self = Self {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        c: Duration::from_secs(181),
        patience: Duration::from_secs(241),
    };

    /// 64 × T1: how long one side tries before it gives up (timers B, F, H, J, L and M).
    pub fn give_up(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// Timer D: how long an INVITE's failure may come again. At least 32 s whatever T1 is
    /// (§17.1.1.2), since the other side's T1 may be another.
    pub fn d(&self, transport: Transport) -> Duration {
        match transport {
            Transport::Unreliable => self.give_up().max(Duration::from_secs(32)),
            Transport::Reliable => Duration::ZERO,
        }
    }

    /// Timers I and K: how long copies that are still in the network are waited for.
    pub fn stragglers(&self, transport: Transport) -> Duration {
        match transport {
            Transport::Unreliable => self.t4,
            Transport::Reliable => Duration::ZERO,
        }
    }

    /// Timer J: how long a request may come again after its final response.
    pub fn j(&self, transport: Transport) -> Duration {
        match transport {
            Transport::Unreliable => self.give_up(),
            Transport::Reliable => Duration::ZERO,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How long an INVITE server transaction waits for its user before it sends 100 (§17.2.1).
pub const TRYING_AFTER: Duration = Duration::from_millis(200);

/// Whether the transport retransmits by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Unreliable,
    /// TCP, TLS, SCTP, WebSocket.
    Reliable,
}

/// What a status code means to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 100–199.
    Provisional,
    /// 200–299.
    Success,
    /// 300–699: whatever ends an INVITE without a dialog.
    Failure,
}

/// A status code: 100 to 699.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

impl Status {
    /// 100 Trying.
    pub const TRYING: Self = Self(100);
    /// 408 Request Timeout.
    pub const REQUEST_TIMEOUT: Self = Self(408);

    /// A status code, if it is one.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            100..=699 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// What it means to a transaction.
    pub const fn class(self) -> Class {
        match self.0 {
            ..200 => Class::Provisional,
            200..300 => Class::Success,
            300.. => Class::Failure,
        }
    }
}

/// A response, opaque but for its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status code.
    pub status: Status,
    /// The whole message.
    pub message: Bytes,
}

/// What a client transaction asks of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAction {
    /// Send the request (again).
    Send(Bytes),
    /// Make the ACK out of the request and this failure (§17.1.1.3), and send it where the request
    /// went. Asked each time the failure comes.
    Acknowledge {
        /// The INVITE.
        request: Bytes,
        /// Whose To the ACK gets.
        response: Bytes,
    },
    /// Make the CANCEL out of the request (§9.1) and send it, as a transaction of its own.
    Cancel {
        /// The INVITE.
        request: Bytes,
    },
    /// A response for the user.
    Respond(Response),
    /// The transaction is over; it never asks for anything again.
    Ended(ClientEnd),
}

/// How a client transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEnd {
    /// The user has a final response, and late copies of it have been waited for.
    Answered,
    /// No final response within timers B or F, or after a CANCEL: to the user, a 408 (§8.1.3.1).
    TimedOut,
    /// The transport failed before there was a final response: to the user, a 503 (§8.1.3.1).
    TransportFailed,
    /// The final response is with the user, but its ACK could not be sent.
    AckFailed,
}

/// What a server transaction asks of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAction {
    /// Send the response (again).
    Send(Bytes),
    /// The ACK of a 2xx, which is the user's business (RFC 6026 §7.1).
    Acknowledged(Bytes),
    /// A response could not be sent.
    TransportFailed,
    /// The transaction is over; it never asks for anything again.
    Ended(ServerEnd),
}

/// How a server transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEnd {
    /// Its final response was sent, and acknowledged if that was called for.
    Answered,
    /// The ACK of a failure never came (timer H).
    Unacknowledged,
    /// Its user never gave a final response.
    Abandoned,
}
