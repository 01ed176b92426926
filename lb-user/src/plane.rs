//! The data plane as userspace sees it: its object, its maps, its clock, its life in the kernel.
//!
//! Nothing outside this module names aya.

pub mod clock;
pub mod load;
pub mod maps;
pub mod object;
pub mod test_run;

mod batch;
mod hints;
mod raw;

pub use load::{LoadError, LoadOptions, Plane};
pub use maps::{AccessError, Maps};
