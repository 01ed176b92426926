//! Addresses: From, To, Contact, Route, Record-Route.

use super::Params;
use crate::text::{find_unquoted, is_lws, is_token_byte, quoted_len, trim, trim_end};
use crate::uri::{Uri, UriError};

/// A `name-addr` or `addr-spec` with header parameters (RFC 3261 §20.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name as written, quotes included; empty where there is none.
    pub display: &'a [u8],
    /// The URI's text. Its scheme may be any.
    pub uri: &'a [u8],
    /// The header's parameters. Without angle brackets around the URI, all are the header's.
    pub params: Params<'a>,
    tag: Option<&'a [u8]>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value (not a list).
    ///
    /// `None` where the grammar is not kept: an open quote, a display name of other than words,
    /// white space in the URI, empty parameters, or a URI that would need angle brackets.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let value = trim(value);
        let (display, uri, behind) = match find_unquoted(value, b'<') {
            Some(open) => {
                let close = open + value[open..].iter().position(|byte| *byte == b'>')?;
                let (uri, behind) = (&value[open + 1..close], &value[close + 1..]);
                (trim_end(&value[..open]), uri, trim(behind))
            }
            None => {
                let (uri, params) = Params::split(value);
                // An unclosed quote hides semicolons; `?` and `,` need brackets (§20.10).
                if uri.iter().any(|byte| matches!(byte, b'"' | b'?' | b',')) {
                    return None;
                }
                (&b""[..], trim_end(uri), params.as_bytes())
            }
        };
        let params = Params::new(behind);
        if !is_display_name(display) || uri.is_empty() || has_odd_byte(uri) {
            return None;
        }
        let [tag] = params.read(["tag"])?;
        Some(Self {
            display,
            uri,
            params,
            tag,
        })
    }

    /// The tag of a From or To; `None` if there is none or if it is empty.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag.filter(|tag| !tag.is_empty())
    }

    /// The preference of a Contact in thousandths (RFC 3261 §20.10); 1,000 where it says nothing, or
    /// nothing that can be read.
    pub fn q_thousandths(&self) -> u16 {
        self.params.get("q").and_then(q_thousandths).unwrap_or(1000)
    }

    /// The URI.
    ///
    /// # Errors
    /// It is malformed.
    pub fn uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }
}

/// Whether white space, NUL or `<` stands in a URI. Looks at all of it, many bytes at once.
fn has_odd_byte(uri: &[u8]) -> bool {
    let is_odd = |byte: u8| is_lws(byte) | (byte == 0) | (byte == b'<');
    uri.iter().fold(false, |any, byte| any | is_odd(*byte))
}

fn is_display_name(name: &[u8]) -> bool {
    match name {
        [b'"', ..] => quoted_len(name) == Some(name.len()),
        // UTF-8 belongs into quotes, but is left out of them often, and cannot be mistaken there.
        words => words
            .iter()
            .all(|byte| is_token_byte(*byte) || is_lws(*byte) || !byte.is_ascii()),
    }
}

/// `0`, `0.5`, `1.000`: at most three decimals.
fn q_thousandths(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole] => (whole, &b""[..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = u16::from(whole.checked_sub(b'0').filter(|whole| *whole <= 1)?) * 1000;
    let mut worth = 100;
    for decimal in decimals {
        if !decimal.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(decimal - b'0') * worth;
        worth /= 10;
    }
    (thousandths <= 1000).then_some(thousandths)
}
