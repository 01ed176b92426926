//! A SIP message as it came: its bytes, and where its parts are in them.
//!
//! Nothing is copied, decoded or put in order: unedited, the bytes that come out are the bytes that
//! went in. Folded lines, compact names, comma lists, unknown methods, bytes that are not UTF-8 stay
//! as they are. One pass finds the lines; what a header *says* is read when somebody asks
//! ([`crate::headers`]).
//!
//! The view is lenient, so that a wrong request can be answered: what is wrong with it stands in
//! [`Message::flaws`], and [`crate::validate()`] says what to do about it. Only bytes in which nobody
//! could find a SIP message at all are an error.
//!
//! A line ends with CRLF (RFC 3261 §7), or with a bare LF as old implementations write it. A CR
//! without LF ends nothing and is a flaw.

mod edit;
mod flaws;
mod method;
mod name;
mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;

pub use edit::{DEFAULT_MAX_FORWARDS, Edit, EditError};
pub(crate) use edit::{Received, check_length, check_uri, check_value, offset_in, write_text};
pub use flaws::Flaws;
pub use method::Method;
pub use name::Name;
pub(crate) use name::Names;
pub use parse::ParseError;
pub(crate) use parse::{ContentLength, Head, read_head};

use crate::text;

/// Longest message, in bytes: what one UDP datagram can carry at most. Streams have no limit of their
/// own (RFC 3261 §18.3), so this is theirs too.
pub const MAX_MESSAGE: usize = 65_535;

/// Most header lines in a message. Chosen: the longest known in practice have about 60, and the time
/// that a message takes grows with them.
pub const MAX_HEADERS: usize = 256;

/// Part of a message, by the offsets of its first byte and of the byte behind its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u16,
    pub(crate) end: u16,
}

impl Span {
    /// Offsets above [`MAX_MESSAGE`] do not occur: longer messages are refused before.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= MAX_MESSAGE);
        Self {
            start: start as u16,
            end: end as u16,
        }
    }

    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..usize::from(self.end)]
    }
}

/// One header line, folds included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderSpan {
    pub(crate) name: Name,
    pub(crate) name_len: u8,
    /// Where the line starts; it ends where the next one starts.
    pub(crate) line: u16,
    /// The value, without white space around it.
    pub(crate) value: Span,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum StartSpan {
    Request {
        known: Method,
        method: Span,
        uri: Span,
        version: Span,
    },
    Response {
        version: Span,
        status: u16,
        reason: Span,
    },
}

/// A SIP message; see the [module](self).
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
    start: StartSpan,
    headers: Vec<HeaderSpan>,
    names: Names,
    /// Where the header lines end: at the empty line.
    headers_end: u16,
    body: u16,
    flaws: Flaws,
}

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// Of a request.
    Request {
        /// The method's name.
        method: &'a [u8],
        /// The Request-URI, whatever it is.
        uri: &'a [u8],
        /// `SIP/2.0`; empty where there is none.
        version: &'a [u8],
    },
    /// Of a response.
    Response {
        /// `SIP/2.0`.
        version: &'a [u8],
        /// 100 to 699.
        status: u16,
        /// The reason phrase; may be empty.
        reason: &'a [u8],
    },
}

/// A header field.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Which.
    pub name: Name,
    /// The name as written. Empty when the line is [`Name::Malformed`].
    pub written_name: &'a [u8],
    /// The value as written, folds included, without white space around it.
    pub raw: &'a [u8],
}

impl<'a> Header<'a> {
    /// The value on one line (RFC 3261 §7.3.1).
    pub fn value(&self) -> Cow<'a, [u8]> {
        text::unfold(self.raw)
    }

    /// The values of a comma list, trimmed; commas in quotes and `<>` separate nothing. Folds stay.
    pub fn elements(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        text::Elements::of(self.raw)
    }
}

impl Message {
    /// The message in a datagram.
    ///
    /// Line ends before it are skipped (RFC 3261 §7.5), bytes behind its Content-Length discarded
    /// (§18.3). A Content-Length beyond the datagram is a flaw.
    ///
    /// # Errors
    /// There is no SIP message in it, or none that keeps the limits.
    pub fn from_datagram(datagram: Bytes) -> Result<Self, ParseError> {
        let lead = parse::leading_line_ends(&datagram);
        let mut bytes = if lead == 0 {
            datagram
        } else {
            datagram.slice(lead..)
        };
        let head = read_head(&bytes)?;
        let mut flaws = head.flaws;
        let end = match head.content_length {
            ContentLength::Is(length) => {
                let end = head.end.saturating_add(length as usize);
                if end > bytes.len() {
                    flaws |= Flaws::BODY_SHORT;
                }
                end.min(bytes.len())
            }
            ContentLength::Absent | ContentLength::Wrong => bytes.len(),
        };
        // Nothing to do for almost every message, and then without a count of references.
        bytes.truncate(end);
        Ok(Self::assemble(bytes, head, flaws))
    }

    /// A message of a stream, whose end the framer has found.
    pub(crate) fn assemble(bytes: Bytes, head: parse::Head, flaws: Flaws) -> Self {
        Self {
            body: head.end as u16,
            bytes,
            start: head.start,
            headers: head.headers,
            names: head.names,
            headers_end: head.headers_end as u16,
            flaws,
        }
    }

    /// The whole message, as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole message, as it came.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// What is wrong with its form.
    pub fn flaws(&self) -> Flaws {
        self.flaws
    }

    /// The first line.
    pub fn start_line(&self) -> StartLine<'_> {
        match self.start {
            StartSpan::Request {
                method,
                uri,
                version,
                ..
            } => StartLine::Request {
                method: method.of(&self.bytes),
                uri: uri.of(&self.bytes),
                version: version.of(&self.bytes),
            },
            StartSpan::Response {
                version,
                status,
                reason,
            } => StartLine::Response {
                version: version.of(&self.bytes),
                status,
                reason: reason.of(&self.bytes),
            },
        }
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start, StartSpan::Request { .. })
    }

    /// The method of a request.
    pub fn method(&self) -> Option<Method> {
        match self.start {
            StartSpan::Request { known, .. } => Some(known),
            StartSpan::Response { .. } => None,
        }
    }

    /// The Request-URI of a request, as written.
    pub fn request_uri(&self) -> Option<&[u8]> {
        match self.start {
            StartSpan::Request { uri, .. } => Some(uri.of(&self.bytes)),
            StartSpan::Response { .. } => None,
        }
    }

    /// The status code of a response, 100 to 699.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            StartSpan::Request { .. } => None,
            StartSpan::Response { status, .. } => Some(status),
        }
    }

    /// All header fields, in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> + Clone {
        self.headers.iter().map(|span| self.header_at(span))
    }

    /// The first header field of this name.
    pub fn header(&self, name: Name) -> Option<Header<'_>> {
        if !self.names.has(name) {
            return None;
        }
        let span = self.headers.iter().find(|span| span.name == name)?;
        Some(self.header_at(span))
    }

    /// All header fields of this name, in order.
    pub fn headers_of(&self, name: Name) -> impl Iterator<Item = Header<'_>> + Clone {
        let spans = if self.names.has(name) {
            &self.headers[..]
        } else {
            &[]
        };
        let spans = spans.iter().filter(move |span| span.name == name);
        spans.map(|span| self.header_at(span))
    }

    /// All header fields of a name that is not a [`Name`], in any case.
    pub fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Header<'a>> + Clone {
        let known = Name::of(name.as_bytes());
        self.headers_of(known).filter(move |header| {
            known != Name::Other || header.written_name.eq_ignore_ascii_case(name.as_bytes())
        })
    }

    /// The values of all header fields of this name, comma lists taken apart.
    pub fn elements(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.headers_of(name).flat_map(|header| header.elements())
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.bytes[usize::from(self.body)..]
    }

    /// The body, sharing the message's bytes.
    pub fn body_bytes(&self) -> Bytes {
        self.bytes.slice(usize::from(self.body)..)
    }

    /// Begins to change it. The message itself stays as it is.
    pub fn edit(&self) -> Edit<'_> {
        Edit::new(self)
    }

    fn header_at(&self, span: &HeaderSpan) -> Header<'_> {
        let start = usize::from(span.line);
        Header {
            name: span.name,
            written_name: &self.bytes[start..start + usize::from(span.name_len)],
            raw: span.value.of(&self.bytes),
        }
    }

    pub(crate) fn names(&self) -> Names {
        self.names
    }

    pub(crate) fn spans(&self) -> &[HeaderSpan] {
        &self.headers
    }

    pub(crate) fn start_span(&self) -> StartSpan {
        self.start
    }

    pub(crate) fn headers_end(&self) -> usize {
        self.headers_end.into()
    }

    /// Where the line of this header ends, its line end included.
    pub(crate) fn line_end(&self, index: usize) -> usize {
        match self.headers.get(index + 1) {
            Some(next) => next.line.into(),
            None => self.headers_end(),
        }
    }

    pub(crate) fn body_start(&self) -> usize {
        self.body.into()
    }
}
