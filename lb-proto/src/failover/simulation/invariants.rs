//! What is looked at after every single event.

use super::world::World;
use crate::failover::wire::{Bytes, Datagram};
use crate::failover::{ControllerId, Term};
use crate::fixtures::KEY;
use std::collections::BTreeMap;
use std::time::Duration;

/// Remembers what must never be taken back.
#[derive(Default)]
pub(super) struct Watcher {
    /// Who reigned in each term.
    reigns: BTreeMap<Term, usize>,
    /// The last term that each node accepted, and of whom.
    accepted: BTreeMap<usize, (Term, ControllerId)>,
    /// Somebody's disk was lost: what it had promised, nobody knows.
    is_wiped: bool,
    /// How many reigns there were.
    pub(super) reigns_begun: u64,
    /// Who must reign at every moment.
    expected: Option<usize>,
}

impl Watcher {
    /// A controller becomes main of a term, or goes on under it.
    pub(super) fn activated(&mut self, seed: u64, now: Duration, host: usize, term: Term) {
        self.reigns_begun += 1;
        if self.is_wiped {
            return;
        }
        let last = self.reigns.last_key_value();
        let is_above = last.is_none_or(|(last, _)| *last < term);
        assert!(
            is_above,
            "seed {seed}, {now:?}: host {host} reigns in term {term} after {last:?}"
        );
        self.reigns.insert(term, host);
    }

    /// From now on this one must reign at every moment; or nobody need.
    pub(super) fn expect(&mut self, main: Option<usize>) {
        self.expected = main;
    }

    /// A machine has lost its disk.
    pub(super) fn wiped(&mut self, host: usize) {
        self.is_wiped = true;
        self.accepted.remove(&host);
    }

    /// Nothing is sent in the name of a reign that is over.
    pub(super) fn look_at_sent(world: &World, from: usize, bytes: &Bytes) {
        let (seed, now) = (world.seed, world.now);
        let Some(controller) = world.controller(from) else {
            return;
        };
        // Most are looked at by their flags alone: verifying takes longer than all else.
        if bytes[7] & 2 != 0 {
            let datagram = Datagram::read(bytes, &[KEY]).expect("what was just written");
            let reigns = controller.reigns(world.local(from));
            let term = datagram.header.term;
            // It may have been written under the term before, in the same turn.
            let is_good = reigns.is_some_and(|own| term <= own);
            assert!(
                is_good,
                "seed {seed}, {now:?}: host {from}, which reigns in {reigns:?}, sends {datagram:?}"
            );
        }
    }

    /// Looks at everybody.
    pub(super) fn look(world: &mut World) {
        let (seed, now) = (world.seed, world.now);
        let mut reigning = None;
        let mut active = None;
        for host in world.controllers() {
            let Some(controller) = world.controller(host) else {
                continue;
            };
            // A frozen one knows it by its clock as well: nobody is exempt.
            if let Some(term) = controller.reigns(world.local(host)) {
                let other = reigning.replace((host, term));
                assert!(
                    other.is_none(),
                    "seed {seed}, {now:?}: two mains, {other:?} and {reigning:?}"
                );
            }
            if let Some(term) = world.hosts[host].active
                && !world.hosts[host].is_frozen()
            {
                let other = active.replace((host, term));
                assert!(
                    other.is_none(),
                    "seed {seed}, {now:?}: two active data planes, {other:?} and {active:?}"
                );
            }
        }
        if let Some(expected) = world.watcher.expected {
            let reigning = reigning.map(|(host, _)| host);
            assert_eq!(reigning, Some(expected), "seed {seed}, {now:?}");
        }
        for host in world.nodes() {
            let Some(witness) = world.witness(host) else {
                continue;
            };
            let Some((term, holder)) = witness.accepted(world.local(host)) else {
                continue;
            };
            let before = world.watcher.accepted.insert(host, (term, holder));
            let Some(before) = before.filter(|before| *before != (term, holder)) else {
                continue;
            };
            assert!(
                before.0 < term,
                "seed {seed}, {now:?}: host {host} accepts {term} of {holder} after {before:?}"
            );
        }
    }
}
