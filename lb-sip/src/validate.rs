//! Whether a proxy or redirect server may handle a message (RFC 3261 §16.3), and what else to do.
//!
//! What this element reads itself must be well-formed: start line, top Via, From, To, Call-ID, CSeq,
//! Max-Forwards, Contact, Route. What it does not read (Date, Content-Type, the body, unknown headers)
//! is nobody's business here and goes on as it came.
//!
//! Where RFC 4475 lets an element choose between repair and 400 it is 400, for a reason that the RFC
//! gives itself: a proxy that is liberal must not pass the error on, and this one passes on bytes as
//! they came.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::build::{BuildError, ResponseBuilder, reason_phrase};
use crate::headers::{CSeq, HeaderError, NameAddr, Via};
use crate::message::{Flaws, Message, Method, Name, StartLine};
use crate::text::is_token;
use crate::uri::{Uri, UriError};

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Handle it: a request by forwarding or redirecting it, a response by forwarding it to its second
    /// Via.
    Forward,
    /// A response that is meant for this element itself: it has one Via (RFC 3261 §16.7, step 3).
    Absorb,
    /// Answer it with [`Fault::response`], and forget it.
    Reject(Fault),
    /// Forget it: a response, an ACK, or a request without a Via, which nobody can answer.
    Drop(Fault),
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its form. 400.
    Form(Flaws),
    /// The version is not 2.0. 505.
    Version,
    /// A header is missing. 400.
    Missing(Name),
    /// A header is malformed, or its number is out of range. 400.
    Malformed(Name),
    /// A header stands there twice that may stand there once. 400 (RFC 4475 §3.3.8).
    Repeated(Name),
    /// CSeq names another method than the start line. 400.
    Method,
    /// The branch is the magic cookie alone. 400 (RFC 4475 §3.2.1).
    Branch,
    /// The Request-URI is malformed. 400.
    RequestUri,
    /// The Request-URI has headers, which no Request-URI may have (RFC 3261 §19.1.1). 400.
    RequestUriHeaders,
    /// Nothing here understands the Request-URI's scheme. 416.
    Scheme,
    /// Max-Forwards is 0. 483.
    Hops,
    /// Proxy-Require asks for what is not there. 420.
    Extension,
    /// The response would go to a broadcast, multicast or unspecified address (RFC 4475 §3.3.10).
    NotUnicast,
}

/// What this element understands.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Schemes of the Request-URI, in lower case.
    pub schemes: &'a [&'a str],
    /// Option tags that Proxy-Require may name.
    pub extensions: &'a [&'a str],
}

impl Default for Rules<'_> {
    /// `tel` numbers and `urn` services (`urn:service:sos` calls an ambulance, RFC 5031) need no more
    /// understanding than `sip` where the next hop is known anyway.
    fn default() -> Self {
        Self {
            schemes: &["sip", "sips", "tel", "urn"],
            extensions: &[],
        }
    }
}

/// Judges a message by the usual [`Rules`].
pub fn validate(message: &Message) -> Verdict {
    Rules::default().validate(message)
}

/// Judges a message by the usual [`Rules`], and hands out what was read for it; see
/// [`Rules::examine`].
pub fn examine(message: &Message) -> (Verdict, Option<Essentials<'_>>) {
    Rules::default().examine(message)
}

/// What every message has that keeps the rules, so that nobody needs to read it twice.
#[derive(Clone, Copy, Debug)]
pub struct Essentials<'a> {
    /// The top Via.
    pub via: Via<'a>,
    /// The Via behind it. `None` of requests, whose further Vias are not read.
    pub next_via: Option<Via<'a>>,
    /// The call's identity.
    pub call_id: &'a [u8],
    /// Number and method.
    pub cseq: CSeq<'a>,
    /// Who asked.
    pub from: NameAddr<'a>,
    /// Who was asked.
    pub to: NameAddr<'a>,
    /// The first Contact of a request, if it is not `*`. `None` of responses, whose Contacts are not
    /// read.
    pub contact: Option<NameAddr<'a>>,
}

/// Headers that are read here and may stand in a message once.
const SINGLE: [Name; 8] = [
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::MaxForwards,
    Name::ContentLength,
    Name::ContentType,
    Name::SessionExpires,
];

const SINGLE_BITS: u64 = {
    let (mut bits, mut index) = (0, 0);
    while index < SINGLE.len() {
        bits |= SINGLE[index].bit();
        index += 1;
    }
    bits
};

impl Rules<'_> {
    /// Judges a message.
    pub fn validate(&self, message: &Message) -> Verdict {
        self.examine(message).0
    }

    /// Judges a message, and hands out what was read for it: `Some` where the verdict is
    /// [`Verdict::Forward`].
    pub fn examine<'m>(&self, message: &'m Message) -> (Verdict, Option<Essentials<'m>>) {
        let fault = match self.judge(message) {
            Ok(Some(essentials)) => return (Verdict::Forward, Some(essentials)),
            Ok(None) => return (Verdict::Absorb, None),
            Err(fault) => fault,
        };
        let answerable = !matches!(message.method(), None | Some(Method::Ack))
            && message.header(Name::Via).is_some();
        let verdict = if answerable {
            Verdict::Reject(fault)
        } else {
            Verdict::Drop(fault)
        };
        (verdict, None)
    }

    /// `None` is a response for this element itself.
    fn judge<'m>(&self, message: &'m Message) -> Result<Option<Essentials<'m>>, Fault> {
        let (StartLine::Request { version, .. } | StartLine::Response { version, .. }) =
            message.start_line();
        let flaws = message.flaws();
        if !flaws.contains(Flaws::START_LINE) && !version.eq_ignore_ascii_case(b"SIP/2.0") {
            return Err(Fault::Version);
        }
        if !(flaws.is_empty() || flaws == Flaws::BARE_LF) {
            return Err(Fault::Form(flaws));
        }
        if let Some(name) = repeated(message) {
            return Err(Fault::Repeated(name));
        }
        let via = message.top_via()?;
        if via.written_branch() == Some(crate::headers::MAGIC_COOKIE) {
            return Err(Fault::Branch);
        }
        let mut essentials = Essentials {
            via,
            next_via: None,
            call_id: message.call_id()?,
            cseq: message.cseq()?,
            from: message.from()?,
            to: message.to()?,
            contact: None,
        };
        match message.start_line() {
            StartLine::Request { method, uri, .. } => {
                if essentials.cseq.method != method {
                    return Err(Fault::Method);
                }
                essentials.contact = self.judge_request(message, uri)?;
            }
            StartLine::Response { .. } => match next_of_response(message)? {
                None => return Ok(None),
                next => essentials.next_via = next,
            },
        }
        Ok(Some(essentials))
    }

    /// Answers with the first Contact, if it is an address.
    fn judge_request<'m>(
        &self,
        message: &'m Message,
        uri: &[u8],
    ) -> Result<Option<NameAddr<'m>>, Fault> {
        let hops = message.max_forwards()?;
        let mut first_contact = None;
        for (index, address) in message.elements(Name::Contact).enumerate() {
            if address == b"*" {
                continue;
            }
            let address = NameAddr::parse(address).ok_or(Fault::Malformed(Name::Contact))?;
            if index == 0 {
                first_contact = Some(address);
            }
        }
        for address in message.addresses(Name::Route) {
            address?;
        }
        self.judge_uri(uri)?;
        if hops == Some(0) {
            return Err(Fault::Hops);
        }
        // Neither CANCEL nor ACK can ask for anything (RFC 3261 §8.2.2.3).
        let may_require = !matches!(message.method(), Some(Method::Ack | Method::Cancel));
        if may_require && self.unsupported(message).next().is_some() {
            // Only what is a tag can be sent back as one.
            let tags = self.unsupported(message).all(is_token);
            return Err(if tags {
                Fault::Extension
            } else {
                Fault::Malformed(Name::ProxyRequire)
            });
        }
        Ok(first_contact)
    }

    fn judge_uri(&self, uri: &[u8]) -> Result<(), Fault> {
        match Uri::parse(uri) {
            Ok(Uri::Sip(uri)) if uri.headers.is_some() => Err(Fault::RequestUriHeaders),
            Ok(uri) => {
                let understood = |scheme: &&str| uri.scheme().eq_ignore_ascii_case(scheme);
                if self.schemes.iter().any(understood) {
                    Ok(())
                } else {
                    Err(Fault::Scheme)
                }
            }
            Err(UriError::Scheme | UriError::Letters | UriError::Host) => Err(Fault::RequestUri),
        }
    }

    fn unsupported<'a>(&'a self, message: &'a Message) -> impl Iterator<Item = &'a [u8]> {
        message.option_tags(Name::ProxyRequire).filter(|tag| {
            let is = |known: &&str| tag.eq_ignore_ascii_case(known.as_bytes());
            !self.extensions.iter().any(is)
        })
    }
}

fn repeated(message: &Message) -> Option<Name> {
    if message.names().repeated() & SINGLE_BITS == 0 {
        return None;
    }
    let mut seen = 0;
    for header in message.spans() {
        let bit = header.name.bit();
        if seen & bit & SINGLE_BITS != 0 {
            return Some(header.name);
        }
        seen |= bit;
    }
    None
}

/// The second Via of a response, if it has one.
fn next_of_response(message: &Message) -> Result<Option<Via<'_>>, Fault> {
    let Some(next) = message.elements(Name::Via).nth(1) else {
        return Ok(None);
    };
    let next = Via::parse(next).ok_or(Fault::Malformed(Name::Via))?;
    if is_unicast(&next) {
        Ok(Some(next))
    } else {
        Err(Fault::NotUnicast)
    }
}

/// Whether a response to this Via goes to one receiver, as far as its letters tell.
fn is_unicast(via: &Via<'_>) -> bool {
    let maddr = via.maddr().and_then(|host| host.address());
    let target = maddr.or_else(|| via.received()).or(via.host.address());
    match target {
        None => true,
        Some(IpAddr::V4(address)) => {
            !(address.is_broadcast() || address.is_multicast() || address.is_unspecified())
        }
        Some(IpAddr::V6(address)) => !(address.is_multicast() || address.is_unspecified()),
    }
}

impl From<HeaderError> for Fault {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Missing(name) => Self::Missing(name),
            HeaderError::Malformed(name) => Self::Malformed(name),
        }
    }
}

impl Fault {
    /// The status code to answer with.
    pub const fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::Scheme => 416,
            Self::Hops => 483,
            Self::Extension => 420,
            Self::Form(_)
            | Self::Missing(_)
            | Self::Malformed(_)
            | Self::Repeated(_)
            | Self::Method
            | Self::Branch
            | Self::RequestUri
            | Self::RequestUriHeaders
            | Self::NotUnicast => 400,
        }
    }

    /// The answer by the usual [`Rules`], with a reason phrase that says what is wrong, and
    /// `Unsupported` where that is asked for (RFC 3261 §16.3, step 5).
    ///
    /// The tag should depend on the request alone, since nothing is remembered of it (§8.2.7).
    ///
    /// # Errors
    /// The request is one that is never answered, or the tag is none.
    pub fn response(
        self,
        request: &Message,
        source: SocketAddr,
        to_tag: &str,
    ) -> Result<Bytes, BuildError> {
        self.response_by(&Rules::default(), request, source, to_tag)
    }

    /// The answer by other rules.
    ///
    /// # Errors
    /// As [`Fault::response`].
    pub fn response_by(
        self,
        rules: &Rules<'_>,
        request: &Message,
        source: SocketAddr,
        to_tag: &str,
    ) -> Result<Bytes, BuildError> {
        let phrase = self.to_string();
        let mut response = ResponseBuilder::new(request, self.status())
            .reason(&phrase)
            .source(source)
            .to_tag(to_tag);
        if self == Self::Extension {
            let tags: Vec<&[u8]> = rules.unsupported(request).collect();
            response = response.header(Name::Unsupported, tags.join(&b", "[..]));
        }
        response.finish()
    }
}

/// As in the reason phrase of the answer.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(flaws) if flaws.contains(Flaws::START_LINE) => {
                f.write_str("Malformed Request-Line")
            }
            Self::Form(flaws) if flaws.contains(Flaws::BODY_SHORT) => {
                f.write_str("Body Shorter Than Content-Length")
            }
            Self::Form(flaws) if flaws.contains(Flaws::CONTENT_LENGTHS) => {
                f.write_str("Repeated Content-Length")
            }
            Self::Form(flaws) if flaws.contains(Flaws::CONTENT_LENGTH) => {
                f.write_str("Malformed Content-Length")
            }
            Self::Form(flaws) if flaws.contains(Flaws::NO_CONTENT_LENGTH) => {
                f.write_str("Missing Content-Length")
            }
            Self::Form(flaws) if flaws.contains(Flaws::NO_EMPTY_LINE) => {
                f.write_str("Missing Empty Line")
            }
            Self::Form(_) => f.write_str("Malformed Header Line"),
            Self::Missing(name) => write!(f, "Missing {}", name.as_str()),
            Self::Malformed(name) => write!(f, "Malformed {}", name.as_str()),
            Self::Repeated(name) => write!(f, "Repeated {}", name.as_str()),
            Self::Method => f.write_str("Method Differs From CSeq"),
            Self::Branch => f.write_str("Empty Branch"),
            Self::RequestUri => f.write_str("Malformed Request-URI"),
            Self::RequestUriHeaders => f.write_str("Headers in Request-URI"),
            Self::NotUnicast => f.write_str("Response to No Single Address"),
            Self::Version | Self::Scheme | Self::Hops | Self::Extension => {
                f.write_str(reason_phrase(self.status()))
            }
        }
    }
}
