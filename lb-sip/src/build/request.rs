//! Requests (RFC 3261 §8.1.1, §9.1, §12.2.1.1, §17.1.1.3).

use bytes::Bytes;

use super::{BuildError, put_body, put_header};
use crate::headers::{HeaderError, NameAddr};
use crate::message::{
    DEFAULT_MAX_FORWARDS, EditError, Message, Method, Name, check_length, check_uri, check_value,
    write_text,
};
use crate::text::{is_token, unfold};
use crate::uri::Uri;

/// A request.
#[derive(Debug)]
pub struct RequestBuilder {
    method: Vec<u8>,
    uri: Vec<u8>,
    headers: Vec<u8>,
    has: Vec<Name>,
    content_type: Vec<u8>,
    body: Vec<u8>,
    fault: Option<BuildError>,
}

/// What no request may lack (§8.1.1). Max-Forwards is added where it is not given.
const MANDATORY: [Name; 5] = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq];

impl RequestBuilder {
    /// A request of this method to this URI.
    pub fn new(method: impl AsRef<[u8]>, uri: impl AsRef<[u8]>) -> Self {
        let (method, uri) = (method.as_ref().to_vec(), uri.as_ref().to_vec());
        let mut fault = check_uri(&uri).err().map(BuildError::Value);
        if !is_token(&method) {
            fault = Some(BuildError::Method);
        }
        Self {
            method,
            uri,
            headers: Vec::with_capacity(512),
            has: Vec::with_capacity(8),
            content_type: Vec::new(),
            body: Vec::new(),
            fault,
        }
    }

    /// A request within a dialog, whose route set (values of Route, first hop first) and remote target
    /// say where it goes (§12.2.1.1).
    ///
    /// If the first hop is a strict router (no `lr`), it becomes the Request-URI, and the remote target
    /// the last Route.
    ///
    /// # Errors
    /// The first value of the route set cannot be read.
    pub fn in_dialog(
        method: impl AsRef<[u8]>,
        remote_target: impl AsRef<[u8]>,
        route_set: &[impl AsRef<[u8]>],
    ) -> Result<Self, BuildError> {
        let target = remote_target.as_ref();
        let Some((first, others)) = route_set.split_first() else {
            return Ok(Self::new(method, target));
        };
        let malformed = HeaderError::Malformed(Name::Route);
        let hop = NameAddr::parse(first.as_ref()).ok_or(malformed)?;
        let uri = Uri::parse(hop.uri).map_err(|_| malformed)?;
        let loose = uri.sip().is_none_or(|uri| uri.is_loose_router());
        if loose {
            let mut request = Self::new(method, target);
            for route in route_set {
                request = request.header(Name::Route, route);
            }
            return Ok(request);
        }
        // Headers have no place in a Request-URI (§19.1.1).
        let uri = hop.uri.split(|byte| *byte == b'?').next();
        let mut request = Self::new(method, uri.unwrap_or_default());
        for route in others {
            request = request.header(Name::Route, route);
        }
        Ok(request.header(Name::Route, [b"<", target, b">"].concat()))
    }

    /// Adds a header.
    pub fn header(self, name: Name, value: impl AsRef<[u8]>) -> Self {
        self.header_named(name.as_str(), value)
    }

    /// Adds a header of any name.
    pub fn header_named(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let checked = check_value(value);
        if let Err(error) = checked {
            self.fault = self.fault.or(Some(error.into()));
        } else if is_token(name.as_bytes()) {
            self.has.push(Name::of(name.as_bytes()));
            put_header(&mut self.headers, name, value);
        } else {
            self.fault = self.fault.or(Some(EditError::Name.into()));
        }
        self
    }

    /// Its number; the method is added.
    pub fn cseq(mut self, number: u32) -> Self {
        if number >= 1 << 31 {
            self.fault = self.fault.or(Some(BuildError::CSeq));
        }
        let mut value = Vec::new();
        write_text(&mut value, format_args!("{number} "));
        value.extend_from_slice(&self.method);
        self.header(Name::CSeq, value)
    }

    /// A body.
    pub fn body(mut self, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        self.content_type = content_type.as_bytes().to_vec();
        self.body = body.as_ref().to_vec();
        self
    }

    /// The request.
    ///
    /// # Errors
    /// A value would break it, or a header is lacking.
    pub fn finish(self) -> Result<Bytes, BuildError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        check_value(&self.content_type)?;
        if let Some(name) = MANDATORY.into_iter().find(|name| !self.has.contains(name)) {
            return Err(BuildError::Lacks(name));
        }
        let length = self.uri.len() + self.headers.len() + self.body.len();
        let mut text = Vec::with_capacity(length + 128);
        for part in [&self.method[..], b" ", &self.uri, b" SIP/2.0\r\n"] {
            text.extend_from_slice(part);
        }
        if !self.has.contains(&Name::MaxForwards) {
            write_text(
                &mut text,
                format_args!("Max-Forwards: {DEFAULT_MAX_FORWARDS}\r\n"),
            );
        }
        text.extend_from_slice(&self.headers);
        put_body(&mut text, Some(&self.content_type), &self.body);
        check_length(text.len())?;
        Ok(text.into())
    }
}

/// The ACK for a final response of 300 to 699, sent by the transaction that sent the INVITE
/// (RFC 3261 §17.1.1.3).
///
/// # Errors
/// The INVITE is none, or either lacks what the ACK repeats.
pub fn ack_for(invite: &Message, response: &Message) -> Result<Bytes, BuildError> {
    let to = response.header(Name::To);
    follow_up(invite, Method::Ack, to.map(|to| to.raw))
}

/// The CANCEL for a request (RFC 3261 §9.1).
///
/// # Errors
/// It is no request, or lacks what the CANCEL repeats.
pub fn cancel_for(request: &Message) -> Result<Bytes, BuildError> {
    let to = request.header(Name::To);
    follow_up(request, Method::Cancel, to.map(|to| to.raw))
}

/// A request that goes where another went, hop by hop: same Request-URI, top Via and Routes.
fn follow_up(request: &Message, method: Method, to: Option<&[u8]>) -> Result<Bytes, BuildError> {
    let uri = request.request_uri().ok_or(BuildError::NotARequest)?;
    let copy = |name: Name| {
        let header = request.header(name);
        header
            .map(|header| unfold(header.raw))
            .ok_or(HeaderError::Missing(name))
    };
    let mut built = RequestBuilder::new(method.as_str(), uri)
        .header(Name::Via, unfold(request.top_via()?.text))
        .header(Name::From, copy(Name::From)?)
        .header(Name::To, unfold(to.ok_or(HeaderError::Missing(Name::To))?))
        .header(Name::CallId, copy(Name::CallId)?)
        .cseq(request.cseq()?.number);
    for route in request.headers_of(Name::Route) {
        built = built.header(Name::Route, route.value());
    }
    built.finish()
}
