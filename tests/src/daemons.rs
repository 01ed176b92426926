//! The daemons under test in a lab: their configuration, their start, and what their CLI says.
//!
//! What speaks of "the controller" means the first; in the lab of a pair the functions that end in `_of`
//! take either by its id.

mod files;
mod kernel_objects;
mod programs;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_common::maps::LAYOUT_VERSION;

use crate::lab::{Lab, Process, eventually};

pub use files::{
    BEACON_KEY_ID, CLUSTER, GROUP_V4, GROUP_V6, Pair, Redirecting, Settings, beacon_key,
    call_secret,
};
pub use kernel_objects::KernelObjects;
pub use programs::program;

/// How long a daemon may take to do what is asked of it. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A lab's daemons: a controller on each LB, and a redirect server on each node.
#[derive(Debug)]
pub struct Daemons<'lab> {
    lab: &'lab Lab,
    settings: Settings,
    controller: PathBuf,
    redirect: PathBuf,
}

impl<'lab> Daemons<'lab> {
    /// Writes the configuration files into the lab's directory. Starts nothing.
    ///
    /// # Errors
    /// The programs have not been built.
    pub fn configure(lab: &'lab Lab, settings: Settings) -> Result<Self> {
        files::write(lab, &settings)?;
        let controller = program("pointsman")?;
        let redirect = program("pointsman-redirect")?;
        Ok(Self {
            lab,
            settings,
            controller,
            redirect,
        })
    }

    /// Writes the files again, with other settings.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn reconfigure(&mut self, settings: Settings) -> Result<()> {
        files::write(self.lab, &settings)?;
        self.settings = settings;
        Ok(())
    }

    /// What is configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where a node's SIP server is to listen.
    pub fn sip_server(&self, node: u16) -> SocketAddr {
        files::sip_server(self.lab, &self.settings, node)
    }

    /// A node's redirect server's own address, beside the VIP.
    pub fn redirect_server(&self, node: u16) -> SocketAddr {
        files::redirect_server(self.lab, node)
    }

    /// A verb of a node's redirect server's CLI.
    pub fn redirect_command(&self, node: u16, verb: &str) -> Command {
        let mut command = self.lab.node(node).namespace.command(&self.redirect);
        command
            .arg(verb)
            .arg("--config")
            .arg(files::redirect_file(self.lab, node));
        command.env("NO_COLOR", "1");
        command
    }

    /// What a verb of a node's redirect server's CLI says with `--json`.
    ///
    /// # Errors
    /// It fails, or says something else.
    pub fn ask_redirect(&self, node: u16, verb: &str) -> Result<serde_json::Value> {
        said(self.redirect_command(node, verb).arg("--json"))
    }

    /// Whether a node's redirect server speaks, and takes all nodes of the lab to be up.
    pub fn hears_all(&self, node: u16) -> bool {
        let Ok(status) = self.ask_redirect(node, "status") else {
            return false;
        };
        let rows = status["nodes"].as_array().into_iter().flatten();
        let up = rows.filter(|row| row["liveness"] == "Up").count();
        up == self.lab.nodes.len() && status["speaking"] == true
    }

    /// How often a node's redirect server has counted something.
    ///
    /// # Errors
    /// It does not answer, or counts nothing of the kind.
    pub fn counted(&self, node: u16, what: &str) -> Result<u64> {
        let status = self.ask_redirect(node, "status")?;
        let count = status["redirect"]["counts"][what].as_u64();
        count.with_context(|| format!("no counter `{what}`: {status}"))
    }

    /// The controller's configuration file.
    pub fn controller_file(&self) -> PathBuf {
        self.controller_file_of(1)
    }

    /// A controller's configuration file.
    pub fn controller_file_of(&self, controller: u16) -> PathBuf {
        files::controller_file(self.lab, controller)
    }

    /// Where the controller's maps are pinned.
    pub fn pins(&self) -> PathBuf {
        self.pins_of(1)
    }

    /// Where a controller's maps are pinned.
    pub fn pins_of(&self, controller: u16) -> PathBuf {
        let bpffs = self.lab.bpffs_of(controller);
        bpffs.join(format!("v{LAYOUT_VERSION}"))
    }

    /// Starts the controller, and does not wait for anything.
    ///
    /// # Errors
    /// The program is not there.
    pub fn start_controller(&self) -> Result<Process> {
        self.start_controller_of(1)
    }

    /// Starts a controller, and does not wait for anything.
    ///
    /// # Errors
    /// The program is not there.
    pub fn start_controller_of(&self, controller: u16) -> Result<Process> {
        let mut command = self.controller_command_of(controller, "run");
        command.env("NO_COLOR", "1");
        let name = match controller {
            1 => "controller".to_owned(),
            _ => format!("controller-{controller}"),
        };
        Process::start_daemon(self.lab, &name, command)
    }

    /// Starts a node's redirect server, and does not wait for anything.
    ///
    /// # Errors
    /// The program is not there.
    pub fn start_redirect(&self, node: u16) -> Result<Process> {
        let command = self.redirect_command(node, "run");
        Process::start_daemon(self.lab, &format!("redirect-{node}"), command)
    }

    /// A verb of the controller's CLI, with the lab's configuration, on the LB.
    pub fn controller_command(&self, verb: &str) -> Command {
        self.controller_command_of(1, verb)
    }

    /// A verb of a controller's CLI, with the lab's configuration, on its LB.
    pub fn controller_command_of(&self, controller: u16, verb: &str) -> Command {
        let host = self.lab.balancer(controller);
        let mut command = host.namespace.command(&self.controller);
        command
            .arg(verb)
            .arg("--config")
            .arg(self.controller_file_of(controller));
        command
    }

    /// What a verb of the controller's CLI says with `--json`.
    ///
    /// # Errors
    /// It fails, or says something else.
    pub fn ask(&self, verb: &str) -> Result<serde_json::Value> {
        self.ask_of(1, verb)
    }

    /// What a verb of a controller's CLI says with `--json`.
    ///
    /// # Errors
    /// It fails, or says something else.
    pub fn ask_of(&self, controller: u16, verb: &str) -> Result<serde_json::Value> {
        said(self.controller_command_of(controller, verb).arg("--json"))
    }

    /// Waits until every node of `nodes` is `Up` and the others are not.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn wait_for_nodes(&self, controller: &mut Process, nodes: &[u16]) -> Result<()> {
        self.wait_for_nodes_of(1, controller, nodes)
    }

    /// The same, as this controller's data plane sees it.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn wait_for_nodes_of(
        &self,
        id: u16,
        controller: &mut Process,
        nodes: &[u16],
    ) -> Result<()> {
        eventually(&format!("nodes {nodes:?} to be Up"), PATIENCE, || {
            controller.expect_running()?;
            Ok(self.nodes_of(id).is_ok_and(|states| {
                // While nobody was ever heard all count as up; then those that were heard.
                let is_heard =
                    |state: &NodeState| self.settings.silent || state.admission.is_some();
                states
                    .iter()
                    .all(|state| (state.is_up() && is_heard(state)) == nodes.contains(&state.node))
                    && nodes
                        .iter()
                        .all(|node| states.iter().any(|state| state.node == *node))
            }))
        })
        .with_context(|| match self.nodes_of(id) {
            Ok(states) => format!("they are {states:?}{}", controller.last_words()),
            Err(error) => format!("{error:#}{}", controller.last_words()),
        })
    }

    /// How the data plane sees the nodes, from `pointsman nodes --json`.
    ///
    /// # Errors
    /// There are no pinned maps yet.
    pub fn nodes(&self) -> Result<Vec<NodeState>> {
        self.nodes_of(1)
    }

    /// The same of a controller.
    ///
    /// # Errors
    /// There are no pinned maps yet.
    pub fn nodes_of(&self, controller: u16) -> Result<Vec<NodeState>> {
        let mut answer = self.ask_of(controller, "nodes")?;
        serde_json::from_value(answer["nodes"].take()).context("`nodes --json` is not as expected")
    }

    /// Frames by reason, from `pointsman stats --json`.
    ///
    /// # Errors
    /// There are no pinned maps yet.
    pub fn reasons(&self) -> Result<Vec<(String, u64)>> {
        self.reasons_of(1)
    }

    /// The same of a controller.
    ///
    /// # Errors
    /// There are no pinned maps yet.
    pub fn reasons_of(&self, controller: u16) -> Result<Vec<(String, u64)>> {
        #[derive(serde::Deserialize)]
        struct Row {
            reason: String,
            packets: u64,
        }
        let mut answer = self.ask_of(controller, "stats")?;
        let rows: Vec<Row> = serde_json::from_value(answer["reasons"].take())
            .context("`stats --json` is not as expected")?;
        Ok(rows
            .into_iter()
            .map(|row| (row.reason, row.packets))
            .collect())
    }

    /// Frames of one reason.
    ///
    /// # Errors
    /// There are no pinned maps yet.
    pub fn reason(&self, reason: &str) -> Result<u64> {
        self.reason_of(1, reason)
    }

    /// The same of a controller.
    ///
    /// # Errors
    /// There are no pinned maps yet.
    pub fn reason_of(&self, controller: u16, reason: &str) -> Result<u64> {
        let reasons = self.reasons_of(controller)?;
        Ok(reasons
            .iter()
            .find(|(name, _)| name == reason)
            .map_or(0, |(_, count)| *count))
    }

    /// The lab.
    pub fn lab(&self) -> &'lab Lab {
        self.lab
    }
}

/// What a command prints, as JSON.
fn said(command: &mut Command) -> Result<serde_json::Value> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{command:?} does not print JSON"))
}

/// A node as `pointsman nodes` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct NodeState {
    /// Its id.
    pub node: u16,
    /// `Up`, `Stale` or `Down`.
    pub liveness: String,
    /// `Idle`, `Free`, `Busy` or `Draining`; nothing of a node that has not been heard yet.
    pub admission: Option<String>,
}

impl NodeState {
    /// Whether the data plane takes it to be live.
    pub fn is_up(&self) -> bool {
        self.liveness == "Up"
    }
}
