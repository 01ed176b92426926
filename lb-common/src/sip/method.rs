//! What a message's first bytes say of it: a response, or a request of which method.

/// A request's method, as far as steering tells methods apart, or a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A response: part of a transaction that is already somewhere.
    Response,
    /// INVITE: opens a call, or changes one.
    Invite,
    /// ACK: belongs to an INVITE.
    Ack,
    /// BYE: ends a dialog.
    Bye,
    /// CANCEL: belongs to an INVITE.
    Cancel,
    /// PRACK, UPDATE, INFO or NOTIFY: only ever sent within a dialog (RFC 3262, 3311, 6086, 6665).
    InDialogOnly,
    /// Any other: REGISTER, OPTIONS, SUBSCRIBE, MESSAGE, REFER, PUBLISH, and methods not known here.
    Other,
}

impl Method {
    /// Reads the first eight bytes of a message, little-endian.
    ///
    /// Methods are case-sensitive (RFC 3261 §7.1); so, in practice, is the version of a response.
    #[inline(always)]
    pub const fn of(first: u64) -> Self {
        match first {
            _ if starts(first, b"INVITE ") => Self::Invite,
            _ if starts(first, b"SIP/2.0 ") => Self::Response,
            _ if starts(first, b"ACK ") => Self::Ack,
            _ if starts(first, b"BYE ") => Self::Bye,
            _ if starts(first, b"CANCEL ") => Self::Cancel,
            _ if starts(first, b"PRACK ")
                || starts(first, b"UPDATE ")
                || starts(first, b"INFO ")
                || starts(first, b"NOTIFY ") =>
            {
                Self::InDialogOnly
            }
            _ => Self::Other,
        }
    }

    /// Whether a request of this method without a To tag starts something new, whose
    /// retransmissions must find the node that the first one found.
    #[inline(always)]
    pub const fn may_start(self) -> bool {
        matches!(self, Self::Invite | Self::Other)
    }
}

/// Whether the word starts with `prefix` (at most eight bytes).
#[inline(always)]
const fn starts<const N: usize>(word: u64, prefix: &[u8; N]) -> bool {
    let mut expected = 0;
    let mut i = 0;
    while i < N {
        expected |= (prefix[i] as u64) << (8 * i);
        i += 1;
    }
    (word ^ expected) << (64 - 8 * N) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_told_by_their_first_bytes() {
        for (first, method) in [
            (b"INVITE s", Method::Invite),
            (b"INVITED ", Method::Other),
            (b"invite s", Method::Other),
            (b"SIP/2.0 ", Method::Response),
            (b"SIP/7.0 ", Method::Other),
            (b"ACK sip:", Method::Ack),
            (b"BYE sip:", Method::Bye),
            (b"CANCEL s", Method::Cancel),
            (b"PRACK si", Method::InDialogOnly),
            (b"UPDATE s", Method::InDialogOnly),
            (b"INFO sip", Method::InDialogOnly),
            (b"NOTIFY s", Method::InDialogOnly),
            (b"REGISTER", Method::Other),
            (b"SUBSCRIB", Method::Other),
        ] {
            assert_eq!(Method::of(u64::from_le_bytes(*first)), method, "{first:?}");
        }
    }
}
