//! Which of two LBs steers, through the real program: a passive one is silent, one that hears the main of a
//! later term becomes passive by itself, and a fresh main asks before it steers dialogs.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lb_common::Reason;
use lb_common::maps::{BeaconKey, Pin, VipUse};
use lb_common::reign::MOST_AHEAD;
use lb_common::siphash::{SipKey, siphash13};
use lb_proto::failover::wire::{Body, Datagram, Header, Stamp};
use lb_proto::failover::{ControllerId, NodeId, Party, Term};
use lb_proto::keys::NumberedKey;
use lb_user::turn;
use pointsman_tests::daemons::call_secret;
use pointsman_tests::packets::build::{VIP_V4, VIP_V6, datagram, life, message};
use pointsman_tests::packets::fixture;
use pointsman_tests::packets::world::{NODES, World};

const KEY: NumberedKey = NumberedKey {
    id: 3,
    key: SipKey { k0: 1, k1: 2 },
};
const STATUS: &str = "192.0.2.10:7700";
const CLUSTER: u32 = 1;

/// An LB with four nodes that are up and free.
struct Lb(World);

impl Lb {
    fn new() -> Result<Self> {
        let world = World::load()?;
        world.set(&fixture::World::default(), "none")?;
        let maps = world.plane.maps();
        world.add_vip(STATUS, VipUse::Status, 10)?;
        let key = BeaconKey {
            key: KEY.key,
            valid: 1,
        };
        maps.set_key(KEY.id, key)?;
        Ok(Self(world))
    }

    fn meets(&self, frame: &[u8]) -> Result<Reason> {
        Ok(self.0.meet(frame)?.0)
    }

    fn sip(&self, what: &str, call_id: &str) -> Result<Reason> {
        self.meets(&datagram(
            VIP_V4.parse()?,
            message(what, call_id).as_bytes(),
        ))
    }

    fn hears(&self, keep_alive: &[u8]) -> Result<Reason> {
        self.meets(&datagram(STATUS.parse()?, keep_alive))
    }
}

/// A control datagram's header: of the other controller, which says that it is the main of this term.
fn claim(term: u64) -> Header {
    Header {
        key_id: KEY.id,
        cluster: CLUSTER,
        from: Party::Controller(ControllerId::new(2).expect("in range")),
        to: 0,
        reigns: true,
        is_urgent: false,
        term: Term(term),
        stamp: Stamp::default(),
    }
}

/// A keep-alive with this header.
fn signed(header: Header, key: SipKey) -> Vec<u8> {
    let body = Body::KeepAlive(life(0));
    Datagram { header, body }.write(key).to_vec()
}

fn keep_alive(term: u64) -> Vec<u8> {
    signed(claim(term), KEY.key)
}

fn ethernet(kind: u16, tags: &[u16]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 0xbb]);
    for tag in tags {
        frame.extend([0x81, 0]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(kind.to_be_bytes());
    frame
}

fn arp(operation: u8, target: [u8; 4], tags: &[u16]) -> Vec<u8> {
    let mut frame = ethernet(0x0806, tags);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend([2, 0, 0, 0, 0, 0xbb, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    frame.extend(target);
    frame
}

fn solicitation(kind: u8, target: [u8; 16]) -> Vec<u8> {
    let mut frame = ethernet(0x86dd, &[]);
    frame.extend([0x60, 0, 0, 0, 0, 24, 58, 255]);
    frame.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1]);
    frame.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(target);
    frame
}

#[test]
fn a_passive_lb_steers_nothing_and_answers_for_no_vip() -> Result<()> {
    let lb = Lb::new()?;
    let (v4, v6): (SocketAddr, SocketAddr) = (VIP_V4.parse()?, VIP_V6.parse()?);
    let (SocketAddr::V4(v4), SocketAddr::V6(v6)) = (v4, v6) else {
        anyhow::bail!("one VIP of each family");
    };
    let (v4, v6) = (v4.ip().octets(), v6.ip().octets());
    let mut fragment = datagram(VIP_V4.parse()?, message("INVITE", "whole").as_bytes());
    fragment[20] |= 0x20;
    let questions = [
        arp(1, v4, &[]),
        arp(1, v4, &[7]),
        arp(1, v4, &[7, 8]),
        solicitation(135, v6),
    ];
    let of_others = [
        arp(1, [192, 0, 2, 10], &[]),
        arp(2, v4, &[]),
        solicitation(136, v6),
        solicitation(135, [9; 16]),
        arp(1, v4, &[])[..40].to_vec(),
    ];
    let is_passed = |reason: Reason| matches!(reason, Reason::NotIp | Reason::NotUdp);

    let maps = lb.0.plane.maps();
    turn::deactivate(maps)?;
    for what in ["INVITE", "BYE", "200", "OPTIONS"] {
        ensure!(lb.sip(what, "passive")? == Reason::Passive, "{what}");
    }
    ensure!(lb.meets(&fragment)? == Reason::Passive, "a fragment");
    for (number, question) in questions.iter().enumerate() {
        ensure!(lb.meets(question)? == Reason::Passive, "question {number}");
    }
    for (number, frame) in of_others.iter().enumerate() {
        ensure!(is_passed(lb.meets(frame)?), "other {number}");
    }

    turn::activate(maps, 1)?;
    ensure!(lb.sip("INVITE", "passive")? == Reason::Home, "one write");
    ensure!(lb.meets(&fragment)? == Reason::Fragment, "a fragment");
    for (number, question) in questions.iter().enumerate() {
        ensure!(is_passed(lb.meets(question)?), "question {number}");
    }
    Ok(())
}

#[test]
fn the_main_of_a_later_term_ends_a_reign() -> Result<()> {
    let lb = Lb::new()?;
    let maps = lb.0.plane.maps();
    turn::activate(maps, 5)?;
    let short = keep_alive(6)[..104].to_vec();
    let mut bent = keep_alive(6);
    bent[40] ^= 1;
    let node = Party::Node(NodeId::new(2).context("in range")?);
    let with = |change: &dyn Fn(&mut Header)| {
        let mut header = claim(6);
        change(&mut header);
        signed(header, KEY.key)
    };
    let refused = [
        ("an earlier term", keep_alive(4)),
        ("the own term", keep_alive(5)),
        ("short", short),
        ("bent", bent),
        ("far ahead", keep_alive(5 + MOST_AHEAD)),
        ("no main", with(&|claim| claim.reigns = false)),
        ("a node", with(&|claim| claim.from = node)),
        ("another cluster", with(&|claim| claim.cluster = 2)),
        ("another key", signed(claim(6), SipKey { k0: 3, k1: 4 })),
        ("an unknown key", with(&|claim| claim.key_id = 9)),
    ];
    for (what, keep_alive) in &refused {
        ensure!(lb.hears(keep_alive)? == Reason::ForeignStatus, "{what}");
        ensure!(lb.sip("INVITE", "during")? == Reason::Home, "{what}");
    }

    ensure!(lb.hears(&keep_alive(6))? == Reason::Superseded);
    ensure!(lb.sip("INVITE", "after")? == Reason::Passive);
    ensure!(
        lb.hears(&keep_alive(6))? == Reason::ForeignStatus,
        "no news"
    );
    // A controller that does not know of it is of no help.
    turn::activate(maps, 5)?;
    ensure!(lb.sip("INVITE", "after")? == Reason::Passive);
    turn::activate(maps, 7)?;
    ensure!(lb.sip("INVITE", "after")? == Reason::Home);
    Ok(())
}

#[test]
fn an_lb_without_a_stand_by_gives_way_to_nobody() -> Result<()> {
    let lb = Lb::new()?;
    turn::activate_for_good(lb.0.plane.maps())?;
    ensure!(lb.hears(&keep_alive(u64::MAX))? == Reason::ForeignStatus);
    ensure!(lb.sip("INVITE", "for-good")? == Reason::Home);
    Ok(())
}

#[test]
fn while_calls_are_gathered_new_ones_are_served_and_no_dialog_goes_astray() -> Result<()> {
    let lb = Lb::new()?;
    let maps = lb.0.plane.maps();
    turn::deactivate(maps)?;
    turn::activate(maps, 1)?;
    for what in ["re-INVITE", "ACK", "BYE", "CANCEL", "200"] {
        ensure!(lb.sip(what, "unknown")? == Reason::Gathering, "{what}");
    }
    ensure!(lb.sip("INVITE", "new")? == Reason::Home);
    for what in ["INVITE", "ACK", "CANCEL", "BYE"] {
        let reason = lb.sip(what, "new")?;
        ensure!(reason == Reason::Home, "{what}: {reason:?}");
    }
    // Pinned away from home as soon as its node has said so.
    let key = siphash13(call_secret(), b"away");
    for node in 1..=NODES {
        ensure!(lb.sip("BYE", "away")? == Reason::Gathering);
        let now = lb.0.clock.now();
        let pin = Pin {
            node,
            created: now,
            last_seen: now,
            ..Pin::default()
        };
        maps.insert_pin(key, pin)?;
        ensure!(lb.sip("BYE", "away")? == Reason::Pinned);
        maps.remove_pin(key)?;
    }
    turn::end_gathering(maps)?;
    for what in ["re-INVITE", "ACK", "BYE"] {
        ensure!(lb.sip(what, "unknown")? == Reason::Home, "{what}");
    }
    // Only the controller was away: nothing is forgotten.
    turn::activate(maps, 2)?;
    ensure!(lb.sip("BYE", "unknown")? == Reason::Home);
    Ok(())
}
