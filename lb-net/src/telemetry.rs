//! Where log lines go: standard error, in the form that its reader likes.

use std::io::{IsTerminal, stderr};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error, for the whole process. A second call changes nothing.
///
/// Level `info`, unless `RUST_LOG` says otherwise (`debug`, `lb_user=trace,info` and the like). In
/// colour on a terminal; without time when the journal reads, which has its own.
pub fn init() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false);
    // An error means that somebody was first, and their choice stands.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().try_init()
    } else {
        lines.try_init()
    };
}
