//! What the tests, the demo and the benchmarks share.
//!
//! | module | question |
//! |---|---|
//! | [`lab`] | which machines are there, and how are they connected? |
//! | [`daemons`] | how are the programs under test told what to do, and what do they say? |
//! | [`fleet`] | how is a lab brought into service? |
//! | [`pair`] | how are two LBs brought into service? |
//! | [`homes`] | where does a call belong? |
//! | [`routing`] | who announces VIPs, and who follows? |
//! | [`traffic`] | who calls, and who answers? |
//! | [`dialogs`] | what becomes of calls that last? |
//! | [`packets`] | what does the program do with this frame? |
//! | `bpf` | how are small programs loaded that the lab and the benchmarks need? |
//! | [`record`] | which messages came where, and when? |
//! | [`stall`] | did the machine itself stand still meanwhile? |
//! | [`bench`](mod@bench) | what does the data plane cost? |
//! | [`demo`] | what does the whole look like at work? |

pub mod bench;
mod bpf;
pub mod daemons;
pub mod demo;
pub mod dialogs;
pub mod fleet;
pub mod homes;
pub mod lab;
pub mod packets;
pub mod pair;
pub mod record;
pub mod routing;
pub mod stall;
pub mod traffic;
