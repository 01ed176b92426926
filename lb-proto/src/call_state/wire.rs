//! The messages about call state.
//!
//! ```text
//!  0  version = 1  u8      kind                             from → to         then
//!  1  kind         u8      0 Hello                          both, at first    cluster u32, party u8, id u16, term u64
//!  2  request      u32     1 Keys                           controller → node term u64
//!                          2 KeysPart                       node → controller part u16, flags u8, n × (key u64, state u8, priority u8)
//!                          3 Records                        controller → node term u64, filter u8: 0 all from the first, limit u16;
//!                                                                             1 all behind a place, limit u16, 3 × u64; 2 some, n × key u64
//!                          4 RecordsPart                    node → controller part u16, flags u8, the next place 3 × u64 if flagged,
//!                                                                             n × (length u16, record)
//!                          5 Reset                          controller → node term u64, designated u8
//!                          6 ResetPart                      node → controller left u32
//!                          7 Refused                        node → controller term u64
//! ```
//! A codec of our own: a reader that walks over the bytes as they came needs no room of its own, so a
//! length that lies cannot make it ask for any. Lists are looked through when the message is read, and
//! are read out of it afterwards. What has no end of its own (`n ×`) goes on to the end.
//!
//! Answers bear the number of their request: one that comes twice, or from an earlier link, is known
//! for what it is.

mod write;

use super::codec::Reader;
use super::record::CallRecord;
use super::{CallKey, Designated, Place, Priority, State};
use crate::call::Call;

pub(super) use write::MOST_PARTS;
pub use write::{
    Ending, hello, keys, keys_parts, records_of, records_page, records_parts, refused, reset,
    reset_part,
};

/// Bytes of a message, at most.
pub const MAX_MESSAGE: usize = 32 * 1024;
/// Calls that one request for some can name.
pub const MOST_NAMED: usize = (MAX_MESSAGE - 15) / 8;

const VERSION: u8 = 1;
const KEY_LEN: usize = 10;
/// The parts' flags: it is the last; a place follows.
const LAST: u8 = 1;
const NEXT: u8 = 2;

/// Which request an answer is to. Numbers are never used again on one collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request(pub u32);

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The controller of this id.
    Controller(u16),
    /// The node of this id.
    Node(u16),
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter<'a> {
    /// All, in the node's order.
    All {
        /// Behind this place; from the first when there is none.
        after: Option<Place>,
        /// So many at most.
        limit: u16,
    },
    /// These.
    Some(Calls<'a>),
}

/// What stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Who speaks.
    Hello {
        /// Of which cluster.
        cluster: u32,
        /// Who.
        party: Party,
        /// A controller's reign; the highest that a node has accepted.
        term: u64,
    },
    /// Which calls are there?
    Keys {
        /// Its number.
        request: Request,
        /// The asking controller's term.
        term: u64,
    },
    /// Some of the calls that are there.
    KeysPart {
        /// What it answers.
        request: Request,
        /// Its place among the parts, from 0.
        part: u16,
        /// Whether no part comes behind it.
        is_last: bool,
        /// The calls.
        keys: Keys<'a>,
    },
    /// Some records, please.
    Records {
        /// Its number.
        request: Request,
        /// The asking controller's term.
        term: u64,
        /// Which.
        filter: Filter<'a>,
    },
    /// Some of the records asked for.
    RecordsPart {
        /// What it answers.
        request: Request,
        /// Its place among the parts, from 0.
        part: u16,
        /// Whether no part comes behind it.
        is_last: bool,
        /// In the last part: where the next page begins, if there is one.
        next: Option<Place>,
        /// The records.
        records: Records<'a>,
    },
    /// Reset all calls. The first of a term counts; the same again only asks how many are left.
    Reset {
        /// Its number.
        request: Request,
        /// The asking controller's term.
        term: u64,
        /// To what.
        designated: Designated,
    },
    /// How far the reset has come.
    ResetPart {
        /// What it answers.
        request: Request,
        /// Calls that are yet to be ended.
        left: u32,
    },
    /// The controller does not hold the node's lease.
    Refused {
        /// What it answers.
        request: Request,
        /// The highest term that the node has accepted.
        term: u64,
    },
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes")]
    TooLong(usize),
    /// Of a version or kind that is not known here.
    #[error("a message of version {version} and kind {kind}")]
    Unknown {
        /// Its version.
        version: u8,
        /// Its kind.
        kind: u8,
    },
    /// It ends too soon or too late, or a value in it is none.
    #[error("a malformed message of kind {0}")]
    Malformed(u8),
}

/// Call keys in a message, each with its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a>(&'a [u8]);

impl<'a> Keys<'a> {
    /// Reads them.
    pub fn iter(&self) -> impl Iterator<Item = CallKey> + use<'a> {
        // All of them were looked through.
        self.0.chunks_exact(KEY_LEN).filter_map(read_key)
    }
}

fn read_key(bytes: &[u8]) -> Option<CallKey> {
    let mut reader = Reader(bytes);
    Some(CallKey {
        call: Call::from_key(reader.u64()?),
        state: State::from_index(reader.u8()?)?,
        priority: Priority::from_index(reader.u8()?)?,
    })
}

/// Calls named in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls<'a>(&'a [u8]);

impl<'a> Calls<'a> {
    /// Reads them.
    pub fn iter(&self) -> impl Iterator<Item = Call> + use<'a> {
        let calls = self.0.chunks_exact(8);
        calls.filter_map(|bytes| Reader(bytes).u64().map(Call::from_key))
    }
}

/// Records in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// Reads them: each record, and the bytes that it stands in.
    pub fn iter(&self) -> impl Iterator<Item = (CallRecord<'a>, &'a [u8])> + use<'a> {
        let mut reader = Reader(self.0);
        std::iter::from_fn(move || read_record(&mut reader))
    }
}

fn read_record<'a>(reader: &mut Reader<'a>) -> Option<(CallRecord<'a>, &'a [u8])> {
    let len = usize::from(reader.u16()?);
    let bytes = reader.take(len)?;
    Some((CallRecord::read(bytes)?, bytes))
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] for what is none.
    pub fn read(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(WireError::TooLong(bytes.len()));
        }
        let mut reader = Reader(bytes);
        let (Some(version), Some(kind)) = (reader.u8(), reader.u8()) else {
            return Err(WireError::Malformed(0));
        };
        if version != VERSION || kind > 7 {
            return Err(WireError::Unknown { version, kind });
        }
        let message = Self::read_kind(kind, &mut reader);
        let message = message.filter(|_| reader.is_empty());
        message.ok_or(WireError::Malformed(kind))
    }

    fn read_kind(kind: u8, reader: &mut Reader<'a>) -> Option<Self> {
        let request = Request(reader.u32()?);
        Some(match kind {
            0 => Self::Hello {
                cluster: reader.u32()?,
                party: match (reader.u8()?, reader.u16()?) {
                    (0, id) => Party::Controller(id),
                    (1, id) => Party::Node(id),
                    _ => return None,
                },
                term: reader.u64()?,
            },
            1 => Self::Keys {
                request,
                term: reader.u64()?,
            },
            2 => {
                let (part, flags) = (reader.u16()?, reader.u8()?);
                let keys = rest(reader);
                let is_whole = keys.len().is_multiple_of(KEY_LEN);
                let are_good = || keys.chunks(KEY_LEN).all(|key| read_key(key).is_some());
                if flags & !LAST != 0 || !is_whole || !are_good() {
                    return None;
                }
                Self::KeysPart {
                    request,
                    part,
                    is_last: flags & LAST != 0,
                    keys: Keys(keys),
                }
            }
            3 => Self::Records {
                request,
                term: reader.u64()?,
                filter: match reader.u8()? {
                    0 => Filter::All {
                        limit: reader.u16()?,
                        after: None,
                    },
                    1 => Filter::All {
                        limit: reader.u16()?,
                        after: Some(read_place(reader)?),
                    },
                    2 if reader.0.len().is_multiple_of(8) => Filter::Some(Calls(rest(reader))),
                    _ => return None,
                },
            },
            4 => {
                let (part, flags) = (reader.u16()?, reader.u8()?);
                let is_known = flags & !(LAST | NEXT) == 0;
                // Only behind the last part is a next page.
                if !is_known || flags & (LAST | NEXT) == NEXT {
                    return None;
                }
                let next = match flags & NEXT {
                    0 => None,
                    _ => Some(read_place(reader)?),
                };
                let mut walk = *reader;
                while !walk.is_empty() {
                    read_record(&mut walk)?;
                }
                Self::RecordsPart {
                    request,
                    part,
                    is_last: flags & LAST != 0,
                    next,
                    records: Records(rest(reader)),
                }
            }
            5 => Self::Reset {
                request,
                term: reader.u64()?,
                designated: Designated::from_index(reader.u8()?)?,
            },
            6 => Self::ResetPart {
                request,
                left: reader.u32()?,
            },
            7 => Self::Refused {
                request,
                term: reader.u64()?,
            },
            _ => return None,
        })
    }
}

fn rest<'a>(reader: &mut Reader<'a>) -> &'a [u8] {
    std::mem::take(&mut reader.0)
}

fn read_place(reader: &mut Reader<'_>) -> Option<Place> {
    Some(Place([reader.u64()?, reader.u64()?, reader.u64()?]))
}
