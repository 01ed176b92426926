//! Frames through the real program. These need root.

use std::net::Ipv4Addr;

use super::*;
use crate::deferred::frame::{Headers, Link, build};
use crate::plane::object;

const VIP: &str = "192.0.2.10:5060";
const VIP6: &str = "[2001:db8::10]:5060";

fn laboratory() -> Laboratory {
    let vips = [VIP.parse().unwrap(), VIP6.parse().unwrap()];
    Laboratory::open(&Scene::plain(&vips, 4)).expect("loading the program takes root")
}

fn frames_of(vip: &str, mtu: u32, payload: &[u8]) -> Vec<Vec<u8>> {
    let vip: SocketAddr = vip.parse().unwrap();
    let client = if vip.is_ipv4() {
        "192.0.2.1:5060"
    } else {
        "[2001:db8::1]:5060"
    };
    let link = Link {
        destination: [2, 0, 0, 0, 9, 9],
        source: [2, 0, 0, 0, 8, 8],
        mtu,
    };
    let headers = Headers {
        client: client.parse().unwrap(),
        vip,
        hop_limit: 64,
        traffic_class: 0,
        identification: 5,
    };
    build(&link, &headers, payload).unwrap()
}

fn frame_of(vip: &str, payload: &[u8]) -> Vec<u8> {
    frames_of(vip, 9_000, payload).remove(0)
}

fn options(call_id_line: &str) -> Vec<u8> {
    format!(
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c;branch=z9hG4bK1\r\n{call_id_line}\r\n\
         To: <sip:a@b>\r\nFrom: <sip:c@d>;tag=1\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )
    .into_bytes()
}

fn run(laboratory: &mut Laboratory, frame: &[u8]) -> Record {
    laboratory.run(0, frame, false).unwrap()
}

#[test]
fn a_plain_request_is_steered_by_its_call_id() {
    let mut laboratory = laboratory();
    for vip in [VIP, VIP6] {
        let frame = frame_of(vip, &options("Call-ID: a84b4c76e66710@pc33"));
        let record = run(&mut laboratory, &frame);
        assert_eq!(record.verdict, Verdict::Tx, "{record:?}");
        assert_eq!(record.reason, Some(Reason::Home));
        assert_eq!(record.key.as_deref(), Some(&b"a84b4c76e66710@pc33"[..]));
        assert_eq!(record.out_len, Some(frame.len()));
        assert!((1..=4).contains(&record.node.unwrap()));
        assert_eq!(record.userspace, None);
    }
}

#[test]
fn what_is_deferred_reaches_the_node_of_the_same_call() {
    let mut laboratory = laboratory();
    let plain = run(&mut laboratory, &frame_of(VIP, &options("Call-ID: a@b")));
    let long = format!("Subject: {}\r\nCall-ID: a@b", "x".repeat(3_000));
    let lf: Vec<u8> = options("Call-ID: a@b")
        .into_iter()
        .filter(|byte| *byte != b'\r')
        .collect();
    let leading = [b"\r\n".to_vec(), options("Call-ID: a@b")].concat();
    let mut trailing = frame_of(VIP, &options("Call-ID: a@b"));
    trailing.extend(b"behind");
    for (frame, reason) in [
        (frame_of(VIP, &options("Call-ID:\r\n a@b")), Reason::Folded),
        (frame_of(VIP, &options(&long)), Reason::LongHeader),
        (frame_of(VIP, &lf), Reason::BareLineFeed),
        (frame_of(VIP, &leading), Reason::LeadingLineBreak),
        (trailing, Reason::TrailingBytes),
    ] {
        let record = run(&mut laboratory, &frame);
        assert_eq!(
            (record.verdict, record.reason),
            (Verdict::Pass, Some(reason))
        );
        assert_eq!((record.key, record.node), (None, None));
        let userspace = record.userspace.unwrap();
        assert_eq!(userspace.node, plain.node, "{reason:?}");
        assert_eq!(userspace.outcome, Some("steer-callid"));
        assert_eq!(userspace.key.as_deref(), Some("a@b"));
    }
}

#[test]
fn fragments_are_answered_for_when_the_last_has_come() {
    let mut laboratory = laboratory();
    let plain = run(&mut laboratory, &frame_of(VIP, &options("Call-ID: a@b")));
    let big = options(&format!("Call-ID: a@b\r\nSubject: {}", "x".repeat(4_000)));
    for vip in [VIP, VIP6] {
        let frames = frames_of(vip, 1_500, &big);
        assert_eq!(frames.len(), 3);
        for (place, frame) in frames.iter().enumerate() {
            let record = run(&mut laboratory, frame);
            assert_eq!(record.reason, Some(Reason::Fragment));
            let node = record.userspace.and_then(|userspace| userspace.node);
            assert_eq!(
                node,
                if place == 2 { plain.node } else { None },
                "fragment {place}"
            );
        }
    }
}

#[test]
fn keep_alives_go_by_the_client() {
    let mut laboratory = laboratory();
    let stun = [
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];
    let nodes: Vec<_> = [
        &b"\r\n\r\n"[..],
        &stun,
        b"",
        &options("Subject: no Call-ID"),
    ]
    .iter()
    .map(|payload| {
        let userspace = run(&mut laboratory, &frame_of(VIP, payload))
            .userspace
            .unwrap();
        assert_eq!(userspace.outcome, Some("steer-fallback"));
        userspace.node
    })
    .collect();
    assert!(
        nodes[0].is_some() && nodes.iter().all(|node| *node == nodes[0]),
        "{nodes:?}"
    );
}

#[test]
fn what_is_not_ours_passes() {
    let mut laboratory = laboratory();
    let payload = options("Call-ID: a@b");
    for (frame, reason) in [
        (frame_of("192.0.2.10:5061", &payload), Reason::NotVip),
        (frame_of("192.0.2.11:5060", &payload), Reason::NotVip),
        (
            frames_of("192.0.2.11:5060", 500, &[0; 900]).remove(1),
            Reason::NotVip,
        ),
        (vec![0; 60], Reason::NotIp),
        (vec![0; 14], Reason::NotIp),
    ] {
        let record = run(&mut laboratory, &frame);
        assert_eq!(
            (record.verdict, record.reason),
            (Verdict::Pass, Some(reason))
        );
        assert_eq!(record.userspace, None);
    }
    // A fragment for the VIP's address, but another port: deferred, and nobody's in the end.
    for frame in frames_of("192.0.2.10:5061", 500, &payload.repeat(4)) {
        let record = run(&mut laboratory, &frame);
        assert_eq!((record.outcome, record.userspace), (Outcome::Defer, None));
    }
}

#[test]
fn what_the_kernel_refuses_is_an_answer() {
    let mut laboratory = laboratory();
    for len in 0..14 {
        let record = run(&mut laboratory, &vec![0; len]);
        assert_eq!(
            (record.verdict, record.outcome),
            (Verdict::Refused, Outcome::Pass)
        );
    }
    let record = run(&mut laboratory, &vec![0; 1 << 20]);
    assert_eq!(record.outcome, Outcome::Pass);
}

#[test]
fn what_the_program_sees_in_part_userspace_steers() {
    let mut laboratory = laboratory();
    let plain = run(&mut laboratory, &frame_of(VIP, &options("Call-ID: a@b")));
    let big = options(&format!("Call-ID: a@b\r\nSubject: {}", "x".repeat(8_000)));
    let record = run(&mut laboratory, &frame_of(VIP, &big));
    assert_eq!(
        (record.verdict, record.outcome),
        (Verdict::Pass, Outcome::Defer)
    );
    assert!(record.seen_len.unwrap() < 4_096);
    assert_eq!(record.userspace.unwrap().node, plain.node);
}

#[test]
fn a_node_elsewhere_is_redirected_to() {
    let mut scene = Scene::plain(&[VIP.parse().unwrap()], 1);
    scene.config.nodes[0].interface = Some("another".to_owned());
    scene.config.nodes[0].mac = Some([2, 4, 6, 8, 10, 12]);
    let mut laboratory = Laboratory::open(&scene).unwrap();
    let record = run(&mut laboratory, &frame_of(VIP, &options("Call-ID: a@b")));
    assert_eq!((record.verdict, record.node), (Verdict::Redirect, Some(1)));
}

#[test]
fn senders_that_cannot_be_answered_are_said() {
    let mut laboratory = laboratory();
    let mut frame = frame_of(VIP, b"\r\n\r\n");
    frame[26..30].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    let userspace = run(&mut laboratory, &frame).userspace.unwrap();
    assert_eq!((userspace.node, userspace.loss), (None, Some("bad-source")));
}

#[test]
fn an_object_that_logs_nothing_is_not_taken_for_one_that_does() {
    let vips = [VIP.parse().unwrap()];
    let opened = Laboratory::open_logging(object::BYTES, &Scene::plain(&vips, 4));
    assert!(matches!(opened, Err(LaboratoryError::Log(_))));
}
