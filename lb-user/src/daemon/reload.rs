//! SIGHUP: another configuration, all of it or none.

use lb_net::systemd;

use super::serve::{Serving, complain};
use super::{Intent, report};
use crate::apply;
use crate::config::Config;
use crate::neighbours;
use crate::plan::Plan;
use crate::status::Learnt;

/// The configuration says something that takes a restart.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} cannot change while the controller runs: restart it, which traffic does not notice",
    .0.join(", ")
)]
struct NeedsRestart(Vec<&'static str>);

impl Serving {
    /// Reads the files again and does what they say; or keeps what it has, and says why.
    pub(super) fn reload(&mut self) {
        match self.try_reload() {
            Ok(()) => {
                tracing::info!(path = %self.path.display(), "reloaded");
                systemd::status("serving, reloaded");
            }
            Err(error) => {
                tracing::error!("reload refused, everything stays as it was: {error:#}");
                systemd::status("serving, the last reload was refused");
            }
        }
    }

    fn try_reload(&mut self) -> anyhow::Result<()> {
        let intent = Intent::read(&self.path)?;
        check_fixed(&self.intent.config, &intent.config)?;
        if intent.config.status.discovery.is_none() {
            // Who was learnt once is not to come back when nodes are learnt again.
            self.channels.learnt.send_replace(Learnt::new());
        }
        let effective = self.effective(&intent.config);
        let own = neighbours::own_addresses(&effective.nodes)?;
        let plan = Plan::of(&effective, &intent.keys, self.clock.jiffy_ns(), &own);
        // The new task opens its sockets before the old one ends: if it cannot, nothing has changed.
        if concerns_sockets(&self.intent.config, &intent.config) {
            self.restart_status(&intent)?;
        }
        match apply::apply(&self.maps, &plan) {
            Ok(applied) => report::applied(&applied),
            Err(error) => complain("the configuration is only half applied", &error),
        }
        // What has gone is not judged any more, and what the program now believes is believed.
        self.tell_nodes(&intent.config, &intent.keys);
        self.channels.vips.send_replace(intent.config.vips.clone());
        self.channels
            .session
            .send_replace(intent.config.pins.session);
        if let Some(intents) = &self.channels.intents {
            intents.send_replace(intent.clone());
        }
        (self.intent, self.plan, self.own) = (intent, plan, own);
        self.replan_at = None;
        self.begin_drain();
        Ok(())
    }
}

fn check_fixed(old: &Config, new: &Config) -> Result<(), NeedsRestart> {
    let fixed = [
        ("bpffs", old.bpffs != new.bpffs),
        ("[[interface]]", old.interfaces != new.interfaces),
        ("[pins] max", old.pins.max != new.pins.max),
        ("[metrics]", old.metrics != new.metrics),
        ("[pair]", fixed_part(old) != fixed_part(new)),
    ];
    let changed: Vec<&str> = fixed
        .iter()
        .filter(|(_, is_other)| *is_other)
        .map(|(name, _)| *name)
        .collect();
    if changed.is_empty() {
        Ok(())
    } else {
        Err(NeedsRestart(changed))
    }
}

/// What the pair's task opens once.
fn fixed_part(config: &Config) -> Option<impl PartialEq + use<>> {
    let pair = config.pair.as_ref()?;
    let own = pair.own_address();
    let places = (pair.state_dir.clone(), pair.admin.clone());
    let plane = (config.cluster, config.status.port);
    Some((pair.id, own, pair.takeover.clone(), places, plane))
}

/// Whether the status plane's sockets would be others, or nodes learnt that were not. Nodes and keys
/// change without that.
fn concerns_sockets(old: &Config, new: &Config) -> bool {
    old.status != new.status || old.cluster != new.cluster
}
