//! What is wrong with a configuration, and where: said so that it can be mended at once.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Something wrong at a place of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The bytes that are wrong; `None` when something is missing.
    pub at: Option<Range<usize>>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    pub(super) fn at(at: Range<usize>, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            what: what.into(),
            help: Some(help.into()),
        }
    }

    pub(super) fn missing(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            at: None,
            what: what.into(),
            help: Some(help.into()),
        }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The shared part that was fetched from the other controller cannot be used.
    #[error("{path}: cannot be used; remove it to go by the own file")]
    Shared {
        /// Where it is kept.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<super::shared::SharedError>,
    },
    /// Its contents are wrong.
    #[error("{report}")]
    Wrong {
        /// Every problem, with its line.
        report: String,
        /// How many there are.
        count: usize,
    },
}

impl ConfigError {
    pub(super) fn wrong(path: &Path, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.at.as_ref().map_or(usize::MAX, |at| at.start));
        let shown: Vec<String> = problems
            .iter()
            .map(|problem| {
                Shown {
                    path,
                    text,
                    problem,
                }
                .to_string()
            })
            .collect();
        Self::Wrong {
            report: shown.join("\n"),
            count: problems.len(),
        }
    }
}

/// A problem as people read it.
///
/// ```text
/// pointsman.toml:12:6: node id 3 is there twice
///    12 | id = 3
///       |      ^
///       = give every node an id of its own, 1 to 255
/// ```
struct Shown<'a> {
    path: &'a Path,
    text: &'a str,
    problem: &'a Problem,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { at, what, help } = self.problem;
        let path = self.path.display();
        let margin = "     ";
        match at {
            None => write!(f, "{path}: {what}")?,
            Some(at) => {
                let place = Place::of(self.text, at);
                let Place {
                    line,
                    column,
                    content,
                    width,
                } = &place;
                writeln!(f, "{path}:{line}:{column}: {what}")?;
                writeln!(f, "{line:>5} | {content}")?;
                let (indent, carets) = (" ".repeat(column - 1), "^".repeat(*width));
                write!(f, "{margin} | {indent}{carets}")?;
            }
        }
        match help {
            Some(help) => write!(f, "\n{margin} = {help}"),
            None => Ok(()),
        }
    }
}

/// A range of bytes as a line and columns, both from 1.
struct Place<'a> {
    line: usize,
    column: usize,
    content: &'a str,
    /// Columns to mark, within the line.
    width: usize,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, at: &Range<usize>) -> Self {
        let floor = |place: usize| {
            (0..=place.min(text.len()))
                .rev()
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(0)
        };
        let (start, end) = (floor(at.start), floor(at.end));
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let content = text
            .get(line_start..)
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let marked = text
            .get(start..end)
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column,
            content,
            width: marked.chars().count().max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, at: Option<Range<usize>>) -> String {
        let problem = Problem {
            at,
            what: "wrong".into(),
            help: Some("mend it".into()),
        };
        Shown {
            path: Path::new("f.toml"),
            text,
            problem: &problem,
        }
        .to_string()
    }

    #[test]
    fn the_place_is_shown() {
        assert_eq!(
            show("a = 1\nb = 22\n", Some(10..12)),
            "f.toml:2:5: wrong\n    2 | b = 22\n      |     ^^\n      = mend it"
        );
        assert_eq!(show("", None), "f.toml: wrong\n      = mend it");
    }

    #[test]
    fn odd_places_are_shown_as_well_as_can_be() {
        // In the middle of a character, over several lines, at and behind the end.
        assert!(show("ä = 1", Some(1..2)).starts_with("f.toml:1:1:"));
        assert!(show("a = [\n1]", Some(4..8)).contains("\n      |     ^\n"));
        assert!(show("a = 1", Some(5..5)).starts_with("f.toml:1:6:"));
        assert!(show("a\n", Some(90..99)).starts_with("f.toml:2:1:"));
    }
}
