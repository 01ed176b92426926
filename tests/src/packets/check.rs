//! Running a case, and comparing what happened with what should have.

use anyhow::{Context, Result, bail, ensure};
use lb_common::maps::{Event, NodeCounts, Pin};
use lb_common::siphash::siphash13;
use lb_common::{Outcome, Reason};
use lb_user::plane::Maps;

use super::fixture::{Case, Expect, Step};
use super::world::{NODES, SOURCE_MAC, World, destination_mac};
use super::{INGRESS, XDP_REDIRECT, action, build};
use crate::daemons::call_secret;

/// Runs all cases of a fixture file and reports every one that fails.
///
/// # Errors
/// The file cannot be read, the program not be loaded, or a case failed.
pub fn file(name: &str) -> Result<()> {
    let cases = super::fixture::load(name)?;
    let world = World::load()?;
    let mut failed = Vec::new();
    for one in &cases {
        if let Err(error) = case(&world, one) {
            failed.push(format!("{}: {error:#}", one.name));
        }
    }
    println!(
        "{name}: {} of {} cases",
        cases.len() - failed.len(),
        cases.len()
    );
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn case(world: &World, case: &Case) -> Result<()> {
    let call_id = case.call_id();
    world.set(&case.world, &call_id)?;
    for (number, one) in case.steps.iter().enumerate() {
        for (id, state) in &one.nodes {
            world.set_node(*id, state)?;
        }
        step(world, one, &call_id).with_context(|| format!("step {}", number + 1))?;
    }
    Ok(())
}

/// What the counters say.
struct Counters {
    reasons: Vec<u64>,
    nodes: Vec<NodeCounts>,
    vips: u64,
    ignored_staleness: u64,
}

impl Counters {
    fn read(maps: &Maps) -> Result<Self> {
        let counts = maps.counts()?;
        Ok(Self {
            reasons: counts.reasons.to_vec(),
            nodes: counts.nodes[..=usize::from(NODES)].to_vec(),
            vips: counts.vips[0] + counts.vips[1],
            ignored_staleness: maps.plane_status()?.ignored_staleness,
        })
    }
}

fn step(world: &World, step: &Step, call_id: &str) -> Result<()> {
    let maps = world.plane.maps();
    let expect = &step.expect;
    let reason = Reason::ALL
        .iter()
        .find(|reason| reason.name() == expect.reason)
        .with_context(|| format!("no such reason: {}", expect.reason))?;
    let frame = build::frame(&step.frame, call_id)?;
    let before = Counters::read(maps)?;
    let run = world.plane.test_run(&frame, INGRESS)?;
    let after = Counters::read(maps)?;
    let event = maps.next_event().context("no event")?;
    ensure!(maps.next_event().is_none(), "two events");

    let counted: Vec<_> = Reason::ALL
        .iter()
        .filter_map(|reason| {
            let place = *reason as usize;
            let times = after.reasons[place] - before.reasons[place];
            (times > 0).then(|| (reason.name(), times))
        })
        .collect();
    ensure!(
        counted == [(reason.name(), 1)],
        "{counted:?} instead of {}, node {}",
        reason.name(),
        event.node
    );

    let steered = reason.outcome() == Outcome::SteerCallId;
    let action = match (reason.outcome(), expect.action.as_deref()) {
        (outcome, None) => action(outcome),
        (Outcome::SteerCallId, Some("redirect")) => XDP_REDIRECT,
        (_, Some(other)) => bail!("no such action: {other}"),
    };
    ensure!(
        run.action == action,
        "action {} instead of {action}",
        run.action
    );
    ensure!(
        u32::from(event.action) == action && event.reason == *reason as u8,
        "the event tells something else: {event:?}"
    );
    let mut out = frame.clone();
    if steered {
        let node = expect.node.context("steered, but where to?")?;
        ensure!(event.node == node, "node {} instead of {node}", event.node);
        out[..6].copy_from_slice(&destination_mac(node));
        out[6..12].copy_from_slice(&SOURCE_MAC);
        used_key(&event, &frame, expect.key.as_deref().unwrap_or(call_id))?;
    }
    ensure!(run.frame == out, "the frame came out as {:02x?}", run.frame);
    node_counts(
        &before,
        &after,
        expect,
        steered,
        frame.len(),
        step.frame.send.as_deref(),
    )?;
    let to_vip = after.vips - before.vips;
    let for_vip = !matches!(
        reason,
        Reason::Fragment | Reason::ExtensionHeaders | Reason::TrailingBytes
    ) && matches!(reason.outcome(), Outcome::SteerCallId | Outcome::Defer);
    ensure!(
        to_vip == u64::from(for_vip),
        "{to_vip} frames counted for VIPs"
    );
    let ignored = after.ignored_staleness - before.ignored_staleness;
    ensure!(
        ignored == expect.ignored_staleness,
        "staleness ignored {ignored} times"
    );
    pin(maps, expect, call_id)
}

/// The event names the Call-ID's place and key.
fn used_key(event: &Event, frame: &[u8], call_id: &str) -> Result<()> {
    let at = event.call_id_at as usize;
    let used = frame
        .get(at..at + event.call_id_len as usize)
        .context("a Call-ID beyond the frame")?;
    ensure!(
        used == call_id.as_bytes(),
        "by Call-ID {}",
        String::from_utf8_lossy(used)
    );
    let key = siphash13(call_secret(), used);
    ensure!(event.key == key, "another key than that of the Call-ID");
    Ok(())
}

/// Only the chosen node's counters move.
fn node_counts(
    before: &Counters,
    after: &Counters,
    expect: &Expect,
    steered: bool,
    len: usize,
    sent: Option<&str>,
) -> Result<()> {
    for (id, (before, after)) in before.nodes.iter().zip(&after.nodes).enumerate() {
        let chosen = steered && expect.node == Some(id as u16);
        let packets = after.packets - before.packets;
        let bytes = after.bytes - before.bytes;
        let expected = if chosen { (1, len as u64) } else { (0, 0) };
        ensure!(
            (packets, bytes) == expected,
            "node {id}: {packets} packets, {bytes} bytes counted"
        );
        let started = after.started - before.started;
        let expected = match expect.started {
            Some(times) if chosen => times,
            _ => u64::from(chosen && sent == Some("INVITE")),
        };
        ensure!(
            started == expected,
            "node {id}: {started} new calls counted"
        );
    }
    Ok(())
}

fn pin(maps: &Maps, expect: &Expect, call_id: &str) -> Result<()> {
    let Some(expected) = &expect.pin else {
        return Ok(());
    };
    let found = match maps.pin(siphash13(call_secret(), call_id.as_bytes()))? {
        None => "none".to_owned(),
        Some(Pin { node, flags, .. }) => {
            let confirmed = flags & Pin::CONFIRMED != 0;
            let ended = flags & Pin::ENDED != 0;
            format!(
                "{node}{}{}",
                if confirmed { " confirmed" } else { "" },
                if ended { " ended" } else { "" }
            )
        }
    };
    ensure!(found == *expected, "pin: {found} instead of {expected}");
    Ok(())
}
