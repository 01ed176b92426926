//! Tells the service manager what the daemon is about (`Type=notify`).
//!
//! Nothing happens when there is no service manager (`NOTIFY_SOCKET` is not set), and an error is no
//! reason for a daemon to stop serving: it is logged.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;

use sd_notify::NotifyState;

/// The daemon serves now.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The line that `systemctl status` shows.
///
/// Returns at once: a thread of its own hands the line on, the newest if there are several, because a
/// service manager that does not read would stop a daemon that waits for it.
pub fn status(status: &str) {
    static MESSENGER: OnceLock<Option<&'static Messenger>> = OnceLock::new();
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    if let Some(messenger) = MESSENGER.get_or_init(Messenger::start) {
        messenger.leave(status);
    }
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

/// A line that waits to be handed on.
#[derive(Default)]
struct Messenger {
    line: Mutex<Option<String>>,
    is_there: Condvar,
}

impl Messenger {
    fn start() -> Option<&'static Self> {
        let messenger: &'static Self = Box::leak(Box::default());
        let thread = thread::Builder::new().name("status".to_owned());
        match thread.spawn(|| messenger.carry()) {
            Ok(_) => Some(messenger),
            Err(error) => {
                tracing::warn!(%error, "no thread to tell the service manager");
                None
            }
        }
    }

    fn leave(&self, status: &str) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        *line = Some(status.to_owned());
        self.is_there.notify_one();
    }

    fn carry(&self) {
        loop {
            let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = self.is_there.wait_while(line, |line| line.is_none());
            let line = waiting.unwrap_or_else(PoisonError::into_inner).take();
            if let Some(line) = line {
                send(&[NotifyState::Status(&line)]);
            }
        }
    }
}
