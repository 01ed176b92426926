//! Two controllers: one steers, the other takes over when the first is lost.

mod calls;
mod cold;
mod commands;
mod faults;
mod lab;
mod returns;
mod scene;
mod takeover;
