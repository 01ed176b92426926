use super::*;
use crate::failover::NodeId;
use crate::fixtures::KEYS;
use lb_common::beacon::is_authentic;
use lb_common::reign::Reign;
use proptest::prelude::*;

fn controller() -> impl Strategy<Value = ControllerId> {
    (1..=ControllerId::MAX).prop_map(|id| ControllerId::new(id).expect("in range"))
}

fn node() -> impl Strategy<Value = NodeId> {
    (1..=NodeId::MAX).prop_map(|id| NodeId::new(id).expect("in range"))
}

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<(u32, u32)>().prop_map(|(epoch, sequence)| Stamp { epoch, sequence })
}

fn whole_ms(least: u16) -> impl Strategy<Value = Duration> {
    (least..).prop_map(|ms| Duration::from_millis(ms.into()))
}

fn reason() -> impl Strategy<Value = Reason> {
    use Reason::{Command, Loss, Raise, Start, Switchback, Unfit};
    prop::sample::select(vec![Loss, Command, Start, Switchback, Raise, Unfit])
}

fn keep_alive() -> impl Strategy<Value = KeepAlive> {
    let status = prop::sample::select(vec![
        Status::Starting,
        Status::Serving,
        Status::Degraded,
        Status::Yielding,
        Status::StandBy,
        Status::Unfit,
    ]);
    let role = prop::sample::select(vec![Role::StandBy, Role::Candidate, Role::Main]);
    let report = (any::<(u32, u32, u16)>(), status).prop_map(|(numbers, status)| {
        let (calls, capacity, nodes_alive) = numbers;
        Report {
            calls,
            capacity,
            status,
            nodes_alive,
        }
    });
    let words = any::<([u64; 5], bool)>();
    (words, report, role, whole_ms(0), whole_ms(1), 1u8..).prop_map(
        |(words, report, role, lease, interval, misses)| {
            let ([wall_ms, monotonic_ms, configuration, digest, nonce], is_joining) = words;
            KeepAlive {
                wall_ms,
                monotonic_ms,
                report,
                role,
                configuration,
                digest,
                is_joining,
                lease,
                interval,
                misses,
                nonce,
            }
        },
    )
}

fn lease_answer() -> impl Strategy<Value = LeaseAnswer> {
    use Verdict::{Granted, HearsMain, LeaseRuns, LowerTerm, Starting, TooLong};
    let verdict = vec![Granted, LowerTerm, HearsMain, LeaseRuns, Starting, TooLong];
    let verdict = prop::sample::select(verdict);
    let holder = prop::option::of(controller());
    (any::<(u64, u64)>(), stamp(), verdict, holder, whole_ms(0)).prop_map(
        |((nonce, highest), echo, verdict, holder, remaining)| LeaseAnswer {
            nonce,
            echo,
            verdict,
            holder,
            remaining,
            highest: Term(highest),
        },
    )
}

fn body() -> impl Strategy<Value = (Party, Body)> {
    let of_controller = prop_oneof![
        keep_alive().prop_map(Body::KeepAlive),
        keep_alive().prop_map(Body::Answer),
        any::<u64>().prop_map(|nonce| Body::Query { nonce }),
        (any::<u64>(), whole_ms(0), reason()).prop_map(|(nonce, lease, reason)| {
            Body::LeaseRequest(LeaseRequest {
                nonce,
                lease,
                reason,
            })
        }),
        Just(Body::Release),
        Just(Body::RelayRequest),
        reason().prop_map(|reason| Body::Yield { reason }),
        (controller(), reason()).prop_map(|(successor, reason)| Body::Ask { successor, reason }),
    ];
    let of_node = prop_oneof![
        (stamp(), any::<bool>()).prop_map(|(echo, link)| {
            let missing = Missing { link };
            Body::Ack(Ack { echo, missing })
        }),
        lease_answer().prop_map(Body::LeaseAnswer),
    ];
    prop_oneof![
        (controller().prop_map(Party::Controller), of_controller),
        (node().prop_map(Party::Node), of_node),
    ]
}

prop_compose! {
    fn datagram()(
        (from, body) in body(),
        (cluster, to, term) in any::<(u32, u16, u64)>(),
        (reigns, is_urgent) in any::<(bool, bool)>(),
        stamp in stamp(),
        which in 0usize..2,
    ) -> (Datagram, NumberedKey) {
        let key = KEYS[which];
        let header = Header {
            key_id: key.id,
            cluster,
            from,
            to,
            reigns,
            is_urgent,
            term: Term(term),
            stamp,
        };
        (Datagram { header, body }, key)
    }
}

proptest! {
    #[test]
    fn round_trip((datagram, key) in datagram()) {
        prop_assert_eq!(Datagram::read(&datagram.write(key.key), &KEYS), Ok(datagram));
    }

    /// The program, which reads no more than the head, believes mains' keep-alives and nothing else.
    #[test]
    fn the_program_reads_claims_alone((datagram, key) in datagram()) {
        let header = datagram.header;
        let is_claim = matches!(datagram.body, Body::KeepAlive(_)) && header.reigns;
        let claim = Reign {
            key_id: key.id,
            cluster: header.cluster,
            term: header.term.0,
        };
        let bytes = datagram.write(key.key);
        let read = Reign::read(&bytes[..], 0, CONTROL_LEN as u32);
        prop_assert_eq!(read, is_claim.then_some(claim));
    }

    /// Genuine, but of whatever contents: read or refused, and what is read is written alike.
    #[test]
    fn whatever_is_signed_is_read_or_refused(
        contents in prop::collection::vec(any::<u8>(), 89),
        kind in 0u8..12,
    ) {
        let mut bytes = FORM.begin(kind, KEYS[0].id);
        bytes[7..96].copy_from_slice(&contents);
        seal(&mut bytes, KEYS[0].key);
        match Datagram::read(&bytes, &KEYS) {
            Ok(datagram) => {
                let again = Datagram::read(&datagram.write(KEYS[0].key), &KEYS);
                prop_assert_eq!(again, Ok(datagram));
            }
            Err(error) => prop_assert_eq!(error, SealError::Malformed),
        }
    }
}

/// What the kernel program relies on, byte by byte.
#[test]
fn a_keep_alive_of_a_main() {
    let life = KeepAlive {
        wall_ms: 0x0102,
        monotonic_ms: 0x0304,
        report: Report {
            calls: 5,
            capacity: 6,
            status: Status::Serving,
            nodes_alive: 7,
        },
        role: Role::Main,
        configuration: 8,
        digest: 10,
        is_joining: true,
        lease: Duration::from_millis(500),
        interval: Duration::from_millis(100),
        misses: 3,
        nonce: 9,
    };
    let header = Header {
        key_id: 1,
        cluster: 0xaabb_ccdd,
        from: Party::Controller(ControllerId::new(2).expect("in range")),
        to: 0,
        reigns: true,
        is_urgent: false,
        term: Term(0x1122),
        stamp: Stamp {
            epoch: 0x3344,
            sequence: 0x5566,
        },
    };
    let datagram = Datagram {
        header,
        body: Body::KeepAlive(life),
    };
    let bytes = datagram.write(KEYS[0].key);
    #[rustfmt::skip]
    let head = [
        b'P', b'M', b'C', b'1', 1, 0, 1, 3,
        0xaa, 0xbb, 0xcc, 0xdd, 0, 2, 0, 0,
        0, 0, 0, 0, 0, 0, 0x11, 0x22,
        0, 0, 0x33, 0x44, 0, 0, 0x55, 0x66,
    ];
    assert_eq!(bytes[..32], head);
    #[rustfmt::skip]
    let body = [
        0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4,
        0, 0, 0, 5, 0, 0, 0, 6, 1, 2, 0, 7,
        0, 0, 0, 0, 0, 0, 0, 8, 0x01, 0xf4, 0, 100,
        0, 0, 0, 0, 0, 0, 0, 9, 3, 1,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10,
    ];
    assert_eq!(bytes[32..96], body);
    assert!(is_authentic(&bytes[..], 0, KEYS[0].key));
}

#[test]
fn kinds_belong_to_their_senders() {
    let from = Party::Node(NodeId::new(3).expect("in range"));
    let header = Header {
        key_id: 1,
        cluster: 1,
        from,
        to: 0,
        reigns: false,
        is_urgent: false,
        term: Term(1),
        stamp: Stamp::default(),
    };
    // No node commands, and no controller acknowledges.
    let body = Body::Release;
    let bytes = Datagram { header, body }.write(KEYS[0].key);
    assert_eq!(Datagram::read(&bytes, &KEYS), Err(SealError::Malformed));
    let header = Header {
        from: Party::Controller(ControllerId::new(3).expect("in range")),
        ..header
    };
    let body = Body::Ack(Ack {
        echo: Stamp::default(),
        missing: Missing::default(),
    });
    let bytes = Datagram { header, body }.write(KEYS[0].key);
    assert_eq!(Datagram::read(&bytes, &KEYS), Err(SealError::Malformed));
    let unknown = NumberedKey { id: 7, ..KEYS[0] };
    let error = Datagram::read(&bytes, &[unknown]);
    assert_eq!(error, Err(SealError::UnknownKey));
    assert_eq!(Datagram::read(b"PMB1", &KEYS), Err(SealError::Foreign));
}
