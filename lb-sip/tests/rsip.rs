//! Each defect of rsip 0.4 that this crate steps around: what rsip makes of a text, and what this
//! crate makes of it. A test that fails on rsip's side says that a detour may go.

use bytes::Bytes;
use lb_sip::headers::{NameAddr, Via};
use lb_sip::uri::{Host, Uri};
use lb_sip::{Message, Method, Name, rsip_values};
use rsip::headers::UntypedHeader;
use rsip::prelude::*;

const VIA: &str = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n";

/// A request that rsip reads well.
fn request(headers: &str) -> String {
    format!("OPTIONS sip:a@b SIP/2.0\r\n{VIA}{headers}\r\n")
}

fn rsips(text: &str) -> Result<rsip::Request, rsip::Error> {
    rsip::Request::try_from(text.to_owned())
}

fn ours(text: &str) -> Message {
    let message = Message::from_datagram(Bytes::copy_from_slice(text.as_bytes()));
    message.unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn our_uri(text: &str) -> Uri<'_> {
    Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn plain_messages_are_read_alike() {
    let text = request("Call-ID: x\r\n");
    assert!(rsips(&text).is_ok());
    assert_eq!(ours(&text).call_id(), Ok(&b"x"[..]));
}

#[test]
fn compact_names() {
    let text = request("i: x\r\n");
    assert!(rsips(&text).is_ok_and(|request| request.call_id_header().is_err()));
    assert_eq!(ours(&text).call_id(), Ok(&b"x"[..]));
}

#[test]
fn folds_and_white_space_and_line_ends() {
    let folded = request("Subject: a\r\n b\r\n");
    assert!(rsips(&folded).is_err());
    let header = ours(&folded);
    let subject = header.header(Name::Subject).expect("the header");
    assert_eq!(&*subject.value(), b"a b");
    for text in [
        request("Call-ID : x\r\n"),
        request("Call-ID: x\r\n").replace("\r\n", "\n"),
        format!("\r\n{}", request("Call-ID: x\r\n")),
    ] {
        assert!(rsips(&text).is_err(), "{text:?}");
        assert_eq!(ours(&text).call_id(), Ok(&b"x"[..]));
    }
}

#[test]
fn content_length() {
    let text = format!("{}tail", request("Content-Length: 2\r\n"));
    assert_eq!(
        rsips(&text).map(|request| request.body),
        Ok(b"tail".to_vec())
    );
    assert_eq!(ours(&text).body(), b"ta");
}

#[test]
fn bytes_that_are_not_utf8() {
    let body = [request("").as_bytes(), b"\xff"].concat();
    let request = rsip::Request::try_from(body.clone()).expect("a request");
    assert!(
        !rsip::SipMessage::from(request)
            .to_string()
            .into_bytes()
            .ends_with(b"\xff")
    );
    let message = Message::from_datagram(body.clone().into()).expect("a message");
    assert_eq!(message.bytes(), &body);
    let header = b"OPTIONS sip:a SIP/2.0\r\nX: \xff\r\n\r\n";
    assert!(rsip::Request::try_from(header.to_vec()).is_err());
    let message = Message::from_datagram(Bytes::from_static(header)).expect("a message");
    assert_eq!(
        message.headers().next().map(|header| header.raw),
        Some(&b"\xff"[..])
    );
}

#[test]
fn methods() {
    assert!(rsips(&request("").replace("OPTIONS", "PING")).is_err());
    assert_eq!("invite".parse(), Ok(rsip::Method::Invite));
    assert_eq!(Method::of(b"invite"), Method::Other);
    assert_eq!(rsip_values::method(Method::Other), None);
    for known in rsip::Method::all() {
        let ours = Method::of(known.to_string().as_bytes());
        assert_eq!(rsip_values::method(ours), Some(known));
    }
}

#[test]
fn sequence_numbers() {
    let typed = |value: &str| rsip::headers::CSeq::new(value).typed();
    assert!(typed("2147483648 INVITE").is_ok() && typed("+1 INVITE").is_ok());
    for value in ["2147483648 INVITE", "+1 INVITE"] {
        assert!(
            ours(&request(&format!("CSeq: {value}\r\n")))
                .cseq()
                .is_err()
        );
    }
    let message = ours(&request("CSeq: 7 INVITE\r\n"));
    let cseq = message.cseq().expect("well-formed");
    assert_eq!(rsip_values::cseq(&cseq), typed("7 INVITE").ok());
}

#[test]
fn ipv6_addresses() {
    let text = "sip:a@[2001:db8::1]:5060";
    assert!(rsip::Uri::try_from(text).is_err());
    let uri = our_uri(text).sip().expect("a SIP URI");
    let address = "2001:db8::1".parse().expect("an address");
    assert_eq!((uri.host, uri.port), (Host::V6(address), Some(5060)));
    let value = rsip_values::uri(&uri).expect("a value");
    assert_eq!(
        value.host_with_port.host,
        rsip::Host::IpAddr(address.into())
    );
    // So its text is never sent.
    assert_eq!(value.to_string(), "sip:a@2001:db8::1:5060");
    assert_eq!(uri.host.to_string(), "[2001:db8::1]");
    assert!(
        rsip::headers::Via::new("SIP/2.0/UDP [2001:db8::1]")
            .typed()
            .is_err()
    );
    assert!(Via::parse(b"SIP/2.0/UDP [2001:db8::1]").is_some());
}

#[test]
fn other_schemes() {
    let tel = rsip::Uri::try_from("tel:+1").expect("what rsip takes for a URI");
    assert_eq!(tel.host_with_port.to_string(), "tel:1");
    assert!(rsip::Uri::try_from("urn:service:sos").is_err());
    assert_eq!(our_uri("tel:+1").scheme(), "tel");
    assert_eq!(our_uri("urn:service:sos").scheme(), "urn");
}

#[test]
fn headers_in_uris() {
    let uri = rsip::Uri::try_from("sip:a@b?x=y").expect("what rsip takes for a URI");
    assert_eq!(uri.host_with_port.host.to_string(), "b?x=y");
    let uri = our_uri("sip:a@b?x=y").sip().expect("a SIP URI");
    assert_eq!(
        (uri.host, uri.headers),
        (Host::Name("b"), Some(&b"x=y"[..]))
    );
    assert_eq!(rsip_values::uri(&uri), None);
}

#[test]
fn transports() {
    assert!(rsip::headers::Via::new("SIP/2.0/QUIC a").typed().is_err());
    assert!(rsip::Uri::try_from("sip:a;transport=quic").is_err());
    let via = Via::parse(b"SIP/2.0/QUIC a").expect("a Via");
    assert_eq!(rsip_values::transport(via.transport), None);
    assert_eq!(rsip_values::transport(b"UDP"), Some(rsip::Transport::Udp));
    assert!(our_uri("sip:a;transport=quic").sip().is_some());
}

#[test]
fn lists() {
    let typed = rsip::headers::Via::new("SIP/2.0/UDP a;branch=1, SIP/2.0/TCP b").typed();
    let first = typed.map(|via| via.to_string());
    assert_eq!(first, Ok("SIP/2.0/UDP a;branch=1".into()));
    assert!(
        rsip::headers::Contact::new("<sip:a@b>, <sip:c@d>")
            .typed()
            .is_err()
    );
    let message = ours(&request(
        "v: SIP/2.0/UDP a, SIP/2.0/TCP b\r\nm: <sip:a>, <sip:c>\r\n",
    ));
    assert_eq!(message.vias().count(), 3);
    assert_eq!(message.addresses(Name::Contact).count(), 2);
}

#[test]
fn white_space_and_brackets_in_via() {
    assert!(
        rsip::headers::Via::new("SIP / 2.0 / UDP h")
            .typed()
            .is_err()
    );
    assert!(Via::parse(b"SIP / 2.0 / UDP h").is_some());
    let text = "SIP/2.0/UDP a;received=[::1]";
    let typed = rsip::headers::Via::new(text)
        .typed()
        .expect("what rsip takes for a Via");
    assert!(typed.to_string().ends_with("received="));
    let via = Via::parse(text.as_bytes()).expect("a Via");
    assert_eq!(via.received(), "::1".parse().ok());
}

#[test]
fn contacts() {
    let star = rsip::headers::Contact::new("*")
        .typed()
        .expect("what rsip takes for a Contact");
    assert_eq!(star.to_string(), "<*>");
    assert!(
        ours(&request("Contact: *\r\n"))
            .contact()
            .is_ok_and(|contact| contact.is_none())
    );
    for text in [
        "\"A <x>\" <sip:a@b>",
        "<sip:a@b>;+sip.instance=\"<urn:uuid:1>\"",
    ] {
        assert!(rsip::headers::Contact::new(text).typed().is_err(), "{text}");
        let contact = NameAddr::parse(text.as_bytes()).expect("a Contact");
        let value = rsip_values::contact(&contact).expect("a value");
        assert_eq!(value.uri.to_string(), "sip:a@b");
    }
    let plain = "<sip:a@b;transport=tcp>;q=0.5;expires=60";
    let contact = NameAddr::parse(plain.as_bytes()).expect("a Contact");
    let typed = rsip::headers::Contact::new(plain).typed().ok();
    assert_eq!(rsip_values::contact(&contact), typed);
}

#[test]
fn reason_phrases() {
    let text = rsip_values::status_code(503).to_string();
    assert_eq!(text, "503 ServiceUnavailable");
    assert_eq!(lb_sip::build::reason_phrase(503), "Service Unavailable");
    assert_eq!(
        rsip_values::status_code(503).kind(),
        rsip::StatusCodeKind::ServerFailure
    );
    let response = rsip::Response::try_from("SIP/2.0 200 Fine\r\n\r\n".to_owned());
    assert!(response.is_ok_and(|response| response.to_string().starts_with("SIP/2.0 200 OK")));
    let message = ours("SIP/2.0 200 Fine\r\n\r\n");
    assert!(message.bytes().starts_with(b"SIP/2.0 200 Fine"));
}

#[test]
fn media_types_are_right() {
    let message = ours(&request("c: multipart/mixed;\r\n boundary=\"a b\"\r\n"));
    let Some(rsip_values::MediaType::Other(name, params)) = rsip_values::media_type(&message)
    else {
        panic!("not read");
    };
    assert_eq!((&*name, &*params[0].1), ("multipart/mixed", "a b"));
    let message = ours(&request("Content-Type: Application/SDP\r\n"));
    let media_type = rsip_values::media_type(&message);
    assert!(matches!(media_type, Some(rsip_values::MediaType::Sdp(_))));
}
