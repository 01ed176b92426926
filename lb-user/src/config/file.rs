//! The file as it is written: every value with its place, so that it can be pointed at.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::pair::{Designated, Switchback};
use super::problem::Problem;
use crate::plane::attach::XdpMode;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) cluster: Spanned<i64>,
    pub(super) keys: PathBuf,
    pub(super) bpffs: Option<Spanned<PathBuf>>,
    pub(super) status: Option<Spanned<Status>>,
    #[serde(default, rename = "interface")]
    pub(super) interfaces: Vec<Interface>,
    #[serde(default, rename = "vip")]
    pub(super) vips: Vec<Spanned<Vip>>,
    #[serde(default, rename = "node")]
    pub(super) nodes: Vec<Node>,
    pub(super) pair: Option<Spanned<Pair>>,
    #[serde(default, rename = "controller")]
    pub(super) controllers: Vec<Controller>,
    #[serde(default)]
    pub(super) pins: Pins,
    #[serde(default)]
    pub(super) table: Table,
    pub(super) metrics: Option<Metrics>,
    #[serde(default)]
    pub(super) events: Events,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) groups: Vec<Spanned<IpAddr>>,
    #[serde(default)]
    pub(super) addresses: Vec<Spanned<IpAddr>>,
    #[serde(default)]
    pub(super) discover: bool,
    pub(super) discover_max: Option<Spanned<i64>>,
    pub(super) discover_forget_s: Option<Spanned<i64>>,
    pub(super) port: Option<Spanned<i64>>,
    pub(super) period_ms: Option<Spanned<i64>>,
    pub(super) hold_periods: Option<Spanned<i64>>,
    pub(super) down_periods: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interface {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Auto,
    Native,
    Generic,
}

impl From<Mode> for XdpMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Native => Self::Native,
            Mode::Generic => Self::Generic,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vip {
    pub(super) address: Spanned<IpAddr>,
    pub(super) port: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) id: Spanned<i64>,
    pub(super) address: Spanned<IpAddr>,
    pub(super) weight: Option<Spanned<i64>>,
    pub(super) mac: Option<Spanned<String>>,
    pub(super) interface: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) silent: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    pub(super) id: Spanned<i64>,
    pub(super) state_dir: Option<Spanned<PathBuf>>,
    pub(super) keepalive_ms: Option<Spanned<i64>>,
    pub(super) misses: Option<Spanned<i64>>,
    pub(super) mode: Option<StandbyMode>,
    pub(super) designated_state: Option<Spanned<Designated>>,
    #[serde(default)]
    pub(super) switchback: Switchback,
    pub(super) vip: Option<VipMode>,
    pub(super) vip_interface: Option<Spanned<String>>,
    pub(super) version: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) serve_outdated: bool,
    pub(super) admin: Option<Spanned<PathBuf>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StandbyMode {
    #[default]
    Hot,
    Cold,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum VipMode {
    #[default]
    Address,
    Announce,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Controller {
    pub(super) id: Spanned<i64>,
    pub(super) address: Spanned<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pins {
    pub(super) max: Option<Spanned<i64>>,
    pub(super) session_limit_s: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) drain_s: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) listen: SocketAddr,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    pub(super) sample: Option<Spanned<i64>>,
}

/// Reads the text as far as its form goes.
pub(super) fn parse(text: &str) -> Result<File, Problem> {
    toml::from_str(text).map_err(|error: toml::de::Error| Problem {
        at: error.span(),
        what: error.message().trim_end().to_owned(),
        help: None,
    })
}
