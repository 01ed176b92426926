//! Where would this packet go, and why?
//!
//! Frames of a capture, or written in hex, run in order through the *real* program: loaded into the
//! kernel over fresh maps that are filled with the configuration's VIPs and nodes, every node `Free`
//! and its link address known. Nothing is attached, no running data plane is touched. What the
//! program would leave to userspace is steered by the code that does so in the controller.
//!
//! One line of output a frame; with `--json` one object, see [`Record`]. With `--vip` and `--nodes`
//! instead of a configuration the call secret is SipHash's reference key (bytes 00, 01 … 0f), so that
//! anybody gets the same answers.

mod capture;
mod input;
mod laboratory;
mod narrator;
mod pcap;
mod pcapng;
mod record;
mod scene;
pub mod stack;
mod text;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use input::InputError;
pub use laboratory::{Laboratory, LaboratoryError};
pub use record::{Record, Userspace, Verdict};
pub use scene::{Scene, SceneError};

use input::Frames;

/// The command's own arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Where the frames come from.
    #[command(flatten)]
    pub source: Source,
    /// A service address, ADDR:PORT, instead of a configuration file (repeatable).
    #[arg(long, value_name = "ADDR:PORT", requires = "nodes")]
    pub vip: Vec<SocketAddr>,
    /// This many nodes, 1 to N, instead of a configuration file.
    #[arg(long, value_name = "N", requires = "vip", value_parser = clap::value_parser!(u16).range(1..=255))]
    pub nodes: Option<u16>,
    /// Run this BPF object, the one that logs, instead of the built-in one, and show on standard
    /// error what it says. `cargo xtask build --bpf-log` makes it.
    #[arg(long, value_name = "OBJECT")]
    pub log: Option<PathBuf>,
}

/// Where the frames come from.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// A capture of Ethernet frames, pcap or pcapng; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// One frame as hexadecimal digits (repeatable); blanks and colons may stand between bytes.
    #[arg(long, value_name = "LINE")]
    pub hex: Vec<String>,
    /// Frames as lines of the form {"n":0,"hex":"…"}; - for standard input.
    #[arg(long, value_name = "FILE.jsonl")]
    pub frames: Option<PathBuf>,
}

/// Explaining failed.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The configuration.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The frames.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The object that logs could not be read.
    #[error("reading {path}")]
    Object {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program.
    #[error(transparent)]
    Laboratory(#[from] LaboratoryError),
    /// The answers could not be written.
    #[error("writing the answers")]
    Output(#[source] io::Error),
}

impl ExplainError {
    /// Whether only the reader of the answers has gone, which is no failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Explains all frames, writing each answer as soon as it is known.
///
/// # Errors
/// [`ExplainError`]. What was explained before the error is written.
pub fn explain(
    arguments: &Arguments,
    config: &Path,
    json: bool,
    output: &mut dyn Write,
) -> Result<(), ExplainError> {
    let scene = match arguments.nodes {
        Some(nodes) => Scene::plain(&arguments.vip, nodes),
        None => Scene::of_config(config)?,
    };
    let frames = Frames::open(&arguments.source)?;
    let mut laboratory = match &arguments.log {
        None => Laboratory::open(&scene)?,
        Some(path) => {
            let object = std::fs::read(path).map_err(|source| ExplainError::Object {
                path: path.clone(),
                source,
            })?;
            Laboratory::open_logging(&object, &scene)?
        }
    };
    let mut tally = text::Tally::default();
    for frame in frames {
        let frame = frame?;
        let record = laboratory.run(frame.n, &frame.bytes, frame.captured_short)?;
        let written = if json {
            writeln!(output, "{}", record.json())
        } else {
            tally.count(&record);
            text::write(output, &record)
        };
        written.map_err(ExplainError::Output)?;
    }
    if !json {
        tally.write(output).map_err(ExplainError::Output)?;
    }
    output.flush().map_err(ExplainError::Output)
}
