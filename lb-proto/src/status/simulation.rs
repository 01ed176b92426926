//! Whole clusters in simulated time, on the simulated [network](crate::network), replayable by seed.
//!
//! - [`one_receiver`]: detection and confirmation, with one map and one judge.
//! - [`false_down`]: a million periods of twelve pairs.
//! - [`fleet`]: every machine hears every other, is rebooted, stalled and cut off; [`calls`] are
//!   offered meanwhile; [`scenarios`] say what must hold.
//! - [`herd`]: five thousand offers a second.
//!
//! Time is counted from the beginning of the simulation. Each machine of a fleet counts its own from
//! another origin, and has a clock of the day that is wrong and jumps.

mod calls;
mod false_down;
mod fleet;
mod herd;
mod one_receiver;
mod scenarios;
