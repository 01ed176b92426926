//! Where the words of an object that logs go: to standard error, apart from the answers.

use log::{Log, Metadata, Record};

/// Writes a line for each record.
pub(super) struct Narrator;

impl Log for Narrator {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        eprintln!("program: {}", record.args());
    }

    fn flush(&self) {}
}
