//! A pair in service: two controllers, and a redirect server on each node.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use pointsman_tests::daemons::{Daemons, Pair, Redirecting, Settings};
use pointsman_tests::lab::{Arms, Lab, Plan, Process, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// Controllers and redirect servers. The lab outlives it.
pub(crate) struct Service<'lab> {
    pub(crate) daemons: Daemons<'lab>,
    /// By id, less one.
    pub(crate) controllers: Vec<Option<Process>>,
    /// By node, less one.
    pub(crate) redirects: Vec<Process>,
}

/// Labs of pairs one at a time: a dozen daemons that count milliseconds are enough for a small machine.
static ALONE: Mutex<()> = Mutex::new(());

/// The lab of a pair, while there is no other.
pub(crate) struct OnlyLab {
    lab: Lab,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for OnlyLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// The lab of a pair with four nodes.
pub(crate) fn lab() -> Result<OnlyLab> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::start_pair(Plan {
        nodes: 4,
        arms: Arms::One,
    })?;
    Ok(OnlyLab { lab, _alone: alone })
}

/// What daemons are told: redirect servers before SIP servers, and this pair.
pub(crate) fn settings(pair: Pair) -> Settings {
    Settings {
        redirecting: Some(Redirecting::default()),
        pair: Some(pair),
        ..Settings::patient()
    }
}

impl<'lab> Service<'lab> {
    /// Starts everything, and waits until the first controller is the main and the second stands by.
    pub(crate) fn start(lab: &'lab Lab, settings: Settings) -> Result<Self> {
        let daemons = Daemons::configure(lab, settings)?;
        let redirects = lab.node_ids().map(|node| daemons.start_redirect(node));
        let redirects = redirects.collect::<Result<_>>()?;
        let first = daemons.start_controller_of(1)?;
        let mut service = Self {
            daemons,
            controllers: vec![Some(first), None],
            redirects,
        };
        // On a busy machine the second might be ready well before the first, and rightly be the main.
        service.wait_for_role(1, "main")?;
        service.start_controller(2)?;
        service.wait_for_role(2, "stand-by")?;
        let nodes: Vec<u16> = lab.node_ids().collect();
        for id in [1, 2] {
            let controller = service.controllers[usize::from(id) - 1].as_mut();
            let controller = controller.context("it was started")?;
            service.daemons.wait_for_nodes_of(id, controller, &nodes)?;
        }
        Ok(service)
    }

    /// Starts a controller, for the first time or again.
    pub(crate) fn start_controller(&mut self, id: u16) -> Result<()> {
        let controller = self.daemons.start_controller_of(id)?;
        self.controllers[usize::from(id) - 1] = Some(controller);
        Ok(())
    }

    /// What `pointsman cluster` says on a controller's machine.
    pub(crate) fn cluster(&self, controller: u16) -> Result<Value> {
        self.daemons.ask_of(controller, "cluster")
    }

    /// Waits until a controller has a role, and knows who is the main.
    pub(crate) fn wait_for_role(&self, controller: u16, role: &str) -> Result<Value> {
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
            let running = self.controllers[usize::from(controller) - 1].as_ref();
            let log = running.map_or_else(String::new, Process::log);
            format!("controller {controller} is not {role}: {last:#}\n{log}")
        })
    }

    /// A controller's process.
    pub(crate) fn controller(&mut self, id: u16) -> &mut Process {
        self.controllers[usize::from(id) - 1]
            .as_mut()
            .expect("it runs")
    }
}
