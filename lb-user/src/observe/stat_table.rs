//! `pointsman stats`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use lb_common::Reason;
use serde::Serialize;

use super::reading::Reading;
use super::table::Table;
use super::units;
use super::userspace::Deferred;

/// The command's answer. Rates are there with `--watch` only.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_s: Option<f64>,
    packets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_per_s: Option<f64>,
    reasons: Vec<ReasonRow>,
    nodes: Vec<NodeRow>,
    vips: Vec<VipRow>,
    pins: u64,
    pins_max: u32,
    status_plane: &'static str,
    staleness_ignored: u64,
    /// What became of deferred datagrams; left out when the daemon does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    deferred: Option<Deferred>,
}

#[derive(Debug, Serialize)]
struct ReasonRow {
    reason: &'static str,
    outcome: &'static str,
    packets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_per_s: Option<f64>,
    description: &'static str,
}

#[derive(Debug, Serialize)]
struct NodeRow {
    node: u16,
    liveness: &'static str,
    packets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_per_s: Option<f64>,
    bytes: u64,
    new_calls: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_calls_per_s: Option<f64>,
    pins_made: u64,
}

#[derive(Debug, Serialize)]
struct VipRow {
    vip: SocketAddr,
    packets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_per_s: Option<f64>,
}

impl Report {
    /// The report of a reading; with rates when there is an earlier one. Reasons that never came up
    /// are left out unless `all` are asked for.
    pub(super) fn new(now: &Reading, earlier: Option<(&Reading, Duration)>, all: bool) -> Self {
        let rate = |count: u64, before: &dyn Fn(&Reading) -> u64| {
            earlier.map(|(reading, interval)| {
                let rate = units::rate(count.saturating_sub(before(reading)), interval);
                (rate * 1_000.0).round() / 1_000.0
            })
        };
        let reasons = Reason::ALL
            .iter()
            .filter(|reason| all || now.packets(**reason) > 0);
        let reasons = reasons.map(|reason| ReasonRow {
            reason: reason.name(),
            outcome: reason.outcome().name(),
            packets: now.packets(*reason),
            packets_per_s: rate(now.packets(*reason), &|before| before.packets(*reason)),
            description: reason.describe(),
        });
        let nodes = now.nodes.iter().map(|node| {
            let counts = |reading: &Reading| {
                let found = reading.nodes.iter().find(|other| other.id == node.id);
                found.map(|found| found.counts).unwrap_or_default()
            };
            NodeRow {
                node: node.id,
                liveness: now.liveness(node).name(),
                packets: node.counts.packets,
                packets_per_s: rate(node.counts.packets, &|before| counts(before).packets),
                bytes: node.counts.bytes,
                new_calls: node.counts.started,
                new_calls_per_s: rate(node.counts.started, &|before| counts(before).started),
                pins_made: node.counts.pinned,
            }
        });
        let vips = now.vips.iter().map(|vip| VipRow {
            vip: vip.address,
            packets: vip.packets,
            packets_per_s: rate(vip.packets, &|before| {
                let found = before
                    .vips
                    .iter()
                    .find(|other| other.address == vip.address);
                found.map_or(0, |found| found.packets)
            }),
        });
        Self {
            interval_s: earlier.map(|(_, interval)| interval.as_secs_f64()),
            packets: total(now),
            packets_per_s: rate(total(now), &total),
            reasons: reasons.collect(),
            nodes: nodes.collect(),
            vips: vips.collect(),
            pins: now.pins,
            pins_max: now.max_pins,
            status_plane: now.plane_state().name(),
            staleness_ignored: now.plane.ignored_staleness,
            deferred: None,
        }
    }

    /// Adds what the daemon says.
    pub(super) fn with_deferred(self, deferred: Option<Deferred>) -> Self {
        Self { deferred, ..self }
    }

    pub(super) fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        self.reason_table().write(output)?;
        writeln!(output)?;
        self.node_table().write(output)?;
        writeln!(output)?;
        self.vip_table().write(output)?;
        if let Some(deferred) = &self.deferred {
            deferred.write(output)?;
        }
        let Self {
            pins,
            pins_max,
            status_plane,
            ..
        } = self;
        writeln!(
            output,
            "\n{pins} pins of {pins_max}, status plane {status_plane}"
        )
    }

    /// Adds the cells of a count: the count, and its rate if there is one.
    fn heads(&self, heads: &[&'static str]) -> Table {
        let rated = self.interval_s.is_some();
        let kept = heads.iter().filter(|head| rated || !head.ends_with("/S"));
        Table::new(&kept.copied().collect::<Vec<_>>())
    }

    fn reason_table(&self) -> Table {
        let mut table = self.heads(&["REASON", "OUTCOME", ">PACKETS", ">/S", "WHY"]);
        for row in &self.reasons {
            let mut cells = vec![row.reason.to_owned(), row.outcome.to_owned()];
            cells.push(units::count(row.packets));
            cells.extend(row.packets_per_s.map(units::rate_text));
            cells.push(row.description.to_owned());
            table.row(cells);
        }
        let mut cells = vec!["all".to_owned(), String::new(), units::count(self.packets)];
        cells.extend(self.packets_per_s.map(units::rate_text));
        cells.push(String::new());
        table.row(cells);
        table
    }

    fn node_table(&self) -> Table {
        let mut table = self.heads(&[
            ">NODE",
            "LIVENESS",
            ">PACKETS",
            ">/S",
            ">SHARE %",
            ">BYTES",
            ">CALLS",
            ">CALLS/S",
            ">PINS MADE",
        ]);
        let all = self.nodes.iter().map(|row| row.packets).sum();
        for row in &self.nodes {
            let mut cells = vec![row.node.to_string(), row.liveness.to_owned()];
            cells.push(units::count(row.packets));
            cells.extend(row.packets_per_s.map(units::rate_text));
            cells.push(units::share(row.packets, all));
            cells.push(units::count(row.bytes));
            cells.push(units::count(row.new_calls));
            cells.extend(row.new_calls_per_s.map(units::rate_text));
            cells.push(units::count(row.pins_made));
            table.row(cells);
        }
        table
    }

    fn vip_table(&self) -> Table {
        let mut table = self.heads(&["VIP", ">PACKETS", ">/S"]);
        for row in &self.vips {
            let mut cells = vec![row.vip.to_string(), units::count(row.packets)];
            cells.extend(row.packets_per_s.map(units::rate_text));
            table.row(cells);
        }
        table
    }
}

fn total(reading: &Reading) -> u64 {
    Reason::ALL
        .iter()
        .map(|reason| reading.packets(*reason))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::reading;
    use super::*;

    #[test]
    fn the_tables_fit_and_say_it_all() {
        let mut output = Vec::new();
        Report::new(&reading(), None, false)
            .write(&mut output)
            .unwrap();
        let expected = "\
REASON    OUTCOME       PACKETS  WHY
home      steer-callid      900  Home is up and takes calls.
pinned    steer-callid      100  The call lives away from home, and its pin says where.
fragment  defer               5  A fragment for the VIP: the kernel reassembles, userspace steers.
all                        1005

NODE  LIVENESS  PACKETS  SHARE %   BYTES  CALLS  PINS MADE
   1  Up            100     10.0   60000     10          1
   2  Stale         200     20.0  120000     20          2
   3  Down          300     30.0  180000     30          3
   4  Up            400     40.0  240000     40          4

VIP              PACKETS
192.0.2.10:5060     1000

3 pins of 1024, status plane heard
";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn every_reason_fits_the_terminal() {
        let mut output = Vec::new();
        let second = Duration::from_secs(1);
        Report::new(&reading(), Some((&reading(), second)), true)
            .write(&mut output)
            .unwrap();
        let text = String::from_utf8(output).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        for reason in Reason::ALL {
            assert!(
                text.lines().any(|line| line.starts_with(reason.name())),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn rates_are_of_the_interval() {
        let (before, mut now) = (reading(), reading());
        now.reasons[Reason::Home as usize] += 500;
        now.nodes[0].counts.packets += 250;
        now.vips[0].packets += 1;
        // A counter that was reset counts from zero.
        now.nodes[1].counts.packets = 0;
        let report = Report::new(&now, Some((&before, Duration::from_millis(500))), false);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["packets_per_s"], 1_000.0);
        assert_eq!(json["reasons"][0]["packets_per_s"], 1_000.0);
        assert_eq!(json["nodes"][0]["packets_per_s"], 500.0);
        assert_eq!(json["nodes"][1]["packets_per_s"], 0.0);
        assert_eq!(json["vips"][0]["packets_per_s"], 2.0);
        assert_eq!(json["interval_s"], 0.5);
        let plain = serde_json::to_value(Report::new(&now, None, false)).unwrap();
        assert!(plain.get("packets_per_s").is_none() && plain.get("interval_s").is_none());
    }
}
