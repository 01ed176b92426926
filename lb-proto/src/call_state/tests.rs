//! A controller, its nodes and the links between them, in simulated time.

mod messages;
mod portions;
mod rebuild;
mod record;
mod rules;
mod scene;
