//! Changes to a message: what is not named stays as it is, byte by byte.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::{Flaws, MAX_MESSAGE, Message, Name, StartSpan};
use crate::headers::{HeaderError, Via};
use crate::text::{self, element_len, trim_start};

/// Max-Forwards where the message has none (RFC 3261 §16.6, step 3).
pub const DEFAULT_MAX_FORWARDS: u8 = 70;

/// Why a change cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A value holds a line end or NUL: it would become lines of its own.
    #[error("a value for a SIP message holds a line end or NUL")]
    LineBreak,
    /// A header name that is no token.
    #[error("a header name that is no token")]
    Name,
    /// A Request-URI that is empty or holds white space.
    #[error("a Request-URI that is empty or holds white space")]
    RequestUri,
    /// A response has no Request-URI.
    #[error("a response has no Request-URI")]
    NotARequest,
    /// The header that is to be changed cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Max-Forwards is 0 already.
    #[error("Max-Forwards is 0")]
    NoForwardsLeft,
    /// One change puts something where another takes everything away.
    #[error("two changes of the same place in a SIP message")]
    Overlap,
    /// The message has lines that are no headers, or ends before the empty line: there is no telling
    /// what another reader would make of lines put beside those.
    #[error("the message to be changed has lines that are no headers, or no empty line")]
    Malformed,
    /// The result would be longer than [`MAX_MESSAGE`].
    #[error("the message would have {0} bytes, more than {MAX_MESSAGE}")]
    TooLong(usize),
}

/// Replaces a part of the message, which may be empty, by a part of the new text, which may be too.
#[derive(Clone, Copy, Debug)]
struct Splice {
    at: usize,
    until: usize,
    text_from: usize,
    text_to: usize,
}

/// Changes to a message.
///
/// Every change speaks of the message *as it came*, not of what other changes have made of it: their
/// order does not matter, but for values that are put in the same place, which come out in the order
/// they were given. Nothing is copied until [`Edit::finish`], and then once.
///
/// No change can start a line of its own: values with line ends are refused.
#[derive(Debug)]
pub struct Edit<'m> {
    message: &'m Message,
    splices: Vec<Splice>,
    text: Vec<u8>,
}

impl<'m> Edit<'m> {
    pub(super) fn new(message: &'m Message) -> Self {
        Self {
            message,
            splices: Vec::with_capacity(8),
            text: Vec::with_capacity(256),
        }
    }

    /// Puts a value before all others of its name, on a line of its own: a Via before the top Via, a
    /// Route or Record-Route before the first. Where there is none yet, behind the Vias.
    ///
    /// # Errors
    /// [`EditError::LineBreak`].
    pub fn push(&mut self, name: Name, value: impl AsRef<[u8]>) -> Result<&mut Self, EditError> {
        let spans = self.message.spans();
        let first = spans.iter().find(|span| span.name == name);
        let at = match first {
            Some(span) => span.line.into(),
            None => match spans.iter().rposition(|span| span.name == Name::Via) {
                Some(last_via) => self.message.line_end(last_via),
                None => self.first_line(),
            },
        };
        self.insert_line(at, name.as_str(), value.as_ref())
    }

    /// Takes away the first `count` values of this name, lines and comma lists alike; all of them, if
    /// there are no more. Empty values before them go too, and do not count.
    pub fn pop(&mut self, name: Name, count: usize) -> &mut Self {
        let mut left = count;
        for (index, span) in self.message.spans().iter().enumerate() {
            if span.name != name {
                continue;
            }
            let list = span.value.of(self.message.bytes());
            let mut rest = without_empty(list);
            while left > 0 && !rest.is_empty() {
                left -= 1;
                rest = without_empty(&rest[element_len(rest)..]);
            }
            if rest.is_empty() {
                self.remove_line(index);
            } else if rest.len() < list.len() {
                let at = usize::from(span.value.start);
                self.splice(at, at + list.len() - rest.len(), |_| ());
            }
            if left == 0 {
                break;
            }
        }
        self
    }

    /// Writes into the top Via where the request came from: `received` where the client's own name
    /// for itself is not that address (RFC 3261 §18.2.1) or where it asked for `rport`, and then
    /// `rport` too (RFC 3581 §4). What the client has written there itself is replaced.
    ///
    /// # Errors
    /// The top Via cannot be read.
    pub fn set_received(&mut self, source: SocketAddr) -> Result<&mut Self, EditError> {
        let via = self.message.top_via()?;
        self.set_received_in(&via, source)
    }

    /// The same in a Via that has been read already.
    ///
    /// # Errors
    /// It is none of this message.
    pub fn set_received_in(
        &mut self,
        via: &Via<'m>,
        source: SocketAddr,
    ) -> Result<&mut Self, EditError> {
        let message = self.message;
        if !message.bytes().as_ptr_range().contains(&via.text.as_ptr()) {
            return Err(HeaderError::Missing(Name::Via).into());
        }
        let mut changes = Received::of(via, source);
        let at = |part: &[u8]| offset_in(message.bytes(), part);
        if let Some((old, port)) = changes.rport.take() {
            let start = at(old);
            self.splice(start, start + old.len(), |text| {
                text.extend_from_slice(b"rport=");
                write_decimal(text, port);
            });
        }
        if let Some((old, address)) = changes.received.take() {
            let (start, end) = match old {
                Some(old) => (at(old), at(old) + old.len()),
                None => {
                    let end = at(via.text) + via.text.len();
                    (end, end)
                }
            };
            self.splice(start, end, |text| {
                if old.is_none() {
                    text.push(b';');
                }
                text.extend_from_slice(b"received=");
                write_address(text, address);
            });
        }
        Ok(self)
    }

    /// Takes one from Max-Forwards, or adds it where there is none.
    ///
    /// # Errors
    /// It is 0, or no number.
    pub fn decrement_max_forwards(&mut self) -> Result<&mut Self, EditError> {
        match self.message.max_forwards()? {
            None => self.set(Name::MaxForwards, DEFAULT_MAX_FORWARDS.to_string()),
            Some(0) => Err(EditError::NoForwardsLeft),
            Some(left) => {
                let mut value = Vec::with_capacity(3);
                write_decimal(&mut value, u16::from(left - 1));
                self.set(Name::MaxForwards, value)
            }
        }
    }

    /// Replaces the Request-URI.
    ///
    /// # Errors
    /// It is no URI by its letters, or the message is a response.
    pub fn set_request_uri(&mut self, uri: impl AsRef<[u8]>) -> Result<&mut Self, EditError> {
        let StartSpan::Request { uri: old, .. } = self.message.start_span() else {
            return Err(EditError::NotARequest);
        };
        let uri = uri.as_ref();
        check_uri(uri)?;
        self.splice(old.start.into(), old.end.into(), |text| {
            text.extend_from_slice(uri);
        });
        Ok(self)
    }

    /// Gives this header the one value: in the place of the first one, which keeps its written name;
    /// at the end where there is none.
    ///
    /// # Errors
    /// [`EditError::LineBreak`].
    pub fn set(&mut self, name: Name, value: impl AsRef<[u8]>) -> Result<&mut Self, EditError> {
        let mut of_name = self.message.spans().iter().enumerate();
        let mut of_name = of_name.by_ref().filter(|span| span.1.name == name);
        let Some((_, first)) = of_name.next() else {
            return self.add(name, value);
        };
        let value = value.as_ref();
        check_value(value)?;
        let further: Vec<usize> = of_name.map(|span| span.0).collect();
        self.splice(first.value.start.into(), first.value.end.into(), |text| {
            text.extend_from_slice(value);
        });
        for index in further {
            self.remove_line(index);
        }
        Ok(self)
    }

    /// Adds a header behind all others.
    ///
    /// # Errors
    /// [`EditError::LineBreak`].
    pub fn add(&mut self, name: Name, value: impl AsRef<[u8]>) -> Result<&mut Self, EditError> {
        self.add_named(name.as_str(), value)
    }

    /// Adds a header of any name behind all others.
    ///
    /// # Errors
    /// [`EditError::LineBreak`], [`EditError::Name`].
    pub fn add_named(
        &mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<&mut Self, EditError> {
        self.insert_line(self.message.headers_end(), name, value.as_ref())
    }

    /// Takes away all headers of this name.
    pub fn remove(&mut self, name: Name) -> &mut Self {
        for (index, span) in self.message.spans().iter().enumerate() {
            if span.name == name {
                self.remove_line(index);
            }
        }
        self
    }

    /// Takes away all headers of any name, in any case but not in a compact form.
    pub fn remove_named(&mut self, name: &str) -> &mut Self {
        for (index, header) in self.message.headers().enumerate() {
            if header.written_name.eq_ignore_ascii_case(name.as_bytes()) {
                self.remove_line(index);
            }
        }
        self
    }

    /// Replaces the body, and Content-Length and Content-Type with it.
    ///
    /// # Errors
    /// [`EditError::LineBreak`].
    pub fn set_body(&mut self, content_type: &str, body: &[u8]) -> Result<&mut Self, EditError> {
        if body.is_empty() {
            self.remove(Name::ContentType);
        } else {
            self.set(Name::ContentType, content_type)?;
        }
        self.set(Name::ContentLength, body.len().to_string())?;
        let end = self.message.bytes().len();
        self.splice(self.message.body_start(), end, |text| {
            text.extend_from_slice(body);
        });
        Ok(self)
    }

    /// The changed message.
    ///
    /// # Errors
    /// Two changes contradict each other, or the result is too long.
    pub fn finish(&mut self) -> Result<Bytes, EditError> {
        if self.splices.is_empty() {
            return Ok(self.message.bytes().clone());
        }
        let unclear = Flaws::NO_EMPTY_LINE | Flaws::HEADER_LINE;
        if self.message.flaws().intersects(unclear) {
            return Err(EditError::Malformed);
        }
        let old = self.message.bytes();
        // What is put in goes before what is taken away at the same place.
        self.splices
            .sort_by_key(|splice| (splice.at, splice.until > splice.at));
        // Just what it takes, so that it need not be counted apart from its room.
        let (mut taken, mut until) = (0, 0);
        for splice in &self.splices {
            taken += splice.until.saturating_sub(splice.at.max(until));
            until = until.max(splice.until);
        }
        let mut new = Vec::with_capacity(old.len() - taken + self.text.len());
        let mut copied = 0;
        for splice in &self.splices {
            let text = &self.text[splice.text_from..splice.text_to];
            if splice.at < copied && !text.is_empty() {
                return Err(EditError::Overlap);
            }
            if splice.at > copied {
                new.extend_from_slice(&old[copied..splice.at]);
            }
            new.extend_from_slice(text);
            copied = copied.max(splice.at).max(splice.until);
        }
        new.extend_from_slice(&old[copied..]);
        check_length(new.len())?;
        Ok(new.into())
    }

    /// Where the first header line starts.
    fn first_line(&self) -> usize {
        match self.message.spans().first() {
            Some(span) => span.line.into(),
            None => self.message.headers_end(),
        }
    }

    fn insert_line(&mut self, at: usize, name: &str, value: &[u8]) -> Result<&mut Self, EditError> {
        if !text::is_token(name.as_bytes()) {
            return Err(EditError::Name);
        }
        check_value(value)?;
        self.splice(at, at, |text| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                text.extend_from_slice(part);
            }
        });
        Ok(self)
    }

    fn remove_line(&mut self, index: usize) {
        let at = self.message.spans()[index].line.into();
        self.splice(at, self.message.line_end(index), |_| ());
    }

    fn splice(&mut self, at: usize, until: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let text_from = self.text.len();
        write(&mut self.text);
        self.splices.push(Splice {
            at,
            until,
            text_from,
            text_to: self.text.len(),
        });
    }
}

/// A list without the empty elements that it starts with.
fn without_empty(mut list: &[u8]) -> &[u8] {
    loop {
        list = trim_start(list);
        match list {
            [b',', rest @ ..] => list = rest,
            _ => return list,
        }
    }
}

/// What [`Edit::set_received`] has to change in a Via.
pub(crate) struct Received<'a> {
    /// The parameter as written, and the port to write.
    pub(crate) rport: Option<(&'a [u8], u16)>,
    /// The parameter as written, if it is there, and the address to write.
    ///
    /// IPv6 without brackets, as the grammar has it (RFC 5118 §4.5).
    pub(crate) received: Option<(Option<&'a [u8]>, IpAddr)>,
}

impl<'a> Received<'a> {
    pub(crate) fn of(via: &Via<'a>, source: SocketAddr) -> Self {
        // A socket for both families shows IPv4 clients at mapped addresses.
        let address = source.ip().to_canonical();
        let (mut rport, mut received) = (None, None);
        for param in via.params.iter() {
            if param.name.eq_ignore_ascii_case(b"rport") && rport.is_none() {
                rport = Some((param.text, source.port()));
            } else if param.name.eq_ignore_ascii_case(b"received") && received.is_none() {
                received = Some(param.text);
            }
        }
        let told_the_truth = via.host.address() == Some(address);
        let received = if received.is_some() || rport.is_some() || !told_the_truth {
            Some((received, address))
        } else {
            None
        };
        Self { rport, received }
    }
}

/// Where `part` starts in `whole`, of which it must be a part.
pub(crate) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    let offset = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    debug_assert!(offset + part.len() <= whole.len());
    offset.min(whole.len())
}

/// Appends a number. Formatting takes several times as long, and a proxy writes some for every message.
fn write_decimal(text: &mut Vec<u8>, number: u16) {
    let mut digits = [0; 5];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

/// Appends an address.
fn write_address(text: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push(b'.');
                }
                write_decimal(text, octet.into());
            }
        }
        IpAddr::V6(address) => write_text(text, format_args!("{address}")),
    }
}

/// Appends formatted text.
pub(crate) fn write_text(text: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    struct Text<'a>(&'a mut Vec<u8>);
    impl Write for Text<'_> {
        fn write_str(&mut self, part: &str) -> std::fmt::Result {
            self.0.extend_from_slice(part.as_bytes());
            Ok(())
        }
    }
    // Writing to a vector does not fail.
    let _ = Text(text).write_fmt(arguments);
}

/// No value may end its line: that would be headers, or a body, of somebody else's making.
pub(crate) fn check_value(value: &[u8]) -> Result<(), EditError> {
    if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
        return Err(EditError::LineBreak);
    }
    Ok(())
}

pub(crate) fn check_length(length: usize) -> Result<(), EditError> {
    if length > MAX_MESSAGE {
        return Err(EditError::TooLong(length));
    }
    Ok(())
}

pub(crate) fn check_uri(uri: &[u8]) -> Result<(), EditError> {
    check_value(uri)?;
    let odd = |byte: u8| byte <= b' ' || byte == 0x7f || matches!(byte, b'<' | b'>' | b'"');
    if uri.is_empty() || uri.iter().copied().any(odd) {
        return Err(EditError::RequestUri);
    }
    Ok(())
}
