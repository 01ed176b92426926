//! What may be asked at the admin socket, and what the answers are.
//!
//! `{"verb":"cluster"}` is answered with the report, `{"verb":"calls","after":…,"node":3}` with a page of
//! calls, `{"verb":"fail_over","to":2}` and `{"verb":"resume"}` with `{"done":true}`: what came of it, the
//! report says.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::report::{Call, ClusterReport};

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub(crate) enum Question {
    /// The pair.
    Cluster,
    /// Some calls.
    Calls {
        /// Behind this place.
        after: Option<Place>,
        /// Of this node.
        node: Option<u16>,
        /// In this state.
        state: Option<String>,
    },
    /// Another is to be the main.
    FailOver {
        /// Who.
        to: u16,
    },
    /// The preferred one is to be the main.
    Resume,
}

/// Where the next page of calls begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The node.
    pub(crate) node: u16,
    /// The call key.
    pub(crate) key: u64,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// The pair.
    Cluster(Box<ClusterReport>),
    /// Some calls.
    Calls {
        /// The controller's role: only a main knows of calls.
        role: String,
        /// The calls.
        calls: Vec<Call>,
        /// Where the next page begins, if there is one.
        next: Option<Place>,
    },
    /// It is under way.
    Done {
        /// Always true.
        done: bool,
    },
}

/// A question to the task, with room for the answer.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) answer: oneshot::Sender<Result<Answer, String>>,
}

/// Asks the task.
#[derive(Clone)]
pub(crate) struct Asker(pub(super) mpsc::Sender<Asked>);

impl Asker {
    /// The answer, or a sentence why there is none.
    pub(crate) async fn ask(self, question: Question) -> Result<Answer, String> {
        let stopping = |_| "the controller is stopping".to_owned();
        let (answer, answered) = oneshot::channel();
        let asked = Asked { question, answer };
        self.0.send(asked).await.map_err(|_| stopping(()))?;
        answered.await.map_err(|_| stopping(()))?
    }
}
