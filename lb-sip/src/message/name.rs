//! Names of header fields: the ones this project reads, in their full and compact forms.

/// A header field's name.
///
/// Only names that something here asks for, or that have a compact form, are told apart. A message
/// keeps every name as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the header field of that name")]
pub enum Name {
    To,
    Via,
    Date,
    CSeq,
    From,
    RAck,
    RSeq,
    Route,
    Event,
    Allow,
    Accept,
    MinSe,
    Reason,
    Server,
    CallId,
    Contact,
    Expires,
    ReferTo,
    Require,
    Subject,
    Warning,
    Identity,
    Priority,
    Supported,
    Timestamp,
    UserAgent,
    MinExpires,
    ReferredBy,
    RetryAfter,
    AllowEvents,
    Unsupported,
    ContentType,
    MaxForwards,
    RecordRoute,
    IdentityInfo,
    ProxyRequire,
    RejectContact,
    AcceptContact,
    Authorization,
    ContentLength,
    ContentEncoding,
    SessionExpires,
    WwwAuthenticate,
    ResourcePriority,
    ProxyAuthenticate,
    RequestDisposition,
    ProxyAuthorization,
    /// Any other name.
    Other,
    /// A line that is no header field: no colon, or no token before it.
    Malformed,
}

use Name::*;

/// Full and compact forms (0 where there is none), shorter names first.
const NAMES: &[(Name, &str, u8)] = &[
    (To, "To", b't'),
    (Via, "Via", b'v'),
    (Date, "Date", 0),
    (CSeq, "CSeq", 0),
    (From, "From", b'f'),
    (RAck, "RAck", 0),
    (RSeq, "RSeq", 0),
    (Route, "Route", 0),
    (Event, "Event", b'o'),
    (Allow, "Allow", 0),
    (Accept, "Accept", 0),
    (MinSe, "Min-SE", 0),
    (Reason, "Reason", 0),
    (Server, "Server", 0),
    (CallId, "Call-ID", b'i'),
    (Contact, "Contact", b'm'),
    (Expires, "Expires", 0),
    (Require, "Require", 0),
    (Subject, "Subject", b's'),
    (Warning, "Warning", 0),
    (ReferTo, "Refer-To", b'r'),
    (Identity, "Identity", b'y'),
    (Priority, "Priority", 0),
    (Supported, "Supported", b'k'),
    (Timestamp, "Timestamp", 0),
    (UserAgent, "User-Agent", 0),
    (MinExpires, "Min-Expires", 0),
    (ReferredBy, "Referred-By", b'b'),
    (RetryAfter, "Retry-After", 0),
    (Unsupported, "Unsupported", 0),
    (AllowEvents, "Allow-Events", b'u'),
    (ContentType, "Content-Type", b'c'),
    (MaxForwards, "Max-Forwards", 0),
    (RecordRoute, "Record-Route", 0),
    (IdentityInfo, "Identity-Info", b'n'),
    (ProxyRequire, "Proxy-Require", 0),
    (Authorization, "Authorization", 0),
    (RejectContact, "Reject-Contact", b'j'),
    (AcceptContact, "Accept-Contact", b'a'),
    (ContentLength, "Content-Length", b'l'),
    (SessionExpires, "Session-Expires", b'x'),
    (ContentEncoding, "Content-Encoding", b'e'),
    (WwwAuthenticate, "WWW-Authenticate", 0),
    (ResourcePriority, "Resource-Priority", 0),
    (ProxyAuthenticate, "Proxy-Authenticate", 0),
    (RequestDisposition, "Request-Disposition", b'd'),
    (ProxyAuthorization, "Proxy-Authorization", 0),
];

/// The longest name in [`NAMES`].
const LONGEST: usize = 19;

/// Where in [`NAMES`] the names of each length start.
const FIRST_OF_LENGTH: [u8; LONGEST + 2] = {
    let mut first = [0; LONGEST + 2];
    let mut len = 0;
    while len < first.len() {
        let mut count = 0;
        while count < NAMES.len() && NAMES[count].1.len() < len {
            count += 1;
        }
        first[len] = count as u8;
        len += 1;
    }
    first
};

/// Which names occur in a message, and which more than once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names {
    once: u64,
    again: u64,
}

impl Names {
    pub(super) fn note(&mut self, name: Name) {
        self.again |= self.once & name.bit();
        self.once |= name.bit();
    }

    pub(crate) const fn has(self, name: Name) -> bool {
        self.once & name.bit() != 0
    }

    /// The names that occur more than once, by their [`Name::bit`].
    pub(crate) const fn repeated(self) -> u64 {
        self.again
    }
}

impl Name {
    /// One bit of 64 for each name.
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// The name in any case, full or compact.
    pub fn of(text: &[u8]) -> Self {
        match text.len() {
            0 => Malformed,
            1 => Self::of_compact(text[0].to_ascii_lowercase()),
            len @ 2..=LONGEST => {
                let (from, to) = (FIRST_OF_LENGTH[len], FIRST_OF_LENGTH[len + 1]);
                // Letters differ from their other case by one bit, and so few names share a letter
                // that hardly one is compared in vain.
                let letter = text[len - 1] | 0x20;
                let is = |name: &str| {
                    let name = name.as_bytes();
                    // Written as here by almost everybody, which is the shorter comparison.
                    name[len - 1] | 0x20 == letter
                        && (name == text || name.eq_ignore_ascii_case(text))
                };
                NAMES[usize::from(from)..usize::from(to)]
                    .iter()
                    .find(|name| is(name.1))
                    .map_or(Other, |name| name.0)
            }
            _ => Other,
        }
    }

    fn of_compact(letter: u8) -> Self {
        match letter {
            b'v' => Via,
            b'f' => From,
            b't' => To,
            b'i' => CallId,
            b'm' => Contact,
            b'l' => ContentLength,
            b'c' => ContentType,
            b'k' => Supported,
            b'x' => SessionExpires,
            _ => NAMES
                .iter()
                .find(|name| name.2 == letter)
                .map_or(Other, |name| name.0),
        }
    }

    /// The full form; empty for [`Name::Other`] and [`Name::Malformed`].
    pub fn as_str(self) -> &'static str {
        NAMES
            .iter()
            .find(|name| name.0 == self)
            .map_or("", |name| name.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_both_forms_and_any_case() {
        for (name, full, compact) in NAMES {
            assert_eq!(Name::of(full.as_bytes()), *name, "{full}");
            assert_eq!(Name::of(full.to_uppercase().as_bytes()), *name, "{full}");
            assert_eq!(name.as_str(), *full);
            if *compact != 0 {
                assert_eq!(Name::of(&[*compact]), *name, "{full}");
                assert_eq!(Name::of(&[compact.to_ascii_uppercase()]), *name, "{full}");
            }
        }
        assert!(NAMES.is_sorted_by_key(|name| name.1.len()));
        assert_eq!(NAMES.last().map(|name| name.1.len()), Some(LONGEST));
        for other in [
            &b"z"[..],
            b"Callid",
            b"C%6Fntact",
            b"X-Some-Name-Of-Thirty-Bytes",
        ] {
            assert_eq!(Name::of(other), Other);
        }
    }
}
