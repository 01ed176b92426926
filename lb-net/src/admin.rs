//! The admin socket: one line of JSON in, one line of JSON out.
//!
//! What may be asked, and what the answers are, is the daemon's; here are the socket, its safety and
//! its patience, and the asking side for the daemon's own command line. A question that cannot be
//! answered is answered with `{"error":"…"}`, in a sentence for people.
//!
//! The socket's mode is 0660: root and the daemon's group may ask. Nothing else is checked, since who
//! may ask may ask everything.

use crate::shutdown::Shutdown;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Askers served at a time; more wait.
const MAX_ASKERS: usize = 8;
/// How long one may take, and how long one waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a question.
const MAX_QUESTION: u64 = 4096;

/// The answer to a question that has no other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    error: String,
}

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another daemon has it.
    #[error("admin socket {path}: another daemon answers there; is this one running already?")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// The path is that of something else.
    #[error("admin socket {path}: something that is no socket is in the way")]
    Occupied {
        /// The socket.
        path: PathBuf,
    },
    /// The system refuses it.
    #[error("admin socket {path}")]
    Open {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The open socket. Its file goes with it.
#[derive(Debug)]
pub struct Admin {
    listener: UnixListener,
    path: PathBuf,
}

impl Admin {
    /// Opens the socket, in place of one that a daemon left behind when it was killed. Makes its
    /// directory. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`AdminError`], which names the socket.
    pub fn open(path: &Path) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Open {
            path: path.to_owned(),
            source,
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        if let Ok(metadata) = fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                return Err(AdminError::Occupied {
                    path: path.to_owned(),
                });
            }
            if BlockingStream::connect(path).is_ok() {
                return Err(AdminError::Taken {
                    path: path.to_owned(),
                });
            }
            fs::remove_file(path).map_err(failed)?;
        }
        // Until the mode is set it is stricter, whatever the umask: connecting takes the right to
        // write, which no usual umask leaves to others.
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers until shutdown. An answer that is an error is a sentence for who asked.
    ///
    /// Owns the socket. Cancelling it cuts off askers in the middle.
    pub async fn serve<Q, A, F, R>(self, mut shutdown: Shutdown, answer: F)
    where
        Q: DeserializeOwned + Send,
        A: Serialize + Send,
        F: Fn(Q) -> R + Clone + Send + 'static,
        R: Future<Output = Result<A, String>> + Send,
    {
        let mut askers = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = askers.join_next(), if !askers.is_empty() => {}
                accepted = self.listener.accept(), if askers.len() < MAX_ASKERS => match accepted {
                    Ok((stream, _)) => {
                        let answer = answer.clone();
                        // An asker that is slow or gone is its own loss.
                        askers.spawn(async move { timeout(PATIENCE, serve_one(stream, answer)).await });
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: no use in trying again at once.
                        tracing::warn!(%error, "cannot accept on the admin socket");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve_one<Q, A, F, R>(stream: UnixStream, answer: F) -> io::Result<()>
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Fn(Q) -> R,
    R: Future<Output = Result<A, String>>,
{
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(reader.take(MAX_QUESTION))
        .read_line(&mut line)
        .await?;
    let answered = match serde_json::from_str(&line) {
        Ok(question) => answer(question).await,
        Err(error) => Err(format!("not understood: {error}")),
    };
    let mut text = match answered {
        Ok(answer) => serde_json::to_string(&answer)?,
        Err(error) => serde_json::to_string(&Failure { error })?,
    };
    text.push('\n');
    writer.write_all(text.as_bytes()).await
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there, or who asks may not.
    #[error("no daemon answers at {path}; is it running?")]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The question cannot be put.
    #[error("cannot ask at {path}")]
    Put {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The answer does not come.
    #[error("no answer at {path} within {PATIENCE:?}")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The answer is no answer to this question.
    #[error("odd answer at {path}; is the daemon of another version?")]
    Odd {
        /// The socket.
        path: PathBuf,
        /// What is odd about it.
        source: serde_json::Error,
    },
    /// The daemon's reason.
    #[error("the daemon at {path} says: {error}")]
    Says {
        /// The socket.
        path: PathBuf,
        /// Its words.
        error: String,
    },
}

/// Asks the daemon at `path`. Blocks, for seconds at most: it is for command lines.
///
/// # Errors
/// [`AskError`], which names the socket.
pub fn ask<Q: Serialize, A: DeserializeOwned>(path: &Path, question: &Q) -> Result<A, AskError> {
    let path = || path.to_owned();
    let odd = |source| AskError::Odd {
        path: path(),
        source,
    };
    let put = |source| AskError::Put {
        path: path(),
        source,
    };
    let silent = |source| AskError::Silent {
        path: path(),
        source,
    };
    let mut question = serde_json::to_string(question).map_err(|error| put(error.into()))?;
    question.push('\n');
    let mut stream = BlockingStream::connect(path()).map_err(|source| AskError::NoDaemon {
        path: path(),
        source,
    })?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(put)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(put)?;
    stream.write_all(question.as_bytes()).map_err(put)?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .map_err(silent)?;
    if let Ok(Failure { error }) = serde_json::from_str(&line) {
        return Err(AskError::Says {
            path: path(),
            error,
        });
    }
    serde_json::from_str(&line).map_err(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of this test's own.
    fn socket(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("pm-{}-{name}.sock", std::process::id()))
    }

    #[tokio::test]
    async fn only_sockets_left_behind_are_replaced() {
        let path = socket("left");
        let first = Admin::open(&path).expect("nothing in the way");
        let mode = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(Admin::open(&path), Err(AdminError::Taken { .. })));
        drop(first);
        assert!(!path.exists());
        // As after a kill: the file is there, and nobody behind it.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("free"));
        drop(Admin::open(&path).expect("left behind"));
        fs::write(&path, "precious").expect("free");
        assert!(matches!(
            Admin::open(&path),
            Err(AdminError::Occupied { .. })
        ));
        fs::remove_file(&path).expect("own file");
        let error = ask::<_, u32>(&path, &1).expect_err("nobody");
        assert!(matches!(error, AskError::NoDaemon { .. }), "{error}");
        assert!(error.to_string().contains("is it running?"), "{error}");
    }

    /// Asks in a thread of its own, as a command line would.
    async fn asked<A>(path: &Path, question: impl Serialize + Send + 'static) -> Result<A, AskError>
    where
        A: DeserializeOwned + Send + 'static,
    {
        let path = path.to_owned();
        let asking = tokio::task::spawn_blocking(move || ask(&path, &question));
        asking.await.expect("no panic")
    }

    #[tokio::test]
    async fn a_question_is_answered_or_refused_in_words() {
        let path = socket("asked");
        let admin = Admin::open(&path).expect("nothing in the way");
        let (stop, shutdown) = Shutdown::on_demand();
        let half = |number: u32| async move {
            if number.is_multiple_of(2) {
                Ok(number / 2)
            } else {
                Err(format!("{number} has no half"))
            }
        };
        let daemon = tokio::spawn(admin.serve(shutdown, half));
        assert_eq!(asked::<u32>(&path, 8).await.expect("an answer"), 4);
        let error = asked::<u32>(&path, 7).await.expect_err("none");
        let says = format!("the daemon at {} says: 7 has no half", path.display());
        assert_eq!(error.to_string(), says);
        let error = asked::<u32>(&path, "a").await.expect_err("no number");
        assert!(error.to_string().contains("not understood: "), "{error}");
        // Too long a question is read no further.
        let error = asked::<u32>(&path, "a".repeat(5000)).await;
        let error = error.expect_err("no number");
        assert!(matches!(error, AskError::Says { .. }), "{error}");
        let error = asked::<String>(&path, 8).await.expect_err("a number");
        assert!(matches!(error, AskError::Odd { .. }), "{error}");
        stop.send_replace(true);
        timeout(PATIENCE, daemon)
            .await
            .expect("stops")
            .expect("no panic");
        assert!(!path.exists());
    }
}
