//! A lab in service: a controller, and nodes whose beacons the test itself speaks.

use anyhow::Result;

use crate::daemons::{Daemons, Settings};
use crate::homes::Homes;
use crate::lab::{Lab, Process};
use crate::traffic::Voice;

/// Controller and voices. The lab outlives it.
pub struct Fleet<'lab> {
    /// The daemons' configuration, and what they say.
    pub daemons: Daemons<'lab>,
    /// The controller.
    pub controller: Process,
    /// Nodes' voices; node `n` is at `n - 1`.
    pub voices: Vec<Voice>,
    /// Where calls belong.
    pub homes: Homes,
}

impl<'lab> Fleet<'lab> {
    /// Starts the controller and all voices, and waits until the data plane takes all nodes to be up.
    ///
    /// # Errors
    /// A program is not there, or it does not come to that.
    pub fn start(lab: &'lab Lab, settings: Settings) -> Result<Self> {
        let nodes: Vec<u16> = lab
            .node_ids()
            .filter(|node| !settings.left_out.contains(node))
            .collect();
        let voices = lab
            .node_ids()
            .map(|node| Voice::start(lab, node, &settings));
        let voices = voices.collect::<Result<_>>()?;
        let daemons = Daemons::configure(lab, settings)?;
        let mut controller = daemons.start_controller()?;
        daemons.wait_for_nodes(&mut controller, &nodes)?;
        let homes = Homes::open(&daemons.pins())?;
        Ok(Self {
            daemons,
            controller,
            voices,
            homes,
        })
    }

    /// A node's voice.
    ///
    /// # Panics
    /// There is no such node.
    pub fn voice(&self, node: u16) -> &Voice {
        &self.voices[usize::from(node) - 1]
    }
}
