//! The shared part of the configuration, from the controller that has the newer one to the other.
//!
//! ```text
//!   one that has the older              one that has the newer
//!     "PMF1" ──────────────────────────► length u32, then the text in messages of 60,000 bytes at most
//! ```
//! Over a link, so that both know whom they talk to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use lb_net::link::{Endpoint, Identity, Link, LinkError, MAX_MESSAGE};
use tokio::time::timeout;

use crate::config::shared::{MAX_LEN, Shared, SharedError};
use crate::config::{Config, ConfigError};

const WISH: &[u8] = b"PMF1";
/// Time for all of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Took too long.
    #[error("not fetched within {PATIENCE:?}")]
    Patience,
    /// What came is no such thing.
    #[error("no shared configuration: {0}")]
    Text(#[from] SharedError),
    /// It cannot be used on this machine.
    #[error("it cannot be used here")]
    Unusable(#[source] ConfigError),
    /// The own file cannot be read any more, or the newer one not be kept.
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What came is no text of a possible length.
    #[error("no text of {MAX_LEN} bytes at most")]
    Length,
}

/// Fetches it from a controller.
pub(super) async fn fetch(
    endpoint: Endpoint,
    peer: Identity,
    at: SocketAddr,
    own: IpAddr,
) -> Result<Shared, FetchError> {
    let fetching = async {
        let mut link = endpoint.connect(peer, at, Some(own)).await?;
        link.sender.send(Bytes::from_static(WISH))?;
        let head = link.receiver.recv().await?;
        let head = head.first_chunk::<4>().ok_or(FetchError::Length)?;
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_LEN {
            return Err(FetchError::Length);
        }
        let mut text = Vec::with_capacity(length);
        while text.len() < length {
            text.extend_from_slice(&link.receiver.recv().await?);
        }
        let text = String::from_utf8(text).map_err(|_| FetchError::Length)?;
        Ok(Shared::parse(&text)?)
    };
    timeout(PATIENCE, fetching)
        .await
        .unwrap_or(Err(FetchError::Patience))
}

/// Keeps what is fetched, if it is newer than the own version and can be used with the own file.
pub(super) async fn take(
    fetched: impl Future<Output = Result<Shared, FetchError>>,
    own: u64,
    (file, kept): (PathBuf, PathBuf),
) -> Result<(), FetchError> {
    let shared = fetched.await?;
    if shared.version <= own {
        return Ok(());
    }
    let keeping = move || {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| FetchError::File { path, source }
        };
        let text = std::fs::read_to_string(&file).map_err(failed(&file))?;
        let merged = shared.in_place_of(&text)?;
        Config::parse(&kept, &merged).map_err(FetchError::Unusable)?;
        lb_net::kept::write(&kept, &shared.text).map_err(failed(&kept))
    };
    let keeping = tokio::task::spawn_blocking(keeping);
    keeping.await.unwrap_or(Err(FetchError::Patience))
}

/// Answers a controller that has linked, as long as it asks for nothing else.
pub(super) async fn serve(link: Link, text: String) {
    let (peer, sender, mut receiver) = (link.peer, link.sender, link.receiver);
    let serving = async {
        while let Ok(wish) = receiver.recv().await {
            if wish != WISH {
                break;
            }
            let head = Bytes::copy_from_slice(&(text.len() as u32).to_be_bytes());
            let parts = text
                .as_bytes()
                .chunks(MAX_MESSAGE)
                .map(Bytes::copy_from_slice);
            for part in std::iter::once(head).chain(parts) {
                if sender.send(part).is_err() {
                    return;
                }
            }
            tracing::info!(%peer, "has fetched the shared configuration");
        }
    };
    let _ = timeout(PATIENCE, serving).await;
}
