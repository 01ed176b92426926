//! The term that this controller last asked for, on the disk before it is asked for.

use std::io;
use std::path::{Path, PathBuf};

use lb_net::kept;
use lb_proto::failover::Term;

use crate::plane::{AccessError, Maps};

const FILE: &str = "term";

/// The term cannot be read, so that it might be asked for twice.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the last term from {path}")]
pub(super) struct TermError {
    path: PathBuf,
    source: io::Error,
}

/// The last one; 0 when there was none, or when what is there is damaged: a candidate asks for a term above
/// those that the nodes know, so this costs a round of questions.
pub(super) fn last(state_dir: &Path) -> Result<Term, TermError> {
    let path = state_dir.join(FILE);
    match kept::read(&path) {
        Ok(None) => Ok(Term(0)),
        Ok(Some(line)) => Ok(Term(line.parse().unwrap_or_else(|_| {
            tracing::warn!(path = %path.display(), "the last term is no number");
            0
        }))),
        Err(source) => Err(TermError { path, source }),
    }
}

/// The latest that this machine's data plane has heard of, or reigned in: it may outlive the file.
pub(super) fn known(maps: &Maps) -> Result<Term, AccessError> {
    let (reigned, heard) = (maps.turnout()?.term, maps.plane_status()?.term_heard);
    Ok(Term(reigned.max(heard)))
}

/// Keeps a term: on the disk when this returns.
pub(super) fn keep(state_dir: &Path, term: Term) -> io::Result<()> {
    kept::write(&state_dir.join(FILE), &term.to_string())
}
