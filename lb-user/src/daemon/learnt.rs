//! Nodes that the status task has learnt: into the plan, out of the plan.
//!
//! A change of the steering table while an older one still keeps its dialogs takes that one's place:
//! calls from before the earlier change may move. Nobody waits for a learnt node as an operator waits
//! for a reload, so it is not let in while that is so, unless it has waited for [`PATIENCE`].

use std::net::Ipv4Addr;
use std::time::Duration;

use lb_common::maps::{MAX_NODES, Node};
use tokio::time::Instant;

use super::report;
use super::serve::{Serving, complain};
use crate::apply;
use crate::config::{Config, NodeConfig};
use crate::plan::{Plan, is_candidate};
use crate::plane::{AccessError, Maps};
use crate::status::Learnt;

/// Nodes that are learnt together change the table together.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a table keeps its dialogs, at least, before learnt nodes change it once more. Chosen:
/// longer than most calls last, shorter than a new machine should stand idle.
const PATIENCE: Duration = Duration::from_secs(300);

/// The nodes that an earlier controller has learnt, as far as the maps tell. One that starts takes
/// nothing from them before it has listened.
pub(super) fn adopt(config: &Config, maps: &Maps) -> Result<Learnt, AccessError> {
    let mut learnt = Learnt::new();
    if config.status.discovery.is_none() {
        return Ok(learnt);
    }
    for id in 1..MAX_NODES as u16 {
        let node = maps.node(id)?;
        let kind = node.flags & (Node::CONFIGURED | Node::LEAVING | Node::SILENT);
        let is_named = config.nodes.iter().any(|node| node.id == id);
        if kind == Node::CONFIGURED && !is_named && !is_candidate(&node) {
            learnt.insert(id, None);
        }
    }
    Ok(learnt)
}

/// The configuration with those learnt as nodes of weight 1. Where nobody knows the address, it is
/// the unspecified one.
pub(super) fn with_learnt(config: &Config, learnt: &Learnt) -> Config {
    let mut config = config.clone();
    if config.status.discovery.is_none() {
        return config;
    }
    for (id, address) in learnt {
        if config.nodes.iter().all(|node| node.id != *id) {
            config.nodes.push(NodeConfig {
                id: *id,
                address: address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
                weight: 1,
                mac: None,
                interface: None,
                is_silent: false,
            });
        }
    }
    config.nodes.sort_by_key(|node| node.id);
    config
}

/// When learnt nodes may change the plan. `drains`: when the old table began to drain, and when it
/// will have.
fn due(now: Instant, drains: Option<(Instant, Instant)>) -> Instant {
    let settled = now + SETTLE;
    drains.map_or(settled, |(began, ends)| {
        settled.max(ends.min(began + PATIENCE))
    })
}

impl Serving {
    /// A configuration, with the nodes that were learnt.
    pub(super) fn effective(&self, config: &Config) -> Config {
        with_learnt(config, &self.channels.learnt.borrow())
    }

    /// Nodes were learnt, forgotten, or have moved.
    pub(super) fn hear_of_learnt(&mut self) {
        let now = Instant::now();
        if self.is_table_meant() {
            // Only where they are has changed: their ways follow at once.
            self.replan_at = Some(now);
            return;
        }
        let drains = self.drain_until.map(|ends| {
            let began = ends.checked_sub(self.intent.config.drain);
            (began.unwrap_or(now), ends)
        });
        let due = due(now, drains);
        if self.replan_at.is_none() && due > now + SETTLE {
            let wait_s = (due - now).as_secs();
            tracing::info!(
                wait_s,
                "nodes were learnt or forgotten; they wait, because the old steering table still \
                 keeps its dialogs (a reload lets them in at once)"
            );
        }
        self.replan_at = Some(self.replan_at.map_or(due, |at| at.min(due)));
    }

    /// Whether the steering table is that of the nodes that are known.
    fn is_table_meant(&self) -> bool {
        let effective = self.effective(&self.intent.config);
        let meant = effective.nodes.iter().map(|node| node.id);
        let planned = self.plan.nodes.iter().filter(|node| !node.is_candidate());
        meant.eq(planned.map(|node| node.id))
    }

    /// The table, the ways and the judge follow what was learnt.
    pub(super) fn follow_learnt(&mut self) {
        self.replan_at = None;
        let effective = self.effective(&self.intent.config);
        let jiffy_ns = self.clock.jiffy_ns();
        let plan = Plan::of(&effective, &self.intent.keys, jiffy_ns, &self.own);
        match apply::apply(&self.maps, &plan) {
            Ok(applied) => {
                report::applied(&applied);
                if applied.table != apply::TableChange::Same {
                    self.begin_drain();
                }
            }
            Err(error) => complain("the nodes that were learnt are only half applied", &error),
        }
        self.plan = plan;
        self.tell_nodes(&self.intent.config, &self.intent.keys);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use super::*;

    #[test]
    fn learnt_nodes_wait_for_the_drain_but_not_for_ever() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(due(now, None), now + SETTLE);
        // Nearly over; just begun, short and long; begun long ago.
        for (began, ends, expected) in [
            (now - second * 60, now + second / 2, now + SETTLE),
            (now, now + second * 60, now + second * 60),
            (now, now + second * 3_600, now + PATIENCE),
            (now - PATIENCE, now + second * 3_000, now + SETTLE),
        ] {
            assert_eq!(due(now, Some((began, ends))), expected);
        }
    }

    #[test]
    fn the_configuration_goes_before_what_was_learnt() {
        let text = "cluster = 7\nkeys = \"k\"\n[status]\ndiscover = true\n\
                    groups = [\"239.255.77.1\"]\n[[interface]]\nname = \"eth0\"\n\
                    [[vip]]\naddress = \"192.0.2.10\"\n\
                    [[node]]\nid = 4\naddress = \"192.0.2.14\"\nweight = 9\n";
        let config = Config::parse(Path::new("test"), text).expect("a good file");
        let learnt_at = IpAddr::from([192, 0, 2, 12]);
        let learnt = Learnt::from([(2, Some(learnt_at)), (4, Some(learnt_at)), (7, None)]);
        let effective = with_learnt(&config, &learnt);
        let nodes: Vec<_> = effective
            .nodes
            .iter()
            .map(|node| (node.id, node.weight, node.address.to_string()))
            .collect();
        let expected = [
            (2, 1, "192.0.2.12".to_owned()),
            (4, 9, "192.0.2.14".to_owned()),
            (7, 1, "0.0.0.0".to_owned()),
        ];
        assert_eq!(nodes, expected);
        let plain = Config::parse(Path::new("test"), &text.replace("discover = true\n", ""));
        let plain = plain.expect("a good file");
        assert_eq!(with_learnt(&plain, &learnt), plain);
    }
}
