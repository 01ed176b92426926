//! Frames are decoded back with the decoder that the kernel program uses.

use lb_common::packet::{Datagram, decode};
use lb_common::{Address, Reason};
use proptest::prelude::*;

use super::*;
use crate::explain::stack::Stack;

fn headers(v6: bool) -> Headers {
    let (client, vip) = if v6 {
        ("[2001:db8::1]:5060", "[2001:db8::2]:5061")
    } else {
        ("192.0.2.1:5060", "192.0.2.2:5061")
    };
    Headers {
        client: client.parse().unwrap(),
        vip: vip.parse().unwrap(),
        hop_limit: 64,
        traffic_class: 0x60,
        identification: 0xdead_beef,
    }
}

fn link(mtu: u32) -> Link {
    Link {
        destination: [2, 0, 0, 0, 0, 9],
        source: [2, 0, 0, 0, 0, 1],
        mtu,
    }
}

fn is_whole(frame: &[u8]) -> Result<Datagram, Reason> {
    decode(frame, frame.len() as u32).map_err(|odd| odd.reason)
}

/// Sums to zero over the pseudo-header and the datagram as it stands, its checksum included.
fn udp_verifies(frame: &[u8], datagram: &Datagram, headers: &Headers) -> bool {
    let udp = &frame[datagram.payload as usize - 8..];
    // `udp` never returns zero; a right datagram sums to zero, which it writes as all ones.
    udp[6..8] != [0, 0] && checksum::udp(headers.client, headers.vip, udp) == 0xffff
}

#[test]
fn a_datagram_that_fits_is_one_frame() {
    for v6 in [false, true] {
        for payload in [&b""[..], b"x", b"OPTIONS sip:a SIP/2.0\r\n\r\n"] {
            let headers = headers(v6);
            let frames = build(&link(1_500), &headers, payload).unwrap();
            let [frame] = &frames[..] else {
                panic!("{} frames", frames.len())
            };
            let datagram = is_whole(frame).unwrap();
            assert_eq!(frame[..12], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1]);
            assert_eq!(&frame[datagram.payload as usize..], payload);
            assert_eq!(datagram.destination, Address::from(headers.vip.ip()));
            assert_eq!(u16::from_be(datagram.port_be), 5061);
            assert!(udp_verifies(frame, &datagram, &headers));
        }
    }
}

#[test]
fn ip_headers_carry_on_what_arrived() {
    let v4 = &build(&link(1_500), &headers(false), b"x").unwrap()[0];
    assert_eq!((v4[14 + 1], v4[14 + 8]), (0x60, 63));
    assert_eq!(Sum::default().add(&v4[14..34]).finish(), 0);
    let v6 = &build(&link(1_500), &headers(true), b"x").unwrap()[0];
    assert_eq!((&v6[14..18], v6[14 + 7]), (&[0x66, 0, 0, 0][..], 63));
}

#[test]
fn a_snapshot_made_by_another_implementation() {
    let frame = &build(&link(1_500), &headers(false), b"hi").unwrap()[0];
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "0200000000090200000000010800",
        "4560001ebeef00003f11387cc0000201c0000202",
        "13c413c5000aebe36869",
    ];
    assert_eq!(hex, expected.concat());
}

#[test]
fn a_datagram_that_used_up_its_hops_is_not_sent_on() {
    for hop_limit in [0, 1] {
        let headers = Headers {
            hop_limit,
            ..headers(false)
        };
        assert_eq!(
            build(&link(1_500), &headers, b"x"),
            Err(FrameError::HopLimit)
        );
    }
}

#[test]
fn what_cannot_be_framed_is_said() {
    let mixed = Headers {
        client: headers(true).client,
        ..headers(false)
    };
    assert_eq!(
        build(&link(1_500), &mixed, b""),
        Err(FrameError::MixedFamilies)
    );
    let long = vec![0; 65_536];
    assert_eq!(
        build(&link(1_500), &headers(true), &long),
        Err(FrameError::TooLong(65_536))
    );
    assert_eq!(
        build(&link(1_500), &headers(false), &long[..65_508]),
        Err(FrameError::TooLong(65_508))
    );
    assert_eq!(
        build(&link(67), &headers(false), b""),
        Err(FrameError::SmallMtu(67))
    );
    assert_eq!(
        build(&link(1_279), &headers(true), b""),
        Err(FrameError::SmallMtu(1_279))
    );
}

proptest! {
    #[test]
    fn fragments_fit_the_mtu_and_make_the_datagram(
        v6: bool,
        len in prop_oneof![0usize..5_000, 65_480usize..=65_507],
        mtu in prop_oneof![1_280u32..1_600, 1_280u32..70_000],
    ) {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        let headers = headers(v6);
        let frames = build(&link(mtu), &headers, &payload).unwrap();
        let mut stack = Stack::default();
        let (last, before) = frames.split_last().unwrap();
        for frame in before {
            prop_assert_eq!(is_whole(frame), Err(Reason::Fragment));
            prop_assert_eq!(stack.receive(frame), None);
        }
        for frame in &frames {
            prop_assert!(frame.len() <= mtu as usize + 14);
            prop_assert!(v6 || Sum::default().add(&frame[14..34]).finish() == 0);
        }
        let delivery = stack.receive(last).unwrap();
        prop_assert_eq!(delivery.payload, payload);
        prop_assert_eq!(delivery.client, headers.client);
        prop_assert_eq!(delivery.destination, headers.vip);
    }

    #[test]
    fn checksums_verify(v6: bool, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let headers = headers(v6);
        let frame = &build(&link(1_500), &headers, &payload).unwrap()[0];
        prop_assert!(udp_verifies(frame, &is_whole(frame).unwrap(), &headers));
    }
}
