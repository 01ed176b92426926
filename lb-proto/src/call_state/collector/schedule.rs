//! Whose turn it is, and whether all is known.

use super::node::Step;
use super::{Collector, Output};
use crate::call_state::database::Completeness;
use std::cmp::Reverse;
use std::time::Duration;

impl Collector {
    /// Asks whom it is time to ask.
    pub(super) fn schedule(&mut self, now: Duration, out: &mut Vec<Output>) {
        let Some(reign) = self.reign else {
            return;
        };
        let pace = self.settings.pace;
        let mut waiting = Vec::new();
        let mut at_once = 0;
        for (id, node) in &mut self.nodes {
            node.is_waiting = false;
            at_once += usize::from(node.is_sending_records(now, &pace));
            if !node.is_due(now) {
                continue;
            }
            match node.step {
                Step::Reset | Step::Keys => {
                    self.counts.asked += 1;
                    let message = node.ask(now, &pace, &reign);
                    out.push(Output::Request { node: *id, message });
                }
                Step::Page(_) | Step::Named => {
                    let (awaited, emergencies) = self.database.awaited(*id);
                    waiting.push((emergencies > 0, awaited, Reverse(*id)));
                }
            }
        }
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        for (_, _, Reverse(id)) in waiting {
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            if at_once >= pace.most_at_once {
                node.is_waiting = true;
                continue;
            }
            at_once += 1;
            self.counts.asked += 1;
            let message = node.ask(now, &pace, &reign);
            out.push(Output::Request { node: id, message });
        }
        self.say_if_complete(now, out);
    }

    fn say_if_complete(&mut self, now: Duration, out: &mut Vec<Output>) {
        let Some(reign) = self.reign.as_mut().filter(|reign| !reign.is_complete) else {
            return;
        };
        if !reign.has_keys {
            let mut waited_for = self.nodes.iter().filter(|(id, node)| {
                let completeness = self.database.completeness(**id);
                !node.has_told_keys && completeness != Some(Completeness::Unreachable)
            });
            if waited_for.next().is_some() {
                return;
            }
            reign.has_keys = true;
            let told = self.nodes.values().filter(|node| node.has_told_keys);
            out.push(Output::KeysComplete {
                nodes: told.count(),
                took: now.saturating_sub(reign.began),
            });
        }
        let (mut nodes, mut unreachable, mut calls) = (0, 0, 0);
        for id in self.nodes.keys() {
            match self.database.completeness(*id) {
                Some(Completeness::Ok) => {
                    nodes += 1;
                    calls += self.database.calls_of(*id);
                }
                Some(Completeness::Unreachable) => unreachable += 1,
                Some(Completeness::Rebuilding) | None => return,
            }
        }
        reign.is_complete = true;
        out.push(Output::Complete {
            nodes,
            unreachable,
            calls,
            took: reign.latest.saturating_sub(reign.began),
        });
    }
}
