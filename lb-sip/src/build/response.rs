//! Answers to requests (RFC 3261 §8.2.6).

use std::net::SocketAddr;

use bytes::Bytes;

use super::{BuildError, Contact, put_body, put_header, reason_phrase};
use crate::headers::NameAddr;
use crate::message::{
    EditError, Message, Method, Name, Received, check_length, check_value, offset_in, write_text,
};
use crate::text::{is_token, unfold};

/// A response to a request.
///
/// From the request it takes all Vias, From, To, Call-ID and CSeq, as they were written but on one
/// line each; Record-Route into responses that can make a dialog (101 to 299, §12.1.1); Timestamp into
/// a 100 (§8.2.6.1). Headers that the request lacks, the response lacks too: that is how a request
/// without Call-ID is told so (RFC 4475 §3.3.1). Only without a Via there is no answering.
#[derive(Debug)]
pub struct ResponseBuilder<'m> {
    request: &'m Message,
    status: u16,
    reason: Option<&'m str>,
    to_tag: Option<&'m str>,
    source: Option<SocketAddr>,
    headers: Vec<u8>,
    content_type: Option<&'m [u8]>,
    body: &'m [u8],
    fault: Option<BuildError>,
}

impl<'m> ResponseBuilder<'m> {
    /// A response with this status code and its usual phrase.
    pub fn new(request: &'m Message, status: u16) -> Self {
        Self {
            request,
            status,
            reason: None,
            to_tag: None,
            source: None,
            headers: Vec::new(),
            content_type: None,
            body: b"",
            fault: None,
        }
    }

    /// Another reason phrase.
    pub fn reason(mut self, phrase: &'m str) -> Self {
        self.reason = Some(phrase);
        self
    }

    /// The tag that To gets if it has none. All responses to one request but 100 must get the same
    /// (§8.2.6.2).
    pub fn to_tag(mut self, tag: &'m str) -> Self {
        self.to_tag = Some(tag);
        self
    }

    /// Where the request came from: goes into the top Via, as [`crate::Edit::set_received`] says. Not
    /// needed if the request is answered as that edit has left it.
    pub fn source(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Adds a header.
    pub fn header(self, name: Name, value: impl AsRef<[u8]>) -> Self {
        self.header_named(name.as_str(), value)
    }

    /// Adds a header of any name.
    pub fn header_named(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let fault = match check_value(value) {
            Ok(()) if is_token(name.as_bytes()) => None,
            Ok(()) => Some(EditError::Name),
            Err(error) => Some(error),
        };
        match fault {
            None => put_header(&mut self.headers, name, value),
            Some(error) => self.fault = self.fault.or(Some(error.into())),
        }
        self
    }

    /// Adds Contacts, each on its own line, in this order.
    pub fn contacts<'c>(mut self, contacts: impl IntoIterator<Item = &'c Contact>) -> Self {
        for contact in contacts {
            self = self.header(Name::Contact, contact.as_str());
        }
        self
    }

    /// A body.
    pub fn body(mut self, content_type: &'m str, body: &'m [u8]) -> Self {
        (self.content_type, self.body) = (Some(content_type.as_bytes()), body);
        self
    }

    /// The response.
    ///
    /// # Errors
    /// A value would break it, or there is no answering such a message.
    pub fn finish(self) -> Result<Bytes, BuildError> {
        let request = self.request;
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if !(100..=699).contains(&self.status) {
            return Err(BuildError::Status(self.status));
        }
        if matches!(request.method(), None | Some(Method::Ack)) {
            return Err(BuildError::NotToBeAnswered);
        }
        if request.header(Name::Via).is_none() {
            return Err(BuildError::Lacks(Name::Via));
        }
        let reason = self.reason.unwrap_or_else(|| reason_phrase(self.status));
        check_value(reason.as_bytes())?;
        check_value(self.content_type.unwrap_or_default())?;

        let mut text = Vec::with_capacity(512 + self.headers.len() + self.body.len());
        write_text(
            &mut text,
            format_args!("SIP/2.0 {} {reason}\r\n", self.status),
        );
        self.put_vias(&mut text);
        if (101..300).contains(&self.status) {
            for route in request.headers_of(Name::RecordRoute) {
                put_header(&mut text, "Record-Route", &clean(route.raw));
            }
        }
        if let Some(from) = request.header(Name::From) {
            put_header(&mut text, "From", &clean(from.raw));
        }
        self.put_to(&mut text)?;
        for name in [Name::CallId, Name::CSeq] {
            if let Some(header) = request.header(name) {
                put_header(&mut text, name.as_str(), &clean(header.raw));
            }
        }
        if self.status == 100
            && let Some(timestamp) = request.header(Name::Timestamp)
        {
            put_header(&mut text, "Timestamp", &clean(timestamp.raw));
        }
        text.extend_from_slice(&self.headers);
        put_body(&mut text, self.content_type, self.body);
        check_length(text.len())?;
        Ok(text.into())
    }

    fn put_vias(&self, text: &mut Vec<u8>) {
        let mut vias = self.request.headers_of(Name::Via);
        if let Some(source) = self.source
            && let Ok(top) = self.request.top_via()
            && let Some(first) = vias.next()
        {
            let changes = Received::of(&top, source);
            let mut value = first.raw.to_vec();
            let at = |part: &[u8]| offset_in(first.raw, part);
            let via_end = at(top.text) + top.text.len();
            // From back to front, so that offsets stay right.
            let mut splices = [
                changes
                    .rport
                    .map(|(old, port)| (at(old), at(old) + old.len(), format!("rport={port}"))),
                changes.received.map(|(old, address)| match old {
                    Some(old) => (at(old), at(old) + old.len(), format!("received={address}")),
                    None => (via_end, via_end, format!(";received={address}")),
                }),
            ];
            splices.sort_by_key(|splice| splice.as_ref().map(|splice| splice.0));
            for (start, end, new) in splices.into_iter().flatten().rev() {
                value.splice(start..end, new.into_bytes());
            }
            put_header(text, "Via", &clean(&value));
        }
        for via in vias {
            put_header(text, "Via", &clean(via.raw));
        }
    }

    fn put_to(&self, text: &mut Vec<u8>) -> Result<(), BuildError> {
        let Some(to) = self.request.header(Name::To) else {
            return Ok(());
        };
        let mut value = clean(to.raw).into_owned();
        let tagged = NameAddr::parse(to.raw).is_some_and(|to| to.tag().is_some());
        // A 100 comes from whoever is next, not from who will have the dialog.
        if let Some(tag) = self.to_tag.filter(|_| !tagged && self.status > 100) {
            if !is_token(tag.as_bytes()) {
                return Err(EditError::LineBreak.into());
            }
            write_text(&mut value, format_args!(";tag={tag}"));
        }
        put_header(text, "To", &value);
        Ok(())
    }
}

/// A value of the request, on one line.
fn clean(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    unfold(value)
}
