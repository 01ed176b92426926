//! A second opinion on where a frame's Call-ID is: slow, plain, and sharing no code with the program.
//!
//! It takes lines apart where CRLF stands and reads headers as RFC 3261 §7.3.1 describes them. It is
//! stricter in nothing but what is ambiguous, so wherever the program steers, it must find the same.

/// The payload of a frame that is one whole UDP datagram, and nothing more.
pub fn payload(frame: &[u8]) -> Option<&[u8]> {
    let mut kind = be16(frame, 12)?;
    let mut at = 14;
    for _ in 0..2 {
        if kind == 0x8100 || kind == 0x88a8 {
            kind = be16(frame, at + 2)?;
            at += 4;
        }
    }
    let datagram = match kind {
        0x0800 => {
            let header_len = usize::from(*frame.get(at)? & 15) * 4;
            let total = be16(frame, at + 2)?;
            let whole = be16(frame, at + 6)? & 0x3fff == 0 && *frame.get(at + 9)? == 17;
            if !whole || header_len < 20 || at + total != frame.len() {
                return None;
            }
            frame.get(at + header_len..)?
        }
        0x86dd => {
            if at + 40 + be16(frame, at + 4)? != frame.len() {
                return None;
            }
            let mut next = *frame.get(at + 6)?;
            let mut place = at + 40;
            while next != 17 {
                if !matches!(next, 0 | 43 | 60) {
                    return None;
                }
                next = *frame.get(place)?;
                place += (usize::from(*frame.get(place + 1)?) + 1) * 8;
            }
            frame.get(place..)?
        }
        _ => return None,
    };
    (be16(datagram, 4)? == datagram.len()).then(|| datagram.get(8..))?
}

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    let pair = bytes.get(at..at + 2)?;
    Some(usize::from(pair[0]) << 8 | usize::from(pair[1]))
}

/// The Call-ID of a message, if nobody could read it in another way.
pub fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    let mut first = true;
    loop {
        let (line, after) = split_line(rest)?;
        if line.is_empty() || line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return None;
        }
        if !first && let Some(value) = value_of_call_id(line) {
            let folded = after.first().is_some_and(|byte| is_blank(*byte));
            let odd = value.is_empty() || value.iter().any(|byte| *byte <= b' ');
            return (!folded && !odd).then_some(value);
        }
        first = false;
        rest = after;
    }
}

/// The bytes before the first CRLF, and those behind it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

/// The value of a line that is a Call-ID header.
fn value_of_call_id(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = &line[..colon];
    let name_len = name.iter().rposition(|byte| !is_blank(*byte))? + 1;
    let name = name[..name_len].to_ascii_lowercase();
    if name != b"call-id" && name != b"i" {
        return None;
    }
    let mut value = &line[colon + 1..];
    while let [blank, rest @ ..] = value
        && is_blank(*blank)
    {
        value = rest;
    }
    while let [rest @ .., blank] = value
        && is_blank(*blank)
    {
        value = rest;
    }
    Some(value)
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_headers_and_nothing_else() {
        let read = |rest: &str| {
            let message = format!("BYE sip:a@b SIP/2.0\r\n{rest}");
            call_id(message.as_bytes()).map(<[u8]>::to_vec)
        };
        assert_eq!(read("i\t: a@b \r\n\r\n"), Some(b"a@b".to_vec()));
        assert_eq!(
            read("Subject: x\r\n i: a@b\r\nCALL-ID:c\r\n\r\n"),
            Some(b"c".to_vec())
        );
        for nothing in [
            "\r\ni: body\r\n",
            "i:\r\n a@b\r\n\r\n",
            "X: y\ni: a\r\n\r\n",
            "i: a",
            "i: a b\r\n",
        ] {
            assert_eq!(read(nothing), None, "{nothing:?}");
        }
    }
}
