//! Messages in a stream, in pieces of any size.

use lb_sip::framer::{FrameError, Framer, StreamEvent};
use lb_sip::message::{Flaws, MAX_MESSAGE};
use lb_sip::{Message, Verdict, validate};
use proptest::prelude::*;

const OPTIONS: &str = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n\
    From: <sip:a>;tag=1\r\nTo: <sip:a>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

/// What comes out, when the stream comes in pieces of these sizes, over and over.
fn events(stream: &[u8], sizes: &[usize]) -> (Vec<String>, Option<FrameError>) {
    let mut framer = Framer::new();
    let mut events = Vec::new();
    let (mut rest, mut sizes) = (stream, sizes.iter().cycle());
    loop {
        loop {
            match framer.next_event() {
                Ok(Some(StreamEvent::Ping)) => events.push("ping".to_owned()),
                Ok(Some(StreamEvent::Message(message))) => {
                    events.push(String::from_utf8_lossy(message.bytes()).into_owned());
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(matches!(framer.next_event(), Err(FrameError::Broken)));
                    return (events, Some(error));
                }
            }
        }
        assert!(framer.buffered() <= MAX_MESSAGE + 1);
        if rest.is_empty() {
            return (events, None);
        }
        let size = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
        let taken = framer.feed(&rest[..size]);
        assert!(
            taken > 0,
            "there is always room for more when there is no event"
        );
        rest = &rest[taken..];
    }
}

fn message(body: &str) -> String {
    format!("{OPTIONS}l: {}\r\n\r\n{body}", body.len())
}

proptest! {
    #[test]
    fn pieces_make_no_difference(sizes in prop::collection::vec(1_usize..90, 1..20)) {
        let (first, second) = (message("a\r\n\r\nb"), message(""));
        let unix = message("x").replace("\r\n", "\n");
        let stream = format!("\n\r\r\n{first}\r\n\r\n{second}\r\n\r\n\r\n\r\n{unix}\r\n{first}");
        let (events, error) = events(stream.as_bytes(), &sizes);
        prop_assert!(error.is_none(), "{:?}", error);
        let expected = [&first, "ping", &second, "ping", "ping", &unix, &first];
        prop_assert_eq!(events, expected);
    }
}

/// The message that a stream broke at.
fn broken_at(stream: &str) -> (Message, bool) {
    match events(stream.as_bytes(), &[7]).1 {
        Some(FrameError::Length(message)) => (*message, false),
        Some(FrameError::TooLong(message)) => (*message, true),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_lengths_break_the_stream_but_can_be_answered() {
    for (line, flaw) in [
        ("", Flaws::NO_CONTENT_LENGTH),
        ("l: -1\r\n", Flaws::CONTENT_LENGTH),
        ("l: 1\r\nContent-Length: 1\r\n", Flaws::CONTENT_LENGTHS),
    ] {
        let (message, too_long) = broken_at(&format!("{OPTIONS}{line}\r\nrest"));
        assert!(!too_long && message.body().is_empty());
        assert!(message.flaws().contains(flaw), "{:?}", message.flaws());
        assert!(matches!(validate(&message), Verdict::Reject(fault) if fault.status() == 400));
    }
    let (_, too_long) = broken_at(&format!("{OPTIONS}l: 65535\r\n\r\n"));
    assert!(too_long);
    let (_, too_long) = broken_at(&format!("{OPTIONS}l: 4294967295\r\n\r\n"));
    assert!(too_long);
}

#[test]
fn the_longest_message_fits_and_no_longer_one() {
    let head = format!("{OPTIONS}l: 65000\r\n");
    let body = "x".repeat(65_000);
    let padding = MAX_MESSAGE - head.len() - body.len() - "p: \r\n\r\n".len();
    let longest = format!("{head}p: {}\r\n\r\n{body}", "y".repeat(padding));
    assert_eq!(longest.len(), MAX_MESSAGE);
    let (events_of_two, error) = events(longest.repeat(2).as_bytes(), &[60_000]);
    assert!(error.is_none());
    assert_eq!(events_of_two, [&*longest, &longest]);

    let endless = format!("{OPTIONS}{}", "p: y\r\n".repeat(MAX_MESSAGE / 6));
    assert!(matches!(
        events(endless.as_bytes(), &[999]).1,
        Some(FrameError::Endless)
    ));
    let garbage = "\0\0\0\r\n\r\n";
    assert!(matches!(
        events(garbage.as_bytes(), &[9]).1,
        Some(FrameError::Parse(_))
    ));
}
