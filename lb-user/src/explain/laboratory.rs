//! The real program over fresh maps, and userspace behind it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use aya_log::EbpfLogger;
use lb_common::maps::{Event, NO_NODE, Node};
use lb_common::packet;
use lb_common::{Outcome, Reason};

use super::narrator::Narrator;
use super::record::{Record, Userspace, Verdict, hex};
use super::scene::{self, Scene};
use super::stack::{Delivery, Stack};
use crate::apply;
use crate::deferred::{self, Loss};
use crate::plan::Plan;
use crate::plane::clock::{Clock, ClockError};
use crate::plane::test_run::TestRunError;
use crate::plane::{AccessError, LoadError, LoadOptions, Plane};

/// The port that frames come in by: loopback, which every network namespace has.
const INGRESS: u32 = 1;
/// A port that is none: frames for nodes there are redirected.
const ELSEWHERE: u32 = u32::MAX;
/// Calls that may be pinned: every node is `Free`, so few are.
const OPTIONS: LoadOptions = LoadOptions { max_pins: 4_096 };

/// Bytes of the longest IP packet with an Ethernet header and two tags.
const MAX_FRAME: usize = 65_535 + 22;

/// The program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum LaboratoryError {
    /// It could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map could not be read or written.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The clock could not be read.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// A test run failed.
    #[error("frame {n}")]
    TestRun {
        /// The frame's number.
        n: u64,
        /// Why.
        #[source]
        source: TestRunError,
    },
    /// The object that was to log does not.
    #[error("the object logs nothing: build one that does with `cargo xtask build --bpf-log`")]
    Log(#[from] aya_log::Error),
    /// The program ran, but left no event.
    #[error("frame {n}: the program did not say what it did with it")]
    Silent {
        /// The frame's number.
        n: u64,
    },
}

/// The program, loaded over maps that are filled with a scene.
pub struct Laboratory {
    plane: Plane,
    clock: Clock,
    vips: Vec<SocketAddr>,
    stack: Stack,
    log: Option<EbpfLogger<Narrator>>,
}

impl Laboratory {
    /// Loads the program and fills its maps. Takes a tenth of a second, and root.
    ///
    /// # Errors
    /// [`LaboratoryError`].
    pub fn open(scene: &Scene) -> Result<Self, LaboratoryError> {
        Self::over(Plane::load(&OPTIONS)?, scene)
    }

    /// The same with an object that logs. What it says goes to standard error, before the answer.
    ///
    /// # Errors
    /// [`LaboratoryError`].
    pub fn open_logging(object: &[u8], scene: &Scene) -> Result<Self, LaboratoryError> {
        let mut plane = Plane::load_object(object, &OPTIONS)?;
        let log = plane.log_to(Narrator)?;
        let mut laboratory = Self::over(plane, scene)?;
        laboratory.log = Some(log);
        Ok(laboratory)
    }

    fn over(plane: Plane, scene: &Scene) -> Result<Self, LaboratoryError> {
        let clock = Clock::measure(&plane)?;
        fill(&plane, &clock, scene)?;
        Ok(Self {
            plane,
            clock,
            vips: scene.config.vips.clone(),
            stack: Stack::default(),
            log: None,
        })
    }

    /// Runs one frame. Frames that came before have their effects: a remembered request, a fragment
    /// that waits for its others.
    ///
    /// # Errors
    /// [`LaboratoryError`]. A frame that the kernel refuses is none, but an answer.
    pub fn run(
        &mut self,
        n: u64,
        frame: &[u8],
        captured_short: bool,
    ) -> Result<Record, LaboratoryError> {
        let run = match self.plane.test_run(frame, INGRESS) {
            Ok(run) => run,
            Err(TestRunError::Refused { .. }) => return self.refused(n, frame, captured_short),
            // It has not always the memory for frames that are longer than any.
            Err(TestRunError::Kernel(_)) if frame.len() > MAX_FRAME => {
                return self.refused(n, frame, captured_short);
            }
            Err(source) => return Err(LaboratoryError::TestRun { n, source }),
        };
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let event = self.event().ok_or(LaboratoryError::Silent { n })?;
        let reason = Reason::from_index(event.reason).ok_or(LaboratoryError::Silent { n })?;
        let verdict = Verdict::of_action(run.action);
        let is_steered = reason.outcome() == Outcome::SteerCallId;
        // Whatever the program lets pass reaches the socket on the VIP, if it is for it.
        let userspace = match verdict {
            Verdict::Pass => self.userspace(frame)?,
            _ => None,
        };
        let outcome = match (reason.outcome(), &userspace) {
            (Outcome::Pass, Some(_)) => Outcome::Defer,
            (outcome, _) => outcome,
        };
        let seen_len = event.frame_len as usize;
        Ok(Record {
            n,
            verdict,
            outcome,
            reason: Some(reason),
            key: is_steered.then(|| call_id(frame, &event)).flatten(),
            node: (is_steered && event.node != NO_NODE).then_some(event.node),
            out_len: Some(run.frame.len()),
            seen_len: (seen_len < frame.len()).then_some(seen_len),
            captured_short,
            userspace,
        })
    }

    /// What the program said of the last frame.
    fn event(&self) -> Option<Event> {
        std::iter::from_fn(|| self.plane.maps().next_event()).last()
    }

    /// The answer for a frame that the kernel does not let the program see: what the program's
    /// decoder says of it, and what userspace does if it comes nevertheless, as fragments.
    fn refused(
        &mut self,
        n: u64,
        frame: &[u8],
        captured_short: bool,
    ) -> Result<Record, LaboratoryError> {
        let odd = packet::decode(frame, frame.len() as u32)
            .err()
            .map(|odd| odd.reason);
        let reason = odd.filter(|reason| reason.outcome() == Outcome::Pass);
        let userspace = if reason.is_none() {
            self.userspace(frame)?
        } else {
            None
        };
        Ok(Record {
            n,
            verdict: Verdict::Refused,
            outcome: reason.map_or(Outcome::Defer, Reason::outcome),
            reason,
            key: None,
            node: None,
            out_len: None,
            seen_len: None,
            captured_short,
            userspace,
        })
    }

    /// What userspace does with the datagram that the frame is or completes, if it is for a VIP.
    fn userspace(&mut self, frame: &[u8]) -> Result<Option<Userspace>, LaboratoryError> {
        let Some(delivery) = self.stack.receive(frame) else {
            return Ok(None);
        };
        if !self.vips.contains(&delivery.destination) {
            return Ok(None);
        }
        let Delivery {
            client,
            hop_limit,
            payload,
            ..
        } = delivery;
        let lost = |loss: Loss| Userspace {
            node: None,
            outcome: None,
            reason: None,
            key: None,
            loss: Some(loss.name()),
        };
        let is_vip = |address| self.vips.contains(&address);
        if let Err(loss) = deferred::admit(client, hop_limit, is_vip) {
            return Ok(Some(lost(loss)));
        }
        let now = self.clock.now();
        let steering = deferred::steer_by_maps(self.plane.maps(), now, client, &payload)?;
        if steering.node == NO_NODE {
            return Ok(Some(lost(Loss::NoNode)));
        }
        let outcome = steering.outcome().name();
        let call_id = steering.call_id.and_then(|range| payload.get(range));
        Ok(Some(Userspace {
            node: Some(steering.node),
            outcome: Some(outcome),
            reason: Some(steering.reason.name()),
            key: call_id.map(|call_id| match str::from_utf8(call_id) {
                Ok(text) => text.to_owned(),
                Err(_) => format!("0x{}", hex(call_id)),
            }),
            loss: None,
        }))
    }
}

/// The Call-ID that the program has read.
fn call_id(frame: &[u8], event: &Event) -> Option<Vec<u8>> {
    let start = event.call_id_at as usize;
    let call_id = frame.get(start..start + event.call_id_len as usize)?;
    (!call_id.is_empty()).then(|| call_id.to_vec())
}

fn fill(plane: &Plane, clock: &Clock, scene: &Scene) -> Result<(), LaboratoryError> {
    let maps = plane.maps();
    let mut plan = Plan::of(
        &scene.config,
        &scene.keys,
        clock.jiffy_ns(),
        &BTreeSet::new(),
    );
    // An event of every frame.
    plan.settings.sample = 1;
    apply::apply(maps, &plan)?;
    maps.set_port(0, INGRESS)?;
    for node in &scene.config.nodes {
        let planned = maps.node(node.id)?;
        maps.set_node(
            node.id,
            Node {
                flags: planned.flags | Node::REACHABLE,
                destination_mac: scene::mac_of(node),
                source_mac: [2, 0, 0, 0, 0, 0],
                ifindex: if scene.is_elsewhere(node) {
                    ELSEWHERE
                } else {
                    INGRESS
                },
                port: 0,
                ..planned
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
