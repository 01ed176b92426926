//! A case, as it stands in a fixture file.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// One world, and frames that come in one after the other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The Call-ID that `{call}` stands for; made of the name unless given.
    call_id: Option<String>,
    /// The maps at the start.
    #[serde(default)]
    pub world: World,
    /// The frames, in order.
    pub steps: Vec<Step>,
}

impl Case {
    /// The Call-ID that `{call}` stands for. Each case has one of its own: the memory of new
    /// requests outlives a case.
    pub fn call_id(&self) -> String {
        self.call_id.clone().unwrap_or_else(|| {
            let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
            format!("{}@pm", self.name.chars().map(word).collect::<String>())
        })
    }
}

/// The cases of `tests/fixtures/packets/<file>.json`.
///
/// # Errors
/// The file is not there, or not a list of cases.
pub fn load(file: &str) -> Result<Vec<Case>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/packets")
        .join(file)
        .with_extension("json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// The maps that a case starts from: four nodes, all up and free, unless it says otherwise.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct World {
    /// The nodes of the table's slots from the call's own slot on, over and over.
    pub table: Vec<u16>,
    /// The same of the other generation, which then still keeps its dialogs.
    pub old_table: Option<Vec<u16>>,
    /// Nodes that are not as usual.
    pub nodes: BTreeMap<u16, NodeState>,
    /// The node that the call is pinned to beforehand.
    pub pinned: Option<u16>,
    /// Whether other calls' pins fill the map.
    pub pins_full: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            table: vec![1, 2, 3, 4],
            old_table: None,
            nodes: BTreeMap::new(),
            pinned: None,
            pins_full: false,
        }
    }
}

/// What a node is in the maps.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeState {
    /// What its last beacon said: `Idle`, `Free`, `Busy` or `Draining`.
    pub admission: String,
    /// Minutes since its last beacon. Past 60 it is `Stale`, past 120 `Down`.
    pub silent_min: u64,
    /// It has never been heard.
    pub never_heard: bool,
    /// The controller has confirmed it `Down`.
    pub confirmed_down: bool,
    /// The calls it can still take, by its last beacon.
    pub headroom: u32,
    /// Its link address is not known.
    pub unreachable: bool,
    /// It leaves the configuration.
    pub leaving: bool,
    /// It sends no beacons.
    pub silent: bool,
    /// It is not configured.
    pub absent: bool,
    /// The way to it.
    pub way: Way,
}

impl Default for NodeState {
    fn default() -> Self {
        Self {
            admission: "Free".to_owned(),
            silent_min: 0,
            never_heard: false,
            confirmed_down: false,
            headroom: 100,
            unreachable: false,
            leaving: false,
            silent: false,
            absent: false,
            way: Way::SamePort,
        }
    }
}

/// The way to a node.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Out of the port that frames come in by.
    SamePort,
    /// Out of another port.
    OtherPort,
    /// Out of a port that is in no map.
    UnknownPort,
}

/// What happens, then a frame, then what becomes of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Nodes that change first.
    #[serde(default)]
    pub nodes: BTreeMap<u16, NodeState>,
    /// The frame.
    pub frame: Frame,
    /// What becomes of it.
    pub expect: Expect,
}

/// A frame, described from the outside in.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Frame {
    /// The whole frame, instead of everything else.
    pub hex: Option<String>,
    /// Its VLAN tags' identifiers, the outermost first.
    pub vlans: Vec<u16>,
    /// Where to; the IPv4 VIP unless given.
    pub to: Option<SocketAddr>,
    /// IPv4 options, in hexadecimal, a multiple of four bytes.
    pub options: String,
    /// The IPv4 fragment word: flags and offset.
    pub fragment: u16,
    /// IPv6 extension headers: the number of each, and its bytes from the second on.
    pub extensions: Vec<(u8, String)>,
    /// The method of a usual message of the call, or its status; `re-INVITE` has a To tag.
    pub send: Option<String>,
    /// The lines of a message, each ended by CRLF, and an empty one behind them.
    pub lines: Option<Vec<String>>,
    /// What follows the lines or the usual message.
    pub body: String,
    /// The whole payload. `{call}` is the case's Call-ID, `{x*9}` nine times the letter.
    pub raw: Option<String>,
    /// The whole payload, in hexadecimal.
    pub payload: Option<String>,
    /// Bytes appended behind everything.
    pub trailing: usize,
    /// Bytes written over the frame: where, and what in hexadecimal.
    pub patches: Vec<(usize, String)>,
    /// Bytes cut off its end.
    pub cut: usize,
}

/// What becomes of a frame.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The reason, by its name.
    pub reason: String,
    /// The node it is sent to; required for all that is steered.
    pub node: Option<u16>,
    /// `redirect` for one that leaves by another port.
    pub action: Option<String>,
    /// The Call-ID that the program used, if another than the case's.
    pub key: Option<String>,
    /// New calls that are counted for the node. 1 for steered INVITEs unless given.
    pub started: Option<u64>,
    /// The call's pin afterwards: `none`, or its node and flags, like `2`, `2 confirmed`, `2 ended`.
    pub pin: Option<String>,
    /// Choices with staleness ignored that this frame adds.
    #[serde(default)]
    pub ignored_staleness: u64,
}
