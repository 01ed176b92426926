//! Answers and requests, letter by letter.

use super::*;
use crate::message::{Message, Name};

const INVITE: &str = "INVITE sip:bob@biloxi.example SIP/2.0\r\n\
    v: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport\r\n\
    Via: SIP/2.0/TCP a.example;branch=z9hG4bK0\r\n\
    Record-Route: <sip:p1;lr>,\r\n <sip:p2;lr>\r\n\
    Route: <sip:p3;lr>\r\n\
    Max-Forwards: 9\r\n\
    f: \"A\" <sip:alice@example.com>\r\n ;tag=88\r\n\
    To: sip:bob@biloxi.example\r\n\
    Timestamp: 54\r\n\
    i: 3848276298220188511@example.com\r\n\
    CSeq: 7 INVITE\r\n\
    Content-Length: 0\r\n\r\n";

fn message(text: &str) -> Message {
    Message::from_datagram(bytes::Bytes::copy_from_slice(text.as_bytes())).expect("a message")
}

fn text(built: Result<bytes::Bytes, BuildError>) -> String {
    String::from_utf8(built.expect("it can be built").to_vec()).expect("UTF-8")
}

fn source() -> SocketAddr {
    "192.0.2.5:7000".parse().expect("an address")
}

#[test]
fn a_redirect_has_contacts_in_order() {
    let invite = message(INVITE);
    let contacts = [
        Contact::new("sip:bob@[2001:db8::1]:5062?x=y")
            .and_then(|contact| contact.uri_param("hops", "1;a b"))
            .and_then(|contact| contact.q_thousandths(900))
            .and_then(|contact| contact.param("via", "a \"b\"")),
        Contact::new("sip:192.0.2.2;lr").and_then(|contact| contact.q_thousandths(25)),
    ]
    .map(|contact| contact.expect("a Contact"));
    let built = ResponseBuilder::new(&invite, 302)
        .to_tag("t1")
        .source(source())
        .contacts(&contacts)
        .header(Name::RetryAfter, "5")
        .finish();
    let expected = "SIP/2.0 302 Moved Temporarily\r\n\
        Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport=7000;received=192.0.2.5\r\n\
        Via: SIP/2.0/TCP a.example;branch=z9hG4bK0\r\n\
        From: \"A\" <sip:alice@example.com> ;tag=88\r\n\
        To: sip:bob@biloxi.example;tag=t1\r\n\
        Call-ID: 3848276298220188511@example.com\r\n\
        CSeq: 7 INVITE\r\n\
        Contact: <sip:bob@[2001:db8::1]:5062;hops=1%3Ba%20b?x=y>;q=0.9;via=\"a \\\"b\\\"\"\r\n\
        Contact: <sip:192.0.2.2;lr>;q=0.025\r\n\
        Retry-After: 5\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(text(built), expected);
}

#[test]
fn what_goes_into_which_response() {
    let invite = message(INVITE);
    let trying = text(ResponseBuilder::new(&invite, 100).to_tag("t").finish());
    assert!(trying.contains("Timestamp: 54\r\n") && !trying.contains("tag=t\r\n"));
    assert!(!trying.contains("Record-Route"));
    let ok = ResponseBuilder::new(&invite, 200)
        .to_tag("t")
        .body("application/sdp", b"v=0\r\n");
    let ok = text(ok.finish());
    assert!(ok.contains("\r\nRecord-Route: <sip:p1;lr>, <sip:p2;lr>\r\n"));
    assert!(ok.ends_with("Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"));
    let tagged = message(&INVITE.replace("To: sip:bob@biloxi.example", "To: <sip:b>;tag=theirs"));
    let bye = text(ResponseBuilder::new(&tagged, 481).to_tag("ours").finish());
    assert!(bye.contains("To: <sip:b>;tag=theirs\r\n"));
}

#[test]
fn what_is_never_answered() {
    let ack = message(&INVITE.replace("INVITE", "ACK"));
    let refused = |request: &Message, status| ResponseBuilder::new(request, status).finish();
    assert_eq!(refused(&ack, 200), Err(BuildError::NotToBeAnswered));
    let invite = message(INVITE);
    assert_eq!(refused(&invite, 700), Err(BuildError::Status(700)));
    let response = message(&text(refused(&invite, 200)));
    assert_eq!(refused(&response, 200), Err(BuildError::NotToBeAnswered));
    let nowhere = message("OPTIONS sip:a SIP/2.0\r\n\r\n");
    assert_eq!(refused(&nowhere, 200), Err(BuildError::Lacks(Name::Via)));
}

#[test]
fn nobody_smuggles_lines() {
    let invite = message(INVITE);
    let broken = Err(BuildError::Value(EditError::LineBreak));
    for value in ["x\r\nEvil: 1", "x\n", "\r", "\0"] {
        let new = || ResponseBuilder::new(&invite, 200);
        assert_eq!(new().reason(value).finish(), broken);
        assert_eq!(new().to_tag(value).finish(), broken);
        assert_eq!(new().header(Name::Warning, value).finish(), broken);
        assert_eq!(new().body(value, b"x").finish(), broken);
        assert_eq!(
            Contact::new("sip:a")
                .and_then(|c| c.param("p", value))
                .map(drop),
            broken.clone().map(drop)
        );
        assert!(Contact::new(value).is_err());
        let uri = Contact::new("sip:a")
            .and_then(|c| c.uri_param("p", value))
            .expect("escaped");
        assert!(!uri.as_str().contains(['\r', '\n', '\0']));
        let new = |uri| RequestBuilder::new("BYE", uri);
        assert_eq!(new(value).finish(), broken);
        assert_eq!(new("sip:a").header(Name::To, value).finish(), broken);
        assert_eq!(new("sip:a").body(value, b"x").finish(), broken);
        assert_eq!(
            RequestBuilder::new(value, "sip:a").finish(),
            Err(BuildError::Method)
        );
        let named = new("sip:a").header_named(value, "v").finish();
        assert_eq!(named, Err(BuildError::Value(EditError::Name)));
    }
    // A bare CR in what is copied becomes a space.
    let odd = message(&INVITE.replace("f: \"A\"", "f: A\rB"));
    let answer = message(&text(ResponseBuilder::new(&odd, 400).finish()));
    assert!(answer.flaws().is_empty());
}

#[test]
fn ack_and_cancel_go_where_the_invite_went() {
    let invite = message(INVITE);
    let busy = message(&text(
        ResponseBuilder::new(&invite, 486).to_tag("t").finish(),
    ));
    let common = "Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport\r\n\
        From: \"A\" <sip:alice@example.com> ;tag=88\r\n";
    let rest = |method: &str| {
        format!(
            "Call-ID: 3848276298220188511@example.com\r\nCSeq: 7 {method}\r\n\
             Route: <sip:p3;lr>\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let ack = format!(
        "ACK sip:bob@biloxi.example SIP/2.0\r\nMax-Forwards: 70\r\n{common}\
         To: sip:bob@biloxi.example;tag=t\r\n{}",
        rest("ACK")
    );
    assert_eq!(text(ack_for(&invite, &busy)), ack);
    let cancel = format!(
        "CANCEL sip:bob@biloxi.example SIP/2.0\r\nMax-Forwards: 70\r\n{common}\
         To: sip:bob@biloxi.example\r\n{}",
        rest("CANCEL")
    );
    assert_eq!(text(cancel_for(&invite)), cancel);
    assert_eq!(cancel_for(&busy), Err(BuildError::NotARequest));
}

#[test]
fn requests_in_a_dialog_follow_its_route_set() {
    let start = |routes: &[&str]| {
        let request = RequestBuilder::in_dialog("BYE", "sip:bob@192.0.2.4", routes);
        let built = request.map(|request| {
            request
                .header(Name::Via, via("UDP", source(), "b1"))
                .header(Name::From, "<sip:a>;tag=1")
                .header(Name::To, "<sip:b>;tag=2")
                .header(Name::CallId, "c")
                .cseq(8)
                .finish()
        });
        let text = text(built.expect("a route set"));
        let lines = text
            .lines()
            .filter(|line| line.starts_with("BYE") || line.starts_with("Route"));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(start(&[]), ["BYE sip:bob@192.0.2.4 SIP/2.0"]);
    assert_eq!(
        start(&["<sip:p1;lr>", "<sip:p2>"]),
        [
            "BYE sip:bob@192.0.2.4 SIP/2.0",
            "Route: <sip:p1;lr>",
            "Route: <sip:p2>"
        ]
    );
    // RFC 3261 §12.2.1.1: the first is a strict router.
    assert_eq!(
        start(&["<sip:p1?a=b>", "<sip:p2;lr>"]),
        [
            "BYE sip:p1 SIP/2.0",
            "Route: <sip:p2;lr>",
            "Route: <sip:bob@192.0.2.4>"
        ]
    );
    let lacking = RequestBuilder::new("BYE", "sip:a").cseq(1).finish();
    assert_eq!(lacking, Err(BuildError::Lacks(Name::Via)));
    let late = RequestBuilder::new("BYE", "sip:a").cseq(1 << 31).finish();
    assert_eq!(late, Err(BuildError::CSeq));
    assert_eq!(
        via(
            "TCP",
            "[2001:db8::1]:5061".parse().expect("an address"),
            "x"
        ),
        "SIP/2.0/TCP [2001:db8::1]:5061;branch=z9hG4bKx;rport"
    );
}

#[test]
fn phrases_are_sorted_and_found() {
    assert!(REASON_PHRASES.is_sorted_by_key(|phrase| phrase.0));
    for (status, phrase) in [
        (100, "Trying"),
        (302, "Moved Temporarily"),
        (423, "Interval Too Brief"),
        (481, "Call/Transaction Does Not Exist"),
        (489, "Bad Event"),
        (494, "Security Agreement Required"),
        (503, "Service Unavailable"),
        (608, "Rejected"),
        (299, "OK"),
        (499, "Bad Request"),
    ] {
        assert_eq!(reason_phrase(status), phrase);
    }
}
