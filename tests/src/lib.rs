//! What the tests, the demo and the benchmarks share.
//!
//! | module | question |
//! |---|---|
//! | [`lab`] | which machines are there, and how are they connected? |

pub mod lab;
pub mod stall;
pub mod traffic;
