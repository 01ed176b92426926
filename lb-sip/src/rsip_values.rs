//! What messages say as values of the `rsip` crate (0.4), where those are right.
//!
//! rsip's parser and writer see no message here. A value is made from parts that this crate has cut
//! out of the bytes itself; where rsip's type cannot hold what is there, the answer is `None`, never a
//! wrong value. What is stepped around, each with a test in `tests/rsip.rs` that will fail when rsip
//! has become right:
//!
//! | defect of rsip | instead |
//! |---|---|
//! | compact names are unknown headers | [`Name`] |
//! | no folded lines, no white space before the colon, no bare LF, no CRLF before the message | [`Message`] |
//! | Content-Length is not obeyed | [`Message::from_datagram`], [`crate::Framer`] |
//! | bodies that are not UTF-8 are changed, headers that are not are refused | bytes throughout |
//! | unknown methods are refused, `invite` is taken for INVITE | [`Method`] and the bytes of its name |
//! | CSeq of 2³¹ and more, or with a sign | [`crate::headers::CSeq`] |
//! | IPv6: brackets are neither read nor written | [`Host`] |
//! | `tel:+1` becomes the host `tel` with port 1, `urn:` fails | [`crate::Uri::Other`] |
//! | `?headers` become part of the host | [`SipUri::headers`] |
//! | unknown transports fail, in Via and in URIs | [`Via::transport`] as written |
//! | of a list of Vias the first alone is read; lists of Contacts fail | [`Message::elements`] |
//! | white space in Via fails | [`Via`] |
//! | `received=[::1]` becomes an empty value | [`Via::received`] |
//! | `Contact: *` becomes the host `*` | [`Message::contact`] |
//! | quoted names with `<` in them fail, quoted parameters too | [`NameAddr`] |
//! | reason phrases without spaces; given ones are lost | [`crate::build::reason_phrase`] |
//!
//! [`Name`]: crate::Name
//! [`Via`]: crate::headers::Via
//! [`Via::transport`]: crate::headers::Via::transport
//! [`Via::received`]: crate::headers::Via::received

use rsip::headers::UntypedHeader;
use rsip::prelude::ToTypedHeader;

use crate::headers::{CSeq, NameAddr, Params};
use crate::message::{Message, Method, Name};
use crate::uri::{Host, SipUri, Uri};

pub use rsip::typed::MediaType;

/// The method; `None` for [`Method::Other`].
pub fn method(method: Method) -> Option<rsip::Method> {
    Some(match method {
        Method::Invite => rsip::Method::Invite,
        Method::Ack => rsip::Method::Ack,
        Method::Bye => rsip::Method::Bye,
        Method::Cancel => rsip::Method::Cancel,
        Method::Options => rsip::Method::Options,
        Method::Register => rsip::Method::Register,
        Method::Prack => rsip::Method::PRack,
        Method::Update => rsip::Method::Update,
        Method::Subscribe => rsip::Method::Subscribe,
        Method::Notify => rsip::Method::Notify,
        Method::Publish => rsip::Method::Publish,
        Method::Info => rsip::Method::Info,
        Method::Refer => rsip::Method::Refer,
        Method::Message => rsip::Method::Message,
        Method::Other => return None,
    })
}

/// The status code; its class is right, its text is not to be sent.
pub fn status_code(status: u16) -> rsip::StatusCode {
    status.into()
}

/// The transport of a Via; `None` of those that rsip does not know.
pub fn transport(name: &[u8]) -> Option<rsip::Transport> {
    str::from_utf8(name).ok()?.parse().ok()
}

/// Number and method; `None` of methods that rsip does not know.
pub fn cseq(cseq: &CSeq<'_>) -> Option<rsip::typed::CSeq> {
    let method = method(Method::of(cseq.method))?;
    Some((cseq.number, method).into())
}

/// The URI. It is right as a value; as text only with a host that is no IPv6 address.
///
/// `None` where it has headers, for which rsip has no type, or parameters that rsip refuses.
pub fn uri(uri: &SipUri<'_>) -> Option<rsip::Uri> {
    if uri.headers.is_some() {
        return None;
    }
    let text = |part: &[u8]| String::from_utf8(part.to_vec()).ok();
    let auth = match uri.user {
        None => None,
        Some(user) => Some(rsip::Auth {
            user: text(user)?,
            password: match uri.password {
                None => None,
                Some(password) => Some(text(password)?),
            },
        }),
    };
    let host = match uri.host {
        Host::Name(name) => rsip::Host::Domain(name.into()),
        Host::V4(address) => rsip::Host::IpAddr(address.into()),
        Host::V6(address) => rsip::Host::IpAddr(address.into()),
    };
    let scheme = if uri.secure {
        rsip::Scheme::Sips
    } else {
        rsip::Scheme::Sip
    };
    Some(rsip::Uri {
        scheme: Some(scheme),
        auth,
        host_with_port: rsip::HostWithPort {
            host,
            port: uri.port.map(Into::into),
        },
        params: params(uri.params)?,
        headers: Vec::new(),
    })
}

/// A Contact; `None` where its URI is none of SIP, or one that [`uri`] refuses.
pub fn contact(contact: &NameAddr<'_>) -> Option<rsip::typed::Contact> {
    let Ok(Uri::Sip(sip)) = contact.uri() else {
        return None;
    };
    let display_name = match contact.display {
        [] => None,
        name => Some(String::from_utf8(name.to_vec()).ok()?),
    };
    Some(rsip::typed::Contact {
        display_name,
        uri: uri(&sip)?,
        params: params(contact.params)?,
    })
}

/// What the body is, by Content-Type; `None` if it does not say, or nothing that can be read.
pub fn media_type(message: &Message) -> Option<MediaType> {
    let value = message.header(Name::ContentType)?.value();
    let value = String::from_utf8(value.into_owned()).ok()?;
    Some(rsip::headers::ContentType::new(value).typed().ok()?.0)
}

fn params(params: Params<'_>) -> Option<Vec<rsip::Param>> {
    let param = |param: crate::headers::Param<'_>| {
        let name = str::from_utf8(param.name).ok()?;
        let value = match param.value {
            None => None,
            Some(value) => Some(str::from_utf8(value).ok()?),
        };
        // Names of methods count as they are written.
        let odd_method = name.eq_ignore_ascii_case("method")
            && value.is_some_and(|value| Method::of(value.as_bytes()) == Method::Other);
        if odd_method {
            return None;
        }
        rsip::Param::try_from((name, value)).ok()
    };
    params.iter().map(param).collect()
}
