//! The report as people read it.

use crate::report::{NodeReport, Report, SipServer};
use std::fmt::Write;

/// The whole screen.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_report(&mut text, report);
    text
}

fn write_report(text: &mut String, report: &Report) -> std::fmt::Result {
    let Report {
        node,
        cluster,
        epoch,
        ..
    } = report;
    writeln!(
        text,
        "node {node} of cluster {cluster}, epoch {epoch}: {}",
        what_it_says(report)
    )?;
    writeln!(text, "SIP server {}", describe(&report.sip_server))?;
    let failed = match report.sent.failed {
        0 => String::new(),
        failed => format!(", {failed} that the system did not send"),
    };
    let sent = report.sent;
    writeln!(
        text,
        "sent {} beacons, {} answers to queries{failed}",
        sent.beacons, sent.answers
    )?;
    if sent.reports > 0 || sent.report_failures > 0 {
        let unknown = match sent.report_failures {
            0 => String::new(),
            calls => format!("; not pinned everywhere: {calls}"),
        };
        writeln!(
            text,
            "sent {} reports of calls away from home{unknown}",
            sent.reports
        )?;
    }
    if report.plane.broken {
        let since = report.plane.silence_ms.map_or("ever".to_owned(), duration);
        writeln!(
            text,
            "THE STATUS PLANE IS BROKEN HERE: nobody heard for {since}; ages say nothing"
        )?;
    }
    if !report.refused.is_empty() {
        let refused: Vec<String> = report
            .refused
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        writeln!(text, "refused: {}", refused.join(", "))?;
    }
    if !report.nodes.is_empty() {
        writeln!(text)?;
        let head = [
            "NODE",
            "LIVENESS",
            "ADMISSION",
            "AGE",
            "UP FOR",
            "CALLS",
            "EPOCH/SEQUENCE",
            "SIP",
        ];
        let lines = report.nodes.iter().map(|node| line(node, report.node));
        columns(
            text,
            std::iter::once(head.map(str::to_owned))
                .chain(lines)
                .collect(),
        )?;
    }
    Ok(())
}

fn what_it_says(report: &Report) -> String {
    if report.speaking {
        format!(
            "{}, {} of {} calls",
            report.admission, report.active, report.capacity
        )
    } else {
        "silent, because its SIP server is not known to be there".to_owned()
    }
}

fn describe(server: &SipServer) -> String {
    let SipServer {
        address, verdict, ..
    } = server;
    let mut text = format!("{address}: {verdict}");
    if let Some(left) = server.overloaded_for_ms {
        text += &format!(" for another {}", duration(left));
    }
    if let (Some(status), Some(age)) = (server.last_status, server.last_answer_age_ms) {
        let took = server.answer_ms.unwrap_or_default();
        text += &format!(
            "; answered {status} {} ago, after {took:.1} ms",
            duration(age)
        );
    }
    if server.missed > 0 {
        text += &format!("; {} questions missed since", server.missed);
    }
    text
}

fn line(node: &NodeReport, own: u16) -> [String; 8] {
    let sip: Vec<String> = node
        .addresses
        .iter()
        .map(|ip| std::net::SocketAddr::new(*ip, node.sip_port).to_string())
        .collect();
    [
        format!(
            "{}{}",
            node.node,
            if node.node == own { " (this)" } else { "" }
        ),
        node.liveness.clone(),
        node.admission.clone(),
        duration(node.age_ms),
        duration(node.up_ms),
        format!("{}/{}", node.active, node.capacity),
        format!("{}/{}", node.epoch, node.sequence),
        sip.join(" "),
    ]
}

/// `87 ms`, `2.4 s`, `3 min`, `5 h`, `12 d`.
fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// Writes rows in columns as wide as their widest field.
fn columns<const N: usize>(text: &mut String, rows: Vec<[String; N]>) -> std::fmt::Result {
    let mut widths = [0; N];
    for row in &rows {
        for (width, field) in widths.iter_mut().zip(row) {
            *width = (*width).max(field.len());
        }
    }
    for row in &rows {
        let fields: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(field, width)| format!("{field:width$}"))
            .collect();
        writeln!(text, "{}", fields.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Plane, Sent};
    use std::collections::BTreeMap;

    fn node(id: u16) -> NodeReport {
        NodeReport {
            node: id,
            liveness: "Up".to_owned(),
            admission: "Idle".to_owned(),
            age_ms: 40,
            up_ms: 5_000_000,
            epoch: 1_700_000_000,
            sequence: 12,
            capacity: 1000,
            active: 0,
            headroom: 1000,
            calls_per_second: 0,
            oc_permille: 1000,
            period_ms: 100,
            key_id: 1,
            sip_port: 5060,
            addresses: vec![[192, 0, 2, id as u8].into()],
            beacons: 13,
        }
    }

    fn report() -> Report {
        Report {
            cluster: 9,
            node: 2,
            epoch: 1_700_000_000,
            sequence: 13,
            keys: vec![1],
            speaking: true,
            admission: "Idle".to_owned(),
            capacity: 1000,
            active: 0,
            sip_server: SipServer {
                address: ([192, 0, 2, 2], 5060).into(),
                verdict: "alive".to_owned(),
                overloaded_for_ms: None,
                last_status: Some(200),
                last_answer_age_ms: Some(120),
                answer_ms: Some(0.41),
                missed: 0,
            },
            sent: Sent {
                probes: 3,
                reports: 0,
                report_failures: 0,
                beacons: 13,
                answers: 1,
                failed: 0,
            },
            plane: Plane {
                broken: false,
                silence_ms: Some(40),
            },
            nodes: vec![node(2), node(11)],
            refused: BTreeMap::new(),
        }
    }

    #[test]
    fn a_screen_of_a_healthy_node() {
        assert_eq!(
            render(&report()),
            "node 2 of cluster 9, epoch 1700000000: Idle, 0 of 1000 calls\n\
             SIP server 192.0.2.2:5060: alive; answered 200 120 ms ago, after 0.4 ms\n\
             sent 13 beacons, 1 answers to queries\n\
             \n\
             NODE      LIVENESS  ADMISSION  AGE    UP FOR  CALLS   EPOCH/SEQUENCE  SIP\n\
             2 (this)  Up        Idle       40 ms  83 min  0/1000  1700000000/12   192.0.2.2:5060\n\
             11        Up        Idle       40 ms  83 min  0/1000  1700000000/12   192.0.2.11:5060\n"
        );
    }

    #[test]
    fn a_screen_that_says_what_is_wrong() {
        let mut report = report();
        report.speaking = false;
        report.sip_server.verdict = "dead".to_owned();
        report.sip_server.missed = 17;
        report.sent.failed = 3;
        (report.sent.reports, report.sent.report_failures) = (7, 1);
        report.plane = Plane {
            broken: true,
            silence_ms: Some(4_250),
        };
        report.refused.insert("beacon-forged".to_owned(), 5);
        report.nodes.clear();
        assert_eq!(
            render(&report),
            "node 2 of cluster 9, epoch 1700000000: silent, because its SIP server is not known to be there\n\
             SIP server 192.0.2.2:5060: dead; answered 200 120 ms ago, after 0.4 ms; 17 questions missed since\n\
             sent 13 beacons, 1 answers to queries, 3 that the system did not send\n\
             sent 7 reports of calls away from home; not pinned everywhere: 1\n\
             THE STATUS PLANE IS BROKEN HERE: nobody heard for 4.2 s; ages say nothing\n\
             refused: 5 beacon-forged\n"
        );
    }

    #[test]
    fn a_report_survives_its_journey() {
        let text = serde_json::to_string(&report()).expect("plain data");
        assert!(!text.contains('\n'), "one line");
        assert_eq!(
            serde_json::from_str::<Report>(&text).expect("the same"),
            report()
        );
    }
}
