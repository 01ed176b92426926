//! Two controllers: one steers, the other takes over when the first is lost.

mod faults;
mod service;
mod takeover;
