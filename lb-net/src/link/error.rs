//! Why there is no link, or no longer one, and how often.

use super::{Identity, MAX_MESSAGE};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why there is no link, or no longer one. Each has a [name](Self::name), under which it is counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nobody answers there, or the own address cannot be had.
    #[error("cannot connect: {kind}")]
    Connect {
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// Somebody connects from an address that no member has. Nothing was read or answered.
    #[error("connected from an address that no member has")]
    UnknownSource,
    /// Too many handshakes are under way, with all or with this address.
    #[error("too many handshakes at a time")]
    Busy,
    /// The handshake was not finished in time.
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// The other side closed during the handshake. That is how refusals look from outside: the other
    /// side's counts say why.
    #[error("the other side ended the handshake: it may refuse this member, or its keys")]
    Refused,
    /// What came is no hello.
    #[error("what came is no hello of a link")]
    NotALink,
    /// The hello is of another version.
    #[error("a hello of version {version}, which this program does not speak")]
    Version {
        /// Theirs.
        version: u8,
    },
    /// The hello is of another cluster.
    #[error("a hello of cluster {cluster}")]
    OtherCluster {
        /// Theirs.
        cluster: u32,
    },
    /// The hello names a key that is not in the ring.
    #[error("a hello under beacon key {id}, which is not in the key file")]
    UnknownKey {
        /// The key's id.
        id: u8,
    },
    /// The handshake's bytes were not made with the key that they name, or were changed on the way.
    #[error("the handshake is not authentic: the keys differ, or it was changed on the way")]
    NotAuthentic,
    /// The hello was good, but the proof was not: somebody plays back what a member once said.
    #[error("the proof of the handshake is wrong: its hello was played back")]
    PlayedBack,
    /// A member, but not one that may come from there, or not the one that was to be there.
    #[error("{found} answers to another name, or from another address, than it has")]
    WrongMember {
        /// Who it says it is.
        found: Identity,
    },
    /// A length that no message has.
    #[error("a message of {length} bytes is announced, which none can have")]
    Length {
        /// The encrypted message's length.
        length: u16,
    },
    /// A message was changed, left out, repeated or moved on the way.
    #[error("a message was changed on the way")]
    Tampered,
    /// The rest of a message did not come in time.
    #[error("the rest of a message did not come in time")]
    Unfinished,
    /// The other side said nothing for too long.
    #[error("the other side has said nothing for too long")]
    Idle,
    /// The other side closed in the middle of a message.
    #[error("the other side closed in the middle of a message")]
    CutOff,
    /// The other side closed, between two messages.
    #[error("the other side closed the link")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {kind}")]
    Lost {
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// The other side reads more slowly than this one sends, and the queue is full.
    #[error("the other side reads too slowly: the queue is full")]
    Full,
    /// The other side took nothing for too long.
    #[error("the other side has taken nothing for too long")]
    Stuck,
    /// A message that is too long was to be sent. The link is as it was.
    #[error("a message of {length} bytes, of at most {MAX_MESSAGE}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The link's key is no longer in the ring, or another one has its id.
    #[error("beacon key {id} was removed")]
    KeyRemoved {
        /// The key's id.
        id: u8,
    },
    /// This side ended the link.
    #[error("this side ended the link")]
    Ended,
}

impl LinkError {
    /// The word that this is counted under.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::UnknownSource => "unknown_source",
            Self::Busy => "busy",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Refused => "refused",
            Self::NotALink => "not_a_link",
            Self::Version { .. } => "version",
            Self::OtherCluster { .. } => "other_cluster",
            Self::UnknownKey { .. } => "unknown_key",
            Self::NotAuthentic => "not_authentic",
            Self::PlayedBack => "played_back",
            Self::WrongMember { .. } => "wrong_member",
            Self::Length { .. } => "length",
            Self::Tampered => "tampered",
            Self::Unfinished => "unfinished",
            Self::Idle => "idle",
            Self::CutOff => "cut_off",
            Self::Closed => "closed",
            Self::Lost { .. } => "lost",
            Self::Full => "full",
            Self::Stuck => "stuck",
            Self::TooLong { .. } => "too_long",
            Self::KeyRemoved { .. } => "key_removed",
            Self::Ended => "ended",
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Lost { kind: error.kind() }
    }
}

/// What became of an endpoint's links and of attempts at them: each is counted once, when it is over.
#[derive(Debug, Default)]
pub struct LinkCounts {
    made: AtomicU64,
    open: AtomicU64,
    reasons: [AtomicU64; LinkCounts::REASONS.len()],
}

impl LinkCounts {
    /// The names of [`LinkError`], in its order, but for [`LinkError::TooLong`], which ends nothing.
    pub const REASONS: [&str; 23] = [
        "connect",
        "unknown_source",
        "busy",
        "handshake_timeout",
        "refused",
        "not_a_link",
        "version",
        "other_cluster",
        "unknown_key",
        "not_authentic",
        "played_back",
        "wrong_member",
        "length",
        "tampered",
        "unfinished",
        "idle",
        "cut_off",
        "closed",
        "lost",
        "full",
        "stuck",
        "key_removed",
        "ended",
    ];

    /// Links that were made since the start.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Links that there are.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Attempts and links that ended, by why; the reasons that never came up are there, too.
    pub fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.reasons.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        Self::REASONS.into_iter().zip(counts)
    }

    /// How many ended with the reason of this name.
    pub fn count(&self, name: &str) -> u64 {
        self.reasons()
            .find(|(reason, _)| *reason == name)
            .map_or(0, |(_, count)| count)
    }

    pub(super) fn note(&self, error: &LinkError) {
        let place = Self::REASONS.iter().position(|name| *name == error.name());
        if let Some(count) = place.and_then(|place| self.reasons.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn note_made(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_over(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_count() {
        let (kind, id) = (io::ErrorKind::TimedOut, 1);
        let ends = [
            LinkError::Connect { kind },
            LinkError::UnknownSource,
            LinkError::Busy,
            LinkError::HandshakeTimeout,
            LinkError::Refused,
            LinkError::NotALink,
            LinkError::Version { version: 2 },
            LinkError::OtherCluster { cluster: 2 },
            LinkError::UnknownKey { id },
            LinkError::NotAuthentic,
            LinkError::PlayedBack,
            LinkError::WrongMember {
                found: Identity::Node(1),
            },
            LinkError::Length { length: 3 },
            LinkError::Tampered,
            LinkError::Unfinished,
            LinkError::Idle,
            LinkError::CutOff,
            LinkError::Closed,
            LinkError::Lost { kind },
            LinkError::Full,
            LinkError::Stuck,
            LinkError::KeyRemoved { id },
            LinkError::Ended,
        ];
        let counts = LinkCounts::default();
        for end in &ends {
            counts.note(end);
        }
        let once: Vec<_> = ends.iter().map(|end| (end.name(), 1)).collect();
        assert_eq!(counts.reasons().collect::<Vec<_>>(), once);
    }
}
