//! New messages: answers to requests, and requests.
//!
//! Line ends are refused in every value, so no caller's text can become headers of its own.

mod contact;
mod reason_phrase;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use contact::Contact;
pub use reason_phrase::{REASON_PHRASES, reason_phrase};
pub use request::{RequestBuilder, ack_for, cancel_for};
pub use response::ResponseBuilder;

use crate::headers::HeaderError;
use crate::message::{EditError, Name};

/// Why a message cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A value or name that would break the message.
    #[error(transparent)]
    Value(#[from] EditError),
    /// A header of the message that this one is made from cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// An ACK is never answered, a response neither (RFC 3261 §17).
    #[error("only requests other than ACK are answered")]
    NotToBeAnswered,
    /// The status code is not in 100 to 699.
    #[error("{0} is no status code")]
    Status(u16),
    /// The method is no token.
    #[error("a method that is no token")]
    Method,
    /// A request needs this header.
    #[error("a request without {}", .0.as_str())]
    Lacks(Name),
    /// A preference above 1.
    #[error("a q-value above 1")]
    Preference,
    /// A CSeq of 2³¹ or more (RFC 3261 §8.1.1.5).
    #[error("a CSeq of 2^31 or more")]
    CSeq,
    /// This message is no request, where one is needed.
    #[error("a response where a request is needed")]
    NotARequest,
}

/// An address as Via and URIs write it: IPv6 in brackets, without zone, mapped IPv4 as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort(pub SocketAddr);

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port();
        match self.0.ip().to_canonical() {
            IpAddr::V4(address) => write!(f, "{address}:{port}"),
            IpAddr::V6(address) => write!(f, "[{address}]:{port}"),
        }
    }
}

/// A Via of this element: asks for `rport` (RFC 3581), and has a branch that begins with the magic
/// cookie, which is added.
pub fn via(transport: &str, sent_by: SocketAddr, branch: &str) -> String {
    let sent_by = HostPort(sent_by);
    format!("SIP/2.0/{transport} {sent_by};branch=z9hG4bK{branch};rport")
}

/// Appends a header line.
fn put_header(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        text.extend_from_slice(part);
    }
}

/// Appends what ends every message: Content-Length, the empty line, the body.
fn put_body(text: &mut Vec<u8>, content_type: Option<&[u8]>, body: &[u8]) {
    if let Some(content_type) = content_type.filter(|_| !body.is_empty()) {
        put_header(text, "Content-Type", content_type);
    }
    put_header(text, "Content-Length", body.len().to_string().as_bytes());
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
}
