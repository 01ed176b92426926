//! What is noted of a message or a beacon.

use std::net::{IpAddr, SocketAddr};

use lb_common::Admission;
use lb_common::beacon::{BEACON_LEN, Beacon};
use lb_common::packet::{self, Datagram};
use lb_common::sip::{self, Budget, CallKey, Method};
use lb_common::siphash::{SipKey, siphash13};

use super::Received;

/// A call, by a hash of its Call-ID. Not the data plane's key: recorders know no secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallHash(u64);

const HASH_KEY: SipKey = SipKey { k0: 0, k1: 0 };

impl CallHash {
    /// The hash of a Call-ID.
    pub fn of(call_id: &str) -> Self {
        Self(siphash13(HASH_KEY, call_id.as_bytes()))
    }
}

/// What kind of message it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Request {
        /// Its method.
        method: Method,
        /// Whether its To header has a tag.
        in_dialog: bool,
    },
    /// A response.
    Response {
        /// Its status code.
        status: u16,
        /// The method of the request it answers.
        to: Method,
    },
}

/// One SIP message that arrived at one machine.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// When, in nanoseconds since 1970, by the kernel's stamp.
    pub time_ns: u64,
    /// Whose it is.
    pub call: CallHash,
    /// What it is.
    pub kind: Kind,
    /// The number in its CSeq header.
    pub cseq: u32,
    /// The VLAN that it came by.
    pub vlan: Option<u16>,
    /// The way it came.
    pub way: Way,
}

/// From whom to whom a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The link address of the machine that sent the frame: the load balancer's, if that steered it.
    pub sender: [u8; 6],
    /// Whom it says it is from.
    pub source: SocketAddr,
    /// Whom it is for: an address of the machine that took it, or the VIP.
    pub destination: SocketAddr,
}

impl Sighting {
    /// Whether this is an INVITE that begins a call.
    pub fn is_new_call(&self) -> bool {
        self.kind
            == Kind::Request {
                method: Method::Invite,
                in_dialog: false,
            }
    }

    /// Whether this is a request of this method.
    pub fn is_request(&self, wanted: Method) -> bool {
        matches!(self.kind, Kind::Request { method, .. } if method == wanted)
    }
}

/// One beacon that arrived at one machine.
#[derive(Clone, Copy, Debug)]
pub struct BeaconSighting {
    /// When, in nanoseconds since 1970, by the kernel's stamp.
    pub time_ns: u64,
    /// Whose it is.
    pub node: u16,
    /// Which life of the node it is of.
    pub epoch: u32,
    /// What it says of new calls.
    pub admission: Admission,
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Noted {
    Sip(Sighting),
    Beacon(BeaconSighting),
    Other,
}

/// Looks at a frame.
pub(super) fn note(frame: Received<'_>) -> Noted {
    let Ok(datagram) = packet::decode(frame.bytes, frame.bytes.len() as u32) else {
        return Noted::Other;
    };
    let Some(payload) = payload(frame.bytes, &datagram) else {
        return Noted::Other;
    };
    if payload.len() == BEACON_LEN as usize
        && let Ok(beacon) = Beacon::read(payload, 0, BEACON_LEN)
    {
        return Noted::Beacon(BeaconSighting {
            time_ns: frame.time_ns,
            node: beacon.node,
            epoch: beacon.epoch,
            admission: beacon.admission,
        });
    }
    let way = way(frame.bytes, &datagram);
    way.and_then(|way| sighting(frame, payload, way))
        .map_or(Noted::Other, Noted::Sip)
}

/// From whom to whom a datagram goes.
fn way(frame: &[u8], datagram: &Datagram) -> Option<Way> {
    let ip = frame.get(datagram.ip as usize..)?;
    let source = if datagram.destination.is_mapped() {
        IpAddr::from(*ip.get(12..)?.first_chunk::<4>()?)
    } else {
        IpAddr::from(*ip.get(8..)?.first_chunk::<16>()?)
    };
    let udp = frame.get((datagram.payload as usize).checked_sub(8)?..)?;
    let source_port = u16::from_be_bytes(*udp.first_chunk()?);
    let destination = IpAddr::from(datagram.destination);
    Some(Way {
        sender: *frame.get(6..)?.first_chunk()?,
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, u16::from_be(datagram.port_be)),
    })
}

fn payload<'a>(frame: &'a [u8], datagram: &Datagram) -> Option<&'a [u8]> {
    let start = datagram.payload as usize;
    frame.get(start..start + datagram.payload_len as usize)
}

fn sighting(frame: Received<'_>, message: &[u8], way: Way) -> Option<Sighting> {
    let call = match sip::find_call_id(message, 0, Budget::WHOLE) {
        Ok(at) => CallHash(CallKey::read(message, at, HASH_KEY).ok()?.hash),
        Err(_) => CallHash(siphash13(
            HASH_KEY,
            &message[sip::find_call_id_leniently(message)?],
        )),
    };
    let (cseq, cseq_method) = cseq(message)?;
    let method = Method::of(u64::from_le_bytes(*message.first_chunk()?));
    let kind = if method == Method::Response {
        let status = std::str::from_utf8(message.get(8..11)?)
            .ok()?
            .parse()
            .ok()?;
        Kind::Response {
            status,
            to: cseq_method,
        }
    } else {
        let in_dialog = sip::has_to_tag(message, 0, Budget::WHOLE).unwrap_or(false);
        Kind::Request { method, in_dialog }
    };
    Some(Sighting {
        time_ns: frame.time_ns,
        call,
        kind,
        cseq,
        vlan: frame.vlan,
        way,
    })
}

/// The number and the method of the CSeq header, as the messages of a lab write it.
fn cseq(message: &[u8]) -> Option<(u32, Method)> {
    let line = message
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"CSeq:"))?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut method = [b' '; 8];
    for (place, byte) in method.iter_mut().zip(words.next()?.bytes()) {
        *place = byte;
    }
    Some((number, Method::of(u64::from_le_bytes(method))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(message: &[u8]) -> Option<Sighting> {
        sighting(
            Received {
                bytes: &[],
                vlan: Some(7),
                time_ns: 1,
            },
            message,
            Way {
                sender: [2; 6],
                source: ([192, 0, 2, 1], 5060).into(),
                destination: ([192, 0, 2, 10], 5060).into(),
            },
        )
    }

    #[test]
    fn requests_and_responses_are_told_apart() {
        let invite =
            look(b"INVITE sip:a SIP/2.0\r\nTo: <sip:a>\r\nCall-ID: x@y\r\nCSeq: 1 INVITE\r\n\r\n");
        let invite = invite.expect("a plain INVITE is read");
        assert_eq!(invite.call, CallHash::of("x@y"));
        assert!(invite.is_new_call());
        assert_eq!(invite.vlan, Some(7));

        let again =
            look(b"INVITE sip:a SIP/2.0\r\nTo: <sip:a>;tag=1\r\ni: x@y\r\nCSeq: 2 INVITE\r\n\r\n");
        let again = again.expect("a plain re-INVITE is read");
        assert_eq!(
            (again.call, again.cseq, again.is_new_call()),
            (invite.call, 2, false)
        );

        let answer =
            look(b"SIP/2.0 200 OK\r\nTo: <sip:a>;tag=1\r\nCall-ID: x@y\r\nCSeq: 3 BYE\r\n\r\n");
        let answer = answer.expect("a plain response is read");
        assert_eq!(
            answer.kind,
            Kind::Response {
                status: 200,
                to: Method::Bye
            }
        );
    }

    #[test]
    fn noise_is_nothing() {
        assert!(look(b"").is_none());
        assert!(look(b"\r\n\r\n").is_none());
        assert!(look(b"INVITE sip:a SIP/2.0\r\nCall-ID: x\r\n\r\n").is_none());
    }
}
