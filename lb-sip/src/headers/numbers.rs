//! Headers that are numbers, mostly.

use std::time::Duration;

use super::Params;
use crate::text::{first_word, is_token, number, trim, trim_start};

/// CSeq: number and method (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2³¹ (§8.1.1.5).
    pub number: u32,
    /// The method's name.
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (digits, method) = first_word(value);
        let number = number(digits).filter(|number| *number < 1 << 31)?;
        is_token(method).then_some(Self { number, method })
    }
}

/// RAck: the response's number, and the CSeq of its request (RFC 3262 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck<'a> {
    /// RSeq of the response.
    pub response: u32,
    /// CSeq of the request.
    pub cseq: CSeq<'a>,
}

impl<'a> RAck<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (digits, cseq) = first_word(value);
        Some(Self {
            response: number(digits)?,
            cseq: CSeq::parse(cseq)?,
        })
    }
}

/// Who refreshes the session (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// The caller's side.
    Uac,
    /// The called side.
    Uas,
}

/// Session-Expires (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires<'a> {
    /// Without a refresh the session ends this long after the last.
    pub interval: Duration,
    /// `None` where it is left open.
    pub refresher: Option<Refresher>,
    /// All parameters.
    pub params: Params<'a>,
}

impl<'a> SessionExpires<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (seconds, params) = Params::split(value);
        let seconds: u32 = number(trim(seconds))?;
        let refresher =
            params
                .get("refresher")
                .and_then(|who| match who.to_ascii_lowercase().as_slice() {
                    b"uac" => Some(Refresher::Uac),
                    b"uas" => Some(Refresher::Uas),
                    _ => None,
                });
        Some(Self {
            interval: Duration::from_secs(seconds.into()),
            refresher,
            params,
        })
    }
}

/// Retry-After (RFC 3261 §20.33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter<'a> {
    /// Not before this has passed.
    pub after: Duration,
    /// `duration`: for how long it will then be there.
    pub params: Params<'a>,
}

impl<'a> RetryAfter<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let digits = value
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let seconds: u32 = number(&value[..digits])?;
        let mut rest = trim_start(&value[digits..]);
        // A comment may stand here, such as `(I'm in a meeting)`; parentheses may be nested.
        if rest.first() == Some(&b'(') {
            rest = trim_start(&rest[comment_len(rest)?..]);
        }
        let params = Params::new(rest);
        params.are_well_formed().then_some(Self {
            after: Duration::from_secs(seconds.into()),
            params,
        })
    }
}

/// The length of the comment that `text` starts with; `None` if it is not closed.
fn comment_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0_u32;
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' if depth == 1 => return Some(at + 1),
            b')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Reason: why a request was sent (RFC 3326 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// `SIP`, `Q.850` and others.
    pub protocol: &'a [u8],
    /// The code of that protocol.
    pub cause: Option<u32>,
    /// All parameters; `text` is for people.
    pub params: Params<'a>,
}

impl<'a> Reason<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (protocol, params) = Params::split(value);
        let protocol = trim(protocol);
        is_token(protocol).then_some(Self {
            protocol,
            cause: params.get("cause").and_then(number),
            params,
        })
    }
}
