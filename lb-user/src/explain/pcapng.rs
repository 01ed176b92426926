//! The pcapng format of Wireshark: blocks, some of which are packets.
//!
//! Source: draft-ietf-opsawg-pcapng. A section says in which order its numbers are written and has
//! interfaces of its own. Blocks that are not needed here are skipped by their length, as the format
//! asks.

use super::capture::{CaptureError, MAX_PACKET, Order, Packet, Reader};

/// A pcapng file.
pub(super) struct PcapNg {
    order: Order,
    interfaces: Vec<Interface>,
    reader: Reader,
}

struct Interface {
    link_type: u32,
    /// Bytes kept of a packet; 0 for all.
    snap_len: u32,
}

mod block {
    pub(super) const SECTION: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const OLD_PACKET: u32 = 2;
    pub(super) const SIMPLE_PACKET: u32 = 3;
    pub(super) const PACKET: u32 = 6;
}

/// Bytes that a block may have. Chosen: a packet with many comments.
const MAX_BLOCK: u32 = 16 << 20;
/// Interfaces that a section may have.
const MAX_INTERFACES: usize = 4_096;

impl PcapNg {
    /// How a file begins: with a section.
    pub(super) const MAGIC: [u8; 4] = block::SECTION.to_be_bytes();

    /// Reads the first section's header, behind the magic number.
    pub(super) fn open(mut reader: Reader) -> Result<Self, CaptureError> {
        let len = reader.array()?.ok_or(CaptureError::Format)?;
        let mut capture = Self {
            order: Order::Little,
            interfaces: Vec::new(),
            reader,
        };
        capture.section(len)?;
        Ok(capture)
    }

    /// The next packet, if there is one.
    pub(super) fn next_packet(&mut self) -> Result<Option<Packet>, CaptureError> {
        while let Some(kind) = self.reader.array()? {
            let len = self
                .reader
                .array()?
                .ok_or(self.reader.broken("a block without a length"))?;
            // The same in both orders.
            if kind == Self::MAGIC {
                self.section(len)?;
                continue;
            }
            let body = self.body(self.order.u32(&len, 0), 8)?;
            match self.order.u32(&kind, 0) {
                block::INTERFACE => self.interface(&body)?,
                block::PACKET => return self.packet(&body, self.order.u32(&body, 0)).map(Some),
                block::OLD_PACKET => {
                    let interface = self.order.u16(&body, 0).into();
                    return self.packet(&body, interface).map(Some);
                }
                block::SIMPLE_PACKET => return self.simple_packet(&body).map(Some),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The rest of a block of `len` bytes, of which `read` have been read, without the length that
    /// stands behind it once more.
    fn body(&mut self, len: u32, read: u32) -> Result<Vec<u8>, CaptureError> {
        if len > MAX_BLOCK {
            return Err(self.reader.broken("a block of more than 16 MiB"));
        }
        let Some(rest) = len.checked_sub(read + 4).filter(|_| len.is_multiple_of(4)) else {
            return Err(self.reader.broken("a block whose length is wrong"));
        };
        let body = self.reader.bytes(rest)?;
        let again = self.reader.bytes(4)?;
        if self.order.u32(&again, 0) != len {
            return Err(self
                .reader
                .broken("a block that does not end where it says"));
        }
        Ok(body)
    }

    fn section(&mut self, len: [u8; 4]) -> Result<(), CaptureError> {
        const BYTE_ORDER: u32 = 0x1a2b_3c4d;
        let magic = self.reader.bytes(4)?;
        self.order = match (Order::Big.u32(&magic, 0), Order::Little.u32(&magic, 0)) {
            (BYTE_ORDER, _) => Order::Big,
            (_, BYTE_ORDER) => Order::Little,
            _ => return Err(self.reader.broken("a section in no known byte order")),
        };
        self.interfaces.clear();
        let body = self.body(self.order.u32(&len, 0), 12)?;
        match self.order.u16(&body, 0) {
            1 => Ok(()),
            _ => Err(self.reader.broken("a version of pcapng that is not 1")),
        }
    }

    fn interface(&mut self, body: &[u8]) -> Result<(), CaptureError> {
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(self.reader.broken("more interfaces than any machine has"));
        }
        self.interfaces.push(Interface {
            link_type: self.order.u16(body, 0).into(),
            snap_len: self.order.u32(body, 4),
        });
        Ok(())
    }

    /// The two older kinds of packet block differ only in how they write the interface's number.
    fn packet(&mut self, body: &[u8], interface: u32) -> Result<Packet, CaptureError> {
        const HEADER: usize = 20;
        self.check(interface)?;
        let len = self.reader.packet_len(self.order.u32(body, 12))?;
        self.cut(body, HEADER, len, self.order.u32(body, 16))
    }

    fn simple_packet(&mut self, body: &[u8]) -> Result<Packet, CaptureError> {
        const HEADER: usize = 4;
        let snap_len = self.check(0)?.snap_len;
        let wire_len = self.order.u32(body, 0);
        let kept = if snap_len == 0 {
            wire_len
        } else {
            wire_len.min(snap_len)
        };
        let len = self.reader.packet_len(kept.min(MAX_PACKET))?;
        self.cut(body, HEADER, len, wire_len)
    }

    fn check(&self, interface: u32) -> Result<&Interface, CaptureError> {
        let Some(interface) = self.interfaces.get(interface as usize) else {
            return Err(self
                .reader
                .broken("a packet of an interface that is not described"));
        };
        self.reader.check_link(interface.link_type)?;
        Ok(interface)
    }

    fn cut(
        &mut self,
        body: &[u8],
        at: usize,
        len: u32,
        wire_len: u32,
    ) -> Result<Packet, CaptureError> {
        let Some(bytes) = body.get(at..at + len as usize) else {
            return Err(self.reader.broken("a packet that is longer than its block"));
        };
        self.reader.packet += 1;
        Ok(Packet {
            bytes: bytes.to_vec(),
            wire_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::capture::tests::{put16, put32, read};
    use super::*;

    fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = put32(order, body.len() as u32 + 12);
        [&put32(order, kind), &len, &body[..], &len].concat()
    }

    fn section(order: Order) -> Vec<u8> {
        let mut body = put32(order, 0x1a2b_3c4d).to_vec();
        body.extend(put16(order, 1));
        body.extend(put16(order, 0));
        body.extend([0xff; 8]);
        block(order, block::SECTION, &body)
    }

    fn interface(order: Order, link_type: u16, snap_len: u32) -> Vec<u8> {
        let body = [
            &put16(order, link_type)[..],
            &[0; 2],
            &put32(order, snap_len),
        ]
        .concat();
        block(order, block::INTERFACE, &body)
    }

    fn packet(order: Order, interface: u32, bytes: &[u8], wire_len: u32) -> Vec<u8> {
        let words = [interface, 0, 0, bytes.len() as u32, wire_len];
        let mut body: Vec<u8> = words.iter().flat_map(|word| put32(order, *word)).collect();
        body.extend(bytes);
        block(order, block::PACKET, &body)
    }

    #[test]
    fn packets_of_several_sections_are_read() {
        let mut file = Vec::new();
        for order in [Order::Little, Order::Big] {
            file.extend(section(order));
            file.extend(block(order, 0x0bad, b"something else"));
            file.extend(interface(order, 113, 0));
            file.extend(interface(order, 1, 0));
            file.extend(packet(order, 1, b"whole", 5));
            file.extend(packet(order, 1, b"cut", 900));
        }
        let (packets, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        let found: Vec<_> = packets.iter().map(|p| (&p.bytes[..], p.is_cut())).collect();
        let expected = [(&b"whole"[..], false), (b"cut", true)];
        assert_eq!(found, expected.repeat(2));
    }

    #[test]
    fn simple_and_old_packets_are_read() {
        let order = Order::Little;
        let mut file = section(order);
        file.extend(interface(order, 1, 3));
        file.extend(block(
            order,
            block::SIMPLE_PACKET,
            &[&put32(order, 9)[..], b"abc"].concat(),
        ));
        let mut old = [put16(order, 0), put16(order, 7)].concat();
        old.extend([0, 0, 2, 2].iter().flat_map(|word| put32(order, *word)));
        old.extend(b"xy");
        file.extend(block(order, block::OLD_PACKET, &old));
        let (packets, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(
            (&packets[0].bytes[..], packets[0].wire_len),
            (&b"abc"[..], 9)
        );
        assert_eq!(
            (&packets[1].bytes[..], packets[1].wire_len),
            (&b"xy"[..], 2)
        );
    }

    #[test]
    fn contradictions_are_refused() {
        let order = Order::Little;
        let start = [section(order), interface(order, 1, 0)].concat();
        let mut bad_end = packet(order, 0, b"x", 1);
        *bad_end.last_mut().unwrap() = 1;
        let mut too_long = packet(order, 0, b"x", 1);
        too_long[8 + 12] = 200;
        for (case, rest) in [
            ("no such interface", packet(order, 1, b"x", 1)),
            ("does not end", bad_end),
            ("longer than its block", too_long),
            ("length 5", [put32(order, 6), put32(order, 5)].concat()),
            ("length huge", [put32(order, 6), [0xff; 4]].concat()),
        ] {
            let (packets, error) = read(&[start.clone(), rest].concat());
            assert!(packets.is_empty(), "{case}");
            assert!(
                matches!(error, Some(CaptureError::Broken { packet: 0, .. })),
                "{case}: {error:?}"
            );
        }
        let (_, error) = read(
            &[
                section(order),
                interface(order, 276, 0),
                packet(order, 0, b"x", 1),
            ]
            .concat(),
        );
        assert!(
            matches!(error, Some(CaptureError::LinkType { link_type: 276, .. })),
            "{error:?}"
        );
    }
}
