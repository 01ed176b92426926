//! What is said, and how it looks. Progress goes to standard error, results to standard output, so
//! that `--json` output stays clean.

use std::fmt::Display;
use std::io::IsTerminal;
use std::{env, io};

/// What a colour says.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Warning,
    Bad,
    Strong,
    Dim,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31;1",
            Self::Strong => "1",
            Self::Dim => "2",
        }
    }
}

/// Announces what begins now.
pub(crate) fn say(text: impl Display) {
    eprintln!("{} {text}", paint_stderr(Tone::Good, "==>"));
}

/// Adds a detail to what was announced.
pub(crate) fn detail(text: impl Display) {
    eprintln!("    {text}");
}

/// Says why the work stopped: the error and then its causes, each on a line.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("{} {error}", paint_stderr(Tone::Bad, "error:"));
    for cause in error.chain().skip(1) {
        eprintln!("  because {cause}");
    }
}

/// `text` in the tone's colour, for standard output.
pub(crate) fn paint(tone: Tone, text: &str) -> String {
    paint_if(stdout_has_colours(), tone, text)
}

/// Whether standard output shows colours.
pub(crate) fn stdout_has_colours() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none()
}

fn paint_stderr(tone: Tone, text: &str) -> String {
    paint_if(
        io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none(),
        tone,
        text,
    )
}

fn paint_if(colours: bool, tone: Tone, text: &str) -> String {
    if colours {
        format!("\x1b[{}m{text}\x1b[0m", tone.code())
    } else {
        text.to_owned()
    }
}
