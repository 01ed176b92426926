//! Are pinned maps what this version expects? Asked before they are adopted, since the kernel only
//! sees to it that a program does not read beyond a value, not that both mean the same by it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{MapError, MapInfo};
use aya::sys::SyscallError;

use super::object::{self, Shape};

/// What to do about pins that cannot be adopted.
const REMEDY: &str = "`pointsman detach` removes what is pinned there (traffic then bypasses the \
                      load balancer until the next start), or choose another `bpffs` directory";

/// A pinned map is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// It is of another shape.
    #[error(
        "{path}: the pinned map has {property} {found}, this version needs {expected}; {REMEDY}"
    )]
    Differs {
        /// The pin.
        path: PathBuf,
        /// What differs.
        property: &'static str,
        /// As it is.
        found: String,
        /// As it should be.
        expected: String,
    },
    /// It is not there.
    #[error("{path}: this map's pin is missing; {REMEDY}")]
    Missing {
        /// The pin.
        path: PathBuf,
    },
    /// It is something else, or cannot be opened.
    #[error("{path}: no map that can be opened; {REMEDY}")]
    Unreadable {
        /// The pin.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: MapError,
    },
}

/// Checks every map's pin in a directory.
///
/// # Errors
/// [`ShapeError`] for the first that is wrong.
pub fn check(dir: &Path) -> Result<(), ShapeError> {
    object::MAPS
        .iter()
        .try_for_each(|shape| check_one(&dir.join(shape.name), shape))
}

fn check_one(path: &Path, shape: &Shape) -> Result<(), ShapeError> {
    let owned = || path.to_owned();
    if matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return Err(ShapeError::Missing { path: owned() });
    }
    let read = MapInfo::from_pin(path).and_then(|info| Ok((info.map_type()?, info)));
    let (kind, info) = read.map_err(|source| match source {
        MapError::SyscallError(SyscallError { ref io_error, .. })
            if io_error.kind() == io::ErrorKind::NotFound =>
        {
            ShapeError::Missing { path: owned() }
        }
        source => ShapeError::Unreadable {
            path: owned(),
            source,
        },
    })?;
    let differs = |property, found: String, expected: String| {
        Err(ShapeError::Differs {
            path: owned(),
            property,
            found,
            expected,
        })
    };
    if kind != shape.kind {
        return differs("type", format!("{kind:?}"), format!("{:?}", shape.kind));
    }
    let numbers = [
        ("key size", info.key_size(), shape.key_size),
        ("value size", info.value_size(), shape.value_size),
        (
            "size",
            info.max_entries(),
            shape.entries.unwrap_or(info.max_entries()),
        ),
    ];
    for (property, found, expected) in numbers {
        if found != expected {
            return differs(property, found.to_string(), expected.to_string());
        }
    }
    if info.map_flags() != shape.flags {
        let [found, expected] = [info.map_flags(), shape.flags].map(|flags| format!("{flags:#x}"));
        return differs("flags", found, expected);
    }
    Ok(())
}
