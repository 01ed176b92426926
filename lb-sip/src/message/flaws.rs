//! What can be wrong with a message that is one nevertheless.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of flaws of form, found while reading.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flaws(u16);

impl Flaws {
    /// The start line is not three parts with single spaces between them.
    pub const START_LINE: Self = Self(1);
    /// A header line without a colon, or without a token before it.
    pub const HEADER_LINE: Self = Self(1 << 1);
    /// The message ends before the empty line.
    pub const NO_EMPTY_LINE: Self = Self(1 << 2);
    /// A CR in the header part that no LF follows.
    pub const BARE_CR: Self = Self(1 << 3);
    /// A line ends with LF alone. Old implementations do that; it is read as a line end.
    pub const BARE_LF: Self = Self(1 << 4);
    /// Content-Length is no number.
    pub const CONTENT_LENGTH: Self = Self(1 << 5);
    /// More than one Content-Length, equal or not.
    pub const CONTENT_LENGTHS: Self = Self(1 << 6);
    /// The body is shorter than Content-Length says.
    pub const BODY_SHORT: Self = Self(1 << 7);
    /// No Content-Length where one is needed: in a stream (RFC 3261 §18.3).
    pub const NO_CONTENT_LENGTH: Self = Self(1 << 8);

    const NAMES: [&str; 9] = [
        "START_LINE",
        "HEADER_LINE",
        "NO_EMPTY_LINE",
        "BARE_CR",
        "BARE_LF",
        "CONTENT_LENGTH",
        "CONTENT_LENGTHS",
        "BODY_SHORT",
        "NO_CONTENT_LENGTH",
    ];

    /// Whether all of `others` are among these.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether any of `others` is among these.
    pub const fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Flaws {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitOrAssign for Flaws {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

impl fmt::Debug for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = Self::NAMES.iter().enumerate();
        f.debug_set()
            .entries(
                set.filter(|flaw| self.0 >> flaw.0 & 1 == 1)
                    .map(|flaw| flaw.1),
            )
            .finish()
    }
}
