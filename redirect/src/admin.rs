//! What may be asked at the [admin socket](lb_net::admin), and what the answers are.
//!
//! `{"verb":"status"}` is answered with the report, `{"verb":"calls"}` with the calls,
//! `{"verb":"drain","deadline_ms":600000}` and `{"verb":"undrain"}` with `{"done":true}`.

use crate::daemon::question::Asker;
use crate::overview::Overview;
use crate::server::record::CallReport;
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
}

/// Answers by asking the daemon's task.
pub(crate) async fn answer(question: Question, asker: Asker) -> Result<Answer, String> {
    let answered = carry_out(question, &asker).await;
    answered.unwrap_or_else(|| Err("the daemon is stopping".to_owned()))
}

/// `None`: the daemon's task has ended.
async fn carry_out(question: Question, asker: &Asker) -> Option<Result<Answer, String>> {
    let done = |is_there: bool| {
        if is_there {
            Ok(Answer::Done { done: true })
        } else {
            no_redirect_server()
        }
    };
    Some(match question {
        Question::Status => Ok(Answer::Status(Box::new(asker.overview().await?))),
        Question::Calls => match asker.calls().await? {
            Some(calls) => Ok(Answer::Calls { calls }),
            None => no_redirect_server(),
        },
        Question::Drain { deadline_ms } => {
            done(asker.drain(deadline_ms.map(Duration::from_millis)).await?)
        }
        Question::Undrain => done(asker.undrain().await?),
    })
}

fn no_redirect_server() -> Result<Answer, String> {
    Err("there is no redirect server: [sip] listen is not set".to_owned())
}
