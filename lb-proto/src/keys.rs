//! The key file's contents: the call secret, and the keys of beacons.
//!
//! ```text
//! # Every machine of the cluster has the same file, mode 0600.
//! call 000102030405060708090a0b0c0d0e0f
//! beacon 1 f0e1d2c3b4a5968778695a4b3c2d1e0f
//! beacon 2 00112233445566778899aabbccddeeff
//! ```
//! One `call` line: the secret of the call key. One or more `beacon` lines, each with an id of
//! 0–255: the first is what this machine signs with, all of them are good for what it receives.
//! To change keys without a miss: append the new one everywhere, then move it to the top
//! everywhere, then remove the old one everywhere.
//!
//! The call secret must be the same on all controllers, and a change of it moves calls.

use lb_common::siphash::SipKey;
use std::fmt;

/// A beacon key and the id that beacons name it by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NumberedKey {
    /// The id, unique in the ring.
    pub id: u8,
    /// The key of the MAC.
    pub key: SipKey,
}

/// The keys of a cluster, as one machine holds them.
///
/// `Display` writes the file, secrets and all; `Debug` shows none.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    call: SipKey,
    /// Never empty, ids unique.
    beacons: Vec<NumberedKey>,
}

/// What is wrong with a key file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A line that is neither key nor comment.
    #[error("line {line}: expected `call <32 hex digits>` or `beacon <id> <32 hex digits>`")]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// The key is no 32 hexadecimal digits.
    #[error("line {line}: a key is 32 hexadecimal digits")]
    Digits {
        /// The line, from 1.
        line: usize,
    },
    /// A key of zeros, as in a template that nobody filled in.
    #[error("line {line}: a key of zeros protects nothing; `pointsman keygen` makes one")]
    Zero {
        /// The line, from 1.
        line: usize,
    },
    /// A key id that is no number from 0 to 255.
    #[error("line {line}: a beacon key's id is a number from 0 to 255")]
    Id {
        /// The line, from 1.
        line: usize,
    },
    /// A second call secret, or a second key of the same id.
    #[error("line {line}: `{name}` is there already")]
    Twice {
        /// The line, from 1.
        line: usize,
        /// What there are two of.
        name: String,
    },
    /// A key that must be there is not.
    #[error("no `{0}` line; `pointsman keygen` makes a whole key file")]
    Missing(&'static str),
}

impl KeyRing {
    /// Random bytes that [`KeyRing::generate`] takes.
    pub const RANDOM_LEN: usize = 32;

    /// A fresh ring, with one beacon key, id 1, out of bytes that must be random.
    pub fn generate(random: [u8; Self::RANDOM_LEN]) -> Self {
        let half = |at: usize| SipKey::from_bytes(std::array::from_fn(|i| random[at + i]));
        Self {
            call: half(0),
            beacons: vec![NumberedKey {
                id: 1,
                key: half(16),
            }],
        }
    }

    /// Reads a key file's contents.
    ///
    /// # Errors
    /// [`KeyError`] for the first line that is wrong, or for what is missing. It never repeats key
    /// material.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut call = None;
        let mut beacons: Vec<NumberedKey> = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.split('#').next().unwrap_or_default();
            let words: Vec<&str> = content.split_ascii_whitespace().collect();
            match words[..] {
                [] => {}
                ["call", digits] => {
                    if call.replace(key(digits, line)?).is_some() {
                        return Err(KeyError::Twice {
                            line,
                            name: "call".to_owned(),
                        });
                    }
                }
                ["beacon", id, digits] => {
                    let id = id.parse().map_err(|_| KeyError::Id { line })?;
                    if beacons.iter().any(|beacon| beacon.id == id) {
                        return Err(KeyError::Twice {
                            line,
                            name: format!("beacon {id}"),
                        });
                    }
                    beacons.push(NumberedKey {
                        id,
                        key: key(digits, line)?,
                    });
                }
                _ => return Err(KeyError::Line { line }),
            }
        }
        let call = call.ok_or(KeyError::Missing("call"))?;
        if beacons.is_empty() {
            return Err(KeyError::Missing("beacon"));
        }
        Ok(Self { call, beacons })
    }

    /// The secret of the call key.
    pub const fn call_secret(&self) -> SipKey {
        self.call
    }

    /// The key that this machine signs with.
    pub fn sending(&self) -> NumberedKey {
        self.beacons[0]
    }

    /// All keys that are good for what is received, the sending one first.
    pub fn beacons(&self) -> &[NumberedKey] {
        &self.beacons
    }

    /// The beacon key of an id.
    pub fn beacon(&self, id: u8) -> Option<SipKey> {
        find(&self.beacons, id)
    }
}

/// The key of an id, among `keys`.
pub(crate) fn find(keys: &[NumberedKey], id: u8) -> Option<SipKey> {
    let found = keys.iter().find(|key| key.id == id);
    found.map(|found| found.key)
}

fn key(digits: &str, line: usize) -> Result<SipKey, KeyError> {
    // `from_str_radix` would take a sign.
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(KeyError::Digits { line });
    }
    match u128::from_str_radix(digits, 16) {
        Ok(0) => Err(KeyError::Zero { line }),
        Ok(number) => Ok(SipKey::from_bytes(number.to_be_bytes())),
        Err(_) => Err(KeyError::Digits { line }),
    }
}

impl fmt::Display for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Pointsman keys: the same file on every machine of the cluster, mode 0600."
        )?;
        writeln!(f, "# The secret that call keys are made with.")?;
        writeln!(f, "call {}", Digits(self.call))?;
        writeln!(f, "# The first beacon key signs, all of them verify.")?;
        for beacon in &self.beacons {
            writeln!(f, "beacon {} {}", beacon.id, Digits(beacon.key))?;
        }
        Ok(())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u8> = self.beacons.iter().map(|beacon| beacon.id).collect();
        f.debug_struct("KeyRing")
            .field("beacons", &ids)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NumberedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NumberedKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

struct Digits(SipKey);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:016x}{:016x}",
            self.0.k0.swap_bytes(),
            self.0.k1.swap_bytes()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALL: &str = "call 000102030405060708090a0b0c0d0e0f\n";
    const BEACON: &str = "beacon 7 F0E1D2C3B4A5968778695A4B3C2D1E0F\n";

    #[test]
    fn a_whole_file() {
        let text = format!(
            "# keys\n\n  {CALL}{BEACON}beacon 3 {}  # the old one\n",
            "11".repeat(16)
        );
        let ring = KeyRing::parse(&text).expect("a good file");
        assert_eq!(
            ring.call_secret(),
            SipKey::from_bytes(std::array::from_fn(|i| i as u8))
        );
        assert_eq!(ring.sending().id, 7);
        assert_eq!(ring.beacon(7), Some(ring.sending().key));
        assert_eq!(ring.beacon(3), Some(SipKey::from_bytes([0x11; 16])));
        assert_eq!(ring.beacon(4), None);
        assert_eq!(ring.beacons().len(), 2);
    }

    #[test]
    fn errors_say_where() {
        let zeros = "0".repeat(32);
        let cases = [
            (format!("{CALL}beacon"), KeyError::Line { line: 2 }),
            (format!("{CALL}\nkey 1 {zeros}"), KeyError::Line { line: 3 }),
            ("call 0001".to_owned(), KeyError::Digits { line: 1 }),
            (
                format!("call +{}", "1".repeat(31)),
                KeyError::Digits { line: 1 },
            ),
            (format!("call {zeros}"), KeyError::Zero { line: 1 }),
            (format!("beacon 256 {zeros}"), KeyError::Id { line: 1 }),
            (
                format!("{CALL}{CALL}"),
                KeyError::Twice {
                    line: 2,
                    name: "call".to_owned(),
                },
            ),
            (
                format!("{BEACON}{BEACON}"),
                KeyError::Twice {
                    line: 2,
                    name: "beacon 7".to_owned(),
                },
            ),
            (BEACON.to_owned(), KeyError::Missing("call")),
            (CALL.to_owned(), KeyError::Missing("beacon")),
        ];
        for (text, error) in cases {
            assert_eq!(KeyRing::parse(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn debug_tells_no_secret() {
        let ring = KeyRing::parse(&format!("{CALL}{BEACON}")).expect("a good file");
        assert_eq!(format!("{ring:?}"), "KeyRing { beacons: [7], .. }");
        assert_eq!(format!("{:?}", ring.sending()), "NumberedKey { id: 7, .. }");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(random: [u8; 32]) {
            prop_assume!(random[..16] != [0; 16] && random[16..] != [0; 16]);
            let ring = KeyRing::generate(random);
            prop_assert_eq!(KeyRing::parse(&ring.to_string()), Ok(ring));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|(call|beacon| |[0-9a-f]{32}|\n|1){0,20}") {
            let _ = KeyRing::parse(&text);
        }
    }
}
