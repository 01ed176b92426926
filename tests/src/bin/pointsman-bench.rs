//! `cargo xtask bench`: what the data plane costs a packet, and the redirect server a message.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use pointsman_tests::bench::forward::{self, Forwarding};
use pointsman_tests::bench::live;
use pointsman_tests::bench::rounds::{self, Plan};
use pointsman_tests::bench::subject::Bench;
use pointsman_tests::bench::table::{self, Row, Unit};
use pointsman_tests::lab::{Scheduling, cpus, run_on_cpu};

/// Measures what the data plane costs: CPU time a packet above an empty program, and frames a second
/// through one core over a virtual link; and messages a second that one core forwards, by the redirect
/// server and by Kamailio.
///
/// It needs root, and Kamailio. All links lie in network namespaces that it makes and takes away.
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
    /// Leave out the forwarding of messages
    #[arg(long)]
    no_forward: bool,
    /// Leave out everything but the forwarding of messages
    #[arg(long, conflicts_with = "no_forward")]
    only_forward: bool,
    /// Calls a run, of nine messages each, that are forwarded
    #[arg(long, value_name = "N", default_value_t = 8_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calls: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let all_cpus = cpus();
    run_on_cpu(args.cpu, Scheduling::Ordinary).with_context(|| format!("CPU {}", args.cpu))?;
    let mut rows = Vec::new();
    if !args.only_forward {
        rows.extend(of_the_data_plane(&args)?);
    }
    if !args.no_forward {
        rows.extend(of_forwarding(&args, &all_cpus)?);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn say_round(round: u32, runs: u32) {
    if round == 0 {
        eprintln!("Warming up");
    } else {
        eprintln!("Round {round} of {runs}");
    }
}

fn of_the_data_plane(args: &Args) -> Result<Vec<Row>> {
    let (packets, runs, most) = if args.quick {
        (args.packets.min(100_000), args.runs.min(5), 65_536)
    } else {
        (args.packets, args.runs, 1_000_000)
    };
    eprintln!("Loading the program and filling maps");
    let mut bench = Bench::new()?;
    bench.add_all(most)?;
    let times = rounds::measure(&bench, Plan { packets, runs }, |round| {
        say_round(round, runs);
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
    Ok(rows)
}

fn of_forwarding(args: &Args, cpus: &[usize]) -> Result<Vec<Row>> {
    let (calls, runs) = if args.quick {
        (args.calls.min(2_000), args.runs.min(5))
    } else {
        (args.calls, args.runs)
    };
    let other = cpus.iter().find(|cpu| **cpu != args.cpu);
    let plan = Forwarding {
        calls,
        runs,
        cpu: args.cpu,
        load_cpu: *other.unwrap_or(&args.cpu),
    };
    eprintln!("\nMessages forwarded");
    let forwarded = forward::measure(plan, |round| say_round(round, runs))?;
    table::print(
        "Forwarding calls, messages a second of one core's time",
        &forwarded.rates,
    );
    table::print(
        "The same by the clock, the subject on one CPU, both ends of the calls on another",
        &forwarded.throughput,
    );
    table::print(
        "The redirect server's messages a second of one core, as a multiple",
        &forwarded.ratios,
    );
    let groups = [forwarded.rates, forwarded.throughput, forwarded.ratios];
    Ok(groups.into_iter().flatten().collect())
}
