//! The boot epoch: which life of a machine this is. Greater than every one before it.
//!
//! Receivers refuse a datagram whose epoch and sequence number are not greater than the last they took,
//! so a machine that came back with an earlier epoch would never be heard again. The epoch is therefore
//! on the disk, safely, before the first datagram with it goes out.
//!
//! It is the time of day in seconds, or one more than the last, whichever is greater. So it grows even
//! when the directory is lost (unless the clock was set back as well), and even when the clock is wrong
//! (unless the directory is lost as well). Nothing else depends on the time of day.

use crate::kept;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const FILE: &str = "epoch";

/// Why there is no epoch.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// Whether there was an earlier one cannot be told.
    #[error("cannot read the last boot epoch from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It would be forgotten.
    #[error(
        "cannot keep the boot epoch in {path}: without it, what is sent after the next boot would be refused"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is none after the last.
    #[error(
        "the last boot epoch in {path} is the highest there can be; if that is a mistake, remove the file and restart the controllers"
    )]
    Exhausted {
        /// The file.
        path: PathBuf,
    },
}

/// Begins a new life: the epoch to send with, kept already.
///
/// # Errors
/// [`EpochError`].
pub fn begin(state_dir: &Path) -> Result<u32, EpochError> {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let clock = u32::try_from(since_1970.as_secs()).unwrap_or(1);
    let last = last(state_dir)?;
    let next = last.checked_add(1);
    let next = next.ok_or_else(|| EpochError::Exhausted {
        path: state_dir.join(FILE),
    })?;
    let epoch = next.max(clock);
    keep(state_dir, epoch)?;
    Ok(epoch)
}

/// Keeps an epoch: on the disk when this returns.
///
/// # Errors
/// [`EpochError::Write`].
pub fn keep(state_dir: &Path, epoch: u32) -> Result<(), EpochError> {
    let path = state_dir.join(FILE);
    kept::write(&path, &epoch.to_string()).map_err(|source| EpochError::Write { path, source })
}

/// The epoch of the last life; 0 when there was none.
fn last(state_dir: &Path) -> Result<u32, EpochError> {
    let path = state_dir.join(FILE);
    match kept::read(&path) {
        Ok(Some(text)) => Ok(text.parse().unwrap_or_else(|_| {
            tracing::warn!(
                ?path,
                "the last boot epoch is no number; going by the clock"
            );
            0
        })),
        Ok(None) => Ok(0),
        Err(source) => Err(EpochError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("pm-{}-epoch-{name}", std::process::id())))
        }

        fn write(&self, text: &str) {
            fs::create_dir_all(&self.0).expect("a temporary directory");
            fs::write(self.0.join(FILE), text).expect("own directory");
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn every_life_has_a_higher_epoch() {
        let directory = Directory::new("lives");
        let lives: Vec<u32> = (0..5)
            .map(|_| begin(&directory.0).expect("an epoch"))
            .collect();
        assert!(lives.is_sorted_by(|a, b| a < b), "{lives:?}");
        assert_eq!(last(&directory.0).expect("kept"), lives[4]);
    }

    #[test]
    fn a_clock_that_was_set_back_is_of_no_account() {
        let directory = Directory::new("clock");
        directory.write("4000000000\n");
        assert_eq!(begin(&directory.0).expect("an epoch"), 4_000_000_001);
    }

    #[test]
    fn a_damaged_file_leaves_the_clock() {
        let directory = Directory::new("damaged");
        for text in ["", "\0\0\0\0", "-1", "99999999999"] {
            directory.write(text);
            assert!(
                begin(&directory.0).expect("an epoch") > 1_700_000_000,
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_last_epoch_of_all_is_said() {
        let directory = Directory::new("last");
        directory.write("4294967295");
        assert!(matches!(
            begin(&directory.0),
            Err(EpochError::Exhausted { .. })
        ));
    }

    #[test]
    fn what_cannot_be_kept_is_not_begun() {
        let file = Directory::new("file");
        fs::write(&file.0, "").expect("a temporary directory");
        let error = begin(&file.0).expect_err("no directory");
        fs::remove_file(&file.0).expect("own file");
        assert!(
            matches!(error, EpochError::Read { .. } | EpochError::Write { .. }),
            "{error}"
        );
    }
}
