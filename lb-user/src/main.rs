//! `pointsman`, the controller daemon and its command line.

fn main() {}
