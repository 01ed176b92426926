//! What is measured: programs, the packets they meet, and the maps they meet them over.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use lb_common::beacon::Beacon;
use lb_common::maps::{BeaconKey, VipUse};
use lb_common::siphash::SipKey;
use lb_common::{Address, Admission};
use lb_proto::table::{self, Share};

use super::bpf::{self, Feeder};
use crate::packets::build::{VIP_V4, VIP_V6, datagram};
use crate::packets::fixture;
use crate::packets::world::World;
use crate::packets::{INGRESS, XDP_DROP, XDP_PASS, XDP_TX};

const GROUP: &str = "239.255.77.1:7700";
const KEY: SipKey = SipKey { k0: 1, k1: 2 };
/// Stands in a message where its Call-ID has eight bytes of its own.
const TOKEN: &str = "@@@@@@@@";

/// A program that meets a packet.
pub struct Subject {
    /// `steer/v4/request/65536` and the like.
    pub name: String,
    program: Program,
    /// The packet.
    pub frame: Vec<u8>,
    /// What is taken off: the same without our program. `None` for a floor itself.
    pub floor: Option<usize>,
    /// Different packets.
    pub variants: u32,
}

enum Program {
    Steering,
    Empty(OwnedFd),
    Fed(Feeder),
}

/// The data plane and everything that is measured on it.
pub struct Bench {
    /// The data plane.
    pub world: World,
    /// Floors come before those that stand on them.
    pub subjects: Vec<Subject>,
}

/// Call-IDs that take turns.
#[derive(Clone, Copy, Debug)]
pub enum Calls {
    /// One: the packet goes round on itself.
    One,
    /// So many.
    Many(u32),
}

impl Bench {
    /// Loads the program, with four nodes up and free, and nothing to measure yet.
    ///
    /// # Errors
    /// Mostly: not root.
    pub fn new() -> Result<Self> {
        let world = World::load()?;
        world.set(&fixture::World::default(), "none")?;
        let maps = world.plane.maps();
        let shares: Vec<_> = (1..=4).map(|node| Share { node, weight: 1 }).collect();
        maps.set_table(0, &table::fill(&shares));
        let mut settings = maps.settings()?;
        settings.sample = 0;
        maps.set_settings(settings)?;
        world.add_vip(GROUP, VipUse::Status, 2)?;
        maps.set_key(0, BeaconKey { key: KEY, valid: 1 })?;
        Ok(Self {
            world,
            subjects: Vec::new(),
        })
    }

    /// All rows of the table, of calls up to `most`.
    ///
    /// # Errors
    /// A packet is not treated as it should be: then its cost means nothing.
    pub fn add_all(&mut self, most: u32) -> Result<()> {
        let not_vip = datagram("192.0.2.99:5060".parse()?, message("INVITE").as_bytes());
        let floor = self.add(
            "floor/empty",
            Program::Empty(bpf::empty(XDP_TX)?),
            not_vip.clone(),
            None,
            1,
            XDP_TX,
        )?;
        self.add(
            "pass/not-vip",
            Program::Steering,
            not_vip,
            Some(floor),
            1,
            XDP_PASS,
        )?;
        self.beacon(floor)?;
        let mut many = vec![Calls::One];
        many.extend(
            [65_536, 1_000_000]
                .into_iter()
                .filter(|calls| *calls <= most)
                .map(Calls::Many),
        );
        for (family, vip) in [("v4", VIP_V4), ("v6", VIP_V6)] {
            for kind in ["request", "response"] {
                for calls in &many {
                    self.steer(family, vip, kind, *calls, floor)?;
                }
            }
        }
        Ok(())
    }

    /// A beacon that goes round is genuine each time, and from the second time on known: it is
    /// verified, and then refused as a replay.
    fn beacon(&mut self, floor: usize) -> Result<()> {
        let beacon = Beacon {
            admission: Admission::Free,
            key_id: 0,
            cluster: 1,
            node: 1,
            epoch: 7,
            sequence: 7,
            capacity: 1_000,
            active: 0,
            headroom: 1_000,
            calls_per_second: 0,
            oc_permille: 1_000,
            period_ms: 100,
            sip_port: 5060,
            redirect_port: 5070,
            address_v4: Address::default(),
            address_v6: Address::default(),
        };
        let frame = datagram(GROUP.parse()?, &beacon.write(KEY));
        self.world.plane.test_run(&frame, INGRESS)?;
        self.add(
            "beacon/verify",
            Program::Steering,
            frame,
            Some(floor),
            1,
            XDP_DROP,
        )
        .map(drop)
    }

    fn steer(
        &mut self,
        family: &str,
        vip: &str,
        kind: &str,
        calls: Calls,
        floor: usize,
    ) -> Result<()> {
        let text = message(if kind == "request" { "INVITE" } else { "200" });
        let frame = datagram(vip.parse()?, text.as_bytes());
        let Calls::Many(count) = calls else {
            let name = format!("steer/{family}/{kind}/1");
            return self
                .add(&name, Program::Steering, frame, Some(floor), 1, XDP_TX)
                .map(drop);
        };
        let place = frame
            .windows(9 + TOKEN.len())
            .position(|bytes| bytes.starts_with(b"Call-ID: @"))
            .context("no Call-ID in the message")?
            + 9;
        let feed = |program: BorrowedFd<'_>| Feeder::new(program, place, count, token);
        let floor = self.add(
            &format!("floor/feeder/{family}/{kind}/{count}"),
            Program::Fed(feed(bpf::empty(XDP_TX)?.as_fd())?),
            frame.clone(),
            None,
            count,
            XDP_TX,
        )?;
        let steering = self.world.plane.steering_fd().context("no program")?;
        let fed = Program::Fed(feed(steering)?);
        let name = format!("steer/{family}/{kind}/{count}");
        self.add(&name, fed, frame, Some(floor), count, XDP_TX)
            .map(drop)
    }

    fn add(
        &mut self,
        name: &str,
        program: Program,
        frame: Vec<u8>,
        floor: Option<usize>,
        variants: u32,
        action: u32,
    ) -> Result<usize> {
        self.subjects.push(Subject {
            name: name.to_owned(),
            program,
            frame,
            floor,
            variants,
        });
        let index = self.subjects.len() - 1;
        let subject = &self.subjects[index];
        // Twice, so that the second meets what the first left behind.
        for _ in 0..2 {
            let result = bpf::test_run(self.program(subject)?, &subject.frame, INGRESS, 1, 0)?;
            ensure!(
                result == action,
                "{name}: action {result} instead of {action}"
            );
        }
        Ok(index)
    }

    /// The program of a subject.
    ///
    /// # Errors
    /// The steering program is not loaded.
    pub fn program<'a>(&'a self, subject: &'a Subject) -> Result<BorrowedFd<'a>> {
        match &subject.program {
            Program::Steering => self.world.plane.steering_fd().context("no program"),
            Program::Empty(program) => Ok(program.as_fd()),
            Program::Fed(feeder) => Ok(feeder.as_fd()),
        }
    }
}

/// Eight hexadecimal digits, spread as Call-IDs' first bytes are.
fn token(index: u32) -> [u8; 8] {
    let digits = format!("{:08x}", index.wrapping_mul(0x9e37_79b9));
    let mut bytes = [b'0'; 8];
    bytes.copy_from_slice(digits.as_bytes());
    bytes
}

/// The INVITE of RFC 3261's examples with a session description, 632 bytes as an IPv4 frame, or its
/// answer.
fn message(what: &str) -> String {
    let start = if what == "INVITE" {
        "INVITE sip:bob@biloxi.example.com SIP/2.0"
    } else {
        "SIP/2.0 200 OK"
    };
    let body = "v=0\r\no=alice 2890844526 2890844526 IN IP4 host.atlanta.example.com\r\ns=-\r\n\
                c=IN IP4 10.50.0.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0 8 97\r\n\
                a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:97 iLBC/8000\r\n";
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 10.50.0.1:5060;branch=z9hG4bK{TOKEN}\r\n\
         Max-Forwards: 70\r\nFrom: Alice <sip:alice@atlanta.example.com>;tag={TOKEN}\r\n\
         To: Bob <sip:bob@biloxi.example.com>\r\n\
         Call-ID: {TOKEN}-3848276298220188511@atlanta.example.com\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:alice@10.50.0.1:5060;transport=udp>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
