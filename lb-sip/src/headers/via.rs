//! Via: whom a message passed, and where the response goes.

use std::net::IpAddr;

use super::Params;
use crate::text::{self, is_lws, is_token, trim};
use crate::uri::{Host, bare_address, split_host_port};

/// The branch of a client that keeps RFC 3261 starts with it (§8.1.1.7).
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// One Via value (RFC 3261 §20.42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// The value as written.
    pub text: &'a [u8],
    /// `SIP` usually.
    pub protocol: &'a [u8],
    /// `2.0` usually.
    pub version: &'a [u8],
    /// `UDP`, `TCP` or any token.
    pub transport: &'a [u8],
    /// Where the sender says it is.
    pub host: Host<'a>,
    /// And its port; `None` for the transport's default.
    pub port: Option<u16>,
    /// `branch` and others.
    pub params: Params<'a>,
    branch: Option<&'a [u8]>,
    received: Option<&'a [u8]>,
    rport: Option<&'a [u8]>,
    maddr: Option<&'a [u8]>,
}

impl<'a> Via<'a> {
    /// Reads one value (not a list). White space may stand around every part (RFC 3261 §25.1).
    ///
    /// `None` where the grammar is not kept.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let text = trim(value);
        let mut parts = text.splitn(3, |byte| *byte == b'/');
        let (protocol, version) = (trim(parts.next()?), trim(parts.next()?));
        let (transport, sent_by) = text::first_word(text::trim_start(parts.next()?));
        let (sent_by, params) = Params::split(sent_by);
        let (host, port) = sent_by_of(sent_by)?;
        if !(is_token(protocol) && is_token(version) && is_token(transport)) {
            return None;
        }
        let [branch, received, rport, maddr] =
            params.read(["branch", "received", "rport", "maddr"])?;
        Some(Self {
            text,
            protocol,
            version,
            transport,
            host,
            port,
            params,
            branch,
            received,
            rport,
            maddr,
        })
    }

    /// The branch as written, cookie or not.
    pub fn written_branch(&self) -> Option<&'a [u8]> {
        self.branch
    }

    /// The transaction's identity on this hop. `None` of clients that keep RFC 2543.
    ///
    /// Empty where the cookie stands alone, which RFC 4475 §3.2.1 warns of.
    pub fn branch(&self) -> Option<&'a [u8]> {
        let branch = self.branch?;
        branch.starts_with(MAGIC_COOKIE).then_some(branch)
    }

    /// Where the request really came from. Brackets around IPv6, which should not be there, are taken
    /// for what is meant (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        bare_address(self.received?)
    }

    /// The port it really came from (RFC 3581).
    pub fn rport(&self) -> Option<u16> {
        text::number(self.rport?)
    }

    /// The address that the client wants responses at instead (RFC 3261 §18.1.1).
    pub fn maddr(&self) -> Option<Host<'a>> {
        split_host_port(self.maddr?).map(|host| host.0)
    }
}

/// `sent-by`: white space may stand around its colon.
fn sent_by_of(text: &[u8]) -> Option<(Host<'_>, Option<u16>)> {
    let text = trim(text);
    if !text.iter().any(|byte| is_lws(*byte)) {
        return split_host_port(text);
    }
    let colon = text.iter().rposition(|byte| *byte == b':')?;
    let (host, none) = split_host_port(text::trim_end(&text[..colon]))?;
    let port = text::number(text::trim_start(&text[colon + 1..]))?;
    none.is_none().then_some((host, Some(port)))
}
