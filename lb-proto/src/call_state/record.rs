//! One call, as a node tells it.

use super::codec::{Reader, put_number, put_text};
use super::{Priority, State};
use crate::call::Call;
use std::time::Duration;

/// Bytes of one text of a record, at most: what is longer is cut, and the record says so. Chosen: a
/// Call-ID is one or two hundred bytes at most with all that is in use, and five texts of this length
/// leave room in a message for others.
pub const MOST_TEXT: usize = 1_024;

/// Bytes of a record, at most: five texts and what stands before them.
pub const MOST_RECORD: usize = 5 * (MOST_TEXT + 2) + 80;

/// One side of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side<'a> {
    /// Its name and address, as From or To have it.
    pub address: &'a [u8],
    /// Its tag; the callee has none before its first response.
    pub tag: Option<&'a [u8]>,
    /// The CSeq of its last request.
    pub cseq: Option<u32>,
}

/// A call, as its node had it when it told. Times are whole milliseconds on the wire.
///
/// One record stands for all dialogs of a Call-ID on its node (forks, RFC 3261 §12.1): it is that of
/// the dialog which has come farthest, and says how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRecord<'a> {
    /// The call key.
    pub call: Call,
    /// The Call-ID.
    pub call_id: &'a [u8],
    /// Who called.
    pub caller: Side<'a>,
    /// Who was called.
    pub callee: Side<'a>,
    /// Where it is.
    pub state: State,
    /// How urgent it is.
    pub priority: Priority,
    /// Since its INVITE.
    pub age: Duration,
    /// Since it was answered.
    pub answered: Option<Duration>,
    /// Until its session ends if nobody refreshes it (RFC 4028).
    pub session: Option<Duration>,
    /// It was redirected to its node from another, which is its home.
    pub away: bool,
    /// The node's own SIP server called.
    pub outgoing: bool,
    /// A text was longer than [`MOST_TEXT`] and is not all there.
    pub cut: bool,
    /// Dialogs of the call that are not over.
    pub dialogs: u8,
    /// The node.
    pub node: u16,
}

const STATE: u16 = 0b11;
const PRIORITY: u16 = 0b11 << 2;
const AWAY: u16 = 1 << 4;
const OUTGOING: u16 = 1 << 5;
const CUT: u16 = 1 << 6;
const ANSWERED: u16 = 1 << 7;
const SESSION: u16 = 1 << 8;
const TAGS: [u16; 2] = [1 << 9, 1 << 10];
const CSEQS: [u16; 2] = [1 << 11, 1 << 12];
const KNOWN: u16 = (1 << 13) - 1;

impl<'a> CallRecord<'a> {
    /// Reads a record that is all there is in `bytes`. `None` if it is none.
    ///
    /// ```text
    ///  0  call key  u64     10  dialogs  u8     13  age; answered; session; caller's, callee's CSeq:
    ///  8  flags     u16     11  node     u16        numbers, those that the flags name
    ///                                           ..  Call-ID; caller's, callee's address; their tags:
    ///                                               texts, those that the flags name
    /// ```
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let record = Self::read_from(&mut reader)?;
        reader.is_empty().then_some(record)
    }

    fn read_from(reader: &mut Reader<'a>) -> Option<Self> {
        let call = Call::from_key(reader.u64()?);
        let flags = reader.u16()?;
        if flags & !KNOWN != 0 {
            return None;
        }
        let has = |flag: u16| flags & flag != 0;
        let (dialogs, node) = (reader.u8()?, reader.u16()?);
        let mut time = |is_there: bool| -> Option<Option<Duration>> {
            if !is_there {
                return Some(None);
            }
            reader.number().map(Duration::from_millis).map(Some)
        };
        let age = time(true)??;
        let (answered, session) = (time(has(ANSWERED))?, time(has(SESSION))?);
        let mut cseqs = [None; 2];
        for (cseq, flag) in cseqs.iter_mut().zip(CSEQS) {
            if has(flag) {
                *cseq = Some(u32::try_from(reader.number()?).ok()?);
            }
        }
        let call_id = reader.text(MOST_TEXT)?;
        let addresses = [reader.text(MOST_TEXT)?, reader.text(MOST_TEXT)?];
        let mut tags = [None; 2];
        for (tag, flag) in tags.iter_mut().zip(TAGS) {
            if has(flag) {
                *tag = Some(reader.text(MOST_TEXT)?);
            }
        }
        let side = |index: usize| -> Option<Side<'a>> {
            Some(Side {
                address: addresses.get(index)?,
                tag: *tags.get(index)?,
                cseq: *cseqs.get(index)?,
            })
        };
        Some(Self {
            call,
            call_id,
            caller: side(0)?,
            callee: side(1)?,
            state: State::from_index((flags & STATE) as u8)?,
            priority: Priority::from_index(((flags & PRIORITY) >> 2) as u8)?,
            age,
            answered,
            session,
            away: has(AWAY),
            outgoing: has(OUTGOING),
            cut: has(CUT),
            dialogs,
            node,
        })
    }

    /// Writes what [`CallRecord::read`] reads: [`MOST_RECORD`] bytes at most.
    pub fn write(&self, out: &mut Vec<u8>) {
        let sides = [self.caller, self.callee];
        let mut is_cut = self.cut;
        let mut fit = |text: &'a [u8]| {
            is_cut |= text.len() > MOST_TEXT;
            text.get(..MOST_TEXT).unwrap_or(text)
        };
        let texts = [self.call_id, self.caller.address, self.callee.address].map(&mut fit);
        let tags = sides.map(|side| side.tag.map(&mut fit));
        let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
        let mut flags = self.state as u16 | (self.priority as u16) << 2;
        flags |= flag(self.away, AWAY) | flag(self.outgoing, OUTGOING) | flag(is_cut, CUT);
        flags |= flag(self.answered.is_some(), ANSWERED) | flag(self.session.is_some(), SESSION);
        for index in 0..2 {
            flags |= flag(tags[index].is_some(), TAGS[index]);
            flags |= flag(sides[index].cseq.is_some(), CSEQS[index]);
        }
        out.extend_from_slice(&self.call.key().to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.push(self.dialogs);
        out.extend_from_slice(&self.node.to_le_bytes());
        let times = [Some(self.age), self.answered, self.session];
        for time in times.into_iter().flatten() {
            put_number(out, milliseconds(time));
        }
        for cseq in sides.iter().filter_map(|side| side.cseq) {
            put_number(out, cseq.into());
        }
        for text in texts.into_iter().chain(tags.into_iter().flatten()) {
            put_text(out, text);
        }
    }

    /// The same call so much later, if nothing has happened to it.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        Self {
            age: self.age.saturating_add(by),
            answered: self.answered.map(|since| since.saturating_add(by)),
            session: self.session.map(|left| left.saturating_sub(by)),
            ..self
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
