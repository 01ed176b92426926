//! `pointsman nodes`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;

use lb_common::maps::Node;
use serde::Serialize;

use super::reading::{NodeReading, PlaneState, Reading};
use super::table::Table;
use super::units;

/// What is known of the nodes beside the maps.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Those that are configured, and where they are; `None` without a configuration.
    pub(super) configured: Option<BTreeMap<u16, IpAddr>>,
    /// Where learnt ones are, if the daemon has said so.
    pub(super) learnt: BTreeMap<u16, IpAddr>,
}

impl Known {
    fn address(&self, id: u16) -> Option<IpAddr> {
        let configured = self.configured.as_ref().and_then(|known| known.get(&id));
        configured.or(self.learnt.get(&id)).copied()
    }

    /// Who is in the program's map, for good, but not in the configuration.
    fn is_learnt(&self, node: &NodeReading) -> bool {
        let is_unnamed = |known: &BTreeMap<u16, IpAddr>| !known.contains_key(&node.id);
        node.node.flags & Node::LEAVING == 0 && self.configured.as_ref().is_some_and(is_unnamed)
    }
}

/// The command's answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    status_plane: &'static str,
    staleness_ignored: u64,
    /// Another LB steers while this is false.
    steers: bool,
    tables_changing: bool,
    nodes: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    node: u16,
    address: Option<IpAddr>,
    liveness: &'static str,
    /// Left out for a node that has said nothing.
    admission: Option<&'static str>,
    /// Not in the configuration, but learnt from its beacons.
    learnt: bool,
    /// Since its last beacon.
    age_ms: Option<u64>,
    active: u32,
    capacity: u32,
    headroom: u32,
    calls_per_second: u32,
    epoch: u32,
    sequence: u32,
    /// The key that its last beacon was under.
    key_id: Option<u8>,
    beacons: u64,
    silent: bool,
    reachable: bool,
    leaving: bool,
    /// Until it may be `Up`, for one that flaps.
    held_down_ms: Option<u64>,
    mac: Option<String>,
    ifindex: u32,
    packets: u64,
    bytes: u64,
    new_calls: u64,
    pins_made: u64,
    /// Of all frames sent to nodes.
    share_percent: f64,
    note: Option<String>,
}

impl Report {
    pub(super) fn new(reading: &Reading, known: &Known) -> Self {
        Self {
            status_plane: reading.plane_state().name(),
            staleness_ignored: reading.plane.ignored_staleness,
            steers: reading.is_active(),
            tables_changing: reading.is_changing(),
            nodes: reading
                .nodes
                .iter()
                .map(|node| row(reading, known, node))
                .collect(),
        }
    }
}

fn row(reading: &Reading, known: &Known, node: &NodeReading) -> Row {
    let NodeReading {
        id,
        node: said,
        status,
        counts,
    } = node;
    let is_reachable = said.is_reachable();
    Row {
        node: *id,
        address: known.address(*id),
        learnt: known.is_learnt(node),
        liveness: reading.liveness(node).name(),
        admission: node.admission().map(lb_common::Admission::name),
        age_ms: reading
            .age(status.last_seen)
            .map(|age| age.as_millis() as u64),
        active: status.active,
        capacity: status.capacity,
        headroom: status.headroom,
        calls_per_second: status.calls_per_second,
        epoch: node.epoch(),
        sequence: node.sequence(),
        key_id: (status.last_seen != 0).then_some(status.key_id),
        beacons: status.beacons,
        silent: node.is_silent(),
        reachable: is_reachable,
        leaving: said.flags & Node::LEAVING != 0,
        held_down_ms: reading.held_down(node).map(|left| left.as_millis() as u64),
        mac: is_reachable.then(|| crate::neighbours::show(said.destination_mac)),
        ifindex: said.ifindex,
        packets: counts.packets,
        bytes: counts.bytes,
        new_calls: counts.started,
        pins_made: counts.pinned,
        share_percent: match reading.sent() {
            0 => 0.0,
            all => (counts.packets as f64 * 1_000.0 / all as f64).round() / 10.0,
        },
        note: note(reading, known, node),
    }
}

/// What else an operator should know of a node.
fn note(reading: &Reading, known: &Known, node: &NodeReading) -> Option<String> {
    let said = &node.node;
    let judged = said.flags & Node::JUDGED != 0;
    let mut notes = Vec::new();
    if known.is_learnt(node) {
        notes.push("learnt".to_owned());
    }
    if said.flags & Node::LEAVING != 0 {
        notes.push("leaving".to_owned());
    }
    if !said.is_reachable() {
        notes.push("no link address".to_owned());
    }
    if node.is_silent() {
        notes.push("silent".to_owned());
    } else if judged && node.status.up_since <= said.down_at {
        notes.push("confirmed down".to_owned());
    } else if node.status.last_seen == 0 {
        notes.push("never heard".to_owned());
    } else if node.status.ready == 0 {
        let (run, needed) = (node.status.run, node.status.needed);
        notes.push(format!("coming up: {run} of {needed} beacons"));
    }
    if let Some(left) = reading.held_down(node) {
        notes.push(format!("held down for {}", units::duration(left)));
    }
    (!notes.is_empty()).then(|| notes.join(", "))
}

/// Writes the table.
pub(super) fn write(output: &mut dyn Write, reading: &Reading, known: &Known) -> io::Result<()> {
    let mut table = Table::new(&[
        ">NODE",
        "LIVENESS",
        "ADMISSION",
        ">AGE",
        ">ACTIVE/OF",
        ">HEADROOM",
        ">EPOCH/SEQ",
        ">PACKETS",
        ">CALLS",
        ">SHARE %",
        "ADDRESS",
    ]);
    for node in &reading.nodes {
        let NodeReading {
            id, status, counts, ..
        } = node;
        let heard = |text: String| {
            if status.last_seen == 0 {
                "-".to_owned()
            } else {
                text
            }
        };
        let address = known.address(*id).map(|address| address.to_string());
        let note = note(reading, known, node).map(|note| format!("({note})"));
        let last: Vec<String> = address.into_iter().chain(note).collect();
        table.row([
            id.to_string(),
            reading.liveness(node).name().to_owned(),
            node.admission()
                .map_or("-", lb_common::Admission::name)
                .to_owned(),
            reading
                .age(status.last_seen)
                .map_or("-".to_owned(), units::duration),
            heard(format!("{}/{}", status.active, status.capacity)),
            heard(status.headroom.to_string()),
            heard(format!("{}/{}", node.epoch(), node.sequence())),
            units::count(counts.packets),
            units::count(counts.started),
            units::share(counts.packets, reading.sent()),
            last.join(" "),
        ]);
    }
    if table.is_empty() {
        writeln!(output, "no nodes are configured, and none were learnt")?;
    } else {
        table.write(output)?;
    }
    write_plane(output, reading)
}

fn write_plane(output: &mut dyn Write, reading: &Reading) -> io::Result<()> {
    match reading.plane_state() {
        PlaneState::Heard | PlaneState::Silent => {}
        PlaneState::NeverHeard => writeln!(
            output,
            "\nThe status plane has never been heard: no beacon has come, and every node counts as Up."
        )?,
        PlaneState::Broken => {
            let age = reading.age(reading.plane.last_beacon).unwrap_or_default();
            writeln!(
                output,
                "\nTHE STATUS PLANE IS BROKEN: no beacon of any node for {}. Nodes are taken to be \
                 as they were then;\n{} choices were made so.",
                units::duration(age),
                units::count(reading.plane.ignored_staleness),
            )?;
        }
    }
    if !reading.is_active() {
        writeln!(
            output,
            "\nThis LB is passive: another serves the VIPs (`pointsman cluster` says which)."
        )?;
    }
    if reading.is_changing() {
        writeln!(
            output,
            "\nThe node set has changed: the old table still keeps its dialogs."
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::reading;
    use super::*;
    use serde_json::Value;

    /// 1 and 4 are configured, 2 and 3 were learnt; where 3 is nobody has said.
    fn known() -> Known {
        let at = |id: u16| (id, IpAddr::from([192, 0, 2, 10 + id as u8]));
        Known {
            configured: Some([at(1), at(4)].into()),
            learnt: [at(2)].into(),
        }
    }

    fn text(reading: &Reading) -> String {
        let mut output = Vec::new();
        write(&mut output, reading, &known()).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn the_table_fits_and_says_it_all() {
        let expected = "\
NODE  LIVENESS  ADMISSION     AGE  ACTIVE/OF  HEADROOM  EPOCH/SEQ  PACKETS  CALLS  SHARE %  ADDRESS
   1  Up        Free        40 ms    40/1000       960     7/1234      100     10     10.0  192.0.2.11
   2  Stale     Busy       400 ms    40/1000       960     7/1234      200     20     20.0  192.0.2.12 (learnt)
   3  Down      Free        1.2 s    40/1000       960     7/1234      300     30     30.0  (learnt)
   4  Up        -               -          -         -          -      400     40     40.0  192.0.2.14 (silent)
";
        assert_eq!(text(&reading()), expected);
    }

    #[test]
    fn json_has_the_same() {
        let report = serde_json::to_value(Report::new(&reading(), &known())).unwrap();
        assert_eq!(report["status_plane"], "heard");
        let busy = &report["nodes"][1];
        assert_eq!(busy["liveness"], "Stale");
        assert_eq!(busy["admission"], "Busy");
        assert_eq!(busy["age_ms"], 400);
        assert_eq!(busy["share_percent"], 20.0);
        assert_eq!(busy["address"], "192.0.2.12");
        assert_eq!(
            (&busy["learnt"], &busy["held_down_ms"]),
            (&true.into(), &Value::Null)
        );
        assert_eq!(busy["key_id"], 1);
        let silent = &report["nodes"][3];
        assert!(silent["admission"].is_null() && silent["key_id"].is_null());
    }

    #[test]
    fn a_broken_status_plane_is_cried_out() {
        let mut reading = reading();
        reading.plane.last_beacon = reading.now - 1_000;
        reading.plane.ignored_staleness = 17;
        let text = text(&reading);
        assert!(
            text.contains("STATUS PLANE IS BROKEN: no beacon of any node for 4.0 s"),
            "{text}"
        );
        assert!(text.contains("17 choices"), "{text}");
    }

    #[test]
    fn notes_say_why() {
        let mut reading = reading();
        let now = reading.now;
        let node = &mut reading.nodes[0];
        node.node.flags = Node::CONFIGURED | Node::JUDGED;
        (node.node.down_at, node.node.blocked_until) = (now, now + 250);
        assert_eq!(
            note(&reading, &known(), &reading.nodes[0]).as_deref(),
            Some("no link address, confirmed down, held down for 1.0 s")
        );
        let node = &mut reading.nodes[0];
        node.node = Node {
            flags: Node::PLAIN | Node::JUDGED,
            ..Node::default()
        };
        node.node.blocked_until = now + 500;
        assert_eq!(
            note(&reading, &known(), &reading.nodes[0]).as_deref(),
            Some("held down for 2.0 s")
        );
        let node = &mut reading.nodes[0];
        node.node = Node {
            flags: Node::PLAIN | Node::LEAVING,
            ..Node::default()
        };
        (node.status.ready, node.status.run, node.status.needed) = (0, 1, 3);
        assert_eq!(
            note(&reading, &known(), &reading.nodes[0]).as_deref(),
            Some("leaving, coming up: 1 of 3 beacons")
        );
    }
}
