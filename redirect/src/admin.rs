//! The admin socket: one line of JSON in, one line of JSON out.
//!
//! `{"verb":"status"}` is answered with the report, `{"verb":"calls"}` with the calls,
//! `{"verb":"drain","deadline_ms":600000}` and `{"verb":"undrain"}` with `{"done":true}`, anything
//! else with `{"error":"…"}`. The socket's mode is 0660: root and the daemon's group may ask.

use crate::daemon::Asker;
use crate::overview::Overview;
use crate::server::record::CallReport;
use anyhow::{Context, bail};
use lb_net::shutdown::Shutdown;
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
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a question.
const MAX_QUESTION: u64 = 4096;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub(crate) enum Question {
    Status,
    Calls,
    Drain { deadline_ms: Option<u64> },
    Undrain,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Status(Box<Overview>),
    Calls { calls: Vec<CallReport> },
    Done { done: bool },
    Error { error: String },
}

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("admin socket {path}: another daemon answers there; is this one running already?")]
    Taken { path: PathBuf },
    #[error("admin socket {path}: something that is no socket is in the way")]
    Occupied { path: PathBuf },
    #[error("admin socket {path}")]
    Open { path: PathBuf, source: io::Error },
}

/// The open socket. Its file goes with it.
#[derive(Debug)]
pub(crate) struct Admin {
    listener: UnixListener,
    path: PathBuf,
}

impl Admin {
    /// Opens the socket, in place of one that a daemon left behind when it was killed.
    pub(crate) fn open(path: &Path) -> Result<Self, AdminError> {
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

    /// Answers until shutdown. Cancelling it cuts off askers in the middle.
    pub(crate) async fn serve(self, asker: Asker, mut shutdown: Shutdown) {
        let mut askers = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = askers.join_next(), if !askers.is_empty() => {}
                accepted = self.listener.accept(), if askers.len() < MAX_ASKERS => match accepted {
                    Ok((stream, _)) => {
                        let asker = asker.clone();
                        askers.spawn(async move { timeout(PATIENCE, answer(stream, asker)).await });
                    }
                    Err(error) => {
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

async fn answer(stream: UnixStream, asker: Asker) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(reader.take(MAX_QUESTION))
        .read_line(&mut line)
        .await?;
    let answer = match serde_json::from_str(&line) {
        Ok(question) => carry_out(question, &asker)
            .await
            .unwrap_or_else(|| Answer::Error {
                error: "the daemon is stopping".to_owned(),
            }),
        Err(error) => Answer::Error {
            error: format!("not understood: {error}"),
        },
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    writer.write_all(text.as_bytes()).await
}

/// `None`: the daemon's task has ended.
async fn carry_out(question: Question, asker: &Asker) -> Option<Answer> {
    let done = |is_there: bool| {
        if is_there {
            Answer::Done { done: true }
        } else {
            no_redirect_server()
        }
    };
    Some(match question {
        Question::Status => Answer::Status(Box::new(asker.overview().await?)),
        Question::Calls => match asker.calls().await? {
            Some(calls) => Answer::Calls { calls },
            None => no_redirect_server(),
        },
        Question::Drain { deadline_ms } => {
            done(asker.drain(deadline_ms.map(Duration::from_millis)).await?)
        }
        Question::Undrain => done(asker.undrain().await?),
    })
}

fn no_redirect_server() -> Answer {
    Answer::Error {
        error: "there is no redirect server: [sip] listen is not set".to_owned(),
    }
}

/// Asks the daemon at `path`.
pub(crate) fn ask(path: &Path, question: &Question) -> anyhow::Result<Answer> {
    let shown = path.display();
    let mut stream = BlockingStream::connect(path)
        .with_context(|| format!("no daemon answers at {shown}; is it running?"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut question = serde_json::to_string(question)?;
    question.push('\n');
    stream
        .write_all(question.as_bytes())
        .with_context(|| format!("cannot ask at {shown}"))?;
    let mut line = String::new();
    let answer = BufReader::new(stream).read_line(&mut line);
    answer.with_context(|| format!("no answer at {shown} within {PATIENCE:?}"))?;
    match serde_json::from_str(&line).with_context(|| format!("odd answer at {shown}"))? {
        Answer::Error { error } => bail!("the daemon at {shown} says: {error}"),
        answer => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_sockets_left_behind_are_replaced() {
        let path = std::env::temp_dir().join(format!("pm-{}-admin.sock", std::process::id()));
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
        let error = format!("{:#}", ask(&path, &Question::Status).expect_err("nobody"));
        assert!(error.contains("is it running?"), "{error}");
    }
}
