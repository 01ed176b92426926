//! Verdicts that the torture messages do not ask for.

use lb_sip::validate::{Fault, Rules};
use lb_sip::{Message, Name, Verdict, validate};

fn request(method: &str, uri: &str, headers: &str) -> Message {
    let text = format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a>;tag=1\r\n\
         To: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n{headers}\r\n"
    );
    Message::from_datagram(text.into()).expect("a message")
}

#[test]
fn an_ack_is_dropped_and_never_answered() {
    let faulty = "Max-Forwards: 0\r\n";
    assert_eq!(
        validate(&request("ACK", "sip:b", faulty)),
        Verdict::Drop(Fault::Hops)
    );
    assert_eq!(
        validate(&request("BYE", "sip:b", faulty)),
        Verdict::Reject(Fault::Hops)
    );
}

#[test]
fn schemes_that_need_no_understanding_are_forwarded() {
    for uri in ["sip:b", "SIPS:b", "tel:+1-201", "urn:service:sos"] {
        assert_eq!(validate(&request("INVITE", uri, "")), Verdict::Forward);
    }
    for uri in ["mailto:b", "http://b"] {
        let verdict = validate(&request("INVITE", uri, ""));
        assert_eq!(verdict, Verdict::Reject(Fault::Scheme));
    }
    let verdict = validate(&request("INVITE", "b", ""));
    assert_eq!(verdict, Verdict::Reject(Fault::RequestUri));
}

#[test]
fn extensions_are_required_of_some_requests_only() {
    let required = "Proxy-Require: sec-agree\r\nProxy-Require: Known\r\n";
    let invite = request("INVITE", "sip:b", required);
    assert_eq!(validate(&invite), Verdict::Reject(Fault::Extension));
    // RFC 3261 §8.2.2.3.
    for method in ["ACK", "CANCEL"] {
        let verdict = validate(&request(method, "sip:b", required));
        assert_eq!(verdict, Verdict::Forward);
    }
    let rules = Rules {
        extensions: &["known"],
        ..Rules::default()
    };
    let source = ([192, 0, 2, 1], 5060).into();
    let response = Fault::Extension.response_by(&rules, &invite, source, "t");
    let response = Message::from_datagram(response.expect("an answer")).expect("a message");
    let tags: Vec<&[u8]> = response.option_tags(Name::Unsupported).collect();
    assert_eq!(tags, [b"sec-agree"]);
    let rules = Rules {
        extensions: &["known", "sec-agree"],
        ..Rules::default()
    };
    assert_eq!(rules.validate(&invite), Verdict::Forward);
    // What is no tag cannot be named in an answer.
    let odd = request("INVITE", "sip:b", "Proxy-Require: a b\r\n");
    let malformed = Verdict::Reject(Fault::Malformed(Name::ProxyRequire));
    assert_eq!(validate(&odd), malformed);
}

#[test]
fn responses_go_to_one_receiver() {
    let second = |via: &str| {
        let text = format!(
            "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP own;branch=z9hG4bK0{via}\r\nFrom: <sip:a>;tag=1\r\n\
             To: <sip:b>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nl: 0\r\n\r\n"
        );
        validate(&Message::from_datagram(text.into()).expect("a message"))
    };
    assert_eq!(second(""), Verdict::Absorb);
    for via in [
        "h",
        "192.0.2.1",
        "[2001:db8::1]:5060",
        "0.0.0.0;received=192.0.2.1",
    ] {
        assert_eq!(second(&format!(", SIP/2.0/UDP {via}")), Verdict::Forward);
    }
    for via in [
        "255.255.255.255",
        "0.0.0.0",
        "224.0.1.75",
        "[ff02::1]",
        "[::ffff:255.255.255.255]",
        "h;maddr=224.0.1.75",
        "192.0.2.1;received=255.255.255.255",
    ] {
        let verdict = second(&format!(", SIP/2.0/UDP {via}"));
        assert_eq!(verdict, Verdict::Drop(Fault::NotUnicast), "{via}");
    }
    let malformed = Verdict::Drop(Fault::Malformed(Name::Via));
    assert_eq!(second(", SIP/2.0/UDP"), malformed);
}

#[test]
fn what_is_read_must_be_well_formed() {
    for (headers, fault) in [
        ("Contact: <sip:a\r\n", Fault::Malformed(Name::Contact)),
        ("Route: <sip:a;lr>, x y\r\n", Fault::Malformed(Name::Route)),
        ("Max-Forwards: x\r\n", Fault::Malformed(Name::MaxForwards)),
        ("t: <sip:b>\r\n", Fault::Repeated(Name::To)),
        (
            "Session-Expires: 90\r\nx: 90\r\n",
            Fault::Repeated(Name::SessionExpires),
        ),
    ] {
        let verdict = validate(&request("INVITE", "sip:b", headers));
        assert_eq!(verdict, Verdict::Reject(fault), "{headers}");
    }
    for headers in [
        "Contact: *\r\n",
        "Contact: <urn:x>;a, sip:b\r\n",
        "Date: never\r\n",
    ] {
        let verdict = validate(&request("REGISTER", "sip:b", headers));
        assert_eq!(verdict, Verdict::Forward, "{headers}");
    }
}
