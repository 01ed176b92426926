//! The pair's report as Prometheus reads it.

use lb_net::metrics::{Kind, Page};
use lb_proto::failover::controller::Stage;

use super::report::ClusterReport;

const ROLES: [&str; 3] = ["main", "stand-by", "candidate"];

/// Adds the pair's families to the page.
pub(crate) fn render(page: &mut Page, report: &ClusterReport) {
    use Kind::{Counter, Gauge};
    let mut roles = page.family(
        "pointsman_pair_role",
        Gauge,
        "1 for the role of this controller.",
    );
    for role in ROLES {
        roles.sample(&[("role", role)], u8::from(report.role == role));
    }
    page.family(
        "pointsman_pair_term",
        Gauge,
        "Term of the main that this controller knows of; 0 while it knows of none.",
    )
    .sample(&[], report.term.unwrap_or(0));
    let held = report
        .leases
        .iter()
        .filter(|lease| lease.remaining_ms.is_some());
    page.family(
        "pointsman_pair_leases",
        Gauge,
        "Leases that this controller holds of nodes.",
    )
    .sample(&[], held.count());
    page.family(
        "pointsman_pair_leases_needed",
        Gauge,
        "Leases that a main needs.",
    )
    .sample(&[], report.needed);
    page.family(
        "pointsman_pair_configuration",
        Gauge,
        "Version of the shared configuration.",
    )
    .sample(&[], report.configuration);
    let mut amiss = page.family(
        "pointsman_pair_amiss",
        Gauge,
        "1 for what an operator should look at: no carrier, a newer configuration elsewhere, other contents \
         under the same version, nodes that have not granted yet.",
    );
    for (what, is_so) in [
        ("unreached", !report.reached),
        ("newer", report.newer.is_some()),
        ("differs", report.differs.is_some()),
        ("joining", report.nodes_change == Stage::Joining.name()),
    ] {
        amiss.sample(&[("what", what)], u8::from(is_so));
    }
    let mut events = page.family(
        "pointsman_pair_events_total",
        Counter,
        "What has happened between the controllers.",
    );
    for (what, count) in &report.counts {
        events.sample(&[("what", what)], count);
    }
    let mut refused = page.family(
        "pointsman_pair_control_refused_total",
        Counter,
        "Control datagrams that were refused, by reason.",
    );
    for (reason, count) in &report.refused {
        refused.sample(&[("reason", reason)], count);
    }
    let mut links = page.family(
        "pointsman_pair_links",
        Gauge,
        "Links that are open or were made, and attempts by what became of them.",
    );
    for (what, count) in &report.links {
        links.sample(&[("what", what)], count);
    }
    switch(page, report);
}

/// The last takeover by this controller, step by step, and the rebuild after it.
fn switch(page: &mut Page, report: &ClusterReport) {
    let own = report.last_switch.as_ref();
    let own = own.filter(|switch| switch.reason.is_some());
    let rebuild = report.rebuild.as_ref();
    let steps = [
        ("silence", own.and_then(|own| own.silence_ms)),
        ("query", own.and_then(|own| own.query_ms)),
        ("leases", own.and_then(|own| own.leases_ms)),
        ("activation", own.and_then(|own| own.activation_ms)),
        ("gathering", rebuild.and_then(|rebuild| rebuild.gathered_ms)),
        ("rebuild", rebuild.and_then(|rebuild| rebuild.complete_ms)),
    ];
    let mut times = page.family(
        "pointsman_pair_takeover_seconds",
        Kind::Gauge,
        "How long each step of this controller's last takeover took.",
    );
    for (step, ms) in steps {
        if let Some(ms) = ms {
            times.sample(&[("step", step)], ms / 1000.0);
        }
    }
    let Some(rebuild) = rebuild else { return };
    page.family(
        "pointsman_pair_calls",
        Kind::Gauge,
        "Calls that the main knows of.",
    )
    .sample(&[], rebuild.calls);
    page.family(
        "pointsman_pair_calls_unknown",
        Kind::Gauge,
        "Calls whose node does not answer.",
    )
    .sample(&[], rebuild.unknown);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::report::LastSwitch;

    #[test]
    fn role_and_steps_are_told() {
        let report = ClusterReport {
            role: "main".to_owned(),
            term: Some(7),
            last_switch: Some(LastSwitch {
                age_ms: 1,
                from: Some(1),
                to: 2,
                term: 7,
                reason: Some("loss".to_owned()),
                silence_ms: Some(60.0),
                query_ms: Some(20.5),
                leases_ms: Some(30.0),
                activation_ms: None,
            }),
            refused: [("forged".to_owned(), 3)].into(),
            ..ClusterReport::default()
        };
        let mut page = Page::new();
        render(&mut page, &report);
        let page = page.finish();
        for line in [
            "pointsman_pair_role{role=\"main\"} 1\n",
            "pointsman_pair_role{role=\"stand-by\"} 0\n",
            "pointsman_pair_term 7\n",
            "pointsman_pair_control_refused_total{reason=\"forged\"} 3\n",
            "pointsman_pair_takeover_seconds{step=\"query\"} 0.0205\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
        assert!(!page.contains("activation"), "{page}");
    }
}
