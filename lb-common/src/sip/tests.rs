//! The reader against a plain one that goes byte by byte.

extern crate std;

use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::lines::MAX_BLANKS;
use super::*;

/// What [`find_call_id`] must say, read one byte after the other.
fn plain(message: &[u8]) -> Result<u32, Reason> {
    match message.first() {
        Some(b'\r' | b'\n') => return Err(Reason::LeadingLineBreak),
        Some(0x21..=0x7e) => {}
        _ => return Err(Reason::NotSip),
    }
    let mut at = 0;
    loop {
        let Some(&byte) = message.get(at) else {
            return Err(Reason::Truncated);
        };
        at += 1;
        match byte {
            b'\r' if message.get(at) != Some(&b'\n') => return Err(Reason::BareCarriageReturn),
            b'\r' => {}
            b'\n' => return Err(Reason::BareLineFeed),
            _ => continue,
        }
        at += 1;
        let line = &message[at..];
        if line.starts_with(b"\r\n") {
            return Err(Reason::NoCallId);
        }
        let name_len = if line.len() > 7 && line[..7].eq_ignore_ascii_case(b"call-id") {
            7
        } else if line.len() > 1 && line[0].eq_ignore_ascii_case(&b'i') {
            1
        } else {
            continue;
        };
        if !matches!(line[name_len], b':' | b' ' | b'\t') {
            continue;
        }
        let blanks = |from: &[u8]| {
            from.iter()
                .take_while(|b| matches!(b, b' ' | b'\t'))
                .count()
        };
        let before = blanks(&line[name_len..]);
        match line.get(name_len + before) {
            None => return Err(Reason::Truncated),
            Some(b':') if before <= MAX_BLANKS as usize => {}
            Some(_) => return Err(Reason::OddCallId),
        }
        let value = name_len + before + 1;
        let after = blanks(&line[value..]);
        return match line.get(value + after) {
            _ if after > MAX_BLANKS as usize => Err(Reason::OddCallId),
            None => Err(Reason::Truncated),
            Some(_) => Ok((at + value + after) as u32),
        };
    }
}

/// Lines of all lengths, some of them Call-IDs, some with characters that do not belong there.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let text = proptest::collection::vec(
        prop_oneof![20 => 0x20u8..0x7f, 2 => 0x80u8.., 1 => Just(b'\t')],
        0..70,
    );
    let line = prop_oneof![
        12 => text,
        1 => "(?i)(call-id|i) {0,3}:[ \t]{0,8}[a-z0-9@.]{0,30}".prop_map(String::into_bytes),
        1 => "(?i)(call-ids|call-i|ix|call-id x):? ?[a-z]{0,9}".prop_map(String::into_bytes),
        1 => Just(Vec::new()),
    ];
    let end = prop_oneof![40 => Just(&b"\r\n"[..]), 1 => Just(&b"\n"[..]), 1 => Just(&b"\r"[..]), 1 => Just(&b"\0\r\n"[..])];
    proptest::collection::vec((line, end), 0..24).prop_map(|lines| {
        let mut message = b"INVITE sip:b@c SIP/2.0\r\n".to_vec();
        for (line, end) in lines {
            message.extend(line);
            message.extend(end);
        }
        message
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn reads_like_one_that_goes_byte_by_byte(message in message(), cut in 0usize..1500) {
        let message = &message[..message.len().min(cut)];
        prop_assert_eq!(find_call_id(message, 0, Budget::WHOLE), plain(message));
    }

    #[test]
    fn the_kernel_budget_only_ever_defers(message in message()) {
        match find_call_id(&message[..], 0, Budget::KERNEL) {
            Err(Reason::LongHeader) => {}
            found => prop_assert_eq!(found, plain(&message)),
        }
    }
}

#[test]
fn a_line_end_is_found_wherever_it_falls() {
    for fill in 0..600 {
        let mut message = b"ACK x".to_vec();
        message.extend(std::vec![b'y'; fill]);
        message.extend(b"\r\nCall-ID: z\r\n\r\n");
        let expected = message.len() - 5;
        assert_eq!(
            find_call_id(&message[..], 0, Budget::KERNEL),
            Ok(expected as u32),
            "{fill}"
        );
    }
}

/// A message whose Call-ID header starts at `at`, behind lines of 32 bytes.
fn with_call_id_at(at: usize) -> Vec<u8> {
    let mut message = b"ACK x SIP/2.0\r\n".to_vec();
    while message.len() + 34 + 4 <= at {
        message.extend(b"Record-Route: <sip:192.0.2.1;lr>\r\n");
    }
    message.extend(std::vec![b'x'; at - message.len() - 2]);
    message.extend(b"\r\nCall-ID: z\r\n");
    message.extend([b'y'; 100]);
    message
}

#[test]
fn the_kernel_budget_reaches_as_far_as_it_says() {
    for (at, is_read) in [(1_000, true), (1_300, false)] {
        let message = with_call_id_at(at);
        let expected = if is_read {
            Ok(at as u32 + 9)
        } else {
            Err(Reason::LongHeader)
        };
        let found = find_call_id(&message[..], 0, Budget::KERNEL);
        assert_eq!(found, expected, "{at}");
    }
}
