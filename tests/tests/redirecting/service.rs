//! A fleet in service: a controller, and on each node a redirect server in front of SIPp.

use anyhow::Result;
use pointsman_tests::daemons::{Daemons, PATIENCE, Redirecting, Settings};
use pointsman_tests::lab::{Lab, Process, eventually};
use pointsman_tests::traffic::start_sipp_server;

/// Controller, redirect servers and SIP servers. The lab outlives it.
pub(crate) struct Service<'lab> {
    pub(crate) daemons: Daemons<'lab>,
    _controller: Process,
    pub(crate) redirects: Vec<Process>,
    _servers: Vec<Process>,
}

impl<'lab> Service<'lab> {
    /// Starts everything, and waits until the data plane and each node know that all nodes are up.
    pub(crate) fn start(lab: &'lab Lab, settings: Settings) -> Result<Self> {
        let daemons = Daemons::configure(lab, settings)?;
        let mut controller = daemons.start_controller()?;
        let mut servers = Vec::new();
        let mut redirects = Vec::new();
        for node in lab.node_ids() {
            let (host, listen) = (lab.node(node), daemons.sip_server(node));
            let name = format!("server-{node}");
            servers.push(start_sipp_server(lab, host, &name, listen)?);
            redirects.push(daemons.start_redirect(node)?);
        }
        let nodes: Vec<u16> = lab.node_ids().collect();
        if daemons.settings().silent {
            controller.wait_until_ready(PATIENCE)?;
        } else {
            daemons.wait_for_nodes(&mut controller, &nodes)?;
        }
        let mut service = Self {
            daemons,
            _controller: controller,
            redirects,
            _servers: servers,
        };
        service.wait_until_nodes_know_each_other()?;
        Ok(service)
    }

    fn wait_until_nodes_know_each_other(&mut self) -> Result<()> {
        for node in self.daemons.lab().node_ids() {
            let redirect = &mut self.redirects[usize::from(node) - 1];
            eventually(&format!("node {node} to hear all"), PATIENCE, || {
                redirect.expect_running()?;
                Ok(self.daemons.hears_all(node))
            })?;
        }
        Ok(())
    }

    /// What a redirect server has logged.
    pub(crate) fn said(&self, node: u16) -> String {
        self.redirects[usize::from(node) - 1].log()
    }

    /// How often redirect servers have counted something, all together.
    pub(crate) fn counted_by_all(&self, what: &str) -> Result<u64> {
        let nodes = self.daemons.lab().node_ids();
        nodes.map(|node| self.daemons.counted(node, what)).sum()
    }
}

/// Settings of a fleet whose calls go through redirect servers; not about detection.
pub(crate) fn redirecting(how: Redirecting) -> Settings {
    Settings {
        probe: true,
        redirecting: Some(how),
        ..Settings::patient()
    }
}
