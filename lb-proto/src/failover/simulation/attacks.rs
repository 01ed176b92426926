//! Forged, played back, from elsewhere, of a lower term: refused and counted, every single one.

use super::machine::Setting;
use super::world::{World, controller_id};
use crate::failover::fixtures::{CLUSTER, ms};
use crate::failover::trust::{Marks, Refusal, Refusals, Stamper};
use crate::failover::wire::{Ack, Body, Bytes, Datagram, LeaseRequest, Missing, Reason, Stamp};
use crate::failover::{Party, Term};
use crate::fixtures::KEY;
use crate::network::CALM;
use crate::sealed::SealError;
use std::net::IpAddr;

/// A cluster that has seen a takeover on request and runs, and every datagram of it that arrived.
fn recorded() -> (World, usize, Vec<(usize, usize, Bytes)>) {
    let mut world = World::new(Setting::new(5), CALM, 1);
    world.records = true;
    let (main, _) = world.settle(ms(10_000));
    world.pass(ms(400));
    let target = 1 - main;
    let result = world.with_controller(target, |controller, now| {
        controller.fail_over(now, controller_id(target))
    });
    assert_eq!(result, Some(Ok(())));
    world.pass(ms(600));
    let delivered = std::mem::take(&mut world.delivered);
    assert_eq!(world.settled().map(|(main, _)| main), Some(target));
    (world, target, delivered)
}

impl World {
    fn refusals(&self, host: usize) -> Refusals {
        match (self.controller(host), self.witness(host)) {
            (Some(controller), _) => controller.view(self.local(host)).refusals,
            (None, Some(witness)) => witness.view(self.local(host)).refusals,
            (None, None) => Refusals::default(),
        }
    }

    /// Gives bytes to a machine: they are refused for this reason, and counted as such, and nothing
    /// comes of them.
    fn is_refused(&mut self, to: usize, from: IpAddr, bytes: &[u8], why: Refusal) {
        let before = self.refusals(to);
        let carried = self.carried;
        let result = self.inject(to, from, bytes);
        assert_eq!(result, Err(why), "{from} to {to}: {bytes:?}");
        let after = self.refusals(to);
        for refusal in Refusal::ALL {
            let one = u64::from(refusal == why);
            assert_eq!(after.get(refusal), before.get(refusal) + one, "{refusal:?}");
        }
        // A node says which term is higher, and to whom it listens.
        let answers = u64::from(why == Refusal::LowerTerm);
        assert!(
            self.carried - carried <= answers,
            "{from} to {to}: {bytes:?}"
        );
    }
}

#[test]
fn what_is_played_back_forged_or_from_elsewhere() {
    let (mut world, main, delivered) = recorded();
    assert!(delivered.len() > 500, "{}", delivered.len());
    let reigns = world.watcher.reigns_begun;
    let strangers: [IpAddr; 3] = [
        [10, 9, 9, 9].into(),
        [10, 0, 0, 200].into(),
        [0, 0, 0, 0].into(),
    ];
    for (place, (from, to, bytes)) in delivered.iter().enumerate() {
        let address = world.address(*from);
        world.is_refused(*to, address, bytes, Refusal::Replayed);
        world.is_refused(*to, strangers[place % 3], bytes, Refusal::Origin);
        // From another member, as if that one had sent it.
        let sender = Datagram::read(bytes, &[KEY]).expect("genuine").header.from;
        let sender = world.host_of(sender);
        let other = world
            .controllers()
            .find(|host| *host != sender && host != to);
        if let Some(other) = other {
            world.is_refused(*to, world.address(other), bytes, Refusal::Origin);
        }
        let mut forged = *bytes;
        let bit = 32 * 8 + place * 7 % (80 * 8);
        forged[bit / 8] ^= 1 << (bit % 8);
        let forgery = Refusal::Seal(SealError::Forged);
        world.is_refused(*to, address, &forged, forgery);
        forged[6] = 77;
        let unknown = Refusal::Seal(SealError::UnknownKey);
        world.is_refused(*to, address, &forged, unknown);
        let short = Refusal::Seal(SealError::Malformed);
        world.is_refused(*to, address, &bytes[..111], short);
    }
    assert_eq!(world.settled().map(|(main, _)| main), Some(main));
    world.pass(ms(300));
    assert_eq!(world.settled().map(|(main, _)| main), Some(main));
    assert_eq!(world.watcher.reigns_begun, reigns);
}

/// The main of before, with good keys and a new life, commands under its old term, and under all
/// before: nobody obeys.
#[test]
fn what_is_of_a_lower_term() {
    let (mut world, main, _) = recorded();
    let (_, term) = world.settled().expect("at peace");
    let old = 1 - main;
    let mut stamper = Stamper::new(Party::Controller(controller_id(old)), CLUSTER, 9_999);
    let address = world.address(old);
    let controller = world.controller(old).expect("alive");
    let life = controller.keep_alive(world.local(old), 0);
    let reigns = Marks {
        reigns: true,
        is_urgent: false,
    };
    let request = LeaseRequest {
        nonce: 1,
        lease: ms(100),
        reason: Reason::Loss,
    };
    let nodes: Vec<usize> = world.nodes().collect();
    for lower in 0..term.0 {
        let mut write = |body, marks| stamper.write(KEY, 0, Term(lower), marks, body).1;
        for node in &nodes {
            let bytes = write(Body::KeepAlive(life), reigns);
            world.is_refused(*node, address, &bytes, Refusal::LowerTerm);
            let bytes = write(Body::LeaseRequest(request), Marks::default());
            world.is_refused(*node, address, &bytes, Refusal::LowerTerm);
        }
        for body in [
            Body::KeepAlive(life),
            Body::Yield {
                reason: Reason::Command,
            },
            Body::Ask {
                successor: controller_id(old),
                reason: Reason::Command,
            },
        ] {
            let bytes = write(body, reigns);
            world.is_refused(main, address, &bytes, Refusal::LowerTerm);
        }
        // Nodes that confirm what is over.
        let mut node = Stamper::new(
            Party::Node(world.node_id(nodes[0])),
            CLUSTER,
            9_999 + lower as u32,
        );
        let ack = Ack {
            echo: Stamp::default(),
            missing: Missing::default(),
        };
        let (_, bytes) = node.write(KEY, 0, Term(lower), Marks::default(), Body::Ack(ack));
        world.is_refused(main, world.address(nodes[0]), &bytes, Refusal::LowerTerm);
    }
    // The main's own life of before gives up what is long over.
    let mut stamper = Stamper::new(Party::Controller(controller_id(main)), CLUSTER, 9_999);
    let lower = Term(term.0 - 1);
    for node in &nodes {
        let (_, bytes) = stamper.write(KEY, 0, lower, Marks::default(), Body::Release);
        world.is_refused(*node, world.address(main), &bytes, Refusal::LowerTerm);
    }
    assert_eq!(world.reigning(), Some(main));
}

/// What belongs to nobody's turn: answers to what was not asked, commands to who does not reign.
#[test]
fn what_is_out_of_turn() {
    let (mut world, main, _) = recorded();
    let (_, term) = world.settled().expect("at peace");
    let old = 1 - main;
    let life = {
        let controller = world.controller(old).expect("alive");
        controller.keep_alive(world.local(old), 12_345)
    };
    let mut stamper = Stamper::new(Party::Controller(controller_id(main)), CLUSTER, 9_999);
    let address = world.address(main);
    let ask = Body::Ask {
        successor: controller_id(old),
        reason: Reason::Command,
    };
    for body in [Body::Answer(life), ask] {
        let (_, bytes) = stamper.write(KEY, 0, term, Marks::default(), body);
        world.is_refused(old, address, &bytes, Refusal::OutOfTurn);
    }
    let node = world.setting.controllers;
    let mut stamper = Stamper::new(Party::Node(world.node_id(node)), CLUSTER, 9_999);
    let ack = Ack {
        echo: Stamp {
            epoch: 1,
            sequence: 1,
        },
        missing: Missing::default(),
    };
    for to in [main, old] {
        let (_, bytes) = stamper.write(KEY, 0, term, Marks::default(), Body::Ack(ack));
        world.is_refused(to, world.address(node), &bytes, Refusal::OutOfTurn);
    }
    assert_eq!(world.settled().map(|(main, _)| main), Some(main));
}
