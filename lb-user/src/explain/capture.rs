//! Captured packets, in either of the two formats that captures come in.

use std::io::{self, BufRead, Read};

use super::pcap::Pcap;
use super::pcapng::PcapNg;

/// A packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// What was captured of it, from its Ethernet header on.
    pub(super) bytes: Vec<u8>,
    /// How long it was on the wire.
    pub(super) wire_len: u32,
}

impl Packet {
    /// Whether the capture holds only its beginning.
    pub(super) fn is_cut(&self) -> bool {
        self.bytes.len() < self.wire_len as usize
    }
}

/// A capture could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Another kind of file.
    #[error("neither a pcap nor a pcapng file")]
    Format,
    /// It ends too early.
    #[error("the file ends in the middle of packet {packet}")]
    Short {
        /// Which packet, from 0.
        packet: u64,
    },
    /// A length that no packet has.
    #[error("packet {packet} claims {len} bytes, which is more than captures hold")]
    Length {
        /// Which packet, from 0.
        packet: u64,
        /// The length.
        len: u64,
    },
    /// A structure that contradicts itself.
    #[error("at packet {packet}: {what}")]
    Broken {
        /// Which packet, from 0.
        packet: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Something else than Ethernet.
    #[error(
        "packet {packet} has link type {link_type}, not Ethernet (1); capture on one interface \
         (tcpdump -i eth0), not on all of them (-i any)"
    )]
    LinkType {
        /// Which packet, from 0.
        packet: u64,
        /// The number of its link type.
        link_type: u32,
    },
    /// Reading failed.
    #[error("reading failed")]
    Read(#[from] io::Error),
}

/// The number of Ethernet among link types.
pub(super) const ETHERNET: u32 = 1;
/// Most bytes that a captured packet has (libpcap's MAXIMUM_SNAPLEN).
pub(super) const MAX_PACKET: u32 = 262_144;

/// A capture.
pub(super) enum Capture {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

impl Capture {
    /// Tells the format by the first four bytes.
    pub(super) fn open(reader: Box<dyn BufRead>) -> Result<Self, CaptureError> {
        let mut source = Reader { reader, packet: 0 };
        let magic: [u8; 4] = source.array()?.ok_or(CaptureError::Format)?;
        match magic {
            PcapNg::MAGIC => Ok(Self::PcapNg(PcapNg::open(source)?)),
            magic => Ok(Self::Pcap(Pcap::open(magic, source)?)),
        }
    }
}

impl Iterator for Capture {
    type Item = Result<Packet, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Pcap(capture) => capture.next_packet().transpose(),
            Self::PcapNg(capture) => capture.next_packet().transpose(),
        }
    }
}

/// Reads pieces of known length, and knows at which packet it is.
pub(super) struct Reader {
    reader: Box<dyn BufRead>,
    /// The packet that comes next.
    pub(super) packet: u64,
}

impl Reader {
    /// The next `N` bytes, or `None` if the file ends before the first of them.
    pub(super) fn array<const N: usize>(&mut self) -> Result<Option<[u8; N]>, CaptureError> {
        if self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The next `len` bytes.
    pub(super) fn bytes(&mut self, len: u32) -> Result<Vec<u8>, CaptureError> {
        let mut bytes = vec![0; len as usize];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), CaptureError> {
        self.reader
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => CaptureError::Short {
                    packet: self.packet,
                },
                _ => CaptureError::Read(error),
            })
    }

    /// A packet's length, if it is one.
    pub(super) fn packet_len(&self, len: u32) -> Result<u32, CaptureError> {
        if len > MAX_PACKET {
            return Err(CaptureError::Length {
                packet: self.packet,
                len: len.into(),
            });
        }
        Ok(len)
    }

    /// Refuses what is not Ethernet.
    pub(super) fn check_link(&self, link_type: u32) -> Result<(), CaptureError> {
        if link_type != ETHERNET {
            return Err(CaptureError::LinkType {
                packet: self.packet,
                link_type,
            });
        }
        Ok(())
    }

    pub(super) fn broken(&self, what: &'static str) -> CaptureError {
        CaptureError::Broken {
            packet: self.packet,
            what,
        }
    }
}

/// How a file writes its numbers: as the machine did that captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    /// The number at `at`, 0 past the end.
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let word = bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or_default();
        match self {
            Self::Big => u32::from_be_bytes(word),
            Self::Little => u32::from_le_bytes(word),
        }
    }

    /// The number at `at`, 0 past the end.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let word = bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or_default();
        match self {
            Self::Big => u16::from_be_bytes(word),
            Self::Little => u16::from_le_bytes(word),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a whole capture.
    pub(in super::super) fn read(file: &[u8]) -> (Vec<Packet>, Option<CaptureError>) {
        let capture = match Capture::open(Box::new(io::Cursor::new(file.to_vec()))) {
            Ok(capture) => capture,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let mut packets = Vec::new();
        for packet in capture {
            match packet {
                Ok(packet) => packets.push(packet),
                Err(error) => return (packets, Some(error)),
            }
        }
        (packets, None)
    }

    /// A number as a file of this order writes it.
    pub(in super::super) fn put32(order: Order, number: u32) -> [u8; 4] {
        match order {
            Order::Big => number.to_be_bytes(),
            Order::Little => number.to_le_bytes(),
        }
    }

    /// A number as a file of this order writes it.
    pub(in super::super) fn put16(order: Order, number: u16) -> [u8; 2] {
        match order {
            Order::Big => number.to_be_bytes(),
            Order::Little => number.to_le_bytes(),
        }
    }

    #[test]
    fn other_files_are_refused() {
        for file in [
            &b""[..],
            b"PK\x03\x04",
            b"abc",
            b"GIF89a and more of it than a header has",
        ] {
            let (packets, error) = read(file);
            assert!(packets.is_empty());
            assert!(
                matches!(
                    error,
                    Some(CaptureError::Format | CaptureError::Short { packet: 0 })
                ),
                "{error:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn noise_behind_a_magic_number_does_no_harm(
            magic in proptest::sample::select(&[
                [0xd4, 0xc3, 0xb2, 0xa1], [0xa1, 0xb2, 0xc3, 0xd4], [0x4d, 0x3c, 0xb2, 0xa1],
                [0xa1, 0xb2, 0x3c, 0x4d], PcapNg::MAGIC,
            ][..]),
            noise in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..200),
        ) {
            let _ = read(&[&magic[..], &noise].concat());
        }
    }
}
