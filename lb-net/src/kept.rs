//! A line of text that outlives the process and the power: epochs, terms, whose leases count.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The line, without white space around it; `None` when nothing was ever kept there.
///
/// # Errors
/// There is something, but it cannot be read.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Bytes that are no text are a damaged line, which the reader will not understand either.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(error) => Err(error),
    }
}

/// Keeps a line in place of the last: on the disk when this returns, whole whatever happens meanwhile. Makes
/// the directory if need be.
///
/// # Errors
/// It is not kept, or may not be.
pub fn write(path: &Path, line: &str) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    // The new file is whole before it takes the old one's name, and the name is on the disk too.
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}
