//! What headers say, and what they do not say.

use std::time::Duration;

use super::*;
use crate::uri::Host;

fn message(headers: &str) -> Message {
    let text = format!("OPTIONS sip:a SIP/2.0\r\n{headers}\r\n\r\n");
    Message::from_datagram(text.into()).expect("a message")
}

#[test]
fn addresses_in_all_their_forms() {
    let parse = |text: &'static str| NameAddr::parse(text.as_bytes());
    let quoted = parse(r#""A <x>, \"B\";" <sip:a;p@h;q?r=s>;tag=1;y="z;=<""#).expect("an address");
    assert_eq!(quoted.display, br#""A <x>, \"B\";""#);
    assert_eq!(quoted.uri, b"sip:a;p@h;q?r=s");
    assert_eq!(quoted.tag(), Some(&b"1"[..]));
    assert_eq!(quoted.params.get("Y"), Some(&b"\"z;=<\""[..]));
    let y = quoted.params.find("y").expect("a parameter");
    assert_eq!(y.unquoted().as_deref(), Some(&b"z;=<"[..]));
    let bare = parse("sip:a@h;tag=2 ; lr").expect("an address");
    assert_eq!((bare.uri, bare.tag()), (&b"sip:a@h"[..], Some(&b"2"[..])));
    assert!(bare.params.has("LR") && bare.params.get("lr").is_none());
    assert_eq!(parse("<sip:a>;tag=").map(|address| address.tag()), None);
    assert!(parse("J\u{fc}rgen B <sip:a>").is_some());
    for malformed in [
        "",
        "<>",
        "<sip:a",
        "\"A <sip:a>",
        "A, B <sip:a>",
        "< sip:a>",
        "<sip:a>;",
        "<sip:a>;;x",
        "<sip:a> x",
        "<sip:a>;x=\"",
        "<sip:a>;x=a b",
        "sip:a?b=c",
        "sip:a b",
        "a@b <sip:a>",
        "\"A\" B <sip:a>",
        "<sip:a><sip:b>",
        "<sip:a>;=x",
    ] {
        assert_eq!(parse(malformed), None, "{malformed}");
    }
}

#[test]
fn preferences_are_thousandths() {
    for (q, expected) in [
        ("1", 1000),
        ("1.000", 1000),
        ("0", 0),
        ("0.", 0),
        ("0.5", 500),
        ("0.025", 25),
        // Not a q-value: as if it were not there.
        ("1.1", 1000),
        ("2", 1000),
        ("0.0001", 1000),
        (".5", 1000),
        ("x", 1000),
    ] {
        let text = format!("<sip:a>;q={q}");
        let address = NameAddr::parse(text.as_bytes()).expect("an address");
        assert_eq!(address.q_thousandths(), expected, "{q}");
    }
}

#[test]
fn vias_in_all_their_forms() {
    let parse = |text: &'static str| Via::parse(text.as_bytes());
    let via =
        parse("SIP / 2.0 / WSS [2001:db8::1] : 5062 ; branch=z9hG4bKx;rport=7").expect("a Via");
    assert_eq!((via.transport, via.port), (&b"WSS"[..], Some(5062)));
    assert_eq!(
        via.host,
        Host::V6("2001:db8::1".parse().expect("an address"))
    );
    assert_eq!(
        (via.branch(), via.rport()),
        (Some(&b"z9hG4bKx"[..]), Some(7))
    );
    assert_eq!(via.host.to_string(), "[2001:db8::1]");
    for malformed in [
        "",
        "SIP/2.0",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ;x",
        "SIP/2.0/UDP h;",
        "SIP/2.0/UDP h:",
        "SIP/2.0/UDP h:x",
        "SIP/2.0/UDP h:65536",
        "SIP/2.0/UDP 2001:db8::1",
        "SIP/2.0/UDP [x]",
        "SIP/2.0/UDP a b",
        "SIP/2.0/UDP h: 5 : 6",
        "/2.0/UDP h",
        "SIP/2.0/U@P h",
    ] {
        assert_eq!(parse(malformed), None, "{malformed}");
    }
}

#[test]
fn numbers_and_their_ranges() {
    let cseq = |value: &str| {
        message(&format!("CSeq: {value}"))
            .cseq()
            .map(|cseq| cseq.number)
    };
    let malformed = Err(HeaderError::Malformed(Name::CSeq));
    assert_eq!(cseq("2147483647 INVITE"), Ok(0x7fff_ffff));
    assert_eq!(cseq("2147483648 INVITE"), malformed);
    assert_eq!(cseq("1"), malformed);
    assert_eq!(cseq("1 A B"), malformed);
    assert_eq!(
        message("a: b").cseq(),
        Err(HeaderError::Missing(Name::CSeq))
    );

    let all = message(
        "Retry-After: 18 (in a (long) \\) meeting) ;duration=3600\r\n\
         x: 1800 ;refresher=UAS\r\nMin-SE: 90;x\r\nRSeq: 1\r\nRAck: 776656 1 INVITE\r\n\
         Expires: 4294967295\r\nPriority: emergency\r\nResource-Priority: ets.0, q735.3\r\n\
         Reason: Q.850;cause=16;text=\"Terminated, all\", SIP ;cause=600\r\n\
         k: 100rel,timer,\r\n replaces",
    );
    let retry = all.retry_after().expect("well-formed").expect("there");
    assert_eq!(retry.after, Duration::from_secs(18));
    assert_eq!(retry.params.get("duration"), Some(&b"3600"[..]));
    let session = all.session_expires().expect("well-formed").expect("there");
    assert_eq!(session.interval, Duration::from_secs(1800));
    assert_eq!(session.refresher, Some(Refresher::Uas));
    assert_eq!(all.min_se(), Ok(Some(90)));
    assert_eq!(all.rseq(), Ok(Some(1)));
    let rack = all.rack().expect("well-formed");
    assert_eq!(
        (rack.response, rack.cseq.number, rack.cseq.method),
        (776_656, 1, &b"INVITE"[..])
    );
    assert_eq!(all.expires(), Ok(Some(u32::MAX)));
    assert_eq!(all.priority(), Some(&b"emergency"[..]));
    let priorities: Vec<_> = all.resource_priorities().collect();
    assert_eq!(priorities, [(&b"ets"[..], &b"0"[..]), (b"q735", b"3")]);
    let causes: Vec<_> = all
        .reasons()
        .map(|reason| reason.map(|reason| reason.cause))
        .collect();
    assert_eq!(causes, [Ok(Some(16)), Ok(Some(600))]);
    assert_eq!(all.option_tags(Name::Supported).count(), 3);

    assert!(message("Retry-After: 5 (open").retry_after().is_err());
    assert!(message("RSeq: 0").rseq().is_err());
    assert!(message("Max-Forwards: 256").max_forwards().is_err());
    assert!(message("Call-ID: a b").call_id().is_err());
}
