//! Writes messages.

use super::{KEY_LEN, MAX_MESSAGE, MOST_NAMED, NEXT, Party, Request, VERSION};
use crate::call::Call;
use crate::call_state::record::{CallRecord, MOST_RECORD};
use crate::call_state::{CallKey, Designated, Place};

fn begin(kind: u8, request: Request) -> Vec<u8> {
    let mut bytes = vec![VERSION, kind];
    bytes.extend_from_slice(&request.0.to_le_bytes());
    bytes
}

fn with_term(kind: u8, request: Request, term: u64) -> Vec<u8> {
    let mut bytes = begin(kind, request);
    bytes.extend_from_slice(&term.to_le_bytes());
    bytes
}

fn put_place(bytes: &mut Vec<u8>, place: Place) {
    let words = place.0.into_iter();
    words.for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
}

/// Writes [`Message::Hello`](super::Message::Hello).
pub fn hello(cluster: u32, party: Party, term: u64) -> Vec<u8> {
    let mut bytes = begin(0, Request(0));
    bytes.extend_from_slice(&cluster.to_le_bytes());
    let (kind, id) = match party {
        Party::Controller(id) => (0, id),
        Party::Node(id) => (1, id),
    };
    bytes.push(kind);
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&term.to_le_bytes());
    bytes
}

/// Writes [`Message::Keys`](super::Message::Keys).
pub fn keys(request: Request, term: u64) -> Vec<u8> {
    with_term(1, request, term)
}

/// Writes calls into as many [`Message::KeysPart`](super::Message::KeysPart)s as are needed, one at least.
/// The first has the number `first`; `is_last` says whether no part comes behind them.
pub fn keys_parts(request: Request, first: usize, keys: &[CallKey], is_last: bool) -> Vec<Vec<u8>> {
    const PER_PART: usize = (MAX_MESSAGE - 9) / KEY_LEN;
    let count = keys.len().div_ceil(PER_PART).max(1);
    let chunk = |part: usize| {
        let from = part * PER_PART;
        let to = keys.len().min(from + PER_PART);
        let mut bytes = begin_part(2, request, first + part, is_last && part + 1 == count);
        for key in keys.get(from..to).unwrap_or_default() {
            bytes.extend_from_slice(&key.call.key().to_le_bytes());
            bytes.extend_from_slice(&[key.state as u8, key.priority as u8]);
        }
        bytes
    };
    (0..count).map(chunk).collect()
}

/// Parts of one answer, at most: what their numbers can count.
pub(in crate::call_state) const MOST_PARTS: usize = 1 << 16;

fn begin_part(kind: u8, request: Request, part: usize, is_last: bool) -> Vec<u8> {
    let mut bytes = begin(kind, request);
    // Who numbers them keeps to [`MOST_PARTS`].
    bytes.extend_from_slice(&(part as u16).to_le_bytes());
    bytes.push(u8::from(is_last));
    bytes
}

/// Writes [`Message::Records`](super::Message::Records) for a page.
pub fn records_page(request: Request, term: u64, after: Option<Place>, limit: u16) -> Vec<u8> {
    let mut bytes = with_term(3, request, term);
    bytes.push(u8::from(after.is_some()));
    bytes.extend_from_slice(&limit.to_le_bytes());
    if let Some(after) = after {
        put_place(&mut bytes, after);
    }
    bytes
}

/// Writes [`Message::Records`](super::Message::Records) for some calls: the first [`MOST_NAMED`] of them.
pub fn records_of(request: Request, term: u64, calls: impl IntoIterator<Item = Call>) -> Vec<u8> {
    let mut bytes = with_term(3, request, term);
    bytes.push(2);
    for call in calls.into_iter().take(MOST_NAMED) {
        bytes.extend_from_slice(&call.key().to_le_bytes());
    }
    bytes
}

/// What comes behind some records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Further parts of the same answer.
    Open,
    /// Nothing.
    Whole,
    /// Nothing in this answer; the next page begins behind this place.
    Page(Place),
}

/// Writes records into as many [`Message::RecordsPart`](super::Message::RecordsPart)s as are needed, one at least.
/// The first has the number `first`.
pub fn records_parts(
    request: Request,
    first: usize,
    records: &[CallRecord<'_>],
    ending: Ending,
) -> Vec<Vec<u8>> {
    const HEAD: usize = 9 + 24;
    const _: () = assert!(HEAD + 2 + MOST_RECORD <= MAX_MESSAGE);
    let mut bodies = vec![Vec::new()];
    let mut record = Vec::with_capacity(256);
    for it in records {
        record.clear();
        it.write(&mut record);
        let is_full = |body: &Vec<u8>| HEAD + body.len() + 2 + record.len() > MAX_MESSAGE;
        if bodies.last().is_none_or(is_full) {
            bodies.push(Vec::new());
        }
        if let Some(body) = bodies.last_mut() {
            // A record is never longer than a length of 16 bits can say.
            body.extend_from_slice(&(record.len() as u16).to_le_bytes());
            body.extend_from_slice(&record);
        }
    }
    let count = bodies.len();
    let write = |(part, body): (usize, Vec<u8>)| {
        let is_last = ending != Ending::Open && part + 1 == count;
        let mut bytes = begin_part(4, request, first + part, is_last);
        if let (true, Ending::Page(next), Some(flags)) = (is_last, ending, bytes.last_mut()) {
            *flags |= NEXT;
            put_place(&mut bytes, next);
        }
        bytes.extend_from_slice(&body);
        bytes
    };
    bodies.into_iter().enumerate().map(write).collect()
}

/// Writes [`Message::Reset`](super::Message::Reset).
pub fn reset(request: Request, term: u64, designated: Designated) -> Vec<u8> {
    let mut bytes = with_term(5, request, term);
    bytes.push(designated as u8);
    bytes
}

/// Writes [`Message::ResetPart`](super::Message::ResetPart).
pub fn reset_part(request: Request, left: u32) -> Vec<u8> {
    let mut bytes = begin(6, request);
    bytes.extend_from_slice(&left.to_le_bytes());
    bytes
}

/// Writes [`Message::Refused`](super::Message::Refused).
pub fn refused(request: Request, term: u64) -> Vec<u8> {
    with_term(7, request, term)
}
