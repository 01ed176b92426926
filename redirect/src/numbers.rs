//! The report as Prometheus reads it.

use crate::overview::{Overview, Redirect, WitnessReport};
use lb_net::metrics::{Kind, Page};

/// The page.
pub(crate) fn render(overview: &Overview) -> String {
    let report = &overview.report;
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
    if let Some(redirect) = &overview.redirect {
        render_redirect(&mut page, redirect);
    }
    if let Some(witness) = &overview.witness {
        render_witness(&mut page, witness);
    }
    page.finish()
}

fn render_witness(page: &mut Page, witness: &WitnessReport) {
    use Kind::{Counter, Gauge};
    page.family(
        "pointsman_redirect_main_term",
        Gauge,
        "Term of the main that is obeyed; 0 while none is.",
    )
    .sample(&[], witness.term.unwrap_or(0));
    page.family(
        "pointsman_redirect_main_missed",
        Gauge,
        "1 while the main that is obeyed is missed.",
    )
    .sample(&[], u8::from(witness.missed));
    let mut refused = page.family(
        "pointsman_redirect_control_refused_total",
        Counter,
        "Control datagrams that were refused, by reason.",
    );
    for (reason, count) in &witness.refused {
        refused.sample(&[("reason", reason)], count);
    }
    let mut asked = page.family(
        "pointsman_redirect_call_state_requests_total",
        Counter,
        "Requests for calls over links, by what became of them.",
    );
    for (what, count) in &witness.asked {
        asked.sample(&[("what", what)], count);
    }
    let mut links = page.family(
        "pointsman_redirect_links_ended_total",
        Counter,
        "Links with controllers, and attempts at them, that ended, by why.",
    );
    let ended = |what: &str| !["made", "open"].contains(&what);
    for (why, count) in witness.links.iter().filter(|(what, _)| ended(what)) {
        links.sample(&[("reason", why)], count);
    }
}

fn render_redirect(page: &mut Page, redirect: &Redirect) {
    use Kind::{Counter, Gauge};
    page.family(
        "pointsman_redirect_draining",
        Gauge,
        "1 while the node is being emptied.",
    )
    .sample(&[], u8::from(redirect.draining));
    page.family(
        "pointsman_redirect_drained",
        Gauge,
        "1 when it is, and the last call has gone.",
    )
    .sample(&[], u8::from(redirect.drained));
    page.family(
        "pointsman_redirect_dialogs",
        Gauge,
        "Dialogs that pass, by state.",
    )
    .sample(&[("state", "early")], redirect.early)
    .sample(&[("state", "confirmed")], redirect.confirmed)
    .sample(&[("state", "held")], redirect.held);
    page.family(
        "pointsman_redirect_slots_promised",
        Gauge,
        "Slots held for calls that were redirected here.",
    )
    .sample(&[], redirect.promised);
    let mut messages = page.family(
        "pointsman_redirect_messages_total",
        Counter,
        "Messages and calls by what became of them.",
    );
    for (what, count) in &redirect.counts {
        messages.sample(&[("what", what)], count);
    }
    let mut refused = page.family(
        "pointsman_redirect_refused_calls_total",
        Counter,
        "New calls that were not taken, by reason.",
    );
    for (reason, count) in &redirect.refused_calls {
        refused.sample(&[("reason", reason)], count);
    }
    page.family(
        "pointsman_redirect_not_sent_total",
        Counter,
        "Messages that the system did not send.",
    )
    .sample(&[], redirect.not_sent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_redirect_server_is_counted_by_reason() {
        let mut page = Page::new();
        render_redirect(&mut page, &crate::overview::tests::redirect());
        let page = page.finish();
        for line in [
            "pointsman_redirect_draining 1\n",
            "pointsman_redirect_drained 0\n",
            "pointsman_redirect_dialogs{state=\"confirmed\"} 2\n",
            "pointsman_redirect_slots_promised 3\n",
            "pointsman_redirect_messages_total{what=\"request-in\"} 7\n",
            // What never happened is there too, so that its rate can be had when it does.
            "pointsman_redirect_messages_total{what=\"drop-not-sip\"} 0\n",
            "pointsman_redirect_refused_calls_total{reason=\"calls\"} 4\n",
            "pointsman_redirect_not_sent_total 5\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
