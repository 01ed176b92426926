//! Letters and words of SIP (RFC 3261 §25.1): tokens, white space, quoted strings, lists.
//!
//! Line ends count as white space here: inside of a header's value they are folds, since a line end
//! that is none ends the value.

use std::borrow::Cow;

/// A byte of `token`.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// A `token`: not empty, no separators.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-.!%*_+`'~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// A byte that may stand in a parameter's value without quotes: all but white space, quotes, angle
/// brackets, comma and NUL.
///
/// More than a token or host: senders put dots, slashes and UTF-8 there without quotes, and it harms
/// nobody.
pub(crate) const fn is_value_byte(byte: u8) -> bool {
    VALUE[byte as usize]
}

static VALUE: [bool; 256] = {
    let mut table = [true; 256];
    let none = b" \t\r\n\"<>,\0";
    let mut at = 0;
    while at < none.len() {
        table[none[at] as usize] = false;
        at += 1;
    }
    table
};

/// Linear white space, folds included.
pub(crate) const fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without the white space at both ends.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    trim_end(trim_start(text))
}

pub(crate) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_lws(*first)
    {
        text = rest;
    }
    text
}

pub(crate) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_lws(*last)
    {
        text = rest;
    }
    text
}

/// The length of the quoted string that `text` starts with, both quotes included.
///
/// `None` without a closing quote.
pub(crate) fn quoted_len(text: &[u8]) -> Option<usize> {
    debug_assert_eq!(text.first(), Some(&b'"'));
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The offset of the first such byte outside of quoted strings.
///
/// An unclosed quote hides everything behind it.
pub(crate) fn find_unquoted(text: &[u8], wanted: u8) -> Option<usize> {
    let mut at = 0;
    // Byte by byte, as it is a dozen bytes or two in almost every case.
    loop {
        match *text.get(at)? {
            byte if byte == wanted => return Some(at),
            b'"' => at += quoted_len(&text[at..])?,
            _ => at += 1,
        }
    }
}

/// Where the first element of a comma list ends: at a comma outside of quotes and `<>`, or at the
/// end.
pub(crate) fn element_len(list: &[u8]) -> usize {
    if memchr::memchr(b',', list).is_none() {
        return list.len();
    }
    let mut at = 0;
    let mut in_angles = false;
    while let Some(byte) = list.get(at) {
        match byte {
            b'"' if !in_angles => match quoted_len(&list[at..]) {
                Some(len) => {
                    at += len;
                    continue;
                }
                None => return list.len(),
            },
            b'<' => in_angles = true,
            b'>' => in_angles = false,
            b',' if !in_angles => return at,
            _ => {}
        }
        at += 1;
    }
    list.len()
}

/// The elements of a comma list, trimmed. An empty list has one empty element.
#[derive(Clone, Debug)]
pub(crate) struct Elements<'a>(Option<&'a [u8]>);

impl<'a> Elements<'a> {
    pub(crate) fn of(list: &'a [u8]) -> Self {
        Self(Some(list))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let list = self.0?;
        let len = element_len(list);
        self.0 = list.get(len + 1..);
        Some(trim(&list[..len]))
    }
}

/// The value on one line: every fold (line end and the white space around it) is one space, as
/// RFC 3261 §7.3.1 says. Any other line end is a space too, so the result never holds one.
pub(crate) fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut line = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        line.extend_from_slice(trim_end(&rest[..at]));
        line.push(b' ');
        rest = trim_start(&rest[at..]);
    }
    line.extend_from_slice(rest);
    Cow::Owned(line)
}

/// A decimal number; `None` when it is none or does not fit.
pub(crate) fn number<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
    }
    T::try_from(number).ok()
}

/// The first word, and what follows it without the white space between.
pub(crate) fn first_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| is_lws(*b)).unwrap_or(text.len());
    (&text[..end], trim_start(&text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_split_at_commas_that_separate() {
        let list = b"\"a, \\\" b\" <sip:x,y@h;p=\"> , c;d=\"e,f\",,g";
        let parts: Vec<&[u8]> = Elements::of(list).collect();
        let expected: [&[u8]; 4] = [b"\"a, \\\" b\" <sip:x,y@h;p=\">", b"c;d=\"e,f\"", b"", b"g"];
        assert_eq!(parts, expected);
        assert_eq!(Elements::of(b"\"open, b").count(), 1);
    }

    #[test]
    fn folds_become_one_space_each() {
        assert_eq!(&*unfold(b"a \r\n\t b\n c"), b"a b c");
        assert_eq!(&*unfold(b"a\rb"), b"a b");
        assert!(matches!(unfold(b"a b"), Cow::Borrowed(_)));
    }

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(number::<u8>(b"0255"), Some(255));
        assert_eq!(number::<u8>(b"256"), None);
        assert_eq!(number::<u32>(b"36893488147419103232"), None);
        for odd in [&b""[..], b"-1", b"+1", b"1 ", b"0x1"] {
            assert_eq!(number::<u64>(odd), None);
        }
    }
}
