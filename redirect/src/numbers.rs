//! The report as Prometheus reads it.

use crate::report::Report;
use lb_net::metrics::{Kind, Page};

/// The page.
pub(crate) fn render(report: &Report) -> String {
    use Kind::{Counter, Gauge};
    let mut page = Page::new();
    let server = &report.sip_server;
    page.family(
        "pointsman_redirect_speaking",
        Gauge,
        "1 while beacons go out.",
    )
    .sample(&[], u8::from(report.speaking));
    page.family(
        "pointsman_redirect_sip_server",
        Gauge,
        "1 for what the SIP server is found to be.",
    )
    .sample(&[("verdict", &server.verdict)], 1);
    page.family(
        "pointsman_redirect_sip_server_missed",
        Gauge,
        "OPTIONS without an answer since the last answer.",
    )
    .sample(&[], server.missed);
    if let Some(took) = server.answer_ms {
        page.family(
            "pointsman_redirect_sip_server_answer_seconds",
            Gauge,
            "How long the last answer to OPTIONS took.",
        )
        .sample(&[], took / 1000.0);
    }
    page.family(
        "pointsman_redirect_sent_total",
        Counter,
        "Beacons by what became of them.",
    )
    .sample(&[("what", "beacon")], report.sent.beacons)
    .sample(&[("what", "answer")], report.sent.answers)
    .sample(&[("what", "failed")], report.sent.failed);
    page.family(
        "pointsman_redirect_probes_total",
        Counter,
        "Questions whether this node's stamps are new enough.",
    )
    .sample(&[], report.sent.probes);
    page.family(
        "pointsman_redirect_pin_reports_total",
        Counter,
        "Reports of calls away from home, repetitions among them.",
    )
    .sample(&[], report.sent.reports);
    page.family(
        "pointsman_redirect_pin_reports_failed_total",
        Counter,
        "Calls away from home that not every controller has a pin for.",
    )
    .sample(&[], report.sent.report_failures);
    let mut refused = page.family(
        "pointsman_redirect_refused_total",
        Counter,
        "Datagrams on the status port that were refused, by reason.",
    );
    for (reason, count) in &report.refused {
        refused.sample(&[("reason", reason)], count);
    }
    page.family(
        "pointsman_redirect_plane_broken",
        Gauge,
        "1 while nobody is heard.",
    )
    .sample(&[], u8::from(report.plane.broken));
    let mut nodes = page.family(
        "pointsman_redirect_node",
        Gauge,
        "1 for what a node is, seen from here.",
    );
    for node in &report.nodes {
        let id = node.node.to_string();
        let labels = [
            ("node", id.as_str()),
            ("liveness", &node.liveness),
            ("admission", &node.admission),
        ];
        nodes.sample(&labels, 1);
    }
    let mut ages = page.family(
        "pointsman_redirect_node_age_seconds",
        Gauge,
        "Time since a node's last beacon.",
    );
    for node in &report.nodes {
        ages.sample(
            &[("node", &node.node.to_string())],
            node.age_ms as f64 / 1000.0,
        );
    }
    let mut headrooms = page.family(
        "pointsman_redirect_node_headroom",
        Gauge,
        "Calls that a node can still take.",
    );
    for node in &report.nodes {
        headrooms.sample(&[("node", &node.node.to_string())], node.headroom);
    }
    page.finish()
}
