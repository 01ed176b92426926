//! Questions to the daemon's task, which alone has its state, and the handle of those who ask them.

use crate::overview::Overview;
use crate::server::record::CallReport;
use lb_sip::dialog::table::Cursor;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the task. More askers than this wait to put theirs.
const QUESTIONS: usize = 8;

/// A question to the daemon's task, with room for the answer.
#[derive(Debug)]
pub(super) enum Question {
    Overview(oneshot::Sender<Overview>),
    /// The calls behind a place, and the place where they end.
    Calls(Option<Cursor>, oneshot::Sender<Option<Calls>>),
    /// New calls go elsewhere, and the rest is hung up after this time, if one is given.
    Drain(Option<Duration>, oneshot::Sender<bool>),
    Undrain(oneshot::Sender<bool>),
}

/// Some calls, and where the next ones begin.
type Calls = (Vec<CallReport>, Option<Cursor>);

/// Asks the daemon's task. Every question is `None` when the task has ended.
#[derive(Clone, Debug)]
pub(crate) struct Asker(mpsc::Sender<Question>);

impl Asker {
    /// An asker, and where its questions come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        (Self(questions), asked)
    }

    /// Everything as of now.
    pub(crate) async fn overview(&self) -> Option<Overview> {
        self.ask(Question::Overview).await
    }

    /// All calls, page by page; `Some(None)` where there is no redirect server.
    pub(crate) async fn calls(&self) -> Option<Option<Vec<CallReport>>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            match self.ask(|answer| Question::Calls(after, answer)).await? {
                None => return Some(None),
                Some((page, next)) => {
                    all.extend(page);
                    after = next;
                }
            }
            if after.is_none() {
                return Some(Some(all));
            }
        }
    }

    /// Whether there is a redirect server to drain.
    pub(crate) async fn drain(&self, deadline: Option<Duration>) -> Option<bool> {
        self.ask(|answer| Question::Drain(deadline, answer)).await
    }

    /// Whether there is a redirect server.
    pub(crate) async fn undrain(&self) -> Option<bool> {
        self.ask(Question::Undrain).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.0.send(question(sender)).await.ok()?;
        answer.await.ok()
    }
}
