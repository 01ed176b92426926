//! `PINS`, with their hints kept exact.

use std::os::fd::AsFd;

use aya::maps::MapError;
use aya::sys::SyscallError;
use lb_common::maps::Pin;

use super::{AccessError, Batch, Cursor, Maps, lock};
use crate::plane::batch;
use crate::plane::raw::Raw;

/// How the insertion of a pin went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// The pin is made.
    Made,
    /// The call has a pin already, which is left as it is.
    Exists,
    /// No room.
    Full,
}

impl Maps {
    /// A call's pin.
    pub fn pin(&self, key: u64) -> Result<Option<Pin>, AccessError> {
        match lock(&self.pins).get(&key, 0) {
            Ok(Raw(pin)) => Ok(Some(pin)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(AccessError {
                map: "PINS",
                source,
            }),
        }
    }

    /// Makes a pin, unless the call has one.
    pub fn insert_pin(&self, key: u64, pin: Pin) -> Result<Insertion, AccessError> {
        const NO_EXIST: u64 = 1;
        self.tracks.add_pin(key);
        let error = match lock(&self.pins).insert(key, Raw(pin), NO_EXIST) {
            Ok(()) => return Ok(Insertion::Made),
            Err(error) => error,
        };
        self.tracks.subtract_pin(key);
        match os_error(&error) {
            Some(libc::EEXIST) => Ok(Insertion::Exists),
            Some(libc::E2BIG | libc::ENOMEM) => Ok(Insertion::Full),
            _ => Err(AccessError {
                map: "PINS",
                source: error,
            }),
        }
    }

    /// Overwrites a pin that exists; returns whether it did.
    pub fn update_pin(&self, key: u64, pin: Pin) -> Result<bool, AccessError> {
        const EXIST: u64 = 2;
        match lock(&self.pins).insert(key, Raw(pin), EXIST) {
            Ok(()) => Ok(true),
            Err(error) if os_error(&error) == Some(libc::ENOENT) => Ok(false),
            Err(source) => Err(AccessError {
                map: "PINS",
                source,
            }),
        }
    }

    /// Deletes a pin; returns whether there was one.
    pub fn remove_pin(&self, key: u64) -> Result<bool, AccessError> {
        match lock(&self.pins).remove(&key) {
            Ok(()) => {
                self.tracks.subtract_pin(key);
                Ok(true)
            }
            Err(error) if os_error(&error) == Some(libc::ENOENT) => Ok(false),
            Err(source) => Err(AccessError {
                map: "PINS",
                source,
            }),
        }
    }

    /// The next few thousand pins of a walk over all of them. Pins made or deleted during the walk
    /// may or may not be seen; all others are seen once.
    pub fn pin_batch(&self, from: Option<Cursor>) -> Result<Batch<Pin>, AccessError> {
        batch::read(self.pins_fd.as_fd(), from).map_err(|error| AccessError {
            map: "PINS",
            source: error.into(),
        })
    }

    /// All pins. Ends after the first error.
    pub fn pins(&self) -> impl Iterator<Item = Result<(u64, Pin), AccessError>> + '_ {
        let mut at = Walk::Start;
        std::iter::from_fn(move || {
            let from = match at {
                Walk::Start => None,
                Walk::At(cursor) => Some(cursor),
                Walk::End => return None,
            };
            let batch = self.pin_batch(from);
            at = match &batch {
                Ok(Batch {
                    next: Some(next), ..
                }) => Walk::At(*next),
                Ok(Batch { next: None, .. }) | Err(_) => Walk::End,
            };
            Some(batch)
        })
        .flat_map(|batch| {
            let (pins, error) = match batch {
                Ok(batch) => (batch.entries, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            pins.into_iter().map(Ok).chain(error)
        })
    }

    /// How many pins there are: exact but for insertions under way.
    pub fn pin_count(&self) -> u64 {
        self.tracks.pins()
    }

    /// How many pins share this key's hint.
    pub fn pin_hint(&self, key: u64) -> u64 {
        self.tracks.pin_hint(key)
    }

    /// How many pins the map holds at most.
    pub fn max_pins(&self) -> u32 {
        self.max_pins
    }
}

/// A walk over a hash map, batch by batch.
#[derive(Clone, Copy)]
enum Walk {
    Start,
    At(Cursor),
    End,
}

fn os_error(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(SyscallError { io_error, .. }) => io_error.raw_os_error(),
        _ => None,
    }
}
