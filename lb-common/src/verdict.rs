//! What was done with a frame, and why: one word for counters, events, `stats` and `explain`.

/// What becomes of a frame, in the words of `pointsman explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent to a node by its exact Call-ID.
    SteerCallId,
    /// Sent to a node by the client's address, for want of a Call-ID (userspace only).
    SteerFallback,
    /// Left to userspace, which steers it by the same code.
    Defer,
    /// None of our business: the network stack has it.
    Pass,
    /// Refused.
    Drop,
    /// Answered in place.
    Reply,
}

impl Outcome {
    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SteerCallId => "steer-callid",
            Self::SteerFallback => "steer-fallback",
            Self::Defer => "defer",
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Reply => "reply",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $outcome:ident $name:literal,)+) => {
        /// Why a frame was treated as it was. Every frame has exactly one.
        ///
        /// The number is the index of the counter, per CPU; it may change between versions of the
        /// map layout, the name does not.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The reason with this number.
            #[inline(always)]
            pub const fn from_index(index: u8) -> Option<Self> {
                match index {
                    $(index if index == Self::$variant as u8 => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// What became of the frame.
            #[inline(always)]
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$variant => Outcome::$outcome,)+ }
            }

            /// The word that people and programs read.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The sentence that `explain` and `stats` print behind the word.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// Home is up and takes calls.
    Home = SteerCallId "home",
    /// The call lives away from home, and its pin says where.
    Pinned = SteerCallId "pinned",
    /// The call's first request went there within the last 64 seconds.
    Remembered = SteerCallId "remembered",
    /// Part of a dialog: home keeps it though it takes no new calls.
    InDialog = SteerCallId "in-dialog",
    /// Home is down: the next live node by the table.
    HomeDown = SteerCallId "home-down",
    /// Home takes no new calls: the better of two candidates.
    HomeUnwilling = SteerCallId "home-unwilling",
    /// The node set is changing: the old table's home keeps its dialogs.
    OldTable = SteerCallId "old-table",
    /// Nobody takes new calls: home's redirect server decides.
    Overflow = SteerCallId "overflow",
    /// Nobody is live: home, in the hope that the liveness is wrong.
    NobodyLive = SteerCallId "nobody-live",
    /// The pins are full: new calls are served at home only.
    PinsFull = SteerCallId "pins-full",

    /// A fragment for the VIP: the kernel reassembles, userspace steers.
    Fragment = Defer "fragment",
    /// More IPv6 extension headers than the program walks.
    ExtensionHeaders = Defer "extension-headers",
    /// Bytes behind the datagram: padding or smuggling, the kernel cuts them off.
    TrailingBytes = Defer "trailing-bytes",
    /// Does not begin like a SIP message (keep-alives, STUN, noise).
    NotSip = Defer "not-sip",
    /// Line breaks before the start line (RFC 3261 §7.5).
    LeadingLineBreak = Defer "leading-line-break",
    /// No Call-ID within the bytes that the program reads.
    LongHeader = Defer "long-header",
    /// The header ends without a Call-ID.
    NoCallId = Defer "no-call-id",
    /// The datagram ends before its header does.
    Truncated = Defer "truncated",
    /// A line feed without a carriage return.
    BareLineFeed = Defer "bare-line-feed",
    /// A carriage return without a line feed.
    BareCarriageReturn = Defer "bare-carriage-return",
    /// A control character in the Call-ID's line.
    ControlCharacter = Defer "control-character",
    /// The Call-ID's value is folded over several lines.
    Folded = Defer "folded",
    /// The Call-ID's line is not of the form that RFC 3261 gives it.
    OddCallId = Defer "odd-call-id",
    /// The Call-ID is longer than the program reads.
    LongCallId = Defer "long-call-id",
    /// The chosen node's link address is not known yet.
    NoNeighbour = Defer "no-neighbour",
    /// The maps are not filled yet, or not whole.
    NotReady = Defer "not-ready",
    /// Whether the request belongs to a dialog cannot be told within the bytes the program reads.
    OddTo = Defer "odd-to",

    /// Neither IPv4 nor IPv6 (ARP and the like).
    NotIp = Pass "not-ip",
    /// IP, but not UDP (ICMP, neighbour discovery, TCP and the like).
    NotUdp = Pass "not-udp",
    /// Not for one of our addresses and ports.
    NotVip = Pass "not-vip",
    /// An IP header that contradicts itself.
    MalformedIp = Pass "malformed-ip",
    /// A UDP header that contradicts IP or the frame.
    MalformedUdp = Pass "malformed-udp",
    /// A beacon, verified and taken over.
    Beacon = Pass "beacon",
    /// Traffic of another cluster, or of another kind, on the status port.
    ForeignStatus = Pass "foreign-status",
    /// A keep-alive of the main of a later term: this LB steers no more.
    Superseded = Pass "superseded",

    /// For a VIP that another LB serves; a question for its link address too.
    Passive = Drop "passive",
    /// Part of a dialog that may live anywhere: where is being asked, and it will come again.
    Gathering = Drop "gathering",

    /// A beacon whose length or version is wrong.
    BeaconMalformed = Drop "beacon-malformed",
    /// A beacon under a key that is not valid here.
    BeaconUnknownKey = Drop "beacon-unknown-key",
    /// A beacon whose authentication code is wrong.
    BeaconForged = Drop "beacon-forged",
    /// A beacon of a node that is not configured.
    BeaconUnknownNode = Drop "beacon-unknown-node",
    /// A beacon of an earlier life of its node.
    BeaconOldEpoch = Drop "beacon-old-epoch",
    /// A beacon seen before, or overtaken by a later one.
    BeaconReplayed = Drop "beacon-replayed",
}

/// Slots of the per-CPU counter array: one for every number that a byte may hold, so that neither a
/// new reason changes the layout nor the verifier doubts the index.
pub const REASON_SLOTS: usize = 256;
const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_in_the_list_and_names_are_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert_eq!(Reason::from_index(index as u8), Some(*reason));
            assert_eq!(
                Reason::ALL
                    .iter()
                    .filter(|r| r.name() == reason.name())
                    .count(),
                1
            );
            assert!(!reason.describe().is_empty());
        }
    }
}
