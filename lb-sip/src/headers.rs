//! What headers say.
//!
//! Each reader takes a header's value as it was written, folds included, and answers with parts of
//! it. Names of parameters and tokens are compared without regard to case, values are left to the
//! caller.

mod name_addr;
mod numbers;
mod params;
#[cfg(test)]
mod tests;
mod via;

pub use name_addr::NameAddr;
pub use numbers::{CSeq, RAck, Reason, Refresher, RetryAfter, SessionExpires};
pub use params::{Param, Params};
pub use via::{MAGIC_COOKIE, Via};

use crate::message::{Message, Name};
use crate::text;

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is not there.
    #[error("no {} header", .0.as_str())]
    Missing(Name),
    /// It does not follow its grammar, or its number is out of range.
    #[error("the {} header is malformed", .0.as_str())]
    Malformed(Name),
}

impl Message {
    /// The first Via: of a request, who sent it here; of a response, this element's own.
    ///
    /// # Errors
    /// It is missing or malformed.
    pub fn top_via(&self) -> Result<Via<'_>, HeaderError> {
        let header = self.header(Name::Via);
        let header = header.ok_or(HeaderError::Missing(Name::Via))?;
        let first = &header.raw[..text::element_len(header.raw)];
        Via::parse(first).ok_or(HeaderError::Malformed(Name::Via))
    }

    /// All Vias, the latest first.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, HeaderError>> {
        self.elements(Name::Via)
            .map(|via| Via::parse(via).ok_or(HeaderError::Malformed(Name::Via)))
    }

    /// Who asks.
    ///
    /// # Errors
    /// It is missing or malformed.
    pub fn from(&self) -> Result<NameAddr<'_>, HeaderError> {
        self.required(Name::From, NameAddr::parse)
    }

    /// Who is asked.
    ///
    /// # Errors
    /// It is missing or malformed.
    pub fn to(&self) -> Result<NameAddr<'_>, HeaderError> {
        self.required(Name::To, NameAddr::parse)
    }

    /// Addresses of a list header: Contact (but for `*`), Route, Record-Route.
    pub fn addresses(&self, name: Name) -> impl Iterator<Item = Result<NameAddr<'_>, HeaderError>> {
        self.elements(name)
            .map(move |address| NameAddr::parse(address).ok_or(HeaderError::Malformed(name)))
    }

    /// The first Contact; `None` if there is none or if it is `*`.
    ///
    /// # Errors
    /// It is malformed.
    pub fn contact(&self) -> Result<Option<NameAddr<'_>>, HeaderError> {
        match self.elements(Name::Contact).next() {
            None | Some(b"*") => Ok(None),
            Some(contact) => match NameAddr::parse(contact) {
                None => Err(HeaderError::Malformed(Name::Contact)),
                contact => Ok(contact),
            },
        }
    }

    /// The call's identity, as written: it is compared byte by byte (RFC 3261 §20.8).
    ///
    /// # Errors
    /// It is missing, empty, or holds white space.
    pub fn call_id(&self) -> Result<&[u8], HeaderError> {
        self.required(Name::CallId, |value| {
            let word = !value.is_empty() && !value.iter().any(|byte| text::is_lws(*byte));
            word.then_some(value)
        })
    }

    /// The request's number and method.
    ///
    /// # Errors
    /// It is missing or malformed, or its number is 2³¹ or more.
    pub fn cseq(&self) -> Result<CSeq<'_>, HeaderError> {
        self.required(Name::CSeq, CSeq::parse)
    }

    /// How many hops are left.
    ///
    /// # Errors
    /// It is no number up to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        self.optional(Name::MaxForwards, text::number)
    }

    /// The body's length, as said.
    ///
    /// # Errors
    /// It is no number.
    pub fn content_length(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(Name::ContentLength, text::number)
    }

    /// For how long something holds, in seconds.
    ///
    /// # Errors
    /// It is no number below 2³².
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(Name::Expires, text::number)
    }

    /// For how long the session holds without refresh (RFC 4028 §4).
    ///
    /// # Errors
    /// It is malformed.
    pub fn session_expires(&self) -> Result<Option<SessionExpires<'_>>, HeaderError> {
        self.optional(Name::SessionExpires, SessionExpires::parse)
    }

    /// The shortest such time that somebody on the way takes, in seconds (RFC 4028 §5).
    ///
    /// # Errors
    /// It is malformed.
    pub fn min_se(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(Name::MinSe, |value| {
            text::number(text::trim(Params::split(value).0))
        })
    }

    /// When to try again.
    ///
    /// # Errors
    /// It is malformed.
    pub fn retry_after(&self) -> Result<Option<RetryAfter<'_>>, HeaderError> {
        self.optional(Name::RetryAfter, RetryAfter::parse)
    }

    /// Why the request was sent (RFC 3326).
    pub fn reasons(&self) -> impl Iterator<Item = Result<Reason<'_>, HeaderError>> {
        self.elements(Name::Reason)
            .map(|reason| Reason::parse(reason).ok_or(HeaderError::Malformed(Name::Reason)))
    }

    /// Which reliable provisional response a PRACK acknowledges (RFC 3262 §7.2).
    ///
    /// # Errors
    /// It is missing or malformed.
    pub fn rack(&self) -> Result<RAck<'_>, HeaderError> {
        self.required(Name::RAck, RAck::parse)
    }

    /// The number of a reliable provisional response (RFC 3262 §7.1).
    ///
    /// # Errors
    /// It is no number from 1 to 2³² − 1.
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(Name::RSeq, |value| {
            text::number(value).filter(|number| *number > 0)
        })
    }

    /// How urgent it is, in its own word, such as `emergency` (RFC 3261 §20.26).
    pub fn priority(&self) -> Option<&[u8]> {
        self.header(Name::Priority).map(|header| header.raw)
    }

    /// Namespace and priority, such as `ets` and `0` (RFC 4412 §3.1).
    pub fn resource_priorities(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.elements(Name::ResourcePriority).filter_map(|value| {
            let dot = value.iter().position(|byte| *byte == b'.')?;
            Some((&value[..dot], &value[dot + 1..]))
        })
    }

    /// The option tags of Require, Proxy-Require, Supported or Unsupported.
    pub fn option_tags(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.elements(name).filter(|tag| !tag.is_empty())
    }

    fn required<'a, T>(
        &'a self,
        name: Name,
        read: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<T, HeaderError> {
        let value = self.optional(name, read)?;
        value.ok_or(HeaderError::Missing(name))
    }

    fn optional<'a, T>(
        &'a self,
        name: Name,
        read: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, HeaderError> {
        match self.header(name) {
            None => Ok(None),
            Some(header) => match read(header.raw) {
                None => Err(HeaderError::Malformed(name)),
                value => Ok(value),
            },
        }
    }
}
