//! What userspace reads in a deferred message: its Call-ID, and how it stands to the calls there are.
//!
//! First with the kernel's own reader, to the end of the message instead of its first 1,500 bytes; so
//! whatever the kernel could have steered gets the key that the kernel would have given it. Only
//! what that reader refuses is read leniently: other line ends, folded and overlong values.

use std::ops::Range;

use lb_common::choose::Standing;
use lb_common::sip::{Budget, CallKey, Method, find_call_id, find_call_id_leniently, has_to_tag};
use lb_common::siphash::{SipKey, siphash13};

/// A call, as its message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The call key.
    pub(crate) key: u64,
    /// Where in the message the Call-ID stands.
    pub(crate) call_id: Range<usize>,
    /// Request or response, and of which method.
    pub(crate) method: Method,
}

/// The call that a message belongs to. `None` for what is no SIP (keep-alives, STUN, noise) and for
/// SIP without a Call-ID.
pub(crate) fn call(message: &[u8], secret: SipKey) -> Option<Call> {
    let start = message
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let message_proper = message.get(start..)?;
    // The kernel's reader calls everything else "not SIP": it is not searched for what may look
    // like a Call-ID by chance.
    if !matches!(message_proper.first(), Some(0x21..=0x7e)) {
        return None;
    }
    let (key, call_id) = strictly(message, secret).or_else(|| leniently(message, secret))?;
    Some(Call {
        key,
        call_id,
        method: method_of(message_proper),
    })
}

fn strictly(message: &[u8], secret: SipKey) -> Option<(u64, Range<usize>)> {
    let at = find_call_id(message, 0, Budget::WHOLE).ok()?;
    let call = CallKey::read(message, at, secret).ok()?;
    Some((
        call.hash,
        call.at as usize..(call.at + call.len.get()) as usize,
    ))
}

fn leniently(message: &[u8], secret: SipKey) -> Option<(u64, Range<usize>)> {
    let range = find_call_id_leniently(message)?;
    let key = siphash13(secret, message.get(range.clone())?);
    Some((key, range))
}

fn method_of(message: &[u8]) -> Method {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(message) {
        *to = *from;
    }
    Method::of(u64::from_le_bytes(first))
}

/// How a message of this method stands to the calls there are.
pub(crate) fn standing(message: &[u8], method: Method) -> Standing {
    if !method.may_start() {
        return Standing::Existing;
    }
    let tagged =
        has_to_tag(message, 0, Budget::WHOLE).unwrap_or_else(|_| has_to_tag_leniently(message));
    match method {
        _ if tagged => Standing::Existing,
        Method::Invite => Standing::NewCall,
        _ => Standing::NewRequest,
    }
}

/// Whether the first To header has a tag, whatever ends the lines and however long it is. A message
/// without To has none: what it asks for is new, as far as anybody can tell.
fn has_to_tag_leniently(message: &[u8]) -> bool {
    let start = message
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'));
    let Some(header) = start.and_then(|start| message.get(start..)) else {
        return false;
    };
    let mut lines = header.split_inclusive(|byte| *byte == b'\n').skip(1);
    let Some(first) = lines
        .by_ref()
        .take_while(|line| !matches!(line, [b'\n', ..] | [b'\r', b'\n', ..]))
        .find_map(to_value)
    else {
        return false;
    };
    let folded = lines.take_while(|line| matches!(line, [b' ' | b'\t', ..]));
    has_tag(first.iter().chain(folded.flatten()))
}

/// What stands behind the colon, if the line is a To header's.
fn to_value(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    let name = name.trim_ascii_end();
    let is_to = name.eq_ignore_ascii_case(b"to") || name.eq_ignore_ascii_case(b"t");
    is_to.then(|| value.get(1..).unwrap_or_default())
}

/// Whether an address with parameters (RFC 3261 §20.10) has a `tag` among them: outside of the
/// display name's quotes and of the URI's angle brackets.
fn has_tag<'a>(value: impl Iterator<Item = &'a u8>) -> bool {
    let mut parameter: Option<Vec<u8>> = None;
    let (mut quoted, mut escaped, mut in_angles) = (false, false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quoted => quoted = false,
            _ if quoted => {}
            b'>' if in_angles => in_angles = false,
            _ if in_angles => {}
            b'"' => (quoted, parameter) = (true, None),
            b'<' => (in_angles, parameter) = (true, None),
            b';' => parameter = Some(Vec::new()),
            b'=' => {
                let name = parameter.take().unwrap_or_default();
                if name.trim_ascii().eq_ignore_ascii_case(b"tag") {
                    return true;
                }
            }
            byte => {
                if let Some(name) = &mut parameter {
                    name.push(*byte);
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: SipKey = SipKey { k0: 1, k1: 2 };

    fn call_id(message: &[u8]) -> Option<&[u8]> {
        call(message, SECRET).map(|call| &message[call.call_id])
    }

    #[test]
    fn the_key_is_that_of_the_exact_call_id() {
        let long = "x".repeat(1_000);
        for (message, expected) in [
            ("BYE x SIP/2.0\r\nCall-ID: a@b\r\n\r\n".to_owned(), "a@b"),
            ("\r\n\r\nBYE x SIP/2.0\r\ni: a@b\r\n\r\n".to_owned(), "a@b"),
            ("BYE x SIP/2.0\nCall-ID: a@b\n\n".to_owned(), "a@b"),
            (
                "BYE x SIP/2.0\r\nCall-ID:\r\n a@b\r\n\r\n".to_owned(),
                "a@b",
            ),
            (
                format!("BYE x SIP/2.0\r\nCall-ID: {long}\r\n\r\n"),
                long.as_str(),
            ),
            (
                format!("BYE x SIP/2.0\r\nSubject: {long}\r\n{long}: y\r\ni: a@b\r\n\r\n"),
                "a@b",
            ),
        ] {
            let call = call(message.as_bytes(), SECRET).expect(&message);
            assert_eq!(&message[call.call_id.clone()], expected);
            assert_eq!(call.key, siphash13(SECRET, expected.as_bytes()));
            assert_eq!(call.method, Method::Bye);
        }
    }

    #[test]
    fn what_is_no_sip_has_no_call() {
        let stun = b"\x00\x01\x00\x08\x21\x12\xa4\x42\ni:chance\n\n";
        for message in [
            &b"\r\n\r\n"[..],
            b"\r\n",
            b"",
            b"\0",
            stun,
            b"\r\n\xff\ni: a\n\n",
        ] {
            assert_eq!(call_id(message), None, "{message:?}");
        }
        assert_eq!(
            call_id(b"OPTIONS x SIP/2.0\r\nTo: y\r\n\r\nCall-ID: body\r\n"),
            None
        );
    }

    #[test]
    fn standing_is_told_from_method_and_tag() {
        for (start, to, expected) in [
            ("INVITE x SIP/2.0", "To: <sip:b@c>", Standing::NewCall),
            (
                "INVITE x SIP/2.0",
                "To: <sip:b@c>;tag=1",
                Standing::Existing,
            ),
            ("INVITE x SIP/2.0", "Subject: none", Standing::NewCall),
            ("REGISTER x SIP/2.0", "t: sip:b@c", Standing::NewRequest),
            ("REGISTER x SIP/2.0", "t: sip:b@c;tag=1", Standing::Existing),
            ("ACK x SIP/2.0", "To: <sip:b@c>", Standing::Existing),
            ("SIP/2.0 200 OK", "To: <sip:b@c>", Standing::Existing),
        ] {
            for end in ["\r\n", "\n"] {
                let message = format!("{start}{end}{to}{end}Call-ID: a{end}{end}");
                let method = method_of(message.as_bytes());
                assert_eq!(
                    standing(message.as_bytes(), method),
                    expected,
                    "{message:?}"
                );
            }
        }
    }

    #[test]
    fn a_tag_behind_a_very_long_uri_is_found() {
        let uri = "b".repeat(2_000);
        let message = format!("INVITE x SIP/2.0\r\nTo: <sip:{uri}>;tag=1\r\nCall-ID: a\r\n\r\n");
        assert_eq!(
            standing(message.as_bytes(), Method::Invite),
            Standing::Existing
        );
        let message = format!("INVITE x SIP/2.0\r\nTo: <sip:{uri};tag=1>\r\nCall-ID: a\r\n\r\n");
        assert_eq!(
            standing(message.as_bytes(), Method::Invite),
            Standing::NewCall
        );
    }

    /// Pieces that To headers are made of, so that random ones are often nearly right.
    fn piece() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(
            &[
                "<", ">", "\"", "\\", ";", "=", "tag", "TAG", " ", "\t", "\r\n ", "sip:b@c", "x",
                "t", ":", "ag", ",",
            ][..],
        )
    }

    proptest! {
        #[test]
        fn the_lenient_tag_reader_agrees_with_the_strict_one(
            pieces in proptest::collection::vec(piece(), 0..20),
        ) {
            let to = pieces.concat();
            let message = format!("INVITE x SIP/2.0\r\nVia: y;tag=0\r\nTo:{to}\r\nFrom: z;tag=2\r\n\r\n");
            if let Ok(strict) = has_to_tag(message.as_bytes(), 0, Budget::KERNEL) {
                prop_assert_eq!(has_to_tag_leniently(message.as_bytes()), strict, "{:?}", to);
            }
        }

        #[test]
        fn noise_is_read_without_harm(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = call(&message, SECRET);
            let _ = standing(&message, Method::Invite);
        }

        #[test]
        fn what_the_kernel_steers_has_the_same_key_here(
            id in "[!-~]{1,80}", name in "(Call-ID|CALL-id|i|I) {0,3}", before in "[ -~]{0,40}",
        ) {
            let message = format!("INVITE x SIP/2.0\r\nSubject: {before}\r\n{name}: {id}\r\n\r\n");
            let at = find_call_id(message.as_bytes(), 0, Budget::KERNEL).unwrap();
            let kernel = CallKey::read(message.as_bytes(), at, SECRET).unwrap();
            let here = call(message.as_bytes(), SECRET).unwrap();
            prop_assert_eq!(here.key, kernel.hash);
            prop_assert_eq!(&message[here.call_id], id);
        }
    }
}
