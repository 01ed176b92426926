//! Two controllers in service, mostly a pair, and a redirect server on each node.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::daemons::{Daemons, PATIENCE, Settings};
use crate::lab::{Lab, Process, wait_until};

/// Controllers and redirect servers. The lab outlives it.
pub struct Service<'lab> {
    /// The daemons' configuration, and what they say.
    pub daemons: Daemons<'lab>,
    /// By id, less one.
    pub controllers: Vec<Option<Process>>,
    /// By node, less one.
    pub redirects: Vec<Process>,
}

impl<'lab> Service<'lab> {
    /// Starts everything, and waits until the first controller is the main and the second stands by; without a
    /// pair in the settings each is for itself.
    ///
    /// # Errors
    /// A program is not there, or it does not come to that.
    pub fn start(lab: &'lab Lab, settings: Settings) -> Result<Self> {
        let daemons = Daemons::configure(lab, settings)?;
        let redirects = lab.node_ids().map(|node| daemons.start_redirect(node));
        let redirects = redirects.collect::<Result<_>>()?;
        let mut service = Self {
            daemons,
            controllers: vec![None, None],
            redirects,
        };
        let is_pair = service.daemons.settings().pair.is_some();
        for (id, role) in [(1, "main"), (2, "stand-by")] {
            service.start_controller(id)?;
            // On a busy machine the second might be ready well before the first, and rightly be the main.
            if is_pair {
                service.wait_for_role(id, role)?;
            }
        }
        let nodes: Vec<u16> = lab.node_ids().collect();
        for id in [1, 2] {
            let controller = service.controllers[usize::from(id) - 1].as_mut();
            let controller = controller.context("it was started")?;
            service.daemons.wait_for_nodes_of(id, controller, &nodes)?;
        }
        Ok(service)
    }

    /// Starts a controller, for the first time or again.
    ///
    /// # Errors
    /// The program is not there.
    pub fn start_controller(&mut self, id: u16) -> Result<()> {
        let controller = self.daemons.start_controller_of(id)?;
        self.controllers[usize::from(id) - 1] = Some(controller);
        Ok(())
    }

    /// What `pointsman cluster` says on a controller's machine.
    ///
    /// # Errors
    /// It fails.
    pub fn cluster(&self, controller: u16) -> Result<Value> {
        self.daemons.ask_of(controller, "cluster")
    }

    /// Waits until a controller has a role, and knows who is the main.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn wait_for_role(&self, controller: u16, role: &str) -> Result<Value> {
        let mut last = Value::Null;
        wait_until(role, PATIENCE, || {
            let Ok(report) = self.cluster(controller) else {
                return Ok(None);
            };
            last = report.clone();
            let is_so = report["role"] == role && !report["main"].is_null();
            Ok(is_so.then_some(report))
        })
        .with_context(|| {
            let log = self.log(controller);
            format!("controller {controller} is not {role}: {last:#}\n{log}")
        })
    }

    /// A controller's process.
    ///
    /// # Panics
    /// It was not started.
    pub fn controller(&mut self, id: u16) -> &mut Process {
        self.controllers[usize::from(id) - 1]
            .as_mut()
            .expect("it runs")
    }

    /// What a controller has logged since it was started; nothing of one that was not.
    pub fn log(&self, id: u16) -> String {
        let controller = self.controllers[usize::from(id) - 1].as_ref();
        controller.map_or_else(String::new, Process::log)
    }
}
