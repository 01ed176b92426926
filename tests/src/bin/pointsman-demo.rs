//! `pointsman-demo`: see [`pointsman_tests::demo`].

use std::process::ExitCode;

use clap::Parser;
use pointsman_tests::demo::{self, Args};

fn main() -> ExitCode {
    demo::run(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        // 1 says that a promise was broken; this says that none could be put to the test.
        ExitCode::from(2)
    })
}
