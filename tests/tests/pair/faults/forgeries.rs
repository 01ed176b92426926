//! Control datagrams and links that are not genuine, not new, not from where they should be, or of a term
//! that is over: every single one is refused and counted, and none has an effect.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::siphash::SipKey;
use lb_proto::failover::wire::{
    Body, Bytes, CONTROL_LEN, Datagram, Header, LeaseRequest, Reason, Stamp,
};
use lb_proto::failover::{ControllerId, Party, Term};
use lb_proto::keys::NumberedKey;
use pointsman_tests::daemons::{BEACON_KEY_ID, CLUSTER, Pair, beacon_key};
use pointsman_tests::lab::{Lab, wait_until};
use pointsman_tests::packets::build::life;
use pointsman_tests::packets::mutate::Dice;
use pointsman_tests::pair::Service;

use super::begin::begin;
use super::victims::{Mouths, Victim, links_are_refused, overhear};
use super::watch::Watch;
use crate::lab::lab;

const PATIENCE: Duration = Duration::from_secs(5);
/// Of each kind of lie, to each who is lied to.
const EACH: usize = 2_000;
/// Until a main has a term above one that somebody invented.
const OUTBID: Duration = Duration::from_millis(200);
pub(super) const WRONG: SipKey = SipKey { k0: 1, k1: 2 };

pub(super) fn controller(id: u8) -> Result<Party> {
    Ok(Party::Controller(ControllerId::new(id).context("an id")?))
}

/// A datagram of a controller.
fn written(
    from: Party,
    cluster: u32,
    term: u64,
    stamp: Stamp,
    body: Body,
    key: NumberedKey,
) -> Bytes {
    let header = Header {
        key_id: key.id,
        cluster,
        from,
        to: 0,
        reigns: matches!(body, Body::KeepAlive(_)),
        is_urgent: false,
        term: Term(term),
        stamp,
    };
    Datagram { header, body }.write(key.key)
}

/// A keep-alive of a reign that nobody has, as new as can be.
pub(super) fn usurper(from: Party, cluster: u32, key: NumberedKey, number: usize) -> Bytes {
    let stamp = Stamp {
        epoch: u32::MAX,
        sequence: number as u32,
    };
    written(
        from,
        cluster,
        1_000_000,
        stamp,
        Body::KeepAlive(life(99)),
        key,
    )
}

/// A wish for leases of a term that nobody has, as new as can be.
fn bid(from: Party, key: NumberedKey, number: usize) -> Bytes {
    let stamp = Stamp {
        epoch: u32::MAX,
        sequence: number as u32,
    };
    written(
        from,
        CLUSTER,
        1_000_000,
        stamp,
        Body::LeaseRequest(WISH),
        key,
    )
}

const WISH: LeaseRequest = LeaseRequest {
    nonce: 1,
    lease: Duration::from_millis(100),
    reason: Reason::Loss,
};

pub(super) const fn key(id: u8, key: SipKey) -> NumberedKey {
    NumberedKey { id, key }
}

#[test]
fn no_lie_is_believed() -> Result<()> {
    let lab = lab()?;
    let (mut service, watch) = begin(&lab, Pair::patient())?;
    let mouths = Mouths::open(&lab)?;
    let good = key(BEACON_KEY_ID, beacon_key());

    watch.forget();
    let before = [1, 2].map(|id| watch.cluster(id));
    for (victim, host, other) in [
        (Victim::controller(&lab, 1), lab.balancer(1), 2),
        (Victim::controller(&lab, 2), lab.balancer(2), 1),
        (Victim::node(&lab, 1), lab.node(1), 2),
    ] {
        let (party, address) = (controller(other)?, lab.balancer(other.into()).v4);
        let heard = overhear(host, Duration::from_millis(500))?;
        let all = heard.iter().copied().cycle().take(EACH);

        let stranger = controller(7)?;
        let (right, wrong) = (IpAddr::from(address), IpAddr::from(lab.switch.v4));
        let usurped = |party, cluster, key| {
            let lie = move |number| (right, usurper(party, cluster, key, number));
            (0..EACH).map(lie)
        };
        let refuses = |what, reasons: &[&str], lies: &mut dyn Iterator<Item = (IpAddr, Bytes)>| {
            victim.refuses(&mouths, what, reasons, lies)
        };
        let mut forged = usurped(party, CLUSTER, key(BEACON_KEY_ID, WRONG));
        refuses("under a wrong key", &["forged"], &mut forged)?;
        let mut unknown = usurped(party, CLUSTER, key(99, WRONG));
        refuses("under an unknown key", &["unknown-key"], &mut unknown)?;
        let mut dice = Dice::new(7);
        let mut flipped = all.clone().map(|(from, mut bytes)| {
            // The first four bytes say that it is a control datagram at all.
            let bit = 32 + dice.below((CONTROL_LEN - 4) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            (from, bytes)
        });
        let reasons = ["forged", "malformed", "unknown-key"];
        refuses("with a bit flipped", &reasons, &mut flipped)?;
        refuses("played back", &["replayed"], &mut all.clone())?;
        let mut moved = all.map(|(_, bytes)| (wrong, bytes));
        refuses("played back from elsewhere", &["origin"], &mut moved)?;
        let mut foreign = usurped(party, CLUSTER + 1, good);
        refuses("of another cluster", &["cluster"], &mut foreign)?;
        let mut stranger = (0..EACH).map(|number| (right, bid(stranger, good, number)));
        refuses(
            "of an unknown controller",
            &["unknown-sender"],
            &mut stranger,
        )?;
        links_are_refused(&lab, &victim, lab.balancer(other.into()))?;
    }
    unmoved(&watch, &before)?;

    // One who has the key, but another's address.
    for victim in [
        Victim::controller(&lab, 1),
        Victim::controller(&lab, 2),
        Victim::node(&lab, 1),
    ] {
        for other in [1, 2] {
            let party = controller(other)?;
            if victim.name == format!("controller {other}") {
                continue;
            }
            let wrong = IpAddr::from(lab.switch.v4);
            let lies = (0..EACH).map(|number| (wrong, bid(party, good, number)));
            victim.refuses(&mouths, "from an untrusted address", &["origin"], lies)?;
        }
    }
    unmoved(&watch, &before)?;
    a_main_outbids(&lab, &watch, &mouths, good)?;
    lower_terms(&lab, &mut service, &watch, &mouths)
}

/// Nobody's role or term has changed, and no data plane.
fn unmoved(watch: &Watch, before: &[Option<serde_json::Value>; 2]) -> Result<()> {
    let seen = watch.look()?;
    ensure!(
        seen.changes.len() <= 1 && seen.steers == [true, false],
        "{seen:?}"
    );
    for (id, before) in [1, 2].into_iter().zip(before) {
        let (now, before) = (watch.cluster(id).context("no answer")?, before.as_ref());
        for what in ["role", "term", "main", "configuration", "newer"] {
            let before = before.map(|before| &before[what]);
            ensure!(
                before == Some(&now[what]),
                "{what} of controller {id}: {now:#}"
            );
        }
    }
    watch.wait_until_well(PATIENCE)?;
    Ok(())
}

/// The program gives way to every later term under the right key, wherever it comes from: better once too
/// often. The daemon refuses it, and the nodes know of no such reign: the main goes on above it.
fn a_main_outbids(lab: &Lab, watch: &Watch, mouths: &Mouths, key: NumberedKey) -> Result<()> {
    let victim = Victim::controller(lab, 1);
    watch.forget();
    let lie = usurper(controller(2)?, CLUSTER, key, 1);
    victim.refuses(
        mouths,
        "a reign that there is not",
        &["origin"],
        [(IpAddr::from(lab.switch.v4), lie)],
    )?;
    let begin = Instant::now();
    let terms = || {
        watch
            .cluster(1)
            .map(|report| (report["term"].as_u64(), report["steers"] == true))
    };
    wait_until("the main to go on above it", PATIENCE, || {
        Ok((terms() == Some((Some(1_000_001), true))).then_some(()))
    })
    .with_context(|| format!("{:?}", watch.cluster(1)))?;
    let after = begin.elapsed();
    let seen = watch.look()?;
    eprintln!("outbid after {after:?}");
    ensure!(!seen.steers[1], "{seen:?}");
    watch.expect_in_time("outbid", after, OUTBID)?;
    watch.wait_until_well(PATIENCE)?;
    Ok(())
}

/// An old main's voice, with all that makes it genuine, after its term.
fn lower_terms(lab: &Lab, service: &mut Service<'_>, watch: &Watch, mouths: &Mouths) -> Result<()> {
    let heard = overhear(lab.node(1), Duration::from_millis(200))?;
    let old = controller(1)?;
    let keys = [key(BEACON_KEY_ID, beacon_key())];
    let stamps = heard.iter().filter_map(|(_, bytes)| {
        let header = Datagram::read(bytes, &keys).ok()?.header;
        (header.from == old).then_some(header.stamp)
    });
    let Stamp { epoch, sequence } = stamps.max().context("the main was not heard")?;
    service.controller(1).kill()?;
    service.controllers[0] = None;
    watch.expect([false, true], Instant::now(), PATIENCE)?;
    watch.forget();
    let reign = watch.cluster(2).context("no answer")?["term"]
        .as_u64()
        .context("no term")?;
    ensure!(reign > 1, "the reign is {reign}");
    let mut number = sequence + 100_000;
    let mut lie = |body, term| {
        number += 1;
        let stamp = Stamp {
            epoch,
            sequence: number,
        };
        let bytes = written(old, CLUSTER, term, stamp, body, keys[0]);
        (IpAddr::from(lab.balancer(1).v4), bytes)
    };
    let successor = ControllerId::new(1).context("an id")?;
    let asked = Body::Ask {
        successor,
        reason: Reason::Command,
    };
    for (victim, what, body) in [
        (
            Victim::controller(lab, 2),
            "a keep-alive of a lower term",
            Body::KeepAlive(life(1)),
        ),
        (Victim::controller(lab, 2), "a wish of a lower term", asked),
        (
            Victim::node(lab, 1),
            "a keep-alive of a lower term",
            Body::KeepAlive(life(1)),
        ),
        (
            Victim::node(lab, 1),
            "a request of a lower term",
            Body::LeaseRequest(WISH),
        ),
        (
            Victim::node(lab, 2),
            "a request of a lower term",
            Body::LeaseRequest(WISH),
        ),
    ] {
        let lies = (0..EACH as u64).map(|n| lie(body, n % reign));
        victim.refuses(mouths, what, &["lower-term"], lies)?;
    }
    let seen = watch.look()?;
    ensure!(seen.steers == [false, true], "{seen:?}");
    let now = watch.cluster(2).context("no answer")?;
    ensure!(now["role"] == "main" && now["term"] == reign, "{now:#}");
    let obeyed = watch.witnesses();
    let obeys =
        |node: &Option<serde_json::Value>| node.as_ref().is_some_and(|node| node["main"] == 2);
    ensure!(obeyed.iter().all(obeys), "{obeyed:?}");
    Ok(())
}
