//! `pointsman pins`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use lb_common::maps::Pin;
use serde::Serialize;

use super::table::Table;
use super::units;

/// The command's answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pins: usize,
    pins_max: u32,
    nodes: Vec<NodeRow>,
    /// Those shown.
    shown: Vec<Row>,
}

/// A node's pins.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct NodeRow {
    node: u16,
    pins: u64,
    confirmed: u64,
    ended: u64,
    /// Of calls that the node reported.
    reported: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    /// The call key: the hash of the Call-ID under the cluster's secret.
    key: String,
    node: u16,
    age_ms: u64,
    idle_ms: u64,
    confirmed: bool,
    ended: bool,
    by_controller: bool,
}

impl Report {
    /// Of all `pins` those of `node`, at most `limit` (0: all), those first that were used last.
    pub(super) fn new(
        mut pins: Vec<(u64, Pin)>,
        max: u32,
        node: Option<u16>,
        limit: usize,
        age: impl Fn(u64) -> Duration,
    ) -> Self {
        pins.retain(|(_, pin)| node.is_none_or(|node| pin.node == node));
        pins.sort_unstable_by_key(|(key, pin)| (std::cmp::Reverse(pin.last_seen), *key));
        let mut nodes: BTreeMap<u16, NodeRow> = BTreeMap::new();
        for (_, pin) in &pins {
            let row = nodes.entry(pin.node).or_default();
            row.node = pin.node;
            row.pins += 1;
            row.confirmed += u64::from(pin.flags & Pin::CONFIRMED != 0);
            row.ended += u64::from(pin.flags & Pin::ENDED != 0);
            row.reported += u64::from(pin.flags & Pin::BY_CONTROLLER != 0);
        }
        let limit = if limit == 0 { pins.len() } else { limit };
        let shown = pins.iter().take(limit).map(|(key, pin)| Row {
            key: format!("{key:016x}"),
            node: pin.node,
            age_ms: age(pin.created).as_millis() as u64,
            idle_ms: age(pin.last_seen).as_millis() as u64,
            confirmed: pin.flags & Pin::CONFIRMED != 0,
            ended: pin.flags & Pin::ENDED != 0,
            by_controller: pin.flags & Pin::BY_CONTROLLER != 0,
        });
        Self {
            pins: pins.len(),
            pins_max: max,
            shown: shown.collect(),
            nodes: nodes.into_values().collect(),
        }
    }

    pub(super) fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        if self.pins == 0 {
            return writeln!(
                output,
                "no pins: every call lives at home (room for {})",
                self.pins_max
            );
        }
        let mut table = Table::new(&["KEY", ">NODE", ">AGE", ">IDLE", "STATE"]);
        for row in &self.shown {
            table.row([
                row.key.clone(),
                row.node.to_string(),
                units::duration(Duration::from_millis(row.age_ms)),
                units::duration(Duration::from_millis(row.idle_ms)),
                state(row),
            ]);
        }
        table.write(output)?;
        writeln!(output)?;
        let mut table = Table::new(&[">NODE", ">PINS", ">CONFIRMED", ">ENDED", ">REPORTED"]);
        for row in &self.nodes {
            table.row([
                row.node.to_string(),
                units::count(row.pins),
                units::count(row.confirmed),
                units::count(row.ended),
                units::count(row.reported),
            ]);
        }
        table.write(output)?;
        let Self {
            pins,
            pins_max,
            shown,
            ..
        } = self;
        writeln!(
            output,
            "\n{pins} pins, {} shown, room for {pins_max}",
            shown.len()
        )
    }
}

fn state(row: &Row) -> String {
    let state = match (row.confirmed, row.ended) {
        (_, true) => "ended",
        (true, false) => "confirmed",
        (false, false) => "unconfirmed",
    };
    let by = if row.by_controller {
        ", by the controller"
    } else {
        ""
    };
    format!("{state}{by}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins() -> Vec<(u64, Pin)> {
        let pin = |node, flags, created, last_seen| Pin {
            node,
            flags,
            reserved: 0,
            created,
            last_seen,
        };
        vec![
            (0xa, pin(1, 0, 900, 900)),
            (0xb, pin(2, Pin::CONFIRMED | Pin::BY_CONTROLLER, 500, 990)),
            (0xc, pin(2, Pin::CONFIRMED | Pin::ENDED, 100, 950)),
        ]
    }

    fn report(node: Option<u16>, limit: usize) -> Report {
        Report::new(pins(), 64, node, limit, |then| {
            Duration::from_millis(1_000 - then)
        })
    }

    #[test]
    fn the_latest_come_first_and_all_are_counted() {
        let report = report(None, 2);
        let keys: Vec<&str> = report.shown.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys, ["000000000000000b", "000000000000000c"]);
        assert_eq!(report.pins, 3);
        assert_eq!(
            report.nodes[1],
            NodeRow {
                node: 2,
                pins: 2,
                confirmed: 2,
                ended: 1,
                reported: 1
            }
        );
        assert_eq!(self::report(None, 0).shown.len(), 3);
        assert_eq!(self::report(Some(1), 0).pins, 1);
    }

    #[test]
    fn the_table_says_it_all() {
        let mut output = Vec::new();
        report(None, 2).write(&mut output).unwrap();
        let expected = "\
KEY               NODE     AGE   IDLE  STATE
000000000000000b     2  500 ms  10 ms  confirmed, by the controller
000000000000000c     2  900 ms  50 ms  ended

NODE  PINS  CONFIRMED  ENDED  REPORTED
   1     1          0      0         0
   2     2          2      1         1

3 pins, 2 shown, room for 64
";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
        let mut output = Vec::new();
        report(Some(9), 2).write(&mut output).unwrap();
        assert!(output.starts_with(b"no pins"));
    }
}
