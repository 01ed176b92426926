//! Where messages end in a stream (RFC 3261 §18.3).
//!
//! Bytes go in as they are read, messages come out whole. What is buffered never exceeds one message
//! of [`MAX_MESSAGE`] bytes.

use bytes::{Buf, BytesMut};

use crate::message::{ContentLength, Flaws, Head, MAX_MESSAGE, Message, ParseError, read_head};

/// What came out of a stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// A message.
    Message(Message),
    /// A double CRLF between messages: the peer wants to see a CRLF (RFC 5626 §4.4.1).
    ///
    /// A single one, which is what answers such a ping, is skipped as RFC 3261 §7.5 says: nothing
    /// here sends pings.
    Ping,
}

/// Why a stream cannot be read any further. The connection is to be closed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// No message starts here.
    #[error("no SIP message in the stream")]
    Parse(#[from] ParseError),
    /// The message's length cannot be told. It is here without its body, so that it can be answered
    /// with 400: [`crate::validate()`] says so too.
    #[error("a message of unknown length in the stream: {:?}", .0.flaws())]
    Length(Box<Message>),
    /// Longer than [`MAX_MESSAGE`] by its Content-Length; without its body.
    #[error("a message longer than {MAX_MESSAGE} bytes in the stream")]
    TooLong(Box<Message>),
    /// [`MAX_MESSAGE`] bytes without an empty line.
    #[error("more than {MAX_MESSAGE} bytes of headers in the stream")]
    Endless,
    /// It was broken before.
    #[error("the stream was broken before")]
    Broken,
}

/// Cuts a stream into messages; see the [module](self).
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// No empty line ends before this offset.
    scanned: usize,
    /// The length of the message in the buffer and its head, once that is there.
    expected: Option<(usize, Head)>,
    broken: bool,
}

impl Framer {
    /// A framer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes as many of these bytes as there is room for, and says how many. It takes all of them, if
    /// [`Framer::next_event`] was called until there was none.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let room = (MAX_MESSAGE + 1).saturating_sub(self.buffer.len());
        let taken = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// How many bytes wait for the rest of their message.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// What comes next; `None` if that needs more bytes.
    ///
    /// # Errors
    /// There is no reading on; see [`FrameError`].
    pub fn next_event(&mut self) -> Result<Option<StreamEvent>, FrameError> {
        if self.broken {
            return Err(FrameError::Broken);
        }
        let event = self.read();
        self.broken = event.is_err();
        event
    }

    fn read(&mut self) -> Result<Option<StreamEvent>, FrameError> {
        if self.expected.is_none() && self.scanned == 0 {
            // One byte at a time, so that the sizes of the pieces make no difference.
            loop {
                if self.buffer.starts_with(b"\r\n\r\n") {
                    self.buffer.advance(4);
                    return Ok(Some(StreamEvent::Ping));
                }
                if b"\r\n\r".starts_with(&self.buffer) {
                    return Ok(None);
                }
                let (b'\r' | b'\n') = self.buffer[0] else {
                    break;
                };
                self.buffer.advance(1);
            }
        }
        let (length, head) = match self.expected.take() {
            Some(expected) => expected,
            None => {
                let Some(head_end) = self.find_empty_line() else {
                    return if self.buffer.len() > MAX_MESSAGE {
                        Err(FrameError::Endless)
                    } else {
                        Ok(None)
                    };
                };
                self.head(head_end)?
            }
        };
        if self.buffer.len() < length {
            self.expected = Some((length, head));
            return Ok(None);
        }
        self.scanned = 0;
        let bytes = self.buffer.split_to(length).freeze();
        let flaws = head.flaws;
        Ok(Some(StreamEvent::Message(Message::assemble(
            bytes, head, flaws,
        ))))
    }

    /// The length of the message whose head ends here, and that head.
    fn head(&mut self, head_end: usize) -> Result<(usize, Head), FrameError> {
        let head = read_head(&self.buffer[..head_end])?;
        let (flaw, length) = match head.content_length {
            ContentLength::Is(body) => (Flaws::default(), head.end.saturating_add(body as usize)),
            ContentLength::Absent => (Flaws::NO_CONTENT_LENGTH, 0),
            ContentLength::Wrong => (Flaws::default(), 0),
        };
        if (head.end..=MAX_MESSAGE).contains(&length) {
            return Ok((length, head));
        }
        let bytes = self.buffer.split_to(head_end).freeze();
        let flaws = head.flaws | flaw;
        let message = Box::new(Message::assemble(bytes, head, flaws));
        Err(if length == 0 {
            FrameError::Length(message)
        } else {
            FrameError::TooLong(message)
        })
    }

    /// Where the head ends: behind the first empty line.
    fn find_empty_line(&mut self) -> Option<usize> {
        let mut from = self.scanned;
        while let Some(at) = memchr::memchr(b'\n', &self.buffer[from..]) {
            let line_end = from + at;
            match self.buffer.get(line_end + 1..) {
                Some([b'\n', ..]) => return Some(line_end + 2),
                Some([b'\r', b'\n', ..]) => return Some(line_end + 3),
                // The next line may still turn out to be empty.
                Some([] | [b'\r']) | None => {
                    self.scanned = line_end;
                    return None;
                }
                Some(_) => from = line_end + 1,
            }
        }
        self.scanned = self.buffer.len();
        None
    }
}
