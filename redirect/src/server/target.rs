//! The Request-URI of a call that goes to another node, and back to what it was when it arrives.
//!
//! ```text
//!   INVITE sip:+15551234@192.0.2.100:5060;user=phone
//!   302 Contact: <sip:+15551234@192.0.2.12:5062;user=phone;pm-for=192.0.2.100:5060;pm-hop=a4iq…>
//!   INVITE sip:+15551234@192.0.2.12:5062;user=phone;pm-for=192.0.2.100:5060;pm-hop=a4iq…
//!   to the SIP server: INVITE sip:+15551234@192.0.2.100:5060;user=phone
//! ```
//! So a SIP server sees a call that was redirected as it would have seen it at first. What stands in
//! `pm-for` is the switch's word as the first Request-URI was, and needs no signature.

use lb_proto::offer::ticket::PARAMETER;
use lb_sip::build::{BuildError, Contact, HostPort};
use lb_sip::{SipUri, Uri};
use std::net::SocketAddr;

/// The URI parameter that keeps host and port of the first Request-URI.
const HOME: &str = "pm-for";

/// The Contact, or Request-URI, that leads a request to the redirect server at `address`.
///
/// # Errors
/// The Request-URI has letters that no URI may have, which no validated one has.
pub(crate) fn to_node(
    request_uri: &[u8],
    address: SocketAddr,
    ticket: &str,
) -> Result<Contact, BuildError> {
    let address = HostPort(address);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut home = None;
    let uri = match Uri::parse(request_uri) {
        Ok(Uri::Sip(uri)) => {
            home = param(&uri, HOME).or_else(|| {
                let port = uri.port.map(|port| format!(":{port}")).unwrap_or_default();
                Some(format!("{}{port}", uri.host))
            });
            let user = uri.user.map(|user| text(user) + "@").unwrap_or_default();
            let mut made = format!("sip:{user}{address}");
            for param in uri.params.iter().filter(|param| !is_ours(param.name)) {
                // A transport of the first hop says nothing about this one.
                if !param.name.eq_ignore_ascii_case(b"transport")
                    && !param.name.eq_ignore_ascii_case(b"maddr")
                {
                    made.push(';');
                    made.push_str(&text(param.text));
                }
            }
            made
        }
        // `tel:+1-555;ext=1`: a number is a user like others (RFC 3261 §19.1.6).
        Ok(Uri::Other { scheme, rest }) if scheme.eq_ignore_ascii_case("tel") => {
            let number = rest.split(|byte| *byte == b';').next();
            format!(
                "sip:{}@{address};user=phone",
                text(number.unwrap_or_default())
            )
        }
        Ok(Uri::Other { .. }) | Err(_) => format!("sip:{address}"),
    };
    let mut contact = Contact::new(&uri)?;
    if let Some(home) = home {
        contact = contact.uri_param(HOME, &home)?;
    }
    contact.uri_param(PARAMETER, ticket)
}

/// The URI within a Contact's angle brackets.
pub(crate) fn uri_of(contact: &Contact) -> &str {
    let text = contact.as_str();
    let text = text.strip_prefix('<').unwrap_or(text);
    text.split('>').next().unwrap_or_default()
}

/// The ticket that a Request-URI carries.
pub(crate) fn ticket(request_uri: &[u8]) -> Option<&str> {
    let uri = Uri::parse(request_uri).ok()?.sip()?;
    let ticket = uri.params.find(PARAMETER)?.value.unwrap_or_default();
    // What is no text is no ticket, but was meant to be one.
    Some(str::from_utf8(ticket).unwrap_or_default())
}

/// The Request-URI as it was before the call was offered on; `None` if it was not.
pub(crate) fn restored(request_uri: &[u8]) -> Option<Vec<u8>> {
    let uri = Uri::parse(request_uri).ok()?.sip()?;
    if !uri.params.iter().any(|param| is_ours(param.name)) {
        return None;
    }
    let scheme: &[u8] = if uri.secure { b"sips:" } else { b"sip:" };
    let mut made = scheme.to_vec();
    if let Some(user) = uri.user {
        made.extend_from_slice(user);
        if let Some(password) = uri.password {
            made.push(b':');
            made.extend_from_slice(password);
        }
        made.push(b'@');
    }
    let written = || {
        let port = uri.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", uri.host)
    };
    let home = param(&uri, HOME).filter(|home| is_host_port(home));
    made.extend_from_slice(home.unwrap_or_else(written).as_bytes());
    for param in uri.params.iter().filter(|param| !is_ours(param.name)) {
        made.push(b';');
        made.extend_from_slice(param.text);
    }
    Some(made)
}

fn is_ours(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(PARAMETER.as_bytes()) || name.eq_ignore_ascii_case(HOME.as_bytes())
}

fn param(uri: &SipUri<'_>, name: &str) -> Option<String> {
    let value = uri.params.find(name)?.value?;
    Some(str::from_utf8(value).ok()?.to_owned())
}

/// Whether a URI can be made with it.
fn is_host_port(text: &str) -> bool {
    let uri = format!("sip:{text}");
    let parsed = Uri::parse(uri.as_bytes()).ok().and_then(Uri::sip);
    parsed.is_some_and(|uri| {
        uri.user.is_none() && uri.headers.is_none() && uri.params.as_bytes().is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> SocketAddr {
        "192.0.2.12:5062".parse().expect("an address")
    }

    #[test]
    fn there_and_back() {
        let cases = [
            "sip:+15551234@192.0.2.100:5060;user=phone",
            "sip:bob@[2001:db8::1]:5070",
            "sip:example.com",
            "sip:b%40b@example.com;x=y;z",
        ];
        for first in cases {
            let contact = to_node(first.as_bytes(), node(), "abc").expect("a URI");
            let uri = uri_of(&contact);
            assert_eq!(ticket(uri.as_bytes()), Some("abc"), "{uri}");
            assert!(uri.contains("192.0.2.12:5062;"), "{uri}");
            let back = restored(uri.as_bytes()).expect("offered");
            assert_eq!(str::from_utf8(&back), Ok(first));
            // Offered on: the first host stays, the ticket is the new one.
            let onward = to_node(uri.as_bytes(), node(), "def").expect("a URI");
            let uri = uri_of(&onward);
            assert_eq!(ticket(uri.as_bytes()), Some("def"), "{uri}");
            assert_eq!(restored(uri.as_bytes()).as_deref(), Some(first.as_bytes()));
        }
    }

    #[test]
    fn what_carries_no_ticket_stays_as_it_is() {
        assert_eq!(restored(b"sip:bob@example.com;user=phone"), None);
        assert_eq!(restored(b"tel:+1555"), None);
        assert_eq!(ticket(b"tel:+1555"), None);
        let tel = to_node(b"tel:+1-555;ext=1", node(), "t").expect("a URI");
        assert_eq!(
            uri_of(&tel),
            "sip:+1-555@192.0.2.12:5062;user=phone;pm-hop=t"
        );
        let odd = restored(b"sip:a@192.0.2.1;pm-for=x@y;pm-hop=t").expect("offered");
        assert_eq!(
            odd, b"sip:a@192.0.2.1",
            "a home that is none is passed over"
        );
    }
}
