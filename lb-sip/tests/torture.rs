//! The torture messages of RFC 4475 and RFC 5118: each has the outcome that the RFC demands of a
//! proxy or redirect server (`torture.txt`), and whatever is done with it does what it says and no
//! more.
//!
//! `cargo test -p lb-sip --test torture -- --nocapture` prints the table.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lb_sip::headers::{NameAddr, Via};
use lb_sip::uri::{Host, Uri};
use lb_sip::validate::Fault;
use lb_sip::{Message, Name, Verdict, validate};

const SOURCE: &str = "198.51.100.7:5062";

fn source() -> SocketAddr {
    SOURCE.parse().expect("a socket address")
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn bytes(file: &str) -> Bytes {
    let path = fixtures().join(file);
    fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into()
}

/// The file as it would be sent.
///
/// RFC 5118 §4.6 counts 17 octets more than its message has. It is about something else, so they are
/// supplied.
fn datagram(file: &str) -> Bytes {
    let bytes = bytes(file);
    if file.ends_with("/ipv6-in-sdp.dat") {
        return [&bytes[..], b"a=octets:17 -ok\r\n"].concat().into();
    }
    bytes
}

fn message(file: &str) -> Message {
    Message::from_datagram(bytes(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

struct Row<'a> {
    file: &'a str,
    section: &'a str,
    outcome: &'a str,
    why: &'a str,
}

fn rows(table: &str) -> Vec<Row<'_>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [file, section, outcome, why] = cells[..] else {
                panic!("not four cells: {line}");
            };
            Row {
                file,
                section,
                outcome,
                why,
            }
        })
        .collect()
}

/// What is done with a datagram, in the table's words.
fn outcome(datagram: Bytes) -> (String, String) {
    let message = match Message::from_datagram(datagram) {
        Ok(message) => message,
        Err(error) => return ("drop".into(), error.to_string()),
    };
    match validate(&message) {
        Verdict::Forward => {
            check_forwarding(&message);
            ("forward".into(), String::new())
        }
        Verdict::Absorb => ("absorb".into(), String::new()),
        Verdict::Drop(fault) => ("drop".into(), fault.to_string()),
        Verdict::Reject(fault) => {
            check_response(&message, fault);
            (fault.status().to_string(), fault.to_string())
        }
    }
}

/// Forwarded, a request differs in its Vias and Max-Forwards, and in nothing else.
fn check_forwarding(message: &Message) {
    let via = "SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bKtest";
    let mut edit = message.edit();
    if !message.is_request() {
        edit.pop(Name::Via, 1);
        let forwarded = Message::from_datagram(edit.finish().expect("a response"));
        let forwarded = forwarded.expect("a response");
        assert!(
            message
                .elements(Name::Via)
                .skip(1)
                .eq(forwarded.elements(Name::Via))
        );
        return;
    }
    edit.set_received(source()).expect("a Via that can be read");
    edit.push(Name::Via, via).expect("a good value");
    edit.decrement_max_forwards().expect("hops are left");
    let forwarded = Message::from_datagram(edit.finish().expect("no conflict")).expect("a message");

    assert_eq!(forwarded.start_line(), message.start_line());
    assert_eq!(forwarded.body(), message.body());
    let changed = [Name::Via, Name::MaxForwards];
    fn kept<'a>(
        message: &'a Message,
        changed: &'a [Name],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        message
            .headers()
            .filter(|header| !changed.contains(&header.name))
            .map(|header| (header.written_name, header.raw))
    }
    assert!(kept(message, &changed).eq(kept(&forwarded, &changed)));
    let vias: Vec<&[u8]> = forwarded.elements(Name::Via).collect();
    assert_eq!(vias[0], via.as_bytes());
    assert_eq!(vias.len(), 1 + message.elements(Name::Via).count());
    assert!(
        message
            .elements(Name::Via)
            .skip(1)
            .eq(vias[2..].iter().copied())
    );
    let top = Via::parse(vias[1]).expect("a Via");
    assert_eq!(top.received(), Some(source().ip()));
    let hops = message.max_forwards().expect("a number");
    let left = forwarded.max_forwards().expect("a number");
    assert_eq!(left, Some(hops.map_or(70, |hops| hops - 1)));
}

/// The answer is a response to this request.
fn check_response(request: &Message, fault: Fault) {
    let response = fault
        .response(request, source(), "tag1")
        .expect("it can be answered");
    let response = Message::from_datagram(response).expect("a response");
    assert!(response.flaws().is_empty(), "{:?}", response.flaws());
    assert_eq!(response.status(), Some(fault.status()));
    for name in [Name::CallId, Name::CSeq, Name::From] {
        let (asked, answered) = (request.header(name), response.header(name));
        assert_eq!(
            asked.map(|header| header.value()),
            answered.map(|header| header.value())
        );
    }
    assert_eq!(
        request.headers_of(Name::Via).count(),
        response.headers_of(Name::Via).count()
    );
    if let Some(to) = response.header(Name::To) {
        let text = String::from_utf8_lossy(to.raw);
        assert!(text.contains(";tag="), "{text}");
    }
}

#[test]
fn every_message_has_the_outcome_that_the_rfc_demands() {
    let table = rows(include_str!("torture.txt"));
    let mut wrong = 0;
    let mut text = format!(
        "\n{:<36} {:<8} {:>8} {:>8}  {:<34} the RFC: \n",
        "message", "section", "demanded", "outcome", "our reason"
    );
    for row in &table {
        let (outcome, reason) = outcome(datagram(row.file));
        let name = row.file.rsplit('/').next().unwrap_or_default();
        let mark = if outcome == row.outcome { " " } else { "!" };
        wrong += usize::from(outcome != row.outcome);
        text += &format!(
            "{name:<36} {:<8} {:>8} {outcome:>8}{mark} {reason:<34} {}\n",
            row.section, row.outcome, row.why
        );
    }
    // Past the harness, which shows what tests print only when they fail.
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).expect("a terminal");
    assert_eq!(wrong, 0, "rows with another outcome, marked with !");
    let of = |folder: &str| {
        table
            .iter()
            .filter(|row| row.file.starts_with(folder))
            .count()
    };
    assert_eq!((of("rfc4475"), of("rfc5118")), (49, 12));
}

#[test]
fn every_file_is_in_the_table() {
    let table = rows(include_str!("torture.txt"));
    for folder in ["rfc4475", "rfc5118/wire-CRLF"] {
        for entry in fs::read_dir(fixtures().join(folder)).expect("the folder") {
            let name = entry.expect("an entry").file_name();
            let file = format!("{folder}/{}", name.to_string_lossy());
            // A file of the archive that is in no RFC.
            let counts = file.ends_with(".dat") && !file.ends_with("/test.dat");
            assert!(
                !counts || table.iter().any(|row| row.file == file),
                "{file}"
            );
        }
    }
}

#[test]
fn unedited_bytes_come_out_as_they_went_in() {
    for row in rows(include_str!("torture.txt")) {
        let datagram = bytes(row.file);
        let Ok(message) = Message::from_datagram(datagram.clone()) else {
            assert_eq!(row.file, "rfc4475/bigcode.dat");
            continue;
        };
        // Only what stands behind Content-Length is cut off.
        let cut = &datagram[message.bytes().len()..];
        let length = message.content_length().ok().flatten();
        let whole = length.is_some_and(|length| message.body().len() == length as usize);
        assert!(cut.is_empty() || whole, "{}", row.file);
        assert!(datagram.starts_with(message.bytes()), "{}", row.file);
        assert_eq!(
            message.edit().finish().as_ref(),
            Ok(message.bytes()),
            "{}",
            row.file
        );
    }
}

#[test]
fn files_that_are_not_what_the_rfc_is_about() {
    // As printed in the RFC, see `datagram`.
    let printed = outcome(bytes("rfc5118/wire-CRLF/ipv6-in-sdp.dat"));
    assert_eq!(
        (&*printed.0, &*printed.1),
        ("400", "Body Shorter Than Content-Length")
    );
    // No version, no Via: nobody can answer it.
    assert_eq!(outcome(bytes("rfc4475/test.dat")).0, "drop");
    // The archive's copy lacks the empty line. With it, the display name is the reason.
    let whole = [&bytes("rfc4475/baddn.dat")[..], b"\r\n"].concat();
    let (status, reason) = outcome(whole.into());
    assert_eq!((&*status, &*reason), ("400", "Malformed From"));
}

#[test]
fn bare_line_feeds_end_lines_too() {
    for name in [
        "ipv6-good.dat",
        "mult-ip-in-header.dat",
        "port-unambiguous.dat",
    ] {
        let archived = message(&format!("rfc5118/raw-archive-LF/{name}"));
        let sent = message(&format!("rfc5118/wire-CRLF/{name}"));
        assert_eq!(validate(&archived), Verdict::Forward, "{name}");
        let of = |message: &Message| -> Vec<(Name, Vec<u8>)> {
            let headers = message.headers();
            headers
                .map(|header| (header.name, header.raw.to_vec()))
                .collect()
        };
        assert_eq!(of(&archived), of(&sent), "{name}");
    }
}

#[test]
fn a_tortuous_invite_says_what_it_says() {
    let invite = message("rfc4475/wsinv.dat");
    let vias: Vec<Via<'_>> = invite.vias().map(|via| via.expect("a Via")).collect();
    assert_eq!(vias.len(), 3);
    assert_eq!(vias[0].host, Host::V4([192, 0, 2, 2].into()));
    assert_eq!((vias[0].transport, vias[0].branch()), (&b"UDP"[..], None));
    assert_eq!(vias[1].host, Host::Name("spindle.example.com"));
    assert_eq!(vias[1].branch(), Some(&b"z9hG4bK9ikj8"[..]));
    assert_eq!(vias[2].branch(), Some(&b"z9hG4bK30239"[..]));
    assert_eq!(invite.to().expect("To").tag(), Some(&b"1918181833n"[..]));
    let from = invite.from().expect("From");
    assert_eq!(from.display, b"\"J Rosenberg \\\\\\\"\"");
    assert_eq!(from.tag(), Some(&b"98asjd8"[..]));
    assert_eq!(invite.max_forwards(), Ok(Some(68)));
    let cseq = invite.cseq().expect("CSeq");
    assert_eq!((cseq.number, cseq.method), (9, &b"INVITE"[..]));
    let contact = invite.contact().expect("well-formed").expect("a Contact");
    assert_eq!(contact.q_thousandths(), 330);
    assert_eq!(contact.params.get("newparam"), Some(&b"newvalue"[..]));
    let folded = invite
        .headers_named("newfangledheader")
        .next()
        .expect("a header");
    assert_eq!(
        &*folded.value(),
        b"newfangled value continued newfangled value"
    );
    let route: Vec<NameAddr<'_>> = invite
        .addresses(Name::Route)
        .map(|route| route.expect("a Route"))
        .collect();
    let uri = route[0].uri().expect("a URI").sip().expect("a SIP URI");
    assert!(uri.is_loose_router());
}

#[test]
fn ambiguous_looking_parts_are_whose_they_are() {
    let uri = |file: &str| {
        let message = message(file);
        let uri = message.request_uri().expect("a request").to_vec();
        let Ok(Uri::Sip(sip)) = Uri::parse(&uri) else {
            panic!("{file}: no SIP URI");
        };
        (sip.user.map(<[u8]>::to_vec), sip.host.to_string(), sip.port)
    };
    let user = Some(b"user;par=u%40example.net".to_vec());
    assert_eq!(
        uri("rfc4475/semiuri.dat"),
        (user, "example.com".into(), None)
    );
    let folder = "rfc5118/wire-CRLF";
    let ambiguous = uri(&format!("{folder}/port-ambiguous.dat"));
    assert_eq!(ambiguous, (None, "[2001:db8::10:5070]".into(), None));
    let unambiguous = uri(&format!("{folder}/port-unambiguous.dat"));
    assert_eq!(unambiguous, (None, "[2001:db8::10]".into(), Some(5070)));
    for delimited in ["with", "no"] {
        let message = message(&format!(
            "{folder}/via-received-param-{delimited}-delim.dat"
        ));
        let received = message.top_via().expect("a Via").received();
        assert_eq!(received, "2001:db8::9:255".parse().ok(), "{delimited}");
    }

    let header = message("rfc4475/cparam01.dat");
    let contact = header.contact().expect("well-formed").expect("a Contact");
    assert!(contact.params.has("unknownparam"));
    let uri = message("rfc4475/cparam02.dat");
    let contact = uri.contact().expect("well-formed").expect("a Contact");
    assert!(!contact.params.has("unknownparam"));
}

#[test]
fn the_unsupported_are_named() {
    let request = message("rfc4475/bext01.dat");
    let Verdict::Reject(fault) = validate(&request) else {
        panic!("not rejected");
    };
    let response = fault.response(&request, source(), "t").expect("a response");
    let response = Message::from_datagram(response).expect("a response");
    let named: Vec<&[u8]> = response.option_tags(Name::Unsupported).collect();
    let expected: [&[u8]; 2] = [b"noProxiesSupportThis", b"norDoAnyProxiesSupportThis"];
    assert_eq!(named, expected);
}
