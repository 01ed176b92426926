//! From the fields to their bytes, and back.

use super::{
    Ack, Body, Bytes, Datagram, FORM, Header, KeepAlive, LeaseAnswer, LeaseRequest, Missing,
    Reason, Report, Role, Stamp, Status, Verdict,
};
use crate::failover::{ControllerId, NodeId, Party, Term};
use crate::sealed::be64;
use lb_common::Window;
use lb_common::reign::{BY_CONTROLLER as FROM_CONTROLLER, REIGNS};
use std::time::Duration;

const URGENT: u8 = 4;
const MISSING_LINK: u8 = 1;
const JOINING: u8 = 1;

/// Reads the fields; `None` when one is out of its range. The start and the MAC have been checked.
pub(super) fn decode(bytes: &[u8]) -> Option<Datagram> {
    let flags = bytes.byte(7)?;
    let from = bytes.be16(12)?;
    let from = if flags & FROM_CONTROLLER == 0 {
        Party::Node(NodeId::new(from)?)
    } else {
        Party::Controller(controller(u8::try_from(from).ok()?)?)
    };
    let header = Header {
        key_id: bytes.byte(6)?,
        cluster: bytes.be32(8)?,
        from,
        to: bytes.be16(14)?,
        reigns: flags & REIGNS != 0,
        is_urgent: flags & URGENT != 0,
        term: Term(be64(bytes, 16)?),
        stamp: stamp(bytes, 24)?,
    };
    let kind = bytes.byte(5)?;
    let is_of_node = matches!(kind, 1 | 5);
    if is_of_node != matches!(from, Party::Node(_)) {
        return None;
    }
    let body = match kind {
        0 => Body::KeepAlive(keep_alive(bytes)?),
        1 => Body::Ack(Ack {
            echo: stamp(bytes, 32)?,
            missing: Missing {
                link: bytes.byte(40)? & MISSING_LINK != 0,
            },
        }),
        2 => Body::Query {
            nonce: be64(bytes, 32)?,
        },
        3 => Body::Answer(keep_alive(bytes)?),
        4 => Body::LeaseRequest(LeaseRequest {
            nonce: be64(bytes, 32)?,
            lease: ms(bytes, 40)?,
            reason: reason(bytes.byte(42)?)?,
        }),
        5 => Body::LeaseAnswer(lease_answer(bytes)?),
        6 => Body::Release,
        7 => Body::RelayRequest,
        8 => Body::Yield {
            reason: reason(bytes.byte(32)?)?,
        },
        9 => Body::Ask {
            successor: controller(bytes.byte(32)?)?,
            reason: reason(bytes.byte(33)?)?,
        },
        _ => return None,
    };
    Some(Datagram { header, body })
}

fn keep_alive(bytes: &[u8]) -> Option<KeepAlive> {
    let interval = ms(bytes, 70)?;
    let misses = bytes.byte(80)?;
    if interval.is_zero() || misses == 0 {
        return None;
    }
    Some(KeepAlive {
        wall_ms: be64(bytes, 32)?,
        monotonic_ms: be64(bytes, 40)?,
        report: Report {
            calls: bytes.be32(48)?,
            capacity: bytes.be32(52)?,
            status: status(bytes.byte(56)?)?,
            nodes_alive: bytes.be16(58)?,
        },
        role: role(bytes.byte(57)?)?,
        configuration: be64(bytes, 60)?,
        digest: be64(bytes, 88)?,
        is_joining: bytes.byte(81)? & JOINING != 0,
        lease: ms(bytes, 68)?,
        interval,
        nonce: be64(bytes, 72)?,
        misses,
    })
}

fn lease_answer(bytes: &[u8]) -> Option<LeaseAnswer> {
    let holder = match bytes.byte(49)? {
        0 => None,
        id => Some(controller(id)?),
    };
    Some(LeaseAnswer {
        nonce: be64(bytes, 32)?,
        echo: stamp(bytes, 40)?,
        verdict: verdict(bytes.byte(48)?)?,
        holder,
        remaining: ms(bytes, 50)?,
        highest: Term(be64(bytes, 56)?),
    })
}

fn ms(bytes: &[u8], at: u32) -> Option<Duration> {
    bytes.be16(at).map(|ms| Duration::from_millis(ms.into()))
}

fn stamp(bytes: &[u8], at: u32) -> Option<Stamp> {
    Some(Stamp {
        epoch: bytes.be32(at)?,
        sequence: bytes.be32(at + 4)?,
    })
}

const fn controller(id: u8) -> Option<ControllerId> {
    ControllerId::new(id)
}

const fn reason(index: u8) -> Option<Reason> {
    match index {
        0 => Some(Reason::Loss),
        1 => Some(Reason::Command),
        2 => Some(Reason::Start),
        3 => Some(Reason::Switchback),
        4 => Some(Reason::Raise),
        5 => Some(Reason::Unfit),
        _ => None,
    }
}

const fn role(index: u8) -> Option<Role> {
    match index {
        0 => Some(Role::StandBy),
        1 => Some(Role::Candidate),
        2 => Some(Role::Main),
        _ => None,
    }
}

const fn status(index: u8) -> Option<Status> {
    match index {
        0 => Some(Status::Starting),
        1 => Some(Status::Serving),
        2 => Some(Status::Degraded),
        3 => Some(Status::Yielding),
        4 => Some(Status::StandBy),
        5 => Some(Status::Unfit),
        _ => None,
    }
}

const fn verdict(index: u8) -> Option<Verdict> {
    match index {
        0 => Some(Verdict::Granted),
        1 => Some(Verdict::LowerTerm),
        2 => Some(Verdict::HearsMain),
        3 => Some(Verdict::LeaseRuns),
        4 => Some(Verdict::Starting),
        5 => Some(Verdict::TooLong),
        _ => None,
    }
}

/// Writes all but the MAC.
pub(super) fn encode(datagram: &Datagram) -> Bytes {
    let Datagram { header, body } = datagram;
    let mut bytes = FORM.begin(kind(body), header.key_id);
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let flags = match header.from {
        Party::Controller(_) => FROM_CONTROLLER,
        Party::Node(_) => 0,
    } | if header.reigns { REIGNS } else { 0 }
        | if header.is_urgent { URGENT } else { 0 };
    put(7, &[flags]);
    put(8, &header.cluster.to_be_bytes());
    put(12, &header.from.id().to_be_bytes());
    put(14, &header.to.to_be_bytes());
    put(16, &header.term.0.to_be_bytes());
    put(24, &stamp_bytes(header.stamp));
    match body {
        Body::KeepAlive(life) | Body::Answer(life) => {
            put(32, &life.wall_ms.to_be_bytes());
            put(40, &life.monotonic_ms.to_be_bytes());
            put(48, &life.report.calls.to_be_bytes());
            put(52, &life.report.capacity.to_be_bytes());
            put(56, &[life.report.status as u8, life.role as u8]);
            put(58, &life.report.nodes_alive.to_be_bytes());
            put(60, &life.configuration.to_be_bytes());
            put(68, &ms_bytes(life.lease));
            put(70, &ms_bytes(life.interval));
            put(72, &life.nonce.to_be_bytes());
            put(
                80,
                &[life.misses, if life.is_joining { JOINING } else { 0 }],
            );
            put(88, &life.digest.to_be_bytes());
        }
        Body::Ack(ack) => {
            put(32, &stamp_bytes(ack.echo));
            put(40, &[if ack.missing.link { MISSING_LINK } else { 0 }]);
        }
        Body::Query { nonce } => put(32, &nonce.to_be_bytes()),
        Body::LeaseRequest(request) => {
            put(32, &request.nonce.to_be_bytes());
            put(40, &ms_bytes(request.lease));
            put(42, &[request.reason as u8]);
        }
        Body::LeaseAnswer(answer) => {
            put(32, &answer.nonce.to_be_bytes());
            put(40, &stamp_bytes(answer.echo));
            put(48, &[answer.verdict as u8]);
            put(49, &[answer.holder.map_or(0, ControllerId::get)]);
            put(50, &ms_bytes(answer.remaining));
            put(56, &answer.highest.0.to_be_bytes());
        }
        Body::Ask { successor, reason } => put(32, &[successor.get(), *reason as u8]),
        Body::Yield { reason } => put(32, &[*reason as u8]),
        Body::Release | Body::RelayRequest => {}
    }
    bytes
}

const fn kind(body: &Body) -> u8 {
    match body {
        Body::KeepAlive(_) => 0,
        Body::Ack(_) => 1,
        Body::Query { .. } => 2,
        Body::Answer(_) => 3,
        Body::LeaseRequest(_) => 4,
        Body::LeaseAnswer(_) => 5,
        Body::Release => 6,
        Body::RelayRequest => 7,
        Body::Yield { .. } => 8,
        Body::Ask { .. } => 9,
    }
}

fn stamp_bytes(stamp: Stamp) -> [u8; 8] {
    (u64::from(stamp.epoch) << 32 | u64::from(stamp.sequence)).to_be_bytes()
}

/// Milliseconds, as many as a field holds.
fn ms_bytes(time: Duration) -> [u8; 2] {
    u16::try_from(time.as_millis())
        .unwrap_or(u16::MAX)
        .to_be_bytes()
}
