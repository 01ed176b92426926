//! One pass over a message's head: its lines, and where the body starts.

use memchr::{memchr, memchr2, memrchr};

use super::{Flaws, HeaderSpan, MAX_HEADERS, MAX_MESSAGE, Method, Name, Names, Span, StartSpan};
use crate::text::{self, trim_end, trim_start};

/// Why there is no message in these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing but line ends: a keep-alive (RFC 5626 §4.4.1), or nothing at all.
    #[error("no message, only line ends")]
    Blank,
    /// The first line is none of a request or response.
    #[error("no SIP message: the first line is neither a request's nor a response's")]
    NotSip,
    /// The status code is no number from 100 to 699.
    #[error("a response with a status code that is none")]
    Status,
    /// Longer than [`MAX_MESSAGE`].
    #[error("{0} bytes, more than the {MAX_MESSAGE} that a message may have")]
    TooLong(usize),
    /// More lines than [`MAX_HEADERS`].
    #[error("more than {MAX_HEADERS} header lines")]
    TooManyHeaders,
}

/// What Content-Length says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentLength {
    Absent,
    Is(u32),
    /// No number, or said twice.
    Wrong,
}

/// All of a message but its body.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) start: StartSpan,
    pub(crate) headers: Vec<HeaderSpan>,
    pub(crate) names: Names,
    /// Where the header lines end: at the empty line.
    pub(crate) headers_end: usize,
    /// Where the body starts: behind the empty line.
    pub(crate) end: usize,
    pub(crate) content_length: ContentLength,
    pub(crate) flaws: Flaws,
}

/// How many bytes of line ends come first.
pub(crate) fn leading_line_ends(bytes: &[u8]) -> usize {
    let other = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    other.unwrap_or(bytes.len())
}

/// Room for this many header lines is made at once; most messages have fewer.
const USUAL_HEADERS: usize = 24;

/// Reads up to the empty line.
pub(crate) fn read_head(bytes: &[u8]) -> Result<Head, ParseError> {
    if bytes.is_empty() {
        return Err(ParseError::Blank);
    }
    if bytes.len() > MAX_MESSAGE {
        return Err(ParseError::TooLong(bytes.len()));
    }
    let mut lines = Lines {
        bytes,
        next: 0,
        flaws: Flaws::default(),
    };
    let first = lines.line(false);
    let start = start_line(bytes, first, &mut lines.flaws)?;
    let mut headers = Vec::with_capacity(USUAL_HEADERS);
    let mut names = Names::default();
    let mut content_length = ContentLength::Absent;
    let headers_end = loop {
        let at = lines.next;
        if at >= bytes.len() {
            lines.flaws |= Flaws::NO_EMPTY_LINE;
            break at;
        }
        let line = lines.line(true);
        if line.end == at {
            break at;
        }
        if headers.len() == MAX_HEADERS {
            return Err(ParseError::TooManyHeaders);
        }
        let header = header(bytes, line, &mut lines.flaws);
        if header.name == Name::ContentLength {
            content_length = match content_length {
                ContentLength::Absent => match text::number(header.value.of(bytes)) {
                    Some(length) => ContentLength::Is(length),
                    None => {
                        lines.flaws |= Flaws::CONTENT_LENGTH;
                        ContentLength::Wrong
                    }
                },
                ContentLength::Is(_) | ContentLength::Wrong => {
                    lines.flaws |= Flaws::CONTENT_LENGTHS;
                    ContentLength::Wrong
                }
            };
        }
        names.note(header.name);
        headers.push(header);
    };
    Ok(Head {
        start,
        headers,
        names,
        headers_end,
        end: lines.next,
        content_length,
        flaws: lines.flaws,
    })
}

struct Line {
    start: usize,
    /// Without its line end.
    end: usize,
}

struct Lines<'a> {
    bytes: &'a [u8],
    next: usize,
    flaws: Flaws,
}

impl Lines<'_> {
    /// The next line; with what is folded onto it, if it can be folded and is not empty.
    fn line(&mut self, foldable: bool) -> Line {
        let bytes = self.bytes;
        let start = self.next;
        let mut from = start;
        loop {
            let Some(at) = memchr2(b'\r', b'\n', &bytes[from..]).map(|at| from + at) else {
                // The last line has no end.
                self.flaws |= Flaws::NO_EMPTY_LINE;
                self.next = bytes.len();
                return Line {
                    start,
                    end: bytes.len(),
                };
            };
            let next = if bytes[at] == b'\n' {
                self.flaws |= Flaws::BARE_LF;
                at + 1
            } else if bytes.get(at + 1) == Some(&b'\n') {
                at + 2
            } else {
                self.flaws |= Flaws::BARE_CR;
                from = at + 1;
                continue;
            };
            let folded = matches!(bytes.get(next), Some(b' ' | b'\t'));
            if !foldable || at == start || !folded {
                self.next = next;
                return Line { start, end: at };
            }
            from = next;
        }
    }
}

/// The spans of a trimmed part of a line.
fn span_of(bytes: &[u8], start: usize, end: usize) -> Span {
    let part = trim_start(&bytes[start..end]);
    let start = end - part.len();
    Span::new(start, start + trim_end(part).len())
}

fn header(bytes: &[u8], line: Line, flaws: &mut Flaws) -> HeaderSpan {
    let text = &bytes[line.start..line.end];
    // As almost all are: a token, and the colon at once.
    let len = text
        .iter()
        .take_while(|byte| text::is_token_byte(**byte))
        .count();
    if text.get(len) == Some(&b':')
        && len > 0
        && let Ok(name_len) = u8::try_from(len)
    {
        return HeaderSpan {
            name: Name::of(&text[..len]),
            name_len,
            line: line.start as u16,
            value: span_of(bytes, line.start + len + 1, line.end),
        };
    }
    if let Some(colon) = memchr(b':', text) {
        // White space may stand before the colon, a fold may not (RFC 3261 §25.1: HCOLON).
        let name = text[..colon].trim_ascii_end();
        let name = if name.len() < colon && text[name.len()..colon].contains(&b'\n') {
            &text[..colon]
        } else {
            name
        };
        if let Ok(name_len) = u8::try_from(name.len())
            && text::is_token(name)
        {
            return HeaderSpan {
                name: Name::of(name),
                name_len,
                line: line.start as u16,
                value: span_of(bytes, line.start + colon + 1, line.end),
            };
        }
    }
    *flaws |= Flaws::HEADER_LINE;
    HeaderSpan {
        name: Name::Malformed,
        name_len: 0,
        line: line.start as u16,
        value: span_of(bytes, line.start, line.end),
    }
}

fn start_line(bytes: &[u8], line: Line, flaws: &mut Flaws) -> Result<StartSpan, ParseError> {
    // Nothing is trimmed in front: a message starts with its first byte.
    let text = trim_end(&bytes[line.start..line.end]);
    let Some(first) = memchr(b' ', text) else {
        return Err(ParseError::NotSip);
    };
    let (start, end) = (line.start, line.start + text.len());
    if text.len() > 4 && text[..4].eq_ignore_ascii_case(b"SIP/") {
        let rest = &bytes[start + first + 1..line.end];
        let code = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
        let status = match text::number::<u16>(code) {
            Some(status) if code.len() == 3 && (100..=699).contains(&status) => status,
            _ => return Err(ParseError::Status),
        };
        let reason = start + first + 1 + code.len();
        // The space belongs to the line even where the phrase is empty (RFC 3261 §7.2).
        if reason == line.end {
            *flaws |= Flaws::START_LINE;
        }
        return Ok(StartSpan::Response {
            version: Span::new(start, start + first),
            status,
            reason: Span::new((reason + 1).min(line.end), line.end),
        });
    }
    if !text::is_token(&text[..first]) {
        return Err(ParseError::NotSip);
    }
    // Everything between method and version is the URI, so that an answer can be made to requests
    // with spaces in it.
    let last = memrchr(b' ', text).filter(|last| {
        let version = &text[last + 1..];
        version.len() > 4 && version[..4].eq_ignore_ascii_case(b"SIP/")
    });
    let (uri_end, version) = match last {
        Some(last) => (start + last, Span::new(start + last + 1, end)),
        None => (end, Span::new(end, end)),
    };
    let uri = if first < uri_end - start {
        span_of(bytes, start + first + 1, uri_end)
    } else {
        Span::new(uri_end, uri_end)
    };
    let exact = last.is_some()
        && end == line.end
        && usize::from(uri.start) == start + first + 1
        && usize::from(uri.end) == uri_end
        && uri.start < uri.end
        && !uri.of(bytes).iter().any(|byte| *byte <= b' ');
    if !exact {
        *flaws |= Flaws::START_LINE;
    }
    Ok(StartSpan::Request {
        known: Method::of(&text[..first]),
        method: Span::new(start, start + first),
        uri,
        version,
    })
}
