//! SIGTERM and SIGINT as a value to wait for.

use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells that the daemon is to stop. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Takes over SIGTERM and SIGINT. Must be called within a tokio runtime.
    ///
    /// The first of them asks the daemon to stop in good order; a second one ends the process at once,
    /// with the exit status that shells give for it.
    ///
    /// # Errors
    /// When the system refuses to hand the signals over.
    pub fn on_signals() -> io::Result<Self> {
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let (sender, receiver) = watch::channel(false);
        // Ends with the process: it owns nothing but the signals.
        tokio::spawn(async move {
            loop {
                let number = tokio::select! {
                    _ = terminate.recv() => SignalKind::terminate(),
                    _ = interrupt.recv() => SignalKind::interrupt(),
                };
                if sender.send_replace(true) {
                    std::process::exit(128 + number.as_raw_value());
                }
            }
        });
        Ok(Self(receiver))
    }

    /// A shutdown that comes when the returned sender says `true` or is dropped.
    pub fn on_demand() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether the daemon is to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until the daemon is to stop. Cancelling loses nothing.
    pub async fn requested(&mut self) {
        // An error means that whoever could ask is gone: as good as asking.
        let _ = self.0.wait_for(|is_requested| *is_requested).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn asked_once_all_hear() {
        let (sender, mut shutdown) = Shutdown::on_demand();
        let mut other = shutdown.clone();
        assert!(!shutdown.is_requested());
        sender.send_replace(true);
        timeout(SOON, shutdown.requested()).await.expect("asked");
        timeout(SOON, other.requested()).await.expect("asked");
        assert!(other.is_requested());
    }

    #[tokio::test]
    async fn nobody_left_to_ask_is_as_good_as_asking() {
        let (sender, mut shutdown) = Shutdown::on_demand();
        drop(sender);
        timeout(SOON, shutdown.requested()).await.expect("asked");
        assert!(shutdown.is_requested());
    }
}
