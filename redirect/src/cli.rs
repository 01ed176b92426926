//! The command line.

use crate::config::Config;
use crate::{admin, daemon, table};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;

const DEFAULT_CONFIG: &str = "/etc/pointsman/pointsman-redirect.toml";

/// The access node's daemon: tells the cluster whether calls can come to the SIP server beside it.
///
/// As long as the SIP server answers OPTIONS, the daemon multicasts an authenticated beacon every
/// 100 ms: that is what the load balancers steer by. When the SIP server falls silent, so does the
/// daemon, and calls go to other nodes. It also listens to the others' beacons and shows who is there.
#[derive(Debug, Parser)]
#[command(
    name = "pointsman-redirect",
    version,
    after_help = "\
Getting started:
  1. Copy the cluster's key file to /etc/pointsman/keys, mode 0600 (`pointsman keygen` makes one).
  2. Write /etc/pointsman/pointsman-redirect.toml: cluster, node, groups, interface, SIP server.
  3. pointsman-redirect run --check-config
  4. pointsman-redirect run
  5. pointsman-redirect status

Log lines go to standard error; RUST_LOG=debug shows more of them.
SIGTERM and SIGINT stop the daemon after a last beacon: no new calls."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve, in the foreground, until SIGTERM or SIGINT.
    Run {
        #[command(flatten)]
        file: File,
        /// Only say whether configuration and key file are right.
        #[arg(long)]
        check_config: bool,
    },
    /// Show what the running daemon says of itself, and which nodes it hears.
    ///
    /// Liveness: Up; Stale, when the hold time has passed without a beacon; Down, after ten periods.
    /// Admission: Idle and Free take calls; Busy takes none, but other requests; Draining takes
    /// nothing new.
    Status {
        #[command(flatten)]
        file: File,
        /// Ask at this socket, instead of the one that the configuration names.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// For programs: one JSON object, times in milliseconds.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct File {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

impl Arguments {
    /// Does what the arguments say.
    pub(crate) fn carry_out(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Run { file, check_config } => run(&file, check_config),
            Verb::Status { file, socket, json } => {
                let socket = match socket {
                    Some(socket) => socket,
                    None => Config::read(&file.config)?.admin.socket,
                };
                let report = admin::ask(&socket)?;
                let text = if json {
                    serde_json::to_string(&report)? + "\n"
                } else {
                    table::render(&report)
                };
                // A reader that has seen enough (`| head`) is no failure.
                let _ = std::io::stdout().write_all(text.as_bytes());
                Ok(())
            }
        }
    }
}

fn run(file: &File, check_config: bool) -> anyhow::Result<()> {
    let config = Config::read(&file.config)?;
    let keys = lb_net::keys::read(&config.keys)?;
    if check_config {
        println!(
            "{}: right, and so is {}",
            file.config.display(),
            config.keys.display()
        );
        return Ok(());
    }
    lb_net::telemetry::init();
    // One thread: one small machine, a few hundred datagrams a second.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context("cannot start the runtime")?
        .block_on(daemon::run(config, keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
