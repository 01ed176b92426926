//! VIPs announced by a routing daemon, with real ones: BIRD on each LB's machine, and on the router before them.

mod active;
mod pair;
mod service;
