//! Whole clusters in simulated time, on the simulated [network](crate::network), replayable by seed.
//!
//! - [`world`]: machines with clocks, disks and sockets of their own, and how time passes for them.
//! - [`machine`]: what each consists of.
//! - [`invariants`]: what is looked at after every single event.
//! - [`seeds`]: a hundred thousand short lives full of misfortune.
//! - [`partitions`]: every two-colouring of five nodes, one-way cuts, links that flap.
//! - [`deaths`]: mains that are half dead, restarts in mid-takeover, how fast a loss is noticed.
//! - [`alarms`]: a million periods without a false one.
//! - [`attacks`]: what is forged, played back, from elsewhere, or of a lower term.
//! - [`changes`]: nodes that are added and removed, several at a time.
//! - [`commands`]: takeovers on request, switchback, configurations of different age.
//!
//! `POINTSMAN_SEEDS` says how many seeds [`seeds`] and [`changes`] try, `POINTSMAN_SEED` which one alone.

mod alarms;
mod attacks;
mod changes;
mod commands;
mod deaths;
mod invariants;
mod machine;
mod partitions;
mod seeds;
mod world;
