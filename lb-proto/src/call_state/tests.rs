//! A controller, its nodes and the links between them, in simulated time.

mod messages;
mod rebuild;
mod rules;
mod scene;
