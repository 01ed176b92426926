//! Reads the key file, if nobody else can.

use lb_proto::keys::{KeyError, KeyRing};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// More than 256 keys with comments need.
const MAX_LEN: u64 = 64 * 1024;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be opened or read.
    #[error("key file {path}: cannot be read; `pointsman keygen` makes one")]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not a plain file, or far too long for one.
    #[error("key file {path}: not a plain file of at most {MAX_LEN} bytes")]
    Kind {
        /// The key file.
        path: PathBuf,
    },
    /// Others may read or write it.
    #[error(
        "key file {path}: its mode is {mode:04o}, so others can get at it; say `chmod 600 {path}`, \
         and make new keys if somebody may have read these"
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The contents are wrong.
    #[error("key file {path}")]
    Content {
        /// The key file.
        path: PathBuf,
        /// What is wrong, and in which line.
        source: KeyError,
    },
}

/// Reads the keys of a file that nobody but its owner may read or write.
///
/// # Errors
/// [`KeyFileError`], which names the file and what to do.
pub fn read(path: &Path) -> Result<KeyRing, KeyFileError> {
    let owned = || path.to_owned();
    let failed = |source| KeyFileError::Read {
        path: owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    // Of the open file, not of the path: nobody can swap it in between.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.size() > MAX_LEN {
        return Err(KeyFileError::Kind { path: owned() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed {
            path: owned(),
            mode,
        });
    }
    let mut text = String::new();
    file.take(MAX_LEN)
        .read_to_string(&mut text)
        .map_err(failed)?;
    KeyRing::parse(&text).map_err(|source| KeyFileError::Content {
        path: owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A key file of this test's own, gone with it.
    struct Fixture(PathBuf);

    impl Fixture {
        fn new(name: &str, mode: u32, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pm-{}-{name}", std::process::id()));
            fs::write(&path, text).expect("a writable temporary directory");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own file");
            Self(path)
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn text() -> String {
        KeyRing::generate(std::array::from_fn(|i| i as u8 + 1)).to_string()
    }

    #[test]
    fn a_private_file_is_read() {
        let file = Fixture::new("private", 0o600, &text());
        assert_eq!(read(&file.0).expect("good keys").to_string(), text());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o644] {
            let file = Fixture::new(&format!("exposed-{mode:o}"), mode, &text());
            let error = read(&file.0).expect_err("exposed keys");
            assert!(matches!(error, KeyFileError::Exposed { mode: found, .. } if found == mode));
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn other_kinds_and_contents_are_refused() {
        let file = Fixture::new("content", 0o600, "call 12\n");
        assert!(matches!(read(&file.0), Err(KeyFileError::Content { .. })));
        assert!(matches!(
            read(&std::env::temp_dir()),
            Err(KeyFileError::Kind { .. })
        ));
        let absent = std::env::temp_dir().join("pm-no-such-key-file");
        assert!(matches!(read(&absent), Err(KeyFileError::Read { .. })));
    }
}
