//! What holds for any bytes at all, taken for a message. Shared by the seeded test and a fuzz target.

use std::net::SocketAddr;

use bytes::Bytes;
use lb_sip::framer::{Framer, StreamEvent};
use lb_sip::message::{Flaws, MAX_HEADERS, MAX_MESSAGE};
use lb_sip::{Edit, Message, Method, Name, ResponseBuilder, Verdict, rsip_values, validate};

const VIA: &str = "SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bKown";

/// A datagram is read, comes out as it went in, is changed only where a change says so, and every
/// request in it can be answered.
pub(crate) fn check(datagram: &[u8]) {
    let Ok(message) = Message::from_datagram(Bytes::copy_from_slice(datagram)) else {
        return;
    };
    let ends = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let lead = datagram.iter().take_while(|byte| ends(byte)).count();
    assert!(datagram[lead..].starts_with(message.bytes()));
    assert_eq!(message.edit().finish().as_ref(), Ok(message.bytes()));
    read_everything(&message);
    let verdict = validate(&message);
    edits(&message, verdict);
    responses(&message, verdict);
    stream(datagram);
}

fn read_everything(message: &Message) {
    for via in message.vias().flatten() {
        let _ = (via.branch(), via.received(), via.rport(), via.maddr());
        let _ = rsip_values::transport(via.transport);
    }
    let lists = [Name::Contact, Name::Route, Name::RecordRoute];
    let listed = lists.into_iter().flat_map(|name| message.addresses(name));
    for address in listed.chain([message.from(), message.to()]).flatten() {
        let _ = (
            address.tag(),
            address.q_thousandths(),
            rsip_values::contact(&address),
        );
        if let Ok(uri) = address.uri()
            && let Some(sip) = uri.sip()
        {
            assert!(sip.is_same_as(&sip));
            let _ = (sip.host.to_string(), rsip_values::uri(&sip));
        }
        for param in address.params.iter() {
            let _ = param.unquoted();
        }
    }
    if let Ok(cseq) = message.cseq() {
        let _ = rsip_values::cseq(&cseq);
    }
    let _ = (
        message.call_id(),
        message.rack(),
        message.rseq(),
        message.expires(),
    );
    let _ = (
        message.session_expires(),
        message.min_se(),
        message.retry_after(),
    );
    let _ = (
        message.reasons().count(),
        message.resource_priorities().count(),
    );
    let _ = (message.contact(), message.content_length(), message.sdp());
    let _ = rsip_values::media_type(message);
    for header in message.headers() {
        let value = header.value();
        assert!(!value.contains(&b'\r') && !value.contains(&b'\n'));
        let _ = header.elements().count();
    }
}

/// Headers as written, but for some.
fn others<'a>(
    message: &'a Message,
    changed: &'a [Name],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    message
        .headers()
        .filter(|header| !changed.contains(&header.name))
        .map(|header| (header.written_name, header.raw))
}

fn values(message: &Message, name: Name) -> Vec<&[u8]> {
    message
        .elements(name)
        .filter(|value| !value.is_empty())
        .collect()
}

/// Makes a change, and checks that nothing else has changed.
fn changed(message: &Message, names: &[Name], change: impl FnOnce(&mut Edit<'_>)) -> Message {
    let mut edit = message.edit();
    change(&mut edit);
    let bytes = edit
        .finish()
        .expect("one change does not contradict itself");
    let new = Message::from_datagram(bytes).expect("a message stays one");
    assert_eq!(new.start_line(), message.start_line());
    assert_eq!(new.body(), message.body());
    assert!(others(&new, names).eq(others(message, names)));
    new
}

fn edits(message: &Message, verdict: Verdict) {
    let unclear = Flaws::NO_EMPTY_LINE | Flaws::HEADER_LINE;
    let full =
        message.headers().count() + 2 > MAX_HEADERS || message.bytes().len() + 512 > MAX_MESSAGE;
    if message.flaws().intersects(unclear) || full {
        return;
    }
    for name in [Name::Via, Name::Route, Name::Contact] {
        for count in [1, 2] {
            let popped = changed(message, &[name], |edit| {
                edit.pop(name, count);
            });
            let before = values(message, name);
            assert_eq!(values(&popped, name), before[count.min(before.len())..]);
        }
        let pushed = changed(message, &[name], |edit| {
            edit.push(name, "<sip:new>").expect("a good value");
        });
        assert_eq!(values(&pushed, name)[0], b"<sip:new>");
        assert_eq!(values(&pushed, name)[1..], values(message, name));
        let removed = changed(message, &[name], |edit| {
            edit.remove(name);
        });
        assert!(removed.header(name).is_none());
        let set = changed(message, &[name], |edit| {
            edit.set(name, "<sip:new>").expect("a good value");
        });
        assert_eq!(values(&set, name), [b"<sip:new>"]);
        let added = changed(message, &[name], |edit| {
            edit.add(name, "<sip:new>").expect("a good value");
        });
        assert_eq!(values(&added, name).last(), Some(&&b"<sip:new>"[..]));
    }
    if message.is_request() && !message.flaws().contains(Flaws::START_LINE) {
        let uri = "sip:b@[2001:db8::7]:5061;lr";
        let mut edit = message.edit();
        edit.set_request_uri(uri).expect("a good URI");
        let new = Message::from_datagram(edit.finish().expect("one change")).expect("a message");
        assert_eq!(new.request_uri(), Some(uri.as_bytes()));
        assert!(others(&new, &[]).eq(others(message, &[])));
    }
    if verdict == Verdict::Forward && message.is_request() {
        forward(message);
    }
}

fn source() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 5062))
}

/// What a proxy does to a request.
fn forward(message: &Message) {
    let names = [Name::Via, Name::MaxForwards];
    let forwarded = changed(message, &names, |edit| {
        edit.set_received(source()).expect("a valid Via");
        edit.push(Name::Via, VIA).expect("a good value");
        edit.decrement_max_forwards().expect("hops are left");
    });
    let left = message.max_forwards().expect("a number");
    assert_eq!(
        forwarded.max_forwards(),
        Ok(Some(left.map_or(70, |left| left - 1)))
    );
    let back = changed(&forwarded, &[Name::Via], |edit| {
        edit.pop(Name::Via, 1);
    });
    let top = back.top_via().expect("it stays valid");
    let told = top.received().or(top.host.address());
    assert_eq!(told, Some(source().ip()));
    assert_eq!(
        validate(&forwarded),
        if left == Some(1) {
            rejected_hops()
        } else {
            Verdict::Forward
        }
    );
    let (mut before, after) = (values(message, Name::Via), values(&back, Name::Via));
    before.remove(0);
    assert_eq!(after[1..], before);
}

fn rejected_hops() -> Verdict {
    Verdict::Reject(lb_sip::validate::Fault::Hops)
}

/// Every request that is not an ACK and has a Via can be answered.
fn responses(message: &Message, verdict: Verdict) {
    let answerable = !matches!(message.method(), None | Some(Method::Ack));
    if let Verdict::Reject(fault) = verdict {
        assert!(answerable);
        let response = fault
            .response(message, source(), "tag")
            .expect("it can be answered");
        check_response(message, response, fault.status());
    }
    if !answerable || message.header(Name::Via).is_none() || message.bytes().len() > 60_000 {
        return;
    }
    for status in [100, 200, 302, 503] {
        let response = ResponseBuilder::new(message, status)
            .source(source())
            .to_tag("tag")
            .header(Name::RetryAfter, "5")
            .finish();
        check_response(message, response.expect("it can be answered"), status);
    }
}

fn check_response(request: &Message, response: Bytes, status: u16) {
    let response = Message::from_datagram(response).expect("a response");
    assert!(response.flaws().is_empty(), "{:?}", response.flaws());
    assert_eq!(response.status(), Some(status));
    let count = |message: &Message| message.headers_of(Name::Via).count();
    assert_eq!(count(&response), count(request));
    for name in [Name::CallId, Name::CSeq, Name::From] {
        let value = |message: &Message| {
            let header = message.header(name);
            header.map(|header| header.value().into_owned())
        };
        assert_eq!(value(&response), value(request));
    }
}

/// In a stream, the sizes of the pieces make no difference.
fn stream(bytes: &[u8]) {
    let run = |size: usize| {
        let mut framer = Framer::new();
        let mut said = Vec::new();
        for piece in bytes.chunks(size) {
            let mut rest = piece;
            loop {
                match framer.next_event() {
                    Ok(Some(StreamEvent::Ping)) => said.push(Bytes::new()),
                    Ok(Some(StreamEvent::Message(message))) => said.push(message.into_bytes()),
                    Ok(None) if rest.is_empty() => break,
                    Ok(None) => rest = &rest[framer.feed(rest)..],
                    Err(_) => return (said, true),
                }
            }
        }
        (said, false)
    };
    assert_eq!(run(bytes.len().max(1)), run(7));
}
