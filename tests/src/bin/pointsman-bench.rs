//! `cargo xtask bench`: what the data plane costs a packet.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use pointsman_tests::bench::live;
use pointsman_tests::bench::rounds::{self, Plan};
use pointsman_tests::bench::subject::Bench;
use pointsman_tests::bench::table::{self, Row, Unit};
use pointsman_tests::lab::{Scheduling, run_on_cpu};

/// Measures what the data plane costs: CPU time a packet above an empty program, and frames a second
/// through one core over a virtual link.
///
/// It needs root. The link lies in network namespaces that it makes and takes away.
#[derive(Parser)]
#[command(name = "cargo xtask bench", max_term_width = 100)]
struct Args {
    /// Write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Packets a run
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    packets: u32,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Fewer packets and rounds, and no million Call-IDs
    #[arg(long)]
    quick: bool,
    /// The CPU to measure on
    #[arg(long, value_name = "N", default_value_t = 0)]
    cpu: usize,
    /// Leave out the frames over a virtual link
    #[arg(long)]
    no_live: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (packets, runs, most) = if args.quick {
        (args.packets.min(100_000), args.runs.min(5), 65_536)
    } else {
        (args.packets, args.runs, 1_000_000)
    };
    run_on_cpu(args.cpu, Scheduling::Ordinary).with_context(|| format!("CPU {}", args.cpu))?;
    eprintln!("Loading the program and filling maps");
    let mut bench = Bench::new()?;
    bench.add_all(most)?;
    let times = rounds::measure(&bench, Plan { packets, runs }, |round| {
        if round == 0 {
            eprintln!("Warming up");
        } else {
            eprintln!("Round {round} of {runs}");
        }
    })?;
    let (mut floors, mut net) = (Vec::new(), Vec::new());
    for (subject, times) in bench.subjects.iter().zip(&times) {
        if subject.floor.is_some() {
            net.push(Row::new(&subject.name, Unit::NetNs, &times.net));
        } else {
            floors.push(Row::new(&subject.name, Unit::FloorNs, &times.gross));
        }
    }
    table::print(
        "Floors: the test run itself, ns of CPU time a packet",
        &floors,
    );
    table::print(
        "Above the floor of the same round, ns of CPU time a packet",
        &net,
    );
    let mut rows = net;
    rows.extend(floors);
    if !args.no_live {
        eprintln!("\nFrames over a virtual link");
        let live = live::measure(&bench, packets, runs.min(5))?;
        table::print(
            "Over a virtual link, frames a second through one core",
            &live,
        );
        rows.extend(live);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}
