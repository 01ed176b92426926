//! Tells the service manager what the daemon is about (`Type=notify`).
//!
//! Nothing happens when there is no service manager (`NOTIFY_SOCKET` is not set), and an error is no
//! reason for a daemon to stop serving: it is logged.

use sd_notify::NotifyState;

/// The daemon serves now.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The line that `systemctl status` shows.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The daemon is stopping.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
