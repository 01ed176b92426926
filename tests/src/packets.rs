//! Packet tests: frames from fixtures, run through the real program in the kernel.
//!
//! A fixture is data: in which world which frames come in, and what becomes of each. Everything that
//! holds for every frame is checked for every frame without being written down: a steered frame
//! leaves with the node's link addresses and is otherwise the same to the byte, any other frame is
//! untouched, exactly one reason is counted, once, and the event tells the same story.
//!
//! | module | question |
//! |---|---|
//! | [`fixture`] | how is a case written down? |
//! | [`build`] | which bytes does its description mean? |
//! | [`world`] | which maps does it start from? |
//! | [`check`] | did the program do what it should? |

pub mod build;
pub mod check;
pub mod fixture;
pub mod mutate;
pub mod oracle;
pub mod world;

use lb_common::Outcome;

/// `XDP_ABORTED`.
pub const XDP_ABORTED: u32 = 0;
/// `XDP_DROP`.
pub const XDP_DROP: u32 = 1;
/// `XDP_PASS`.
pub const XDP_PASS: u32 = 2;
/// `XDP_TX`.
pub const XDP_TX: u32 = 3;
/// `XDP_REDIRECT`.
pub const XDP_REDIRECT: u32 = 4;

/// The action of this outcome, where steered frames leave by the port that they came in by.
pub const fn action(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Drop => XDP_DROP,
        Outcome::SteerCallId => XDP_TX,
        _ => XDP_PASS,
    }
}

/// The port that test frames come in by: the loopback, which every network namespace has.
pub const INGRESS: u32 = 1;
