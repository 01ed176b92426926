//! The command line.

use crate::admin::{Answer, Question};
use crate::config::Config;
use crate::server::record::CallReport;
use crate::{daemon, table};
use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

const DEFAULT_CONFIG: &str = "/etc/pointsman/pointsman-redirect.toml";

/// The access node's daemon: takes calls for the SIP server beside it, or offers them to other nodes,
/// and tells the cluster whether calls can come.
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
    ///
    /// With `[sip] listen` in the configuration, calls come by way of this daemon: name the VIP there,
    /// which this host must have on its loopback interface, and an address of the node's own. Without,
    /// calls go straight to the SIP server, and the daemon only says that it is there.
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
    /// nothing new. Below stand the redirect server's messages and calls, by what became of them, and
    /// the calls it did not take, by why.
    Status {
        #[command(flatten)]
        ask: Ask,
        /// For programs: one JSON object, times in milliseconds.
        #[arg(long)]
        json: bool,
    },
    /// List the calls that pass, the most urgent and then the oldest first.
    ///
    /// Early: without an answer. Confirmed: answered. Held: a side has put the other on hold. AWAY: the
    /// call was redirected here, and its home is another node.
    Calls {
        #[command(flatten)]
        ask: Ask,
        /// Only those in this state.
        #[arg(long, value_name = "STATE", value_parser = ["early", "confirmed", "held"])]
        state: Option<String>,
        /// For programs: one JSON array, times in milliseconds.
        #[arg(long)]
        json: bool,
    },
    /// Empty the node: new calls are offered to other nodes, those that are there stay.
    ///
    /// `status` says when the last one has gone, and so does the log.
    Drain {
        #[command(flatten)]
        ask: Ask,
        /// Hang up what is left after this time, such as 90s, 10m or 2h.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        deadline: Option<Duration>,
    },
    /// Take calls again, after `drain`.
    Undrain {
        #[command(flatten)]
        ask: Ask,
    },
}

/// Which daemon is asked.
#[derive(Debug, Args)]
struct Ask {
    #[command(flatten)]
    file: File,
    /// Ask at this socket, instead of the one that the configuration names.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Ask {
    fn put(&self, question: &Question) -> anyhow::Result<Answer> {
        let socket = match &self.socket {
            Some(socket) => socket.clone(),
            None => Config::read(&self.file.config)?.admin.socket,
        };
        Ok(lb_net::admin::ask(&socket, question)?)
    }
}

/// `90s`, `10m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write 90s, 10m or 2h");
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let unit = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    // A year and more is a slip of the finger.
    match unit.filter(|seconds| *seconds <= 365 * 24 * 3600) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(wrong()),
    }
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
            Verb::Status { ask, json } => match ask.put(&Question::Status)? {
                Answer::Status(overview) => {
                    let text = if json {
                        serde_json::to_string(&overview)? + "\n"
                    } else {
                        let redirect = overview.redirect.as_ref();
                        let redirect = redirect.map(|redirect| redirect.render());
                        let witness = overview.witness.as_ref().map(|witness| witness.render());
                        let parts = [Some(table::render(&overview.report)), redirect, witness];
                        parts.into_iter().flatten().collect()
                    };
                    print(&text);
                    Ok(())
                }
                _ => bail!("the daemon answers something else; is it of another version?"),
            },
            Verb::Calls { ask, state, json } => match ask.put(&Question::Calls)? {
                Answer::Calls { mut calls } => {
                    calls.retain(|call| state.as_ref().is_none_or(|state| call.state == *state));
                    let text = if json {
                        serde_json::to_string(&calls)? + "\n"
                    } else {
                        list(&calls)
                    };
                    print(&text);
                    Ok(())
                }
                _ => bail!("the daemon answers something else; is it of another version?"),
            },
            Verb::Drain { ask, deadline } => {
                let deadline_ms = deadline.map(|time| time.as_secs() * 1000);
                ask.put(&Question::Drain { deadline_ms })?;
                print(
                    "draining: new calls are offered elsewhere; `status` says when the last has gone\n",
                );
                Ok(())
            }
            Verb::Undrain { ask } => {
                ask.put(&Question::Undrain)?;
                print("taking calls again\n");
                Ok(())
            }
        }
    }
}

/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn list(calls: &[CallReport]) -> String {
    let mut text = format!(
        "{:<9}  {:>9}  {:<4}  {:<10}  CALL-ID, FROM, TO\n",
        "STATE", "AGE", "AWAY", "PRIORITY"
    );
    for call in calls {
        let CallReport {
            state,
            age_ms,
            priority,
            call_id,
            from,
            to,
            ..
        } = call;
        let away = if call.away { "yes" } else { "no" };
        let age = format!("{}.{} s", age_ms / 1000, age_ms / 100 % 10);
        text += &format!("{state:<9}  {age:>9}  {away:<4}  {priority:<10}  {call_id}\n");
        text += &format!("{:42}{from}\n{:42}{to}\n", "", "");
    }
    text
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
    // One thread: nothing waits for a lock, and a core is enough for what one SIP server can answer.
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
