//! URIs: `sip:` and `sips:` taken apart, others kept as they are.

mod compare;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::headers::Params;
use crate::text;

/// The port of `sip:` where none is written (RFC 3261 §19.1.2).
pub const SIP_PORT: u16 = 5060;
/// The port of `sips:` where none is written.
pub const SIPS_PORT: u16 = 5061;

/// Why a text is no URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// There is no scheme before a colon.
    #[error("a URI without a scheme")]
    Scheme,
    /// White space, control characters, quotes or angle brackets in it.
    #[error("a URI with white space, quotes or angle brackets")]
    Letters,
    /// The host is neither a name nor an address, or the port is no number. IPv6 needs brackets.
    #[error("a SIP URI whose host or port is malformed")]
    Host,
}

/// A URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uri<'a> {
    /// `sip:` or `sips:`.
    Sip(SipUri<'a>),
    /// Any other, such as `tel:`.
    Other {
        /// To be compared without regard to case.
        scheme: &'a str,
        /// What follows its colon.
        rest: &'a [u8],
    },
}

/// A `sip:` or `sips:` URI (RFC 3261 §19.1.1), parts as written. It equals another by
/// [`SipUri::is_same_as`]; `==` compares what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipUri<'a> {
    /// `sips:`.
    pub secure: bool,
    /// Before the `@`, escapes included, without the password.
    pub user: Option<&'a [u8]>,
    /// Behind the user's colon.
    pub password: Option<&'a [u8]>,
    /// The host.
    pub host: Host<'a>,
    /// The port; `None` where none is written.
    pub port: Option<u16>,
    /// `;lr` and others.
    pub params: Params<'a>,
    /// What follows the `?`, without it.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// Reads a URI.
    ///
    /// # Errors
    /// See [`UriError`].
    pub fn parse(uri: &'a [u8]) -> Result<Self, UriError> {
        let odd = |byte: &u8| *byte <= b' ' || matches!(byte, b'<' | b'>' | b'"' | 0x7f);
        if uri.iter().any(odd) {
            return Err(UriError::Letters);
        }
        let colon = uri.iter().position(|byte| *byte == b':');
        let (scheme, rest) = uri.split_at(colon.ok_or(UriError::Scheme)?);
        let rest = &rest[1..];
        let secure = match scheme {
            [b's' | b'S', b'i' | b'I', b'p' | b'P'] => false,
            [b's' | b'S', b'i' | b'I', b'p' | b'P', b's' | b'S'] => true,
            other => {
                let scheme = read_scheme(other).ok_or(UriError::Scheme)?;
                return Ok(Self::Other { scheme, rest });
            }
        };
        SipUri::parse(secure, rest).map(Self::Sip)
    }

    /// The SIP URI, if it is one.
    pub fn sip(self) -> Option<SipUri<'a>> {
        match self {
            Self::Sip(uri) => Some(uri),
            Self::Other { .. } => None,
        }
    }

    /// Its scheme, `sip` and `sips` in lower case, others as written.
    pub fn scheme(&self) -> &'a str {
        match self {
            Self::Sip(uri) if uri.secure => "sips",
            Self::Sip(_) => "sip",
            Self::Other { scheme, .. } => scheme,
        }
    }
}

fn read_scheme(text: &[u8]) -> Option<&str> {
    let (first, others) = text.split_first()?;
    let fits = first.is_ascii_alphabetic()
        && others
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if fits {
        str::from_utf8(text).ok()
    } else {
        None
    }
}

impl<'a> SipUri<'a> {
    fn parse(secure: bool, rest: &'a [u8]) -> Result<Self, UriError> {
        // The user part may hold `;` and `?`, so it goes first. It holds no `@` unless escaped.
        let (user_info, behind) = match memchr::memchr(b'@', rest) {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (user, password) = match user_info {
            Some([]) => return Err(UriError::Host),
            Some(info) => match memchr::memchr(b':', info) {
                Some(colon) => (Some(&info[..colon]), Some(&info[colon + 1..])),
                None => (Some(info), None),
            },
            None => (None, None),
        };
        let (behind, headers) = match memchr::memchr(b'?', behind) {
            Some(at) => (&behind[..at], Some(&behind[at + 1..])),
            None => (behind, None),
        };
        let semicolon = memchr::memchr(b';', behind).unwrap_or(behind.len());
        let (host_port, params) = behind.split_at(semicolon);
        let (host, port) = split_host_port(host_port).ok_or(UriError::Host)?;
        Ok(Self {
            secure,
            user,
            password,
            host,
            port,
            params: Params::new(params),
            headers,
        })
    }

    /// The port, written or not.
    pub fn port_or_default(&self) -> u16 {
        self.port
            .unwrap_or(if self.secure { SIPS_PORT } else { SIP_PORT })
    }

    /// Whether it names a loose router: `;lr` (RFC 3261 §16.12).
    pub fn is_loose_router(&self) -> bool {
        self.params.has("lr")
    }

    /// Whether it means the same resource (RFC 3261 §19.1.4).
    pub fn is_same_as(&self, other: &SipUri<'_>) -> bool {
        compare::are_same(self, other)
    }
}

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name, to be compared without regard to case.
    Name(&'a str),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, which stands in brackets.
    V6(Ipv6Addr),
}

impl Host<'_> {
    /// The address, if it is one; IPv4 in IPv6 as IPv4.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some((*address).into()),
            Self::V6(address) => Some(IpAddr::V6(*address).to_canonical()),
        }
    }

    /// Whether it is the same host by its letters. No name is looked up.
    pub fn is_same_as(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Host::V4(a), Host::V4(b)) => a == b,
            (Host::V6(a), Host::V6(b)) => a == b,
            (Host::Name(_) | Host::V4(_) | Host::V6(_), _) => false,
        }
    }
}

/// As URIs and Via write it: IPv6 in brackets.
impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// `host[:port]`, without white space.
pub(crate) fn split_host_port(text: &[u8]) -> Option<(Host<'_>, Option<u16>)> {
    let (host, port) = if text.first() == Some(&b'[') {
        let close = memchr::memchr(b']', text)?;
        (Host::V6(v6_address(&text[1..close])?), &text[close + 1..])
    } else {
        let colon = text.iter().position(|byte| *byte == b':');
        let colon = colon.unwrap_or(text.len());
        let (host, port) = text.split_at(colon);
        let host = match v4_address(host) {
            Some(address) => Host::V4(address),
            None => Host::Name(host_name(host)?),
        };
        (host, port)
    };
    match port {
        [] => Some((host, None)),
        [b':', digits @ ..] => Some((host, Some(text::number(digits)?))),
        _ => None,
    }
}

/// Letters of a host name, not empty. The underscore is in no RFC, but in names that resolve.
fn host_name(text: &[u8]) -> Option<&str> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if text.is_empty() || !text.iter().all(fits) {
        return None;
    }
    str::from_utf8(text).ok()
}

/// An IPv4 address: four numbers, as people write them, without further zeros before them.
fn v4_address(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let (mut index, mut octet, mut digits) = (0, 0_u16, 0);
    for byte in text {
        match byte {
            b'0'..=b'9' if digits == 0 || octet != 0 => {
                octet = octet * 10 + u16::from(byte - b'0');
                digits += 1;
                octets[index] = u8::try_from(octet).ok()?;
            }
            b'.' if digits > 0 && index < 3 => (index, octet, digits) = (index + 1, 0, 0),
            _ => return None,
        }
    }
    (index == 3 && digits > 0).then(|| octets.into())
}

/// An IPv6 address without brackets.
///
/// Three colons are read as the two that are meant: the grammar of RFC 3261 allowed them by mistake
/// before IPv4 parts (RFC 5118 §4.10).
fn v6_address(text: &[u8]) -> Option<Ipv6Addr> {
    let text = str::from_utf8(text).ok()?;
    text.parse().ok().or_else(|| {
        let (before, behind) = text.split_once(":::")?;
        format!("{before}::{behind}").parse().ok()
    })
}

/// An address, IPv6 in brackets or without them.
pub(crate) fn bare_address(text: &[u8]) -> Option<IpAddr> {
    match text {
        [b'[', inner @ .., b']'] => v6_address(inner).map(IpAddr::V6),
        text => {
            let v4 = v4_address(text).map(IpAddr::V4);
            v4.or_else(|| v6_address(text).map(IpAddr::V6))
        }
    }
}
