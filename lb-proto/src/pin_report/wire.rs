//! A pin report and its answer, as they go over the wire.
//!
//! ```text
//!  0  "PMP1"                       16  epoch                     u32
//!  4  version = 1          u8      20  sequence                  u32
//!  5  kind                 u8      24  call key                  u64
//!  6  key id               u8      32  beacon sequence           u32
//!  7  recipient            u8      36  verdict                   u8
//!  8  cluster              u32     37  reserved                  59 bytes
//! 12  node                 u16     96  MAC: SipHash-2-4-128 of   16 bytes
//! 14  reserved             u16         bytes 0..96
//! ```
//! | kind | from → to | says |
//! |---|---|---|
//! | 0, [`Report`] | node → LB | this call lives with me |
//! | 1, [`Answer`] | LB → node | what became of that report |
//!
//! Both are [sealed]. The call is named by its key, never by its Call-ID, which is
//! personal data. The recipient is the LB's place in the node's list: an answer repeats it, because an
//! LB with several addresses may answer from another one.

use crate::call::Call;
use crate::keys::NumberedKey;
use crate::sealed::{self, Form, SealError, be64, seal};
use lb_common::Window;
use lb_common::siphash::SipKey;

/// Bytes of a report and of its answer.
pub const REPORT_LEN: usize = sealed::LEN;
const FORM: Form = Form {
    magic: *b"PMP1",
    version: 1,
};
const REPORT: u8 = 0;
const ANSWER: u8 = 1;

/// The bytes of either.
pub type ReportBytes = [u8; REPORT_LEN];

/// A report's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The cluster.
    pub cluster: u32,
    /// The node that has the call.
    pub node: u16,
    /// The key that it is authenticated with.
    pub key_id: u8,
    /// The LB's place in the node's list.
    pub recipient: u8,
    /// Which life of the node, as in its beacons.
    pub epoch: u32,
    /// Grows with every report of an epoch; the same in its repetitions.
    pub sequence: u32,
    /// The sequence of the node's next beacon when the report was made: tells how old it is.
    pub beacon_sequence: u32,
    /// The call.
    pub call: Call,
}

/// What an LB has made of a report.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call's pin names the node.
    Pinned = 0,
    /// The node is the call's home: no pin is needed.
    AtHome = 1,
    /// No room for the pin: requests within the dialog will go to the call's home.
    Full = 2,
}

impl Verdict {
    const fn from_index(index: u8) -> Option<Self> {
        match index {
            0 => Some(Self::Pinned),
            1 => Some(Self::AtHome),
            2 => Some(Self::Full),
            _ => None,
        }
    }

    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::AtHome => "at-home",
            Self::Full => "pins-full",
        }
    }
}

/// The answer to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The report: all but the key id is repeated.
    pub report: Report,
    /// What became of it.
    pub verdict: Verdict,
}

/// Either of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// See [`Report`].
    Report(Report),
    /// See [`Answer`].
    Answer(Answer),
}

impl Message {
    /// Reads either and verifies it under one of `keys`. Whom it is for, the machines look at.
    ///
    /// # Errors
    /// [`SealError`] for what is none, or not genuine.
    pub fn read(bytes: &[u8], keys: &[NumberedKey]) -> Result<Self, SealError> {
        FORM.read(bytes, keys, Self::decode)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let report = Report {
            key_id: bytes.byte(6)?,
            recipient: bytes.byte(7)?,
            cluster: bytes.be32(8)?,
            node: bytes.be16(12)?,
            epoch: bytes.be32(16)?,
            sequence: bytes.be32(20)?,
            call: Call::from_key(be64(bytes, 24)?),
            beacon_sequence: bytes.be32(32)?,
        };
        let verdict = Verdict::from_index(bytes.byte(36)?)?;
        match bytes.byte(5)? {
            REPORT => Some(Self::Report(report)),
            ANSWER => Some(Self::Answer(Answer { report, verdict })),
            _ => None,
        }
    }
}

impl Report {
    /// Writes the report and its MAC. `key` must be the one that `key_id` names.
    pub fn write(&self, key: SipKey) -> ReportBytes {
        write(REPORT, self, 0, key)
    }

    /// Epoch and sequence of the node's next beacon when the report was made, as one number.
    pub const fn beacon_stamp(&self) -> u64 {
        (self.epoch as u64) << 32 | self.beacon_sequence as u64
    }
}

impl Answer {
    /// Writes the answer and its MAC. `key` must be the one that the report's `key_id` names.
    pub fn write(&self, key: SipKey) -> ReportBytes {
        write(ANSWER, &self.report, self.verdict as u8, key)
    }
}

fn write(kind: u8, report: &Report, verdict: u8, key: SipKey) -> ReportBytes {
    let mut bytes = FORM.begin(kind, report.key_id);
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(7, &[report.recipient]);
    put(8, &report.cluster.to_be_bytes());
    put(12, &report.node.to_be_bytes());
    put(16, &report.epoch.to_be_bytes());
    put(20, &report.sequence.to_be_bytes());
    put(24, &report.call.key().to_be_bytes());
    put(32, &report.beacon_sequence.to_be_bytes());
    put(36, &[verdict]);
    seal(&mut bytes, key);
    bytes
}
