//! Edits and limits.

use std::net::SocketAddr;

use super::*;
use crate::headers::HeaderError;

const INVITE: &str = "INVITE sip:bob@192.0.2.9 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bKkjshdyff\r\n\
    v: SIP/2.0/TCP a.example;branch=z9hG4bK1,\r\n SIP/2.0/UDP b.example;branch=z9hG4bK2\r\n\
    max-forwards : 70\r\n\
    Route: <sip:192.0.2.1;lr>, <sip:192.0.2.2;lr>\r\n\
    Route: <sip:192.0.2.3;lr>\r\n\
    From: <sip:alice@example.com>;tag=1\r\n\
    To: <sip:bob@example.com>\r\n\
    Call-ID: a84b4c76e66710\r\n\
    CSeq: 1 INVITE\r\n\
    X-Odd: \u{fc}\r\n\
    Contact: <sip:alice@10.1.1.1>\r\n\
    Content-Length: 4\r\n\r\nbody";

fn message(text: &str) -> Message {
    Message::from_datagram(Bytes::copy_from_slice(text.as_bytes())).expect("a message")
}

/// The message after an edit, as text; the edit must succeed.
fn edited(text: &str, edit: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>) -> String {
    let message = message(text);
    let mut edits = message.edit();
    edit(&mut edits).expect("the edit is possible");
    let bytes = edits.finish().expect("the edits go together");
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Checks that an edit does to the text what a replacement does.
#[track_caller]
fn check((old, new): (&str, &str), edit: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>) {
    assert!(INVITE.contains(old), "{old}");
    assert_eq!(edited(INVITE, edit), INVITE.replacen(old, new, 1));
}

#[test]
fn vias_come_and_go_on_top() {
    let top = "Via: SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bKkjshdyff\r\n";
    let rest =
        "v: SIP/2.0/TCP a.example;branch=z9hG4bK1,\r\n SIP/2.0/UDP b.example;branch=z9hG4bK2\r\n";
    check((top, &format!("Via: me\r\n{top}")), |edit| {
        edit.push(Name::Via, "me").map(drop)
    });
    check((top, ""), |edit| {
        edit.pop(Name::Via, 1);
        Ok(())
    });
    let both = format!("{top}{rest}");
    check(
        (&both, "v: SIP/2.0/UDP b.example;branch=z9hG4bK2\r\n"),
        |edit| {
            edit.pop(Name::Via, 2);
            Ok(())
        },
    );
    check((&both, "Via: me\r\n"), |edit| {
        edit.pop(Name::Via, 9);
        edit.push(Name::Via, "me").map(drop)
    });
}

#[test]
fn the_source_is_written_where_it_was_asked_for() {
    let source: SocketAddr = "192.0.2.1:9988".parse().expect("an address");
    // The example of RFC 3581 §4.
    check(
        (
            "4540;rport;branch=z9hG4bKkjshdyff",
            "4540;rport=9988;branch=z9hG4bKkjshdyff;received=192.0.2.1",
        ),
        |edit| edit.set_received(source).map(drop),
    );
    let via = |via: &str| {
        let source = "[2001:db8::1]:5060".parse().expect("an address");
        let text = format!("OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP {via}, x\r\n\r\n");
        let text = edited(&text, |edit| edit.set_received(source).map(drop));
        let from = text.find("UDP ").expect("a Via") + 4;
        text[from..text.find(", x").expect("a second")].to_owned()
    };
    assert_eq!(via("[2001:db8::1]"), "[2001:db8::1]");
    assert_eq!(
        via("[2001:DB8:0::1];rport"),
        "[2001:DB8:0::1];rport=5060;received=2001:db8::1"
    );
    assert_eq!(
        via("host ; branch=q"),
        "host ; branch=q;received=2001:db8::1"
    );
    assert_eq!(
        via("h;Received = 1.1.1.1;rport=9;x"),
        "h;received=2001:db8::1;rport=5060;x"
    );
    let mapped = "[::ffff:10.1.1.1]:4540".parse().expect("an address");
    let both = ";rport=4540;branch=z9hG4bKkjshdyff;received=10.1.1.1";
    check((";rport;branch=z9hG4bKkjshdyff", both), |edit| {
        edit.set_received(mapped).map(drop)
    });
}

#[test]
fn hops_are_counted_down() {
    check(("max-forwards : 70", "max-forwards : 69"), |edit| {
        edit.decrement_max_forwards().map(drop)
    });
    let none = INVITE.replace("max-forwards : 70\r\n", "");
    let added = edited(&none, |edit| edit.decrement_max_forwards().map(drop));
    assert_eq!(
        added,
        none.replace("\r\n\r\n", "\r\nMax-Forwards: 70\r\n\r\n")
    );
    for (hops, error) in [
        ("0", EditError::NoForwardsLeft),
        (
            "256",
            EditError::Header(HeaderError::Malformed(Name::MaxForwards)),
        ),
    ] {
        let message = message(&INVITE.replace(": 70", &format!(": {hops}")));
        assert_eq!(
            message.edit().decrement_max_forwards().map(drop),
            Err(error)
        );
    }
}

#[test]
fn routes_are_taken_from_the_front() {
    check(("<sip:192.0.2.1;lr>, ", ""), |edit| {
        edit.pop(Name::Route, 1);
        Ok(())
    });
    check(
        ("Route: <sip:192.0.2.1;lr>, <sip:192.0.2.2;lr>\r\n", ""),
        |edit| {
            edit.pop(Name::Route, 2);
            Ok(())
        },
    );
    let first = "Route: <sip:192.0.2.1;lr>, <sip:192.0.2.2;lr>\r\n";
    check((first, &format!("Route: <sip:r;lr>\r\n{first}")), |edit| {
        edit.push(Name::Route, "<sip:r;lr>").map(drop)
    });
    // There is none yet: it goes behind the Vias.
    check(("max-f", "Record-Route: <sip:r;lr>\r\nmax-f"), |edit| {
        edit.push(Name::RecordRoute, "<sip:r;lr>").map(drop)
    });
}

#[test]
fn headers_and_body_are_set_added_and_removed() {
    check(("sip:bob@192.0.2.9", "tel:+1"), |edit| {
        edit.set_request_uri("tel:+1").map(drop)
    });
    check(("<sip:alice@10.1.1.1>", "<sip:lb>"), |edit| {
        edit.set(Name::Contact, "<sip:lb>").map(drop)
    });
    check(
        ("\r\n\r\n", "\r\nRetry-After: 3\r\nX-Y: z\r\n\r\n"),
        |edit| {
            edit.add(Name::RetryAfter, "3")?
                .add_named("X-Y", "z")
                .map(drop)
        },
    );
    check(("X-Odd: \u{fc}\r\n", ""), |edit| {
        edit.remove_named("x-odd");
        Ok(())
    });
    let routes = "Route: <sip:192.0.2.1;lr>, <sip:192.0.2.2;lr>\r\nRoute: <sip:192.0.2.3;lr>\r\n";
    check((routes, ""), |edit| {
        edit.remove(Name::Route);
        Ok(())
    });
    check((routes, "Route: <sip:only>\r\n"), |edit| {
        edit.set(Name::Route, "<sip:only>").map(drop)
    });
    check(
        (
            "Length: 4\r\n\r\nbody",
            "Length: 5\r\nContent-Type: text/plain\r\n\r\nother",
        ),
        |edit| edit.set_body("text/plain", b"other").map(drop),
    );
}

#[test]
fn no_value_can_start_a_line() {
    let message = message(INVITE);
    for value in ["a\r\nVia: x", "a\nb", "a\rb", "a\0"] {
        let refused = Err(EditError::LineBreak);
        let mut edit = message.edit();
        assert_eq!(edit.push(Name::Via, value).map(drop), refused);
        assert_eq!(edit.set(Name::Contact, value).map(drop), refused);
        assert_eq!(edit.add(Name::Warning, value).map(drop), refused);
        assert_eq!(edit.set_body(value, b"x").map(drop), refused);
        assert_eq!(edit.set_request_uri(value).map(drop), refused);
    }
    let mut edit = message.edit();
    for name in ["", "a b", "a:", "a\r\n"] {
        assert_eq!(edit.add_named(name, "v").map(drop), Err(EditError::Name));
    }
    for uri in ["", "sip:a b", "<sip:a>"] {
        assert_eq!(
            edit.set_request_uri(uri).map(drop),
            Err(EditError::RequestUri)
        );
    }
}

#[test]
fn changes_of_what_is_taken_away_are_refused() {
    let message = message(INVITE);
    let mut edit = message.edit();
    let source = "192.0.2.1:1".parse().expect("an address");
    edit.set_received(source).expect("a Via").pop(Name::Via, 1);
    assert_eq!(edit.finish(), Err(EditError::Overlap));
}

#[test]
fn limits_hold() {
    let parse = |text: String| Message::from_datagram(text.into()).map(drop);
    let lines = |count: usize| format!("OPTIONS sip:a SIP/2.0\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(parse(lines(MAX_HEADERS)), Ok(()));
    assert_eq!(
        parse(lines(MAX_HEADERS + 1)),
        Err(ParseError::TooManyHeaders)
    );
    let mut longest = lines(1);
    longest.push_str(&"x".repeat(MAX_MESSAGE - longest.len()));
    let message = Message::from_datagram(longest.clone().into()).expect("it fits");
    assert_eq!(message.edit().finish().as_deref(), Ok(longest.as_bytes()));
    let grown = message
        .edit()
        .add(Name::Warning, "")
        .map(|edit| edit.finish());
    assert_eq!(grown, Ok(Err(EditError::TooLong(MAX_MESSAGE + 11))));
    assert_eq!(
        parse(longest + "x"),
        Err(ParseError::TooLong(MAX_MESSAGE + 1))
    );
}

#[test]
fn what_is_no_message_says_so() {
    let parse =
        |text: &'static str| Message::from_datagram(Bytes::from_static(text.as_bytes())).map(drop);
    for blank in ["", "\r\n", "\r\n\r\n"] {
        assert_eq!(parse(blank), Err(ParseError::Blank));
    }
    for other in [
        "\0\0",
        "hello",
        "(a) sip:b SIP/2.0\r\n\r\n",
        " OPTIONS sip:a SIP/2.0\r\n\r\n",
    ] {
        assert_eq!(parse(other), Err(ParseError::NotSip), "{other:?}");
    }
    for status in ["99", "700", "2000", "", "20x", "-20", "4294967301"] {
        let text = format!("SIP/2.0 {status} OK\r\n\r\n");
        assert_eq!(
            Message::from_datagram(text.into()).map(drop),
            Err(ParseError::Status)
        );
    }
}

#[test]
fn flaws_are_told_apart() {
    let flaws = |text: &'static str| message(text).flaws();
    for (text, flaw) in [
        ("OPTIONS sip:a SIP/2.0\r\na: b\r\n\r\n", Flaws::default()),
        ("\r\n\r\nOPTIONS sip:a SIP/2.0\r\n\r\n", Flaws::default()),
        ("OPTIONS  sip:a SIP/2.0\r\n\r\n", Flaws::START_LINE),
        ("OPTIONS sip:a SIP/2.0 \r\n\r\n", Flaws::START_LINE),
        ("OPTIONS sip:a\r\n\r\n", Flaws::START_LINE),
        ("OPTIONS SIP/2.0\r\n\r\n", Flaws::START_LINE),
        ("GET / HTTP/1.1\r\n\r\n", Flaws::START_LINE),
        ("SIP/2.0 200\r\n\r\n", Flaws::START_LINE),
        ("SIP/2.0 200 \r\n\r\n", Flaws::default()),
        ("OPTIONS sip:a SIP/2.0\r\nab\r\n\r\n", Flaws::HEADER_LINE),
        ("OPTIONS sip:a SIP/2.0\r\n a: b\r\n\r\n", Flaws::HEADER_LINE),
        (
            "OPTIONS sip:a SIP/2.0\r\na b: c\r\n\r\n",
            Flaws::HEADER_LINE,
        ),
        (
            "OPTIONS sip:a SIP/2.0\r\na\r\n : c\r\n\r\n",
            Flaws::HEADER_LINE,
        ),
        ("OPTIONS sip:a SIP/2.0\r\na: b\r\n", Flaws::NO_EMPTY_LINE),
        ("OPTIONS sip:a SIP/2.0\r\na: b", Flaws::NO_EMPTY_LINE),
        (
            "OPTIONS sip:a SIP/2.0\r\na: b\rc: d\r\n\r\n",
            Flaws::BARE_CR,
        ),
        ("OPTIONS sip:a SIP/2.0\r\na: b\n\r\n", Flaws::BARE_LF),
        (
            "OPTIONS sip:a SIP/2.0\r\nl: 4\r\n\r\nabc",
            Flaws::BODY_SHORT,
        ),
        (
            "OPTIONS sip:a SIP/2.0\r\nl: 4294967296\r\n\r\nabc",
            Flaws::CONTENT_LENGTH,
        ),
        (
            "OPTIONS sip:a SIP/2.0\r\nl: 3\r\nl: 3\r\n\r\nabc",
            Flaws::CONTENT_LENGTHS,
        ),
    ] {
        assert_eq!(flaws(text), flaw, "{text:?}");
    }
    assert_eq!(
        format!("{:?}", Flaws::BARE_CR | Flaws::BODY_SHORT),
        "{\"BARE_CR\", \"BODY_SHORT\"}"
    );
}
