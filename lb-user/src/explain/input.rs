//! The frames to explain: from hexadecimal lines, from JSON lines, from captures.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Source;
use super::capture::{Capture, CaptureError};

/// A frame to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its number.
    pub(super) n: u64,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// The capture holds only its beginning.
    pub(super) captured_short: bool,
}

/// The frames could not be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A frame on the command line.
    #[error("--hex, frame {n}: {what}")]
    Hex {
        /// Which frame.
        n: u64,
        /// What is wrong.
        what: HexError,
    },
    /// A line.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// A capture.
    #[error("{path}")]
    Capture {
        /// The file.
        path: PathBuf,
        /// What is wrong, and with which packet.
        source: CaptureError,
    },
}

/// Digits that make no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// Something else than a digit.
    #[error("{found:?} at character {at} is no hexadecimal digit")]
    Digit {
        /// The character.
        found: char,
        /// Its place, from 1.
        at: usize,
    },
    /// Half a byte.
    #[error("an odd number of hexadecimal digits ({0})")]
    Odd(usize),
}

/// Frames, one after the other.
pub(super) enum Frames {
    Hex {
        lines: std::vec::IntoIter<String>,
        next: u64,
    },
    Lines(Box<Lines>),
    Capture {
        path: PathBuf,
        capture: Box<Capture>,
        next: u64,
        ended: bool,
    },
}

impl Frames {
    pub(super) fn open(source: &Source) -> Result<Self, InputError> {
        if let Some(path) = &source.pcap {
            let capture = Capture::open(reader(path)?).map_err(|source| InputError::Capture {
                path: path.clone(),
                source,
            })?;
            let capture = Box::new(capture);
            return Ok(Self::Capture {
                path: path.clone(),
                capture,
                next: 0,
                ended: false,
            });
        }
        if let Some(path) = &source.frames {
            return Ok(Self::Lines(Box::new(Lines::new(path, reader(path)?))));
        }
        Ok(Self::Hex {
            lines: source.hex.clone().into_iter(),
            next: 0,
        })
    }
}

fn reader(path: &Path) -> Result<Box<dyn BufRead>, InputError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    match File::open(path) {
        Ok(file) => Ok(Box::new(BufReader::new(file))),
        Err(source) => Err(InputError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Hex { lines, next } => {
                let n = *next;
                *next += 1;
                Some(match hex(&lines.next()?) {
                    Ok(bytes) => Ok(Frame {
                        n,
                        bytes,
                        captured_short: false,
                    }),
                    Err(what) => Err(InputError::Hex { n, what }),
                })
            }
            Self::Lines(lines) => lines.next(),
            Self::Capture { ended: true, .. } => None,
            Self::Capture {
                path,
                capture,
                next,
                ended,
            } => {
                let packet = capture.next()?;
                *ended = packet.is_err();
                let n = *next;
                *next += 1;
                Some(match packet {
                    Ok(packet) => Ok(Frame {
                        n,
                        captured_short: packet.is_cut(),
                        bytes: packet.bytes,
                    }),
                    Err(source) => Err(InputError::Capture {
                        path: path.clone(),
                        source,
                    }),
                })
            }
        }
    }
}

/// Lines of the form `{"n":0,"hex":"…"}`. Empty ones are skipped; the number defaults to the place.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: u64,
    next: u64,
    ended: bool,
}

#[derive(Deserialize)]
struct Line {
    n: Option<u64>,
    hex: String,
}

/// Bytes that a line may have: more than the digits of any frame.
const MAX_LINE: u64 = 1 << 20;

impl Lines {
    fn new(path: &Path, reader: Box<dyn BufRead>) -> Self {
        Self {
            path: path.to_owned(),
            reader,
            line: 0,
            next: 0,
            ended: false,
        }
    }

    fn wrong(&mut self, what: impl ToString) -> InputError {
        self.ended = true;
        InputError::Line {
            path: self.path.clone(),
            line: self.line,
            what: what.to_string(),
        }
    }

    fn frame(&mut self, text: &[u8]) -> Result<Frame, InputError> {
        let line: Line = serde_json::from_slice(text).map_err(|error| self.wrong(error))?;
        let bytes = hex(&line.hex).map_err(|error| self.wrong(error))?;
        let n = line.n.unwrap_or(self.next);
        self.next += 1;
        Ok(Frame {
            n,
            bytes,
            captured_short: false,
        })
    }
}

impl Iterator for Lines {
    type Item = Result<Frame, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let mut text = Vec::new();
            self.line += 1;
            match self
                .reader
                .by_ref()
                .take(MAX_LINE)
                .read_until(b'\n', &mut text)
            {
                Ok(0) => return None,
                Ok(len) if len as u64 == MAX_LINE => {
                    return Some(Err(self.wrong("longer than any frame")));
                }
                Ok(_) if text.trim_ascii().is_empty() => {}
                Ok(_) => return Some(self.frame(&text)),
                Err(source) => {
                    self.ended = true;
                    return Some(Err(InputError::File {
                        path: self.path.clone(),
                        source,
                    }));
                }
            }
        }
        None
    }
}

/// The bytes that hexadecimal digits make. Blanks, colons and hyphens may stand between them.
fn hex(text: &str) -> Result<Vec<u8>, HexError> {
    let mut digits = Vec::with_capacity(text.len());
    for (place, found) in text.chars().enumerate() {
        match found.to_digit(16) {
            Some(digit) => digits.push(digit as u8),
            None if found.is_ascii_whitespace() || matches!(found, ':' | '-') => {}
            None => {
                return Err(HexError::Digit {
                    found,
                    at: place + 1,
                });
            }
        }
    }
    let (pairs, rest) = digits.as_chunks();
    if !rest.is_empty() {
        return Err(HexError::Odd(digits.len()));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &str) -> Vec<Result<Frame, String>> {
        let reader = Box::new(io::Cursor::new(text.as_bytes().to_vec()));
        Lines::new(Path::new("f.jsonl"), reader)
            .map(|frame| frame.map_err(|error| error.to_string()))
            .collect()
    }

    fn frame(n: u64, bytes: &[u8]) -> Frame {
        Frame {
            n,
            bytes: bytes.to_vec(),
            captured_short: false,
        }
    }

    #[test]
    fn digits_make_bytes() {
        assert_eq!(hex("00ff Aa:bB-0c\n"), Ok(vec![0, 255, 0xaa, 0xbb, 0x0c]));
        assert_eq!(hex(""), Ok(vec![]));
        assert_eq!(hex("0"), Err(HexError::Odd(1)));
        assert_eq!(hex("0 x"), Err(HexError::Digit { found: 'x', at: 3 }));
    }

    #[test]
    fn lines_have_numbers_of_their_own_or_their_place() {
        let text = "{\"n\":7,\"hex\":\"00\"}\n\n{\"hex\":\"01\",\"comment\":\"x\"}\r\n{\"n\":1,\"hex\":\"\"}";
        assert_eq!(
            lines(text),
            [Ok(frame(7, &[0])), Ok(frame(1, &[1])), Ok(frame(1, &[]))]
        );
    }

    #[test]
    fn a_wrong_line_is_named_and_the_last() {
        for (text, expected) in [
            (
                "{\"n\":0,\"hex\":\"00\"}\n{\"n\":1,\"hex\":\"0g\"}\n{\"hex\":\"\"}",
                "f.jsonl, line 2: 'g' at",
            ),
            ("\n\nnot json\n", "f.jsonl, line 3: expected ident"),
            ("{\"n\":0}\n", "f.jsonl, line 1: missing field `hex`"),
            (
                "{\"n\":-1,\"hex\":\"\"}\n",
                "f.jsonl, line 1: invalid value",
            ),
        ] {
            let all = lines(text);
            let Some(Err(error)) = all.last() else {
                panic!("{all:?}")
            };
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(lines(&"x".repeat(2 << 20)).last().unwrap().is_err());
    }

    proptest! {
        #[test]
        fn noise_ends_in_an_error_or_a_frame(text in ".{0,200}") {
            let _ = lines(&text);
            let _ = hex(&text);
        }
    }
}
