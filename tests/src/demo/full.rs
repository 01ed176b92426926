//! The chapter on full nodes: what a node has no room for is taken by another, message by message.
//!
//! The LB is told nothing of the nodes here and steers by Call-ID alone. So calls keep coming to a
//! node that is full, and its redirect server finds them another place.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use lb_common::sip::Method;

use super::screen;
use super::show::NodeDaemons;
use super::{NODES, settings};
use crate::daemons::{Daemons, PATIENCE, Redirecting, Settings};
use crate::lab::eventually;
use crate::record::{CallHash, Kind, Ladder, Recorder, Tape};
use crate::traffic::{CallLoad, Switch};

/// The node that is full, and the calls that it has room for.
pub(super) const FULL: u16 = 1;
const ROOM: u32 = 5;

const CALLS: u32 = 300;
const RATE: u32 = 100;
const TALK: Duration = Duration::from_millis(400);

/// What became of the calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moves {
    /// Calls that were made.
    pub(super) calls: u32,
    /// Calls that did not go through.
    pub(super) failed: u32,
    /// Calls that were redirected.
    pub(super) redirected: u32,
    /// Of these, those whose 302 came from the node that then took the call.
    pub(super) by_the_taker: u32,
}

/// Makes the calls, and draws the first that was redirected.
pub(super) fn run(daemons: &mut Daemons<'_>) -> Result<Moves> {
    screen::step(&format!(
        "A full node: node {FULL} has room for {ROOM} calls now, and the LB is not told"
    ));
    daemons.reconfigure(Settings {
        silent: true,
        redirecting: Some(Redirecting {
            capacities: vec![(FULL, ROOM)],
            ..Redirecting::default()
        }),
        ..settings()
    })?;
    let lab = daemons.lab();
    let mut controller = daemons.start_controller()?;
    let nodes = (1..=NODES).map(|node| NodeDaemons::start(daemons, node));
    let mut nodes: Vec<_> = nodes.collect::<Result<_>>()?;
    controller.wait_until_ready(PATIENCE)?;
    for node in 1..=NODES {
        eventually(&format!("node {node} to hear the others"), PATIENCE, || {
            nodes[usize::from(node) - 1].expect_running()?;
            Ok(daemons.hears_all(node))
        })?;
    }
    let recorder = Recorder::start(std::iter::once(&lab.switch).chain(&lab.nodes))?;
    let load = CallLoad {
        target: lab.vip_v4(),
        calls: CALLS,
        rate: RATE,
        talk: TALK,
    };
    let stats = Switch::start_following(lab, "following", &load)?.wait(Duration::from_secs(60))?;
    let tapes = recorder.finish()?;
    let redirected = redirected(&tapes[0]);
    let by_the_taker = redirected.iter().filter(|(call, by)| {
        taker(&tapes[1..], *call).is_some_and(|node| *by == lab.node(node).mac)
    });
    let moves = Moves {
        calls: stats.started,
        failed: stats.failed,
        redirected: redirected.len() as u32,
        by_the_taker: by_the_taker.count() as u32,
    };
    screen::line(format_args!(
        "{} calls: {} redirected, {} failed. The first of them, as the ports saw it (◆ steered by \
         the LB):",
        screen::count(moves.calls),
        screen::count(moves.redirected),
        screen::count(moves.failed),
    ));
    if let Some((call, _)) = redirected.first() {
        println!();
        print!("{}", Ladder::of(lab, &tapes, *call).without_bystanders());
        println!();
        explain();
    }
    Ok(moves)
}

fn explain() {
    screen::line(format_args!(
        "Node {FULL} has no room and hands the INVITE to another redirect server. That one holds a \
         slot,"
    ));
    screen::line("and says 302 itself, straight to the switch, whose second INVITE goes there.");
    screen::line(
        "It has told the LB by then that the call is its own: what comes to the VIP later",
    );
    screen::line("(re-INVITE, BYE) is steered to it, not to the home of its Call-ID.");
}

/// Calls that the switch was told to take elsewhere, in the order of their 302, and by which machine.
fn redirected(switch: &Tape) -> Vec<(CallHash, [u8; 6])> {
    let moved = Kind::Response {
        status: 302,
        to: Method::Invite,
    };
    let mut known = HashSet::new();
    let all = switch.sightings.iter().filter(|s| s.kind == moved);
    all.filter(|s| known.insert(s.call))
        .map(|s| (s.call, s.way.sender))
        .collect()
}

/// The node that took a call's second INVITE.
fn taker(nodes: &[Tape], call: CallHash) -> Option<u16> {
    (1..).zip(nodes).find_map(|(node, tape)| {
        let mut of_call = tape.sightings.iter().filter(|s| s.call == call);
        of_call
            .any(|s| s.is_new_call() && s.cseq == 2)
            .then_some(node)
    })
}
