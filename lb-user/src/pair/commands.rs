//! `pointsman cluster`, `calls`, `failover` and `resume`: what they ask, and how they show it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use lb_net::admin;
use lb_proto::failover::controller::Stage;

use super::ask::{Answer, Place, Question};
use super::report::{Call, ClusterReport, LastSwitch, Lease, Other, whose_leases_count};
use crate::config::{Config, pair::DEFAULT_ADMIN};
use crate::observe::table::Table;
use crate::observe::units;

/// Which calls.
#[derive(Clone, Debug, Args)]
pub struct CallArguments {
    /// Only those of this node.
    #[arg(long, value_name = "ID")]
    node: Option<u16>,
    /// Only those in this state: early, confirmed, held or unknown.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Show at most so many; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// The admin socket, instead of the configuration's.
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
}

/// Who is to be the main.
#[derive(Clone, Debug, Args)]
pub struct FailoverArguments {
    /// The controller that is to be the main.
    #[arg(long, value_name = "ID")]
    to: u16,
    /// The admin socket, instead of the configuration's.
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
}

/// Where the controller is asked.
fn socket(config: &Path, given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.clone());
    }
    if !config.exists() {
        return Ok(DEFAULT_ADMIN.into());
    }
    let pair = Config::read(config)?.pair;
    let pair = pair.with_context(|| {
        format!(
            "{}: there is no [pair]: this controller is alone, and always serves",
            config.display()
        )
    })?;
    Ok(pair.admin)
}

/// The pair, as this controller sees it.
///
/// # Errors
/// No controller answers, or the output cannot be written.
pub fn cluster(config: &Path, given: Option<&PathBuf>, json: bool) -> anyhow::Result<()> {
    let path = socket(config, given)?;
    let Answer::Cluster(report) = admin::ask(&path, &Question::Cluster)? else {
        anyhow::bail!("an odd answer at {}", path.display());
    };
    let mut output = io::stdout().lock();
    if json {
        writeln!(output, "{}", serde_json::to_string_pretty(&*report)?)?;
    } else {
        show_cluster(&report, &mut output)?;
    }
    Ok(())
}

/// Calls, as the main knows them.
///
/// # Errors
/// As [`cluster`].
pub fn calls(config: &Path, arguments: &CallArguments, json: bool) -> anyhow::Result<()> {
    let path = socket(config, arguments.admin.as_ref())?;
    let limit = match arguments.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let (mut all, mut after): (Vec<Call>, Option<Place>) = (Vec::new(), None);
    let role = loop {
        let question = Question::Calls {
            after,
            node: arguments.node,
            state: arguments.state.clone(),
        };
        let Answer::Calls { role, calls, next } = admin::ask(&path, &question)? else {
            anyhow::bail!("an odd answer at {}", path.display());
        };
        all.extend(calls);
        after = next;
        if after.is_none() || all.len() >= limit {
            break role;
        }
    };
    let has_more = after.is_some() || all.len() > limit;
    all.truncate(limit);
    let mut output = io::stdout().lock();
    if json {
        let document = serde_json::json!({ "role": role, "calls": all, "more": has_more });
        writeln!(output, "{}", serde_json::to_string_pretty(&document)?)?;
    } else {
        show_calls(&role, &all, has_more, &mut output)?;
    }
    Ok(())
}

/// Has another controller become the main.
///
/// # Errors
/// As [`cluster`], or there is a reason why not.
pub fn fail_over(config: &Path, arguments: &FailoverArguments, json: bool) -> anyhow::Result<()> {
    let path = socket(config, arguments.admin.as_ref())?;
    let to = arguments.to;
    wish(&path, &Question::FailOver { to }, json)
}

/// Has the preferred controller become the main.
///
/// # Errors
/// As [`cluster`], or there is a reason why not.
pub fn resume(config: &Path, given: Option<&PathBuf>, json: bool) -> anyhow::Result<()> {
    wish(&socket(config, given)?, &Question::Resume, json)
}

fn wish(path: &Path, question: &Question, json: bool) -> anyhow::Result<()> {
    let _: Answer = admin::ask(path, question)?;
    let mut output = io::stdout().lock();
    if json {
        writeln!(output, "{}", serde_json::json!({ "done": true }))?;
    } else {
        writeln!(
            output,
            "under way; `pointsman cluster` says who is the main"
        )?;
    }
    Ok(())
}

fn ago(ms: u64) -> String {
    units::duration(Duration::from_millis(ms))
}

fn show_cluster(report: &ClusterReport, output: &mut dyn Write) -> io::Result<()> {
    let ClusterReport {
        controller, role, ..
    } = report;
    let steers = if report.steers {
        "steers"
    } else {
        "is passive"
    };
    writeln!(
        output,
        "controller {controller}: {role}; its data plane {steers}"
    )?;
    if !report.reached {
        writeln!(output, "no carrier: the switch does not reach this machine")?;
    }
    match (report.main, report.term) {
        (Some(main), Some(term)) => writeln!(output, "the main is controller {main}, term {term}")?,
        _ => writeln!(output, "nobody is known to be the main")?,
    }
    if let Some(left) = report.reign_left_ms {
        writeln!(
            output,
            "its leases run {} more, unless they are renewed",
            ago(left)
        )?;
    }
    let vips: Vec<String> = report.vips.iter().map(ToString::to_string).collect();
    if !vips.is_empty() {
        writeln!(output, "VIPs here: {}", vips.join(" "))?;
    }
    write!(output, "configuration {}", report.configuration)?;
    match report.newer {
        Some(newer) => writeln!(output, "; controller {} has {}", newer.of, newer.version)?,
        None => writeln!(output)?,
    }
    if let Some(other) = report.differs {
        writeln!(
            output,
            "controller {other} has other contents under the same version: make the files alike and \
             raise `version` in [pair]"
        )?;
    }
    let stages = [Stage::Joining, Stage::Both];
    let stage = stages
        .into_iter()
        .find(|stage| stage.name() == report.nodes_change);
    if let Some(stage) = stage {
        writeln!(output, "nodes change: {}", whose_leases_count(stage))?;
    }
    if let Some(switch) = &report.last_switch {
        writeln!(output, "{}", describe_switch(switch))?;
    }
    if let Some(rebuild) = &report.rebuild {
        let time = |ms: Option<f64>| ms.map_or("not yet".to_owned(), |ms| format!("{ms:.1} ms"));
        writeln!(
            output,
            "call state: {} calls, {} of them unknown; dialogs steered after {}{}, complete after {}; \
             {} pins made",
            rebuild.calls,
            rebuild.unknown,
            time(rebuild.gathered_ms),
            if rebuild.cut_short {
                " (not all nodes had answered)"
            } else {
                ""
            },
            time(rebuild.complete_ms),
            rebuild.pinned,
        )?;
    }
    writeln!(output)?;
    show_leases(report, output)?;
    show_others(report, output)?;
    let refused: Vec<String> = report
        .refused
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(why, count)| format!("{why} {count}"))
        .collect();
    if !refused.is_empty() {
        writeln!(
            output,
            "\ncontrol datagrams refused: {}",
            refused.join(", ")
        )?;
    }
    Ok(())
}

fn describe_switch(switch: &LastSwitch) -> String {
    let from = switch
        .from
        .map_or(String::new(), |from| format!(" from controller {from}"));
    let mut text = format!(
        "last switch {} ago: controller {} took over{from}, term {}",
        ago(switch.age_ms),
        switch.to,
        switch.term
    );
    if let Some(reason) = &switch.reason {
        let ms = |ms: Option<f64>| ms.unwrap_or_default();
        text += &format!(
            " ({reason}: silence {:.1} ms, query {:.1} ms, leases {:.1} ms, activation {:.1} ms)",
            ms(switch.silence_ms),
            ms(switch.query_ms),
            ms(switch.leases_ms),
            ms(switch.activation_ms),
        );
    }
    text
}

fn show_leases(report: &ClusterReport, output: &mut dyn Write) -> io::Result<()> {
    let held = report
        .leases
        .iter()
        .filter(|lease| lease.remaining_ms.is_some());
    writeln!(
        output,
        "leases held here: {} of {}, {} needed",
        held.count(),
        report.leases.len(),
        report.needed
    )?;
    let mut table = Table::new(&[">NODE", ">RUNS", ">CONFIRMED", "LINK", "CALLS", "REFUSED"]);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for lease in &report.leases {
        let Lease { node, linked, .. } = lease;
        let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), ago);
        table.row([
            node.to_string(),
            time(lease.remaining_ms),
            time(lease.age_ms),
            if *linked { "yes" } else { "-" }.to_owned(),
            text(&lease.calls),
            text(&lease.refused),
        ]);
    }
    table.write(output)
}

fn show_others(report: &ClusterReport, output: &mut dyn Write) -> io::Result<()> {
    for other in &report.others {
        let Other {
            controller,
            role,
            status,
            term,
            calls,
            capacity,
            nodes_alive,
            ..
        } = other;
        writeln!(
            output,
            "\ncontroller {controller}, heard {} ago: {role}, {status}, term {term}; {calls} calls of \
             {capacity}, {nodes_alive} nodes alive, configuration {}",
            ago(other.age_ms),
            other.configuration,
        )?;
        let ways = report
            .paths
            .iter()
            .filter(|way| way.controller == *controller);
        let ways: Vec<String> = ways
            .map(|way| match way.by_node {
                None => format!("directly {} ago", ago(way.age_ms)),
                Some(node) => format!("by node {node} {} ago", ago(way.age_ms)),
            })
            .collect();
        writeln!(output, "  its keep-alives come: {}", ways.join(", "))?;
    }
    Ok(())
}

fn show_calls(
    role: &str,
    calls: &[Call],
    has_more: bool,
    output: &mut dyn Write,
) -> io::Result<()> {
    if calls.is_empty() {
        let why = if role == "main" {
            "no calls"
        } else {
            "this controller is not the main: only that knows of calls"
        };
        return writeln!(output, "{why}");
    }
    let mut table = Table::new(&[
        ">NODE", "STATE", "PRIORITY", ">AGE", "FROM", "TO", "CALL-ID",
    ]);
    for call in calls {
        let record = call.record.as_ref();
        let text = |field: Option<&String>| field.cloned().unwrap_or_else(|| "…".to_owned());
        table.row([
            call.node.to_string(),
            call.state.clone(),
            call.priority.clone(),
            record.map_or_else(|| "…".to_owned(), |record| ago(record.age_ms)),
            text(record.map(|record| &record.from)),
            text(record.map(|record| &record.to)),
            text(record.map(|record| &record.call_id)),
        ]);
    }
    table.write(output)?;
    if has_more {
        writeln!(output, "… and more: --limit 0 shows all")?;
    }
    Ok(())
}
