//! Who has the VIP's link address? Asked in nobody's name, so that nobody learns from the answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use pointsman_tests::lab::Lab;
use pointsman_tests::record::PacketSocket;

/// A machine that is not there, behind the switch's port.
const ASKER: [u8; 6] = [2, 0, 0, 0, 77, 200];
const ASKER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xa5ce);

/// Asks from the switch's port.
pub(super) struct Questioner {
    socket: PacketSocket,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    frames: [Vec<u8>; 2],
}

impl Questioner {
    pub(super) fn open(lab: &Lab) -> Result<Self> {
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (lab.vip_v4().ip(), lab.vip_v6().ip()) else {
            anyhow::bail!("one VIP of each family");
        };
        Ok(Self {
            socket: PacketSocket::open(&lab.switch.namespace, "eth0")?,
            v4,
            v6,
            frames: [arp(v4), solicitation(v6)],
        })
    }

    /// Asks for both VIPs.
    pub(super) fn ask(&self) -> Result<()> {
        for frame in &self.frames {
            self.socket.send(frame)?;
        }
        Ok(())
    }

    /// Link addresses that were given in answers since this was last asked, and for which of the VIPs.
    pub(super) fn answers(&mut self) -> Result<Vec<([u8; 6], IpAddr)>> {
        let (v4, v6) = (self.v4, self.v6);
        let mut answers = Vec::new();
        let mut show = |frame: &[u8]| {
            let mac = frame.get(6..12).and_then(|mac| mac.try_into().ok());
            let (Some(mac), Some(to)) = (mac, frame.get(..6)) else {
                return;
            };
            if to != ASKER {
                return;
            }
            if frame.get(12..14) == Some(&[8, 6])
                && frame.get(20..22) == Some(&[0, 2])
                && frame.get(28..32) == Some(&v4.octets())
            {
                answers.push((mac, v4.into()));
            }
            if frame.get(12..14) == Some(&[0x86, 0xdd])
                && frame.get(20) == Some(&58)
                && frame.get(54) == Some(&136)
                && frame.get(62..78) == Some(&v6.octets())
            {
                answers.push((mac, v6.into()));
            }
        };
        while self.socket.receive(|frame| show(frame.bytes))? > 0 {}
        Ok(answers)
    }
}

/// RFC 5227 §2.1.1: an ARP probe, which nobody keeps.
fn arp(target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(ASKER);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(ASKER);
    frame.extend([0; 10]);
    frame.extend(target.octets());
    frame
}

/// RFC 4861 §4.3.
fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(ASKER);
    let mut pseudo = Vec::new();
    pseudo.extend(ASKER_V6.octets());
    pseudo.extend(group.octets());
    pseudo.extend([0, 0, 0, 32, 0, 0, 0, 58]);
    let words = pseudo.chunks(2).chain(message.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());

    let mut frame = vec![0x33, 0x33, 0xff, a, b, c];
    frame.extend(ASKER);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend(ASKER_V6.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}
