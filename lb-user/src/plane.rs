//! The data plane as userspace sees it: its object, its maps, its clock, its life in the kernel.
//!
//! Nothing outside this module names aya.

pub mod attach;
pub mod bpffs;
pub mod clock;
pub mod load;
pub mod maps;
pub mod object;
pub mod shape;
pub mod site;
pub mod test_run;

mod batch;
mod links;
mod raw;
mod sys;
mod tracks;

pub use load::{LoadError, LoadOptions, Plane};
pub use maps::{AccessError, Maps};
pub use site::{Site, layout_dir};
