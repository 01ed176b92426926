//! Dialogs (RFC 3261 §12) as one sees them whom their messages pass.
//!
//! ```text
//!    caller ── INVITE ──► ┌──────────┐ ──────────► callee
//!           ◄──────────── │ observer │ ◄─── 200 ──
//!                         └────┬─────┘
//!                              │ facts of each message
//!                         ┌────▼────────┐  state changes, whom to ask whether he is still there
//!                         │ DialogTable │ ─────────────────────────────────────────────────────►
//!                         └─────────────┘
//! ```
//! The observer forwards, and keeps a record of each call: enough to say what there is, to hand it to
//! others page by page, to notice that it ended although nobody said so, and to end it. A user agent is
//! the observer that stands at one end of the way, and feeds in what it sends and what it receives;
//! its route sets come out as §12.1.1 and §12.1.2 have them.
//!
//! - [`record`]: one dialog, and what messages and time do to it.
//! - [`table`]: all of them, by Call-ID and tags, bounded.
//! - [`route`]: the way of a request within a dialog (§12.2.1.1).
//! - [`hold`]: who holds whom, from offer and answer (RFC 3264).
//! - [`liveness`]: what ends a dialog that nobody ended.
//!
//! Only dialogs that an INVITE begins are kept. SDP in PRACK is not looked at (RFC 3262 §5), and a
//! dialog of which the INVITE was not seen is unknown.

pub mod hold;
pub mod liveness;
pub mod record;
pub mod route;
pub mod table;
#[cfg(test)]
mod tests;

use crate::transaction::Status;
use std::time::Duration;

/// One of the two ends of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Who sent the INVITE that began it.
    Caller,
    /// Who answered.
    Callee,
}

impl Side {
    /// Both, for walks.
    pub const BOTH: [Self; 2] = [Self::Caller, Self::Callee];

    /// The one at the other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// The methods that mean something to a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Begins a dialog, or renews its targets, media and session.
    Invite,
    /// Ends an INVITE.
    Ack,
    /// Ends a dialog.
    Bye,
    /// Ends an INVITE that has no final response.
    Cancel,
    /// Renews as INVITE does, also before the answer (RFC 3311).
    Update,
    /// SUBSCRIBE, NOTIFY, REFER, PRACK: what they are refused with is about themselves and not about
    /// the dialog (RFC 5057 §4.2, RFC 3262 §3).
    Aside,
    /// Any other: it says that its sender is there, and its refusal may say that nobody is.
    Other,
}

impl Method {
    /// The method of this name.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"UPDATE" => Self::Update,
            b"SUBSCRIBE" | b"NOTIFY" | b"REFER" | b"PRACK" => Self::Aside,
            _ => Self::Other,
        }
    }
}

/// The direction of a session description's media, as its writer sees it (RFC 4566 §6).
///
/// Of several streams, the one that permits most. A connection address of zeroes is `SendOnly`
/// (RFC 3264 §8.4, the old way to hold).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `sendrecv`, and where nothing is said.
    SendRecv,
    /// `sendonly`.
    SendOnly,
    /// `recvonly`.
    RecvOnly,
    /// `inactive`.
    Inactive,
}

/// How urgent a call is (§20.26; what is unknown is normal).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// `non-urgent`.
    NonUrgent,
    /// `normal`.
    #[default]
    Normal,
    /// `urgent`.
    Urgent,
    /// `emergency`.
    Emergency,
}

/// Who refreshes a session, as a 2xx says it (RFC 4028 §4): by the roles in that one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// Who sent the request.
    Uac,
    /// Who answered it.
    Uas,
}

/// A Session-Expires header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// From one refresh to the end of the session.
    pub interval: Duration,
    /// Who refreshes.
    pub refresher: Option<Refresher>,
}

/// What a dialog wants to know of a message.
///
/// Header values are as they stand in the message. Requests are given as they leave the observer,
/// responses as they come to it, so that Record-Route has the observer's own entries in both.
#[derive(Clone, Copy, Debug)]
pub struct MessageFacts<'a> {
    /// The Call-ID.
    pub call_id: &'a [u8],
    /// From's tag; empty where there is none, as RFC 2543 permits.
    pub from_tag: &'a [u8],
    /// From's name and address, without the tag: `"Bob" <sip:bob@example.com>`.
    pub from: &'a [u8],
    /// To's tag.
    pub to_tag: Option<&'a [u8]>,
    /// To's name and address, without the tag.
    pub to: &'a [u8],
    /// The CSeq's number.
    pub cseq: u32,
    /// The CSeq's method.
    pub method: Method,
    /// A response's status; `None` for a request.
    pub status: Option<Status>,
    /// The URI of the first Contact.
    pub contact: Option<&'a [u8]>,
    /// The Record-Route values, from the top.
    pub record_route: &'a [&'a [u8]],
    /// The session description's direction, if there is one.
    pub media: Option<Media>,
    /// Session-Expires.
    pub session_expires: Option<SessionExpires>,
    /// Priority.
    pub priority: Priority,
}

/// Where a dialog is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The INVITE has no final response.
    Early,
    /// It was accepted.
    Confirmed,
    /// It was accepted, and one holds the other.
    Held,
    /// It is over, and remembered so that late copies do not begin it anew.
    Ended,
}

/// Why a dialog ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The INVITE was refused or cancelled, or this fork of it was (§12.3, RFC 6228).
    Refused,
    /// Another fork was accepted, and this one was not within 64 × T1 (§13.2.2.4).
    OtherFork,
    /// The INVITE never had a final response.
    NeverAnswered,
    /// BYE.
    Bye,
    /// One side does not know the dialog any more: 481, 408 and the like.
    Gone,
    /// One side did not answer when asked whether it is there.
    Unresponsive,
    /// Nobody refreshed the session (RFC 4028 §10).
    SessionExpired,
    /// It reached the longest time that a call may last.
    TooLong,
    /// The observer ended it.
    HungUp,
}
