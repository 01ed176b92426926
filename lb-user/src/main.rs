//! `pointsman`, the controller daemon and its command line.

use std::process::ExitCode;

use clap::Parser;
use lb_user::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().carry_out() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pointsman: {error:#}");
            ExitCode::FAILURE
        }
    }
}
