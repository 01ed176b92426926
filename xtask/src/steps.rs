//! A verb's steps: each is announced, timed, and listed at the end, and one that fails does not
//! hide what the next ones find.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::terminal::{self, Tone, paint};

/// How a step ended, when it ended without an error.
pub(crate) enum Outcome {
    /// Everything the step is for was done.
    Done,
    /// Something was left out, for this reason.
    Skipped(String),
}

/// The steps taken so far.
#[derive(Default)]
pub(crate) struct Steps {
    taken: Vec<Taken>,
}

struct Taken {
    name: &'static str,
    time: Duration,
    result: Result<Outcome>,
}

impl Steps {
    /// Takes one step.
    pub(crate) fn take(&mut self, name: &'static str, step: impl FnOnce() -> Result<Outcome>) {
        terminal::say(name);
        let begin = Instant::now();
        let result = step();
        if let Err(error) = &result {
            terminal::error(error);
        }
        self.taken.push(Taken {
            name,
            time: begin.elapsed(),
            result,
        });
    }

    /// Prints the list of steps with their times; a failure if one of them failed.
    pub(crate) fn finish(self) -> ExitCode {
        println!();
        for step in &self.taken {
            let (tone, word) = match &step.result {
                Ok(Outcome::Done) => (Tone::Good, "ok"),
                Ok(Outcome::Skipped(_)) => (Tone::Warning, "skipped"),
                Err(_) => (Tone::Bad, "FAILED"),
            };
            // Padded before it is painted: escape codes have a length, but no width.
            let word = paint(tone, &format!("{word:<8}"));
            println!("{word}{:>7.1} s  {}", step.time.as_secs_f64(), step.name);
            match &step.result {
                Ok(Outcome::Done) => {}
                Ok(Outcome::Skipped(reason)) => println!("{:19}{reason}", ""),
                Err(error) => println!("{:19}{error}", ""),
            }
        }
        if self.taken.iter().all(|step| step.result.is_ok()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
