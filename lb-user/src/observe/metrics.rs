//! The page for Prometheus: what the maps hold, and what the daemon counts beside them.
//!
//! Names follow Prometheus' rules: base units, `_total` behind counters. What the program counts goes
//! on with the maps, across restarts of the daemon; what the daemon counts starts over.

use lb_common::choose::Liveness;
use lb_common::{Admission, Reason};
use lb_net::metrics::{Kind, Page};

use super::reading::{NodeReading, PlaneState, Reading};
use crate::daemon::Vitals;
use crate::deferred::Counters;
use crate::pair;
use crate::pins::SweepCounts;
use crate::plane::attach::Attached;
use crate::status::{Learnt, StatusCounts};

/// The family of learnt nodes, which `nodes` asks for too.
pub(super) const LEARNT: &str = "pointsman_learnt_node_info";

/// Makes the page.
pub fn render(vitals: &Vitals) -> String {
    let mut page = Page::new();
    page.family(
        "pointsman_build_info",
        Kind::Gauge,
        "The version that runs.",
    )
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let reading = Reading::take(&vitals.maps, vitals.clock.now());
    page.family(
        "pointsman_maps_readable",
        Kind::Gauge,
        "1 when the maps could be read.",
    )
    .sample(&[], u8::from(reading.is_ok()));
    if let Ok(reading) = &reading {
        frames(&mut page, reading);
        nodes(&mut page, reading);
        planes(&mut page, reading);
    }
    interfaces(&mut page, &vitals.interfaces);
    deferred(&mut page, &vitals.deferred);
    status(&mut page, &vitals.status);
    learnt(&mut page, &vitals.learnt.borrow());
    sweeps(&mut page, &vitals.sweeps);
    if let Some(pair) = &vitals.pair {
        pair::render(&mut page, &pair.borrow());
    }
    page.finish()
}

fn frames(page: &mut Page, reading: &Reading) {
    let mut family = page.family(
        "pointsman_packets_total",
        Kind::Counter,
        "Frames seen by the program, by what became of them and why.",
    );
    for reason in Reason::ALL {
        let labels = [
            ("reason", reason.name()),
            ("outcome", reason.outcome().name()),
        ];
        family.sample(&labels, reading.packets(*reason));
    }
    let mut family = page.family(
        "pointsman_vip_packets_total",
        Kind::Counter,
        "Frames for a VIP.",
    );
    for vip in &reading.vips {
        family.sample(&[("vip", &vip.address.to_string())], vip.packets);
    }
}

/// A family with one number a node.
fn per_node(
    page: &mut Page,
    reading: &Reading,
    (name, kind, help): (&'static str, Kind, &str),
    number: impl Fn(&NodeReading) -> Option<f64>,
) {
    let mut family = page.family(name, kind, help);
    for node in &reading.nodes {
        if let Some(number) = number(node) {
            family.sample(&[("node", &node.id.to_string())], number);
        }
    }
}

fn nodes(page: &mut Page, reading: &Reading) {
    let mut counter = |name, help, number: fn(&NodeReading) -> u64| {
        per_node(page, reading, (name, Kind::Counter, help), |node| {
            Some(number(node) as f64)
        });
    };
    counter(
        "pointsman_node_packets_total",
        "Frames sent to a node.",
        |node| node.counts.packets,
    );
    counter(
        "pointsman_node_bytes_total",
        "Bytes sent to a node.",
        |node| node.counts.bytes,
    );
    counter(
        "pointsman_node_new_calls_total",
        "New calls sent to a node.",
        |node| node.counts.started,
    );
    counter(
        "pointsman_node_pins_made_total",
        "Calls pinned to a node.",
        |node| node.counts.pinned,
    );
    counter(
        "pointsman_node_beacons_total",
        "Beacons of a node that the program took.",
        |node| node.status.beacons,
    );

    let mut gauge = |name, help, number: &dyn Fn(&NodeReading) -> Option<f64>| {
        per_node(page, reading, (name, Kind::Gauge, help), number);
    };
    let is_up = |node: &NodeReading| reading.liveness(node) == Liveness::Up;
    gauge("pointsman_node_up", "1 when a node is Up.", &|node| {
        Some(f64::from(is_up(node)))
    });
    gauge(
        "pointsman_node_reachable",
        "1 when a node's link address is known.",
        &|node| Some(f64::from(node.node.is_reachable())),
    );
    gauge(
        "pointsman_node_beacon_age_seconds",
        "Time since a node's last beacon.",
        &|node| {
            reading
                .age(node.status.last_seen)
                .map(|age| age.as_secs_f64())
        },
    );
    let heard =
        |node: &NodeReading, number: u32| (node.status.last_seen != 0).then(|| f64::from(number));
    gauge(
        "pointsman_node_active_calls",
        "Calls that a node says it has.",
        &|node| heard(node, node.status.active),
    );
    gauge(
        "pointsman_node_capacity_calls",
        "Calls that a node can take in all.",
        &|node| heard(node, node.status.capacity),
    );
    gauge(
        "pointsman_node_headroom_calls",
        "Calls that a node can still take.",
        &|node| heard(node, node.status.headroom),
    );
    gauge(
        "pointsman_node_held_down_seconds",
        "Time that a node which flaps must still wait before it is Up; 0 for none.",
        &|node| Some(reading.held_down(node).unwrap_or_default().as_secs_f64()),
    );
    let mut family = page.family(
        "pointsman_node_liveness",
        Kind::Gauge,
        "1 for the liveness that a node has, 0 for the others.",
    );
    for node in &reading.nodes {
        let id = node.id.to_string();
        for liveness in [Liveness::Up, Liveness::Stale, Liveness::Down] {
            let is = reading.liveness(node) == liveness;
            family.sample(
                &[("node", &id), ("liveness", liveness.name())],
                u8::from(is),
            );
        }
    }
    let mut family = page.family(
        "pointsman_node_admission",
        Kind::Gauge,
        "1 for the admission that a node announces, 0 for the others.",
    );
    for node in &reading.nodes {
        let id = node.id.to_string();
        let Some(admission) = node.admission() else {
            continue;
        };
        for other in [
            Admission::Idle,
            Admission::Free,
            Admission::Busy,
            Admission::Draining,
        ] {
            let labels = [("node", id.as_str()), ("admission", other.name())];
            family.sample(&labels, u8::from(admission == other));
        }
    }
}

fn planes(page: &mut Page, reading: &Reading) {
    let mut one = |name, kind, help: &str, number: u64| {
        page.family(name, kind, help).sample(&[], number);
    };
    one(
        "pointsman_pins",
        Kind::Gauge,
        "Calls that live away from home.",
        reading.pins,
    );
    one(
        "pointsman_pins_max",
        Kind::Gauge,
        "Pins that fit.",
        reading.max_pins.into(),
    );
    one(
        "pointsman_status_plane_broken",
        Kind::Gauge,
        "1 when no node is heard any more, so that staleness is ignored.",
        u64::from(reading.plane_state() == PlaneState::Broken),
    );
    one(
        "pointsman_staleness_ignored_total",
        Kind::Counter,
        "Choices made with staleness ignored.",
        reading.plane.ignored_staleness,
    );
    one(
        "pointsman_steers",
        Kind::Gauge,
        "1 while this LB steers, 0 while another does.",
        u64::from(reading.is_active()),
    );
    one(
        "pointsman_tables_changing",
        Kind::Gauge,
        "1 while an old steering table keeps its dialogs.",
        u64::from(reading.is_changing()),
    );
}

fn interfaces(page: &mut Page, interfaces: &[Attached]) {
    let mut family = page.family(
        "pointsman_interface_info",
        Kind::Gauge,
        "An interface that the program is attached to, and how.",
    );
    for interface in interfaces {
        let mode = if interface.is_generic {
            "generic"
        } else {
            "native"
        };
        family.sample(&[("interface", &interface.name), ("mode", mode)], 1);
    }
}

fn deferred(page: &mut Page, counters: &Counters) {
    let mut family = page.family(
        "pointsman_deferred_datagrams_total",
        Kind::Counter,
        "Deferred datagrams that userspace steered, by what and why.",
    );
    for (outcome, reason, count) in counters.all_steered() {
        family.sample(
            &[("outcome", outcome.name()), ("reason", reason.name())],
            count,
        );
    }
    let mut family = page.family(
        "pointsman_deferred_lost_total",
        Kind::Counter,
        "Deferred datagrams that were not sent on, by reason.",
    );
    for (loss, count) in counters.all_lost() {
        family.sample(&[("reason", loss.name())], count);
    }
    page.family(
        "pointsman_deferred_held_total",
        Kind::Counter,
        "Deferred datagrams that waited for a link address.",
    )
    .sample(&[], counters.all_held());
    page.family(
        "pointsman_deferred_frames_total",
        Kind::Counter,
        "Frames that deferred datagrams were sent on in.",
    )
    .sample(&[], counters.all_sent());
}

fn status(page: &mut Page, counts: &StatusCounts) {
    let mut one = |name, help: &str, number: u64| {
        page.family(name, Kind::Counter, help).sample(&[], number);
    };
    one(
        "pointsman_beacons_accepted_total",
        "Beacons that userspace took.",
        counts.accepted(),
    );
    one(
        "pointsman_beacons_refused_total",
        "Datagrams on the status port that userspace refused.",
        counts.refused(),
    );
    one(
        "pointsman_status_queries_total",
        "Questions asked of silent nodes.",
        counts.queries(),
    );
    one(
        "pointsman_nodes_downed_total",
        "Times a node was confirmed Down.",
        counts.downs(),
    );
    one(
        "pointsman_stalls_total",
        "Times that the daemon itself did not run for so long that it could not judge others.",
        counts.stalls(),
    );
    one(
        "pointsman_beacons_elsewhere_total",
        "Beacons that came from elsewhere than their node; among those that were refused.",
        counts.origins(),
    );
    one(
        "pointsman_old_epochs_told_total",
        "Nodes told that they have begun with an epoch that is too old.",
        counts.held(),
    );
    let mut family = page.family(
        "pointsman_pin_reports_total",
        Kind::Counter,
        "Calls away from home that nodes have reported, by what became of the report.",
    );
    for (outcome, count) in counts.reported() {
        family.sample(&[("outcome", outcome.name())], count);
    }
    let mut family = page.family(
        "pointsman_pin_reports_refused_total",
        Kind::Counter,
        "Reports of calls away from home that were refused, by reason.",
    );
    for (refusal, count) in counts.report_refusals() {
        family.sample(&[("reason", refusal.name())], count);
    }
    let mut family = page.family(
        "pointsman_beacons_not_learnt_total",
        Kind::Counter,
        "Good beacons of nodes that could not be learnt, by reason.",
    );
    for (why, count) in counts.not_learnt() {
        family.sample(&[("reason", why.name())], count);
    }
}

fn learnt(page: &mut Page, learnt: &Learnt) {
    let mut family = page.family(
        LEARNT,
        Kind::Gauge,
        "A node that was learnt from its beacons, and where it is; without an address until it was \
         heard by this controller.",
    );
    for (id, address) in learnt {
        let address = address.map(|address| address.to_string());
        let labels = [
            ("node", id.to_string()),
            ("address", address.unwrap_or_default()),
        ];
        let labels = labels
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        family.sample(&labels, 1);
    }
}

fn sweeps(page: &mut Page, counts: &SweepCounts) {
    page.family(
        "pointsman_pins_expired_total",
        Kind::Counter,
        "Pins that have expired.",
    )
    .sample(&[], counts.expired());
    page.family(
        "pointsman_pins_full",
        Kind::Gauge,
        "1 when no pin fits any more.",
    )
    .sample(&[], u8::from(counts.is_full()));
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::reading;
    use super::*;

    fn page() -> String {
        let mut page = Page::new();
        frames(&mut page, &reading());
        nodes(&mut page, &reading());
        planes(&mut page, &reading());
        deferred(&mut page, &Counters::default());
        status(&mut page, &StatusCounts::default());
        let at = "192.0.2.19".parse().expect("an address");
        learnt(&mut page, &Learnt::from([(9, Some(at)), (10, None)]));
        page.finish()
    }

    #[test]
    fn the_page_has_what_dashboards_ask_for() {
        let page = page();
        for line in [
            r#"pointsman_packets_total{reason="home",outcome="steer-callid"} 900"#,
            r#"pointsman_packets_total{reason="fragment",outcome="defer"} 5"#,
            r#"pointsman_packets_total{reason="beacon-forged",outcome="drop"} 0"#,
            r#"pointsman_vip_packets_total{vip="192.0.2.10:5060"} 1000"#,
            r#"pointsman_node_packets_total{node="3"} 300"#,
            r#"pointsman_node_up{node="1"} 1"#,
            r#"pointsman_node_up{node="2"} 0"#,
            r#"pointsman_node_beacon_age_seconds{node="2"} 0.4"#,
            r#"pointsman_node_admission{node="2",admission="Busy"} 1"#,
            r#"pointsman_node_liveness{node="3",liveness="Down"} 1"#,
            "pointsman_pins 3",
            "pointsman_status_plane_broken 0",
            r#"pointsman_deferred_lost_total{reason="queue-full"} 0"#,
            r#"pointsman_pin_reports_total{outcome="pins-full"} 0"#,
            r#"pointsman_pin_reports_refused_total{reason="forged"} 0"#,
            r#"pointsman_node_held_down_seconds{node="3"} 0"#,
            r#"pointsman_beacons_not_learnt_total{reason="members-full"} 0"#,
            r#"pointsman_learnt_node_info{node="9",address="192.0.2.19"} 1"#,
            r#"pointsman_learnt_node_info{node="10",address=""} 1"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(
            !page.contains(r#"pointsman_node_admission{node="4""#),
            "silent nodes say nothing"
        );
    }

    #[test]
    fn every_number_has_its_help_and_its_type_once() {
        let page = page();
        let mut names = Vec::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(!names.contains(&name), "{name} twice");
                names.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(names.last(), Some(&name), "{line}");
                line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
            }
        }
        assert_eq!(page.matches("# HELP ").count(), names.len());
    }
}
