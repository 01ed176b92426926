//! Which message belongs to which transaction (RFC 3261 §17.1.3, §17.2.3).
//!
//! Pure functions from a message's facts to keys that hash. Branches are compared byte by byte: a
//! response and a retransmission copy them, and to fold their case would join transactions of those
//! that count in base 62.

/// What a branch begins with if its sender knows RFC 3261 (§8.1.1.7).
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// What tells a request's transaction from others.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The method, as written: methods have case.
    pub method: &'a [u8],
    /// The Request-URI, as written.
    pub request_uri: &'a [u8],
    /// The branch parameter of the top Via.
    pub branch: Option<&'a [u8]>,
    /// The top Via's sent-by: host, and port if it has one.
    pub sent_by: &'a [u8],
    /// The top Via's whole value, before `received` and `rport` are added.
    pub top_via: &'a [u8],
    /// The Call-ID.
    pub call_id: &'a [u8],
    /// The CSeq's number.
    pub cseq: u32,
    /// From's tag.
    pub from_tag: Option<&'a [u8]>,
    /// To's tag.
    pub to_tag: Option<&'a [u8]>,
}

/// What tells a server transaction from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey(Server);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Server {
    /// §17.2.3, the three rules: branch, sent-by, and method, ACK counting as INVITE.
    Branch {
        branch: Box<[u8]>,
        /// In lower case: hosts have none.
        sent_by: Box<[u8]>,
        method: Box<[u8]>,
    },
    /// §17.2.3, for senders that know only RFC 2543, and for branches that say nothing.
    Compared {
        method: Box<[u8]>,
        request_uri: Box<[u8]>,
        top_via: Box<[u8]>,
        call_id: Box<[u8]>,
        cseq: u32,
        from_tag: Option<Box<[u8]>>,
        to_tag: Option<Box<[u8]>>,
    },
}

impl ServerKey {
    /// The key of a request's transaction. An ACK has that of the INVITE whose failure it
    /// acknowledges; where the branch does not say which that is, it has the key that
    /// [`ServerKey::acknowledged_with`] gives.
    pub fn of(facts: &RequestFacts<'_>) -> Self {
        Self::with_method(facts, facts.method)
    }

    /// The key of the INVITE that a CANCEL with these facts cancels (§9.2).
    pub fn of_cancelled(facts: &RequestFacts<'_>) -> Self {
        Self::with_method(facts, b"INVITE")
    }

    /// The key that the ACK of this INVITE has once it was answered with `to_tag`, if it is another
    /// than the INVITE's own.
    ///
    /// Without a branch, an ACK is known by the tag of the response, which the INVITE had not.
    pub fn acknowledged_with(&self, to_tag: Option<&[u8]>) -> Option<Self> {
        match &self.0 {
            Server::Branch { .. } => None,
            Server::Compared { method, .. } if **method != *b"INVITE" => None,
            Server::Compared {
                request_uri,
                top_via,
                call_id,
                cseq,
                from_tag,
                ..
            } => Some(Self(Server::Compared {
                method: (*b"ACK").into(),
                request_uri: request_uri.clone(),
                top_via: top_via.clone(),
                call_id: call_id.clone(),
                cseq: *cseq,
                from_tag: from_tag.clone(),
                to_tag: to_tag.map(Box::from),
            })),
        }
    }

    fn with_method(facts: &RequestFacts<'_>, method: &[u8]) -> Self {
        Self(match facts.branch.filter(|branch| is_unique(branch)) {
            Some(branch) => Server::Branch {
                branch: branch.into(),
                sent_by: facts.sent_by.to_ascii_lowercase().into(),
                method: match method {
                    b"ACK" => b"INVITE".as_slice().into(),
                    other => other.into(),
                },
            },
            None => Server::Compared {
                method: method.into(),
                request_uri: facts.request_uri.into(),
                top_via: facts.top_via.into(),
                call_id: facts.call_id.into(),
                cseq: facts.cseq,
                from_tag: facts.from_tag.map(Box::from),
                to_tag: facts.to_tag.map(Box::from),
            },
        })
    }
}

/// What tells a client transaction from all others: the branch that it put into its Via, and the
/// method (§17.1.3), because a CANCEL has the branch of what it cancels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    branch: Box<[u8]>,
    method: Box<[u8]>,
}

impl ClientKey {
    /// The key of a request that is sent, or of the response with this top Via's branch and this
    /// CSeq's method.
    pub fn new(branch: &[u8], method: &[u8]) -> Self {
        Self {
            branch: branch.into(),
            method: method.into(),
        }
    }

    /// The method.
    pub fn method(&self) -> &[u8] {
        &self.method
    }
}

/// Whether a branch alone tells transactions apart: it has the cookie and something behind it.
///
/// The cookie alone promises what it does not keep (RFC 4475 §3.2.1 has such a message).
fn is_unique(branch: &[u8]) -> bool {
    branch
        .split_at_checked(MAGIC_COOKIE.len())
        .is_some_and(|(cookie, rest)| cookie.eq_ignore_ascii_case(MAGIC_COOKIE) && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> RequestFacts<'static> {
        RequestFacts {
            method: b"INVITE",
            request_uri: b"sip:bob@example.com",
            branch: Some(b"z9hG4bK776asdhds"),
            sent_by: b"pc33.example.com:5061",
            top_via: b"SIP/2.0/UDP pc33.example.com:5061;branch=z9hG4bK776asdhds",
            call_id: b"a84b4c76e66710",
            cseq: 314_159,
            from_tag: Some(b"1928301774"),
            to_tag: None,
        }
    }

    fn old_invite() -> RequestFacts<'static> {
        RequestFacts {
            branch: None,
            top_via: b"SIP/2.0/UDP pc33.example.com:5061",
            ..invite()
        }
    }

    #[test]
    fn a_branch_tells_by_itself() {
        let key = ServerKey::of(&invite());
        let same = RequestFacts {
            sent_by: b"PC33.Example.COM:5061",
            call_id: b"another",
            to_tag: Some(b"another"),
            ..invite()
        };
        assert_eq!(key, ServerKey::of(&same));
        let others = [
            RequestFacts {
                branch: Some(b"z9hG4bK776ASDHDS"),
                ..invite()
            },
            RequestFacts {
                sent_by: b"pc33.example.com",
                ..invite()
            },
            RequestFacts {
                method: b"CANCEL",
                ..invite()
            },
        ];
        for other in &others {
            assert_ne!(key, ServerKey::of(other), "{other:?}");
        }
    }

    #[test]
    fn ack_and_cancel_find_their_invite() {
        let key = ServerKey::of(&invite());
        let ack = RequestFacts {
            method: b"ACK",
            to_tag: Some(b"8321234356"),
            ..invite()
        };
        assert_eq!(key, ServerKey::of(&ack));
        let cancel = RequestFacts {
            method: b"CANCEL",
            ..invite()
        };
        assert_eq!(key, ServerKey::of_cancelled(&cancel));
    }

    #[test]
    fn without_a_branch_everything_counts() {
        let key = ServerKey::of(&old_invite());
        assert_eq!(key, ServerKey::of(&old_invite()));
        let others = [
            RequestFacts {
                request_uri: b"sip:carol@example.com",
                ..old_invite()
            },
            RequestFacts {
                top_via: b"SIP/2.0/UDP pc34.example.com",
                ..old_invite()
            },
            RequestFacts {
                call_id: b"A84b4c76e66710",
                ..old_invite()
            },
            RequestFacts {
                cseq: 314_160,
                ..old_invite()
            },
            RequestFacts {
                from_tag: None,
                ..old_invite()
            },
            RequestFacts {
                to_tag: Some(b"8321234356"),
                ..old_invite()
            },
        ];
        for other in &others {
            assert_ne!(key, ServerKey::of(other), "{other:?}");
        }
        // What else the sender writes into its Via is in the Via.
        let other_sent_by = RequestFacts {
            sent_by: b"",
            ..old_invite()
        };
        assert_eq!(key, ServerKey::of(&other_sent_by));
    }

    #[test]
    fn without_a_branch_an_ack_is_known_by_the_answers_tag() {
        let key = ServerKey::of(&old_invite());
        let ack = RequestFacts {
            method: b"ACK",
            to_tag: Some(b"8321234356"),
            ..old_invite()
        };
        assert_ne!(key, ServerKey::of(&ack));
        assert_eq!(
            key.acknowledged_with(Some(b"8321234356")),
            Some(ServerKey::of(&ack))
        );
        assert_ne!(
            key.acknowledged_with(Some(b"another")),
            Some(ServerKey::of(&ack))
        );
        assert_eq!(
            ServerKey::of(&invite()).acknowledged_with(Some(b"8321234356")),
            None
        );
        let bye = RequestFacts {
            method: b"BYE",
            ..old_invite()
        };
        assert_eq!(ServerKey::of(&bye).acknowledged_with(None), None);
        let cancel = RequestFacts {
            method: b"CANCEL",
            ..old_invite()
        };
        assert_eq!(key, ServerKey::of_cancelled(&cancel));
    }

    #[test]
    fn a_cookie_without_anything_behind_it_is_no_branch() {
        for branch in [&b"z9hG4bK"[..], b"", b"1", b"z9hG4b", b"y9hG4bK1"] {
            assert!(!is_unique(branch), "{branch:?}");
        }
        assert!(is_unique(b"z9hG4bK1"));
        assert!(is_unique(b"Z9HG4BK1"));
    }
}
