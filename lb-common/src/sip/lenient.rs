//! The second look at messages that the strict reader does not read: userspace only.
//!
//! What it adds can never contradict the kernel, because the kernel steers none of these messages:
//! line breaks before the start line (RFC 3261 §7.5), lines that end in a bare LF, and a Call-ID
//! folded onto the next line (RFC 3261 §7.3.1).

use core::ops::Range;

/// The range of the first Call-ID's value, if the header has one.
pub fn find_call_id_leniently(message: &[u8]) -> Option<Range<usize>> {
    let mut at = message.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    loop {
        at += message[at..].iter().position(|b| *b == b'\n')? + 1;
        let line = &message[at..];
        if matches!(line, [] | [b'\n', ..] | [b'\r', b'\n', ..]) {
            return None;
        }
        if let Some(name_len) = call_id_name(line) {
            let after = skip_blanks(message, at + name_len);
            if message.get(after) == Some(&b':') {
                return value(message, after + 1);
            }
        }
    }
}

fn call_id_name(line: &[u8]) -> Option<usize> {
    if line
        .get(..7)
        .is_some_and(|name| name.eq_ignore_ascii_case(b"call-id"))
    {
        return Some(7);
    }
    line.first()
        .is_some_and(|name| name.eq_ignore_ascii_case(&b'i'))
        .then_some(1)
}

fn skip_blanks(message: &[u8], at: usize) -> usize {
    at + message[at..]
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count()
}

fn value(message: &[u8], at: usize) -> Option<Range<usize>> {
    let mut start = at;
    loop {
        start = skip_blanks(message, start);
        let rest = &message[start..];
        let line_end = if rest.starts_with(b"\r\n") {
            2
        } else {
            usize::from(rest.starts_with(b"\n"))
        };
        let folded = matches!(rest.get(line_end), Some(b' ' | b'\t'));
        if line_end == 0 || !folded {
            break;
        }
        start += line_end;
    }
    let len = message[start..].iter().take_while(|b| **b > b' ').count();
    // What else stands in the line would have to be guessed at: is it part of the value?
    let end = skip_blanks(message, start + len);
    let is_whole = matches!(&message[end..], [b'\n', ..] | [b'\r', b'\n', ..]);
    (len > 0 && is_whole).then_some(start..start + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call_id(message: &[u8]) -> Option<&[u8]> {
        find_call_id_leniently(message).map(|range| &message[range])
    }

    #[test]
    fn reads_what_the_strict_reader_defers() {
        assert_eq!(
            call_id(b"\r\n\r\nOPTIONS x SIP/2.0\r\nCall-ID: a@b\r\n\r\n"),
            Some(&b"a@b"[..])
        );
        assert_eq!(call_id(b"BYE x SIP/2.0\ni:a@b\n\n"), Some(&b"a@b"[..]));
        assert_eq!(
            call_id(b"BYE x SIP/2.0\r\nCall-ID :\r\n\t a@b\r\n\r\n"),
            Some(&b"a@b"[..])
        );
    }

    #[test]
    fn reads_neither_bodies_nor_other_headers() {
        assert_eq!(
            call_id(b"BYE x SIP/2.0\r\nTo: y\r\n\r\nCall-ID: body\r\n"),
            None
        );
        assert_eq!(
            call_id(b"BYE x SIP/2.0\r\nSubject: s\r\n Call-ID: folded\r\n\r\n"),
            None
        );
        assert_eq!(call_id(b"BYE x SIP/2.0\r\nCall-IDs: other\r\n\r\n"), None);
        assert_eq!(call_id(b""), None);
        assert_eq!(call_id(b"\r\n\r\n"), None);
        assert_eq!(call_id(b"BYE x SIP/2.0\r\nCall-ID:"), None);
    }

    #[test]
    fn takes_no_part_for_the_whole() {
        for line in [&b"a\0b\n"[..], b"a b\n", b"a\rb\n", b"a"] {
            let message = [b"BYE x SIP/2.0\nCall-ID: ", line, b"\n"].concat();
            assert_eq!(call_id(&message[..message.len() - 1]), None, "{line:?}");
        }
        assert_eq!(
            call_id(b"BYE x SIP/2.0\nCall-ID: a \t\n\n"),
            Some(&b"a"[..])
        );
    }
}
