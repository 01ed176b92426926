//! What is counted: every message and every call, by what became of it and why.

/// Declares the counters with the words that people and programs read.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// One counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Count {
            $($(#[$doc])* $name,)*
        }

        impl Count {
            /// All of them, in the order of their words below.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word for it.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

counters! {
    /// A request that went on to the SIP server.
    RequestIn = "request-in",
    /// A request of the SIP server's that went on to a peer.
    RequestOut = "request-out",
    /// A response that went on.
    Response = "response",
    /// An empty datagram, or one of line ends: a keep-alive.
    KeepAlive = "keep-alive",
    /// A new call that was taken as it came.
    Taken = "call-taken",
    /// A new call that was taken and that another node had sent here.
    TakenOffered = "call-taken-offered",
    /// A new call of the SIP server's own.
    Outgoing = "call-outgoing",
    /// A call that was handed to another node's redirect server.
    Relayed = "call-relayed",
    /// A call that was redirected here, by a 302 for another node that has no room.
    Promised = "call-promised",
    /// A call that was redirected to others by a 302 of this node's.
    Redirected = "call-redirected",
    /// A call that is forwarded through this node to another.
    Proxied = "call-proxied",
    /// A call refused with 503.
    Unavailable = "call-unavailable",
    /// An INVITE that came again and was answered or relayed as the first time.
    Again = "invite-again",
    /// An INVITE that was forgotten before its 64 s were over, to make room for others.
    Forgotten = "invite-forgotten",
    /// The ACK of a response of this node's, or of a node's that the INVITE was relayed to.
    AckAbsorbed = "ack-absorbed",
    /// A CANCEL that came after such a response.
    CancelAnswered = "cancel-answered",
    /// A response to a request of this node's own.
    ResponseAbsorbed = "response-absorbed",
    /// An answer that waited for the load balancers to know where the call lives.
    Held = "answer-held",
    /// One that went out before they said so.
    Unreported = "answer-unreported",
    /// A request of this node's own: OPTIONS within a dialog, or BYE.
    Asked = "own-request",
    /// One that there was no room or no way for.
    AskFailed = "own-request-failed",
    /// An INVITE for whose keeping there was no room while its call rings.
    Unkept = "invite-not-kept",
    /// A call that a reset has ended on both sides.
    ResetEnded = "reset-ended",
    /// A call that a reset could not end, since neither side can be told: its record is forgotten.
    ResetUntold = "reset-untold",
    /// A call whose record a reset has forgotten, as it was meant to.
    ResetForgotten = "reset-forgotten",
    /// A response to an INVITE that a reset has refused meanwhile.
    AnsweredLate = "response-after-reset",
    /// What is no SIP message.
    NotSip = "drop-not-sip",
    /// A response or ACK that breaks the rules, or a request that nobody can answer.
    Invalid = "drop-invalid",
    /// A response that is not to a request which went through here.
    Foreign = "drop-response-foreign",
    /// A response or request for which the message names no address.
    NoAddress = "drop-no-address",
    /// A message that would be too long with what is to be added, or cannot be changed.
    NotChanged = "drop-not-changed",
    /// An INVITE relayed by nobody who may.
    RelayForged = "drop-relay-forged",
    /// A request answered with what is wrong with it.
    Rejected = "reject-invalid",
    /// A request of the SIP server's to a name, of which no address is known.
    Unresolved = "reject-unresolved",
    /// A call refused because there is no room for its record.
    NoRecord = "reject-no-record",
}

/// How often what happened.
#[derive(Clone, Debug)]
pub(crate) struct Counts([u64; Count::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Count::ALL.len()])
    }
}

impl Counts {
    /// Once more.
    pub(crate) fn add(&mut self, count: Count) {
        self.0[count as usize] += 1;
    }

    /// So often, which somebody else counts.
    pub(crate) fn set(&mut self, count: Count, times: u64) {
        self.0[count as usize] = times;
    }

    /// How often.
    pub(crate) fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// All of them, with their words.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Count::ALL
            .iter()
            .map(|count| (count.name(), self.get(*count)))
    }
}
