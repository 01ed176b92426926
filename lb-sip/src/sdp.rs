//! Session descriptions, as far as a call's record needs them (RFC 8866, RFC 3264).
//!
//! A view, like [`Message`]: the bytes stay as they are. Lines that are none, and types that nothing
//! here asks for, are passed over.

use crate::message::{Message, Name};
use crate::rsip_values::{MediaType, media_type};
use crate::text::{number, trim_end, trim_start};

/// A session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sdp<'a>(&'a [u8]);

/// Who created the description, and which edition of it this is: `o=` (RFC 8866 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The session's id, a number for most.
    pub session_id: &'a [u8],
    /// Grows with each change; the same number says that nothing has changed (RFC 3264 §8).
    pub version: u64,
    /// The creator's address, as written.
    pub address: &'a [u8],
}

/// Which way the media goes (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// Only from who describes: the other side is held.
    SendOnly,
    /// Only to who describes.
    RecvOnly,
    /// No way.
    Inactive,
}

/// One media description: an `m=` line and those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media<'a> {
    /// `audio`, `video` and others.
    pub kind: &'a [u8],
    /// Where it is to be sent; 0 for refused.
    pub port: u16,
    /// The address for it, an address or a name; its own or the session's.
    pub address: Option<&'a [u8]>,
    /// Its own or the session's.
    pub direction: Direction,
}

impl Media<'_> {
    /// Whether who describes has put the call on hold: it does not want to hear the other side
    /// (RFC 3264 §8.4), or gives the address 0.0.0.0 as RFC 2543 did.
    pub fn is_held(&self) -> bool {
        matches!(self.direction, Direction::SendOnly | Direction::Inactive)
            || self.address == Some(b"0.0.0.0")
    }
}

impl<'a> Sdp<'a> {
    /// A view of a description.
    pub fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The description as it is.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Type and value of each line, in order. Lines end with CRLF or LF.
    pub fn lines(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let lines = self.0.split(|byte| *byte == b'\n');
        lines.filter_map(|line| match line {
            [kind, b'=', value @ ..] => Some((*kind, trim_end(value))),
            _ => None,
        })
    }

    /// The origin; `None` if there is none or it is malformed.
    pub fn origin(&self) -> Option<Origin<'a>> {
        let (_, value) = self.lines().find(|line| line.0 == b'o')?;
        let words: Vec<&[u8]> = value.split(|byte| *byte == b' ').collect();
        match words[..] {
            [_, session_id, version, _, _, address] => Some(Origin {
                session_id,
                version: number(version)?,
                address,
            }),
            _ => None,
        }
    }

    /// All media descriptions, in order; malformed ones are left out.
    pub fn media(&self) -> impl Iterator<Item = Media<'a>> + use<'a> {
        let mut lines = self.lines().peekable();
        let mut session = Level::default();
        while let Some((kind, value)) = lines.next_if(|line| line.0 != b'm') {
            session.read(kind, value);
        }
        std::iter::from_fn(move || {
            loop {
                let (_, description) = lines.next()?;
                let mut own = Level::default();
                while let Some((kind, value)) = lines.next_if(|line| line.0 != b'm') {
                    own.read(kind, value);
                }
                let mut words = description.split(|byte| *byte == b' ');
                let (kind, port) = (words.next(), words.next());
                // A port may be followed by a count: 49170/2.
                let port = port.and_then(|port| port.split(|byte| *byte == b'/').next());
                if let (Some(kind), Some(port)) = (kind, port.and_then(number)) {
                    return Some(Media {
                        kind,
                        port,
                        address: own.address.or(session.address),
                        direction: own.direction.or(session.direction).unwrap_or_default(),
                    });
                }
            }
        })
    }

    /// The first audio that is not refused.
    pub fn audio(&self) -> Option<Media<'a>> {
        self.media()
            .find(|media| media.kind == b"audio" && media.port != 0)
    }
}

/// What can stand above all media descriptions, or in one.
#[derive(Clone, Copy, Debug, Default)]
struct Level<'a> {
    address: Option<&'a [u8]>,
    direction: Option<Direction>,
}

impl<'a> Level<'a> {
    fn read(&mut self, kind: u8, value: &'a [u8]) {
        match (kind, value) {
            (b'c', value) => {
                // `IN IP4 192.0.2.1`; multicast adds a TTL behind a slash.
                let address = value.split(|byte| *byte == b' ').nth(2);
                let address = address.and_then(|address| address.split(|b| *b == b'/').next());
                self.address = self.address.or(address);
            }
            (b'a', b"sendrecv") => self.direction = Some(Direction::SendRecv),
            (b'a', b"sendonly") => self.direction = Some(Direction::SendOnly),
            (b'a', b"recvonly") => self.direction = Some(Direction::RecvOnly),
            (b'a', b"inactive") => self.direction = Some(Direction::Inactive),
            _ => {}
        }
    }
}

impl Message {
    /// The session description in its body: the body itself, or the first such part of a `multipart`
    /// one, as trunks send that carry ISUP beside it (RFC 3204).
    pub fn sdp(&self) -> Option<Sdp<'_>> {
        if self.body().is_empty() {
            return None;
        }
        let plain = self.header(Name::ContentType)?.raw;
        if plain.eq_ignore_ascii_case(b"application/sdp") {
            return Some(Sdp(self.body()));
        }
        match media_type(self)? {
            MediaType::Sdp(_) => Some(Sdp(self.body())),
            MediaType::Other(name, params) => {
                let multipart = name.get(..10)?.eq_ignore_ascii_case("multipart/");
                let boundary = params
                    .iter()
                    .find(|param| param.0.eq_ignore_ascii_case("boundary"))
                    .filter(|param| multipart && !param.1.is_empty())?;
                sdp_part(self.body(), boundary.1.as_bytes()).map(Sdp)
            }
        }
    }
}

/// The first part whose type is SDP (RFC 2046 §5.1.1).
fn sdp_part<'a>(body: &'a [u8], boundary: &[u8]) -> Option<&'a [u8]> {
    let delimiter = [b"--", boundary].concat();
    let mut starts = memchr::memmem::find_iter(body, &delimiter).peekable();
    while let Some(start) = starts.next() {
        let end = starts.peek().copied().unwrap_or(body.len());
        let part = &body[start + delimiter.len()..end];
        // The delimiter's own line ends first; its rest is blank but for the last one's `--`.
        let Some(line_end) = memchr::memchr(b'\n', part) else {
            continue;
        };
        let part = &part[line_end + 1..];
        let Some(empty) = memchr::memmem::find(part, b"\r\n\r\n") else {
            continue;
        };
        let (head, text) = (&part[..empty], &part[empty + 4..]);
        let is_sdp = head.split(|byte| *byte == b'\n').any(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
            let (name, value) = line.split_at(colon);
            let value = trim_start(value.get(1..).unwrap_or_default());
            trim_end(name).eq_ignore_ascii_case(b"content-type")
                && value
                    .get(..15)
                    .is_some_and(|value| value.eq_ignore_ascii_case(b"application/sdp"))
        });
        if is_sdp {
            // The line end before the next delimiter belongs to that.
            return Some(text.strip_suffix(b"\r\n").unwrap_or(text));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=- 20518 7 IN IP6 2001:db8::7\r\ns=-\r\nc=IN IP6 2001:db8::9\r\nt=0 0\r\n\
        m=video 51372 RTP/AVP 31\r\na=inactive\r\nc=IN IP4 224.2.1.1/127\r\n\
        m=audio 0 RTP/AVP 0\r\nm=audio 49170/2 RTP/AVP 0\r\n";

    #[test]
    fn media_inherits_from_the_session() {
        let sdp = Sdp::new(SDP.as_bytes());
        let origin = sdp.origin().expect("an origin");
        assert_eq!((origin.version, origin.address), (7, &b"2001:db8::7"[..]));
        let audio = sdp.audio().expect("audio");
        let address = Some(&b"2001:db8::9"[..]);
        assert_eq!((audio.port, audio.address), (49170, address));
        assert!(!audio.is_held());
        let video = sdp.media().next().expect("video");
        assert_eq!(video.address, Some(&b"224.2.1.1"[..]));
        assert!(video.is_held());
        assert_eq!(sdp.media().count(), 3);
    }

    #[test]
    fn held_is_what_is_not_heard() {
        for (attribute, held) in [
            ("a=sendonly", true),
            ("a=inactive", true),
            ("a=recvonly", false),
            ("a=sendrecv", false),
            ("c=IN IP4 0.0.0.0", true),
            ("a=sendonlyx", false),
        ] {
            let own = format!("v=0\nm=audio 1 RTP/AVP 0\n{attribute}\n");
            let session = format!("v=0\r\n{attribute}\r\nm=audio 1 RTP/AVP 0\r\n");
            for text in [own, session] {
                let audio = Sdp::new(text.as_bytes()).audio().expect("audio");
                assert_eq!(audio.is_held(), held, "{text}");
            }
        }
        let overridden = b"a=inactive\r\nm=audio 1 x 0\r\na=sendrecv\r\n";
        assert!(!Sdp::new(overridden).audio().expect("audio").is_held());
    }

    #[test]
    fn a_part_of_several_is_found() {
        let body = format!(
            "--a b\r\nContent-Type: application/ISUP\r\n\r\n\u{1}\0\r\n--a b\r\n\
             content-type : application/sdp;x\r\nX: y\r\n\r\n{SDP}\r\n--a b--\r\n"
        );
        let text =
            format!("INVITE sip:a SIP/2.0\r\nc: multipart/mixed ;boundary=\"a b\"\r\n\r\n{body}");
        let message = Message::from_datagram(text.into()).expect("a message");
        assert_eq!(message.sdp(), Some(Sdp::new(SDP.as_bytes())));
        let none = Message::from_datagram("INVITE sip:a SIP/2.0\r\nc: a/b\r\n\r\nv=0".into());
        assert_eq!(none.expect("a message").sdp(), None);
    }
}
