//! The pcap format of libpcap: a header, then packets.
//!
//! Source: draft-ietf-opsawg-pcap. Times are skipped, so that files with microseconds and files with
//! nanoseconds differ in their magic number only.

use super::capture::{CaptureError, Order, Packet, Reader};

/// A pcap file, behind its header.
pub(super) struct Pcap {
    order: Order,
    link_type: u32,
    reader: Reader,
}

impl Pcap {
    /// Reads the rest of the header behind the magic number.
    pub(super) fn open(magic: [u8; 4], mut reader: Reader) -> Result<Self, CaptureError> {
        const MICROSECONDS: u32 = 0xa1b2_c3d4;
        const NANOSECONDS: u32 = 0xa1b2_3c4d;
        let order = match (u32::from_be_bytes(magic), u32::from_le_bytes(magic)) {
            (MICROSECONDS | NANOSECONDS, _) => Order::Big,
            (_, MICROSECONDS | NANOSECONDS) => Order::Little,
            _ => return Err(CaptureError::Format),
        };
        // Version, two reserved words, the longest packet, the link type with flags above it.
        let header: [u8; 20] = reader.array()?.ok_or(CaptureError::Format)?;
        let link_type = order.u32(&header, 16) & 0xffff;
        Ok(Self {
            order,
            link_type,
            reader,
        })
    }

    /// The next packet, if there is one.
    pub(super) fn next_packet(&mut self) -> Result<Option<Packet>, CaptureError> {
        // Seconds, their fraction, bytes here, bytes on the wire.
        let Some(header) = self.reader.array::<16>()? else {
            return Ok(None);
        };
        self.reader.check_link(self.link_type)?;
        let len = self.reader.packet_len(self.order.u32(&header, 8))?;
        let bytes = self.reader.bytes(len)?;
        self.reader.packet += 1;
        Ok(Some(Packet {
            bytes,
            wire_len: self.order.u32(&header, 12),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::capture::tests::{put16, put32, read};
    use super::*;

    fn file(order: Order, magic: u32, link_type: u32, packets: &[(&[u8], u32)]) -> Vec<u8> {
        let mut file = put32(order, magic).to_vec();
        file.extend(put16(order, 2));
        file.extend(put16(order, 4));
        for word in [0, 0, 262_144, link_type] {
            file.extend(put32(order, word));
        }
        for (bytes, wire_len) in packets {
            for word in [1, 2, bytes.len() as u32, *wire_len] {
                file.extend(put32(order, word));
            }
            file.extend(*bytes);
        }
        file
    }

    #[test]
    fn both_orders_and_both_clocks_are_read() {
        for order in [Order::Big, Order::Little] {
            for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
                let (packets, error) = read(&file(order, magic, 1, &[(b"one", 3), (b"tw", 900)]));
                assert!(error.is_none(), "{error:?}");
                assert_eq!(packets.len(), 2);
                assert_eq!(
                    (&packets[0].bytes[..], packets[0].is_cut()),
                    (&b"one"[..], false)
                );
                assert_eq!(
                    (&packets[1].bytes[..], packets[1].is_cut()),
                    (&b"tw"[..], true)
                );
            }
        }
    }

    #[test]
    fn a_file_that_ends_early_gives_what_it_has() {
        let whole = file(Order::Little, 0xa1b2_c3d4, 1, &[(b"one", 3), (b"two", 3)]);
        for cut in 1..19 {
            let (packets, error) = read(&whole[..whole.len() - cut]);
            assert_eq!(packets.len(), 1);
            assert!(
                matches!(error, Some(CaptureError::Short { packet: 1 })),
                "{error:?}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let (_, error) = read(&file(Order::Big, 0xa1b2_c3d4, 113, &[(b"x", 1)]));
        assert!(matches!(
            error,
            Some(CaptureError::LinkType {
                packet: 0,
                link_type: 113
            })
        ));
        let mut huge = file(Order::Big, 0xa1b2_c3d4, 1, &[(b"x", 1)]);
        huge[24 + 8] = 0xff;
        let (_, error) = read(&huge);
        assert!(matches!(
            error,
            Some(CaptureError::Length { packet: 0, .. })
        ));
        assert!(read(&file(Order::Big, 0xa1b2_c3d4, 113, &[])).1.is_none());
    }
}
