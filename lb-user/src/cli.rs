//! The command line.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use lb_proto::keys::KeyRing;
use serde::Serialize;

use crate::config::shared::{self, Notice};
use crate::config::{Config, DEFAULT_BPFFS, DEFAULT_PATH};
use crate::daemon::{self, Intent};
use crate::explain;
use crate::observe::{self, ObserveError, PinArguments, Place, StatArguments};
use crate::pair;
use crate::plane::bpffs;
use crate::plane::site::{self, Detached};

/// Steers SIP to the right server, in the kernel, by Call-ID.
///
/// `pointsman run` loads an XDP program, attaches it to the configured interfaces, and keeps its
/// view of the access nodes up to date. The program stays when the daemon goes, however it goes:
/// stopping, killing and upgrading it lose no packet. `pointsman detach` is what ends steering.
///
/// `nodes`, `pins` and `stats` look at the running data plane through its pinned maps, so they work
/// with the daemon dead. They take root.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Starting from nothing:
  pointsman keygen -o /etc/pointsman/keys      # the same file goes to every machine
  pointsman check-config                       # /etc/pointsman/pointsman.toml makes sense?
  pointsman run                                # serve

What is going on:
  pointsman nodes                              # who is there, and who takes calls
  pointsman stats --watch                      # packets by reason, by node, by VIP
  pointsman explain --pcap trace.pcap          # where would these frames go, and why";

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The configuration file.
    #[arg(long, short, global = true, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: load, attach, and watch over the data plane until told to stop.
    ///
    /// SIGTERM and SIGINT stop the daemon and leave the data plane serving; SIGHUP reloads the
    /// configuration. A running data plane is adopted, its program replaced by this version's.
    Run {
        /// Only check the configuration and the key file, then exit.
        #[arg(long)]
        check_config: bool,
    },
    /// Check the configuration and the key file.
    CheckConfig,
    /// Check the configuration, then have the running daemon take it over.
    ///
    /// The daemon takes all of it or keeps the old, and says so in its log.
    Reload,
    /// End steering: detach the program from every interface and remove all pins.
    ///
    /// Frames for the VIPs then go wherever the network stack takes them, and calls away from home
    /// are forgotten. Stop the daemon first. Where a pair moves the VIPs, they are removed from this
    /// machine.
    Detach {
        /// The directory of pins, instead of the configuration's.
        #[arg(long, value_name = "DIR")]
        bpffs: Option<PathBuf>,
    },
    /// Watch over this machine's VIPs for when the controller of a pair cannot.
    ///
    /// For a pair whose VIPs a routing daemon announces (`vip = "announce"`). A killed controller
    /// leaves them where they are. When its data plane gives way to the other main, this takes them
    /// away, so that they are announced here no longer. It runs beside the controller, as a service
    /// of its own.
    Guard,
    /// The access nodes: who is there, and who takes calls.
    Nodes(Place),
    /// Calls that live away from home.
    Pins(PinArguments),
    /// Frames by reason, by node, by VIP.
    Stats(StatArguments),
    /// The pair of controllers: who is the main, by whose leases, and why.
    Cluster {
        /// The admin socket, instead of the configuration's.
        #[arg(long, value_name = "PATH")]
        admin: Option<PathBuf>,
    },
    /// Calls, as the main of a pair knows them from the nodes.
    Calls(pair::CallArguments),
    /// Have another controller of the pair become the main.
    ///
    /// The main hands over as it would be taken over from on a loss, only at once. Calls go on.
    Failover(pair::FailoverArguments),
    /// Have the preferred controller of the pair, the one of the lowest id, become the main again.
    Resume {
        /// The admin socket, instead of the configuration's.
        #[arg(long, value_name = "PATH")]
        admin: Option<PathBuf>,
    },
    /// Where would these frames go, and why: run them through the real program.
    ///
    /// On maps of its own, with every configured node `Free`: the running data plane is neither
    /// asked nor touched. With --json one object a frame.
    Explain(explain::Arguments),
    /// Print fresh keys, for all machines of a new cluster.
    Keygen {
        /// Write them to a new file, mode 0600, instead.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

impl Cli {
    /// Does what is asked for.
    ///
    /// # Errors
    /// Whatever keeps it from being done, in words for the operator.
    pub fn carry_out(self) -> anyhow::Result<ExitCode> {
        let Common { config, json } = &self.common;
        match self.command {
            Command::Run {
                check_config: false,
            } => daemon::run(config, observe::metrics::render)?,
            Command::Run { check_config: true } | Command::CheckConfig => {
                check_config(config, *json)?;
            }
            Command::Reload => reload(config, *json)?,
            Command::Detach { bpffs } => detach(config, bpffs, *json)?,
            Command::Guard => daemon::guard(config)?,
            Command::Nodes(place) => {
                let mut output = io::stdout().lock();
                unless_unread(observe::nodes(&place, config, *json, &mut output))?;
            }
            Command::Pins(arguments) => {
                let mut output = io::stdout().lock();
                unless_unread(observe::pins(&arguments, config, *json, &mut output))?;
            }
            Command::Stats(arguments) => {
                let mut output = io::stdout().lock();
                unless_unread(observe::stats(&arguments, config, *json, &mut output))?;
            }
            Command::Explain(arguments) => {
                let mut output = io::BufWriter::new(io::stdout().lock());
                match explain::explain(&arguments, config, *json, &mut output) {
                    Err(error) if error.is_broken_pipe() => {}
                    result => result?,
                }
            }
            Command::Cluster { admin } => pair::cluster(config, admin.as_ref(), *json)?,
            Command::Calls(arguments) => pair::calls(config, &arguments, *json)?,
            Command::Failover(arguments) => pair::fail_over(config, &arguments, *json)?,
            Command::Resume { admin } => pair::resume(config, admin.as_ref(), *json)?,
            Command::Keygen { output } => keygen(output.as_deref())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a good configuration amounts to.
#[derive(Serialize)]
struct Summary<'a> {
    config: &'a Path,
    cluster: u32,
    interfaces: Vec<&'a str>,
    vips: Vec<String>,
    nodes: Vec<u16>,
    beacon_keys: Vec<u8>,
}

fn check_config(path: &Path, json: bool) -> anyhow::Result<()> {
    let intent = Intent::read(path)?;
    let config = &intent.config;
    let summary = Summary {
        config: path,
        cluster: config.cluster,
        interfaces: config
            .interfaces
            .iter()
            .map(|wanted| wanted.name.as_str())
            .collect(),
        vips: config.vips.iter().map(ToString::to_string).collect(),
        nodes: config.nodes.iter().map(|node| node.id).collect(),
        beacon_keys: intent.keys.beacons().iter().map(|key| key.id).collect(),
    };
    if json {
        return print_json(&summary);
    }
    print(&format!(
        "{}: good (cluster {}, interfaces {}, VIPs {}, {} nodes, {} beacon keys)",
        path.display(),
        summary.cluster,
        summary.interfaces.join(" "),
        summary.vips.join(" "),
        summary.nodes.len(),
        summary.beacon_keys.len(),
    ))
}

fn reload(path: &Path, json: bool) -> anyhow::Result<()> {
    let intent = Intent::read(path)?;
    let bpffs = &intent.config.bpffs;
    let Some(pid) = bpffs::holder(bpffs) else {
        bail!(
            "no controller serves from {} (or this user cannot see it)",
            bpffs.display()
        );
    };
    hang_up(pid).with_context(|| format!("signalling the controller, pid {pid}"))?;
    if json {
        return print_json(&serde_json::json!({ "pid": pid }));
    }
    print(&format!(
        "told the controller, pid {pid}; its log says what came of it"
    ))
}

#[expect(unsafe_code, reason = "kill")]
fn hang_up(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: a signal to another process touches no memory of this one.
    if unsafe { libc::kill(pid, libc::SIGHUP) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn detach(path: &Path, bpffs: Option<PathBuf>, json: bool) -> anyhow::Result<()> {
    let config = match &bpffs {
        // Whoever has no configuration where it is looked for first has no other directory either.
        None if path == Path::new(DEFAULT_PATH) && !path.exists() => None,
        None => Some(in_force(path)?),
        Some(_) => None,
    };
    let configured = config.as_ref().map(|config| config.bpffs.clone());
    let bpffs = bpffs.or(configured);
    let bpffs = bpffs.unwrap_or_else(|| DEFAULT_BPFFS.into());
    // First, as long as the program answers no question for them: the other LB may have them.
    let vips = match &config {
        Some(config) => daemon::release_vips(config)?,
        None => Vec::new(),
    };
    let Detached {
        interfaces,
        directories,
        controller,
    } = site::detach(&bpffs)?;
    if json {
        return print_json(&serde_json::json!({
            "interfaces": interfaces,
            "directories": directories,
            "controller": controller,
            "vips": vips,
        }));
    }
    if !vips.is_empty() {
        let vips: Vec<String> = vips.iter().map(ToString::to_string).collect();
        print(&format!(
            "removed the VIPs {} from this machine",
            vips.join(" ")
        ))?;
    }
    if directories.is_empty() {
        return print(&format!("nothing is pinned in {}", bpffs.display()));
    }
    match &interfaces[..] {
        [] => print("no interface was attached to")?,
        names => print(&format!("detached from {}", names.join(" ")))?,
    }
    print(&format!("removed {}", show(&directories)))?;
    if let Some(pid) = controller {
        print(&format!(
            "a controller (pid {pid}) still runs over what is gone: stop it or restart it"
        ))?;
    }
    Ok(())
}

/// The configuration that the controller goes by: its VIPs are those that are here. What keeps it from being
/// known to the last keeps nobody from ending steering.
fn in_force(path: &Path) -> anyhow::Result<Config> {
    let (config, doubt) = match shared::read(path) {
        Ok(found) => match found.notice {
            Some(notice @ Notice::Unusable { .. }) => (found.config, Some(notice.to_string())),
            Some(Notice::Newer { .. }) | None => (found.config, None),
        },
        // A bad file is one by itself, too.
        Err(error) => (
            Config::read(path)?,
            Some(format!(
                "{:#}; going by the own file",
                anyhow::Error::from(error)
            )),
        ),
    };
    if let Some(doubt) = doubt {
        eprintln!("pointsman: {doubt}");
    }
    Ok(config)
}

fn show(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(" ")
}

fn keygen(output: Option<&Path>) -> anyhow::Result<()> {
    let random = lb_net::random::bytes().context("no randomness")?;
    let text = KeyRing::generate(random).to_string();
    let Some(path) = output else {
        return print(text.trim_end());
    };
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("{}: cannot be made", path.display()))?;
    print(&format!(
        "{}: copy it to every machine of the cluster, mode 0600",
        path.display()
    ))
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// That the reader of an answer has gone (`pointsman stats --watch | head`) is no error of ours.
fn unless_unread(result: Result<(), ObserveError>) -> Result<(), ObserveError> {
    match result {
        Err(error) if error.is_broken_pipe() => Ok(()),
        result => result,
    }
}

/// A line to standard output. That its reader has gone is no error of ours.
fn print(line: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_options_stand_anywhere() {
        let before = ["pointsman", "--config", "a.toml", "--json", "check-config"];
        let behind = ["pointsman", "check-config", "-c", "a.toml", "--json"];
        for line in [before, behind] {
            let cli = Cli::try_parse_from(line).expect("a good line");
            assert_eq!(
                (cli.common.config, cli.common.json),
                ("a.toml".into(), true)
            );
        }
    }

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        let path = std::env::temp_dir().join(format!("pm-{}-keygen", std::process::id()));
        keygen(Some(&path)).expect("a fresh file");
        assert!(lb_net::keys::read(&path).is_ok());
        assert!(keygen(Some(&path)).is_err());
        std::fs::remove_file(&path).expect("own file");
    }

    /// VIPs that came with what was fetched are here, whatever the file says; and what was fetched may be
    /// unreadable.
    #[test]
    fn detaching_goes_by_what_the_controller_goes_by() {
        let dir = std::env::temp_dir().join(format!("pm-{}-detach", std::process::id()));
        std::fs::create_dir(&dir).expect("a directory");
        let path = dir.join("file");
        let own = format!(
            "cluster = 1\nkeys = \"k\"\n[status]\ngroups = [\"239.255.77.1\"]\n\
             [[interface]]\nname = \"eth0\"\n[[vip]]\naddress = \"192.0.2.10\"\n\
             [[node]]\nid = 1\naddress = \"192.0.2.11\"\n\
             [pair]\nid = 1\nvip = \"none\"\nversion = 3\nstate_dir = {dir:?}\n\
             [[controller]]\nid = 1\naddress = \"192.0.2.21\"\n\
             [[controller]]\nid = 2\naddress = \"192.0.2.22\"\n"
        );
        std::fs::write(&path, own).expect("written");
        let vip = || {
            in_force(&path).expect("a good file").vips[0]
                .ip()
                .to_string()
        };
        assert_eq!(vip(), "192.0.2.10");
        let kept = dir.join("shared.toml");
        let fetched = "version = 4\n[[vip]]\naddress = \"192.0.2.19\"\n\
                       [[node]]\nid = 1\naddress = \"192.0.2.11\"\n";
        std::fs::write(&kept, fetched).expect("written");
        assert_eq!(vip(), "192.0.2.19");
        std::fs::remove_file(&kept).expect("own file");
        // It cannot be read at all.
        std::fs::create_dir(&kept).expect("a directory");
        assert_eq!(vip(), "192.0.2.10");
        std::fs::remove_dir_all(&dir).expect("own directory");
        assert!(in_force(&path).is_err());
    }
}
