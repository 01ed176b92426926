//! Looking at a running data plane: `nodes`, `pins`, `stats`, and the page for Prometheus.
//!
//! The commands read the pinned maps, so they work with the daemon dead and ask nothing of it when
//! it lives. Each makes a [`Reading`], turns it into rows, and prints those as a table for people or
//! as JSON for programs. Names in JSON are those of the metrics.

pub mod metrics;
mod node_table;
mod pin_table;
mod reading;
mod site;
mod stat_table;
pub(crate) mod table;
pub(crate) mod units;
mod userspace;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::plane::AccessError;

pub use reading::{NodeReading, Reading, VipReading};
pub use site::{ObserveError, Observed};

/// Where the data plane is, if not where the configuration says.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// The directory of pins, instead of the configuration's.
    #[arg(long, value_name = "DIR")]
    pub bpffs: Option<PathBuf>,
}

/// Arguments of `pins`.
#[derive(Clone, Debug, clap::Args)]
pub struct PinArguments {
    #[command(flatten)]
    place: Place,
    /// Show at most this many, those first that were in use last; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Only those of this node.
    #[arg(long, value_name = "ID")]
    node: Option<u16>,
}

/// Arguments of `stats`.
#[derive(Clone, Debug, clap::Args)]
pub struct StatArguments {
    #[command(flatten)]
    place: Place,
    /// Again every so many seconds (1 if none are given), with rates, until interrupted.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    watch: Option<Seconds>,
    /// Also what never happened.
    #[arg(long)]
    all: bool,
}

/// A positive number of seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seconds(Duration);

impl std::str::FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a number of seconds from 0.1 to 86400 is wanted";
        let seconds: f64 = text.parse().map_err(|_| WRONG)?;
        if !(0.1..=86_400.0).contains(&seconds) {
            return Err(WRONG);
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

/// `pointsman nodes`: who is there, and who takes calls.
///
/// # Errors
/// [`ObserveError`].
pub fn nodes(
    place: &Place,
    config: &Path,
    json: bool,
    output: &mut dyn Write,
) -> Result<(), ObserveError> {
    let observed = Observed::open(config, place.bpffs.as_deref())?;
    let reading = observed.read()?;
    let learnt = observed.metrics.and_then(userspace::learnt);
    let known = node_table::Known {
        configured: observed.configured,
        learnt: learnt.unwrap_or_default(),
    };
    if json {
        write_json(output, &node_table::Report::new(&reading, &known))
    } else {
        node_table::write(output, &reading, &known).map_err(ObserveError::Output)
    }
}

/// `pointsman pins`: calls that live away from home.
///
/// # Errors
/// [`ObserveError`].
pub fn pins(
    arguments: &PinArguments,
    config: &Path,
    json: bool,
    output: &mut dyn Write,
) -> Result<(), ObserveError> {
    let observed = Observed::open(config, arguments.place.bpffs.as_deref())?;
    let pins = observed
        .maps
        .pins()
        .collect::<Result<Vec<_>, AccessError>>()?;
    let report = pin_table::Report::new(
        pins,
        observed.maps.max_pins(),
        arguments.node,
        arguments.limit,
        |moment| observed.clock.age(moment),
    );
    if json {
        write_json(output, &report)
    } else {
        report.write(output).map_err(ObserveError::Output)
    }
}

/// `pointsman stats`: frames by reason, by node, by VIP.
///
/// # Errors
/// [`ObserveError`].
pub fn stats(
    arguments: &StatArguments,
    config: &Path,
    json: bool,
    output: &mut dyn Write,
) -> Result<(), ObserveError> {
    let bpffs = arguments.place.bpffs.as_deref();
    let Some(Seconds(interval)) = arguments.watch else {
        let now = Sample::take(config, bpffs)?;
        return print_stats(&now.report(None, arguments.all), json, output);
    };
    let mut before = Sample::take(config, bpffs)?;
    loop {
        thread::sleep(interval);
        let now = Sample::take(config, bpffs)?;
        if !json && io::IsTerminal::is_terminal(&io::stdout()) {
            // Home, and clear.
            output
                .write_all(b"\x1b[H\x1b[2J")
                .map_err(ObserveError::Output)?;
        }
        print_stats(&now.report(Some(&before), arguments.all), json, output)?;
        before = now;
    }
}

/// One look at everything that is counted.
struct Sample {
    at: Instant,
    reading: Reading,
    deferred: Option<userspace::Deferred>,
}

impl Sample {
    /// Opens the maps anew each time, because `detach` and a fresh start leave the old ones behind.
    fn take(config: &Path, bpffs: Option<&Path>) -> Result<Self, ObserveError> {
        let observed = Observed::open(config, bpffs)?;
        Ok(Self {
            reading: observed.read()?,
            at: Instant::now(),
            deferred: observed.metrics.and_then(userspace::Deferred::ask),
        })
    }

    fn report(&self, before: Option<&Self>, all: bool) -> stat_table::Report {
        let earlier = before.map(|before| {
            let interval = self.at.saturating_duration_since(before.at);
            (&before.reading, interval)
        });
        stat_table::Report::new(&self.reading, earlier, all).with_deferred(self.deferred.clone())
    }
}

/// In JSON one line a report, so that `--watch` makes JSON lines.
fn print_stats(
    report: &stat_table::Report,
    json: bool,
    output: &mut dyn Write,
) -> Result<(), ObserveError> {
    if json {
        write_json(output, report)
    } else {
        report.write(output).map_err(ObserveError::Output)?;
        output.flush().map_err(ObserveError::Output)
    }
}

fn write_json(output: &mut dyn Write, report: &impl serde::Serialize) -> Result<(), ObserveError> {
    let written = serde_json::to_writer(&mut *output, report)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(output))
        .and_then(|()| output.flush());
    written.map_err(ObserveError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_positive_and_bounded() {
        assert_eq!("0.5".parse(), Ok(Seconds(Duration::from_millis(500))));
        for text in ["0", "-1", "NaN", "inf", "x", "1e9"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }
}
