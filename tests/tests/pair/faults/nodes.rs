//! Nodes that are added and removed, several at a time, and two files of one version that differ: the main
//! stays the main, and operators are told.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::{PATIENCE, Pair};
use pointsman_tests::lab::{Signal, eventually};
use pointsman_tests::pair::Service;
use toml::{Table, Value};

use super::begin::begin;
use super::watch::Watch;
use crate::lab::lab;

/// A VIP that only one of two files has.
const MORE: &str = "10.77.0.101";

/// Changes a controller's file, and has it read.
fn rewrite(
    service: &mut Service<'_>,
    id: u16,
    version: i64,
    change: impl Fn(&mut Table),
) -> Result<()> {
    let path = service.daemons.controller_file_of(id);
    let mut file: Table = fs::read_to_string(&path)?.parse()?;
    let pair = file.get_mut("pair").and_then(Value::as_table_mut);
    let pair = pair.context("no [pair]")?;
    pair.insert("version".to_owned(), version.into());
    change(&mut file);
    fs::write(&path, toml::to_string(&file)?)?;
    service.controller(id).signal(Signal::Reload)
}

/// Both say so of themselves.
fn expect_of_both(
    watch: &Watch,
    what: &str,
    says: impl Fn(&serde_json::Value) -> bool,
) -> Result<()> {
    eventually(what, PATIENCE, || {
        let reports = [1, 2].map(|id| watch.cluster(id));
        Ok(reports
            .iter()
            .flatten()
            .filter(|report| says(report))
            .count()
            == 2)
    })
    .with_context(|| format!("{:?} {:?}", watch.cluster(1), watch.cluster(2)))
}

/// Whether a controller says that it goes by so many leases of the nodes that this version names.
fn settled(version: u64, needed: u64) -> impl Fn(&serde_json::Value) -> bool {
    move |report| {
        report["configuration"] == version
            && report["nodes_change"] == "settled"
            && report["needed"] == needed
    }
}

/// Whether it says that it waits for the nodes that this version names.
fn joining(version: u64) -> impl Fn(&serde_json::Value) -> bool {
    move |report| report["configuration"] == version && report["nodes_change"] == "joining"
}

/// Three of four nodes go, and come again before they run: the controllers wait for them.
fn have_three_awaited(service: &mut Service<'_>, watch: &Watch) -> Result<()> {
    let path = service.daemons.controller_file_of(1);
    let file: Table = fs::read_to_string(path)?.parse()?;
    let all = file["node"].clone();
    let first = all.get(0).context("no [[node]]")?.clone();
    rewrite(service, 1, 2, |file| {
        file.insert("node".to_owned(), Value::Array(vec![first.clone()]));
    })?;
    expect_of_both(watch, "both to go by one node", settled(2, 1))?;
    for redirect in &mut service.redirects[1..] {
        redirect.kill()?;
    }
    rewrite(service, 1, 3, |file| {
        file.insert("node".to_owned(), all.clone());
    })?;
    expect_of_both(watch, "both to wait for the new nodes", joining(3))
}

/// They run.
fn run_the_awaited(service: &mut Service<'_>, watch: &Watch) -> Result<()> {
    for node in service.daemons.lab().node_ids().skip(1) {
        service.redirects[usize::from(node) - 1] = service.daemons.start_redirect(node)?;
    }
    expect_of_both(watch, "both to go by four nodes", settled(3, 3))
}

#[test]
fn a_main_stays_when_most_of_its_nodes_are_others() -> Result<()> {
    let lab = lab()?;
    let (mut service, watch) = begin(&lab, Pair::patient())?;
    watch.forget();
    have_three_awaited(&mut service, &watch)?;
    run_the_awaited(&mut service, &watch)?;

    // One version, two contents.
    rewrite(&mut service, 2, 3, |file| {
        if let Some(Value::Array(vips)) = file.get_mut("vip") {
            let mut more = vips[0].clone();
            more["address"] = MORE.into();
            vips.push(more);
        }
    })?;
    expect_of_both(&watch, "both to say that they differ", |report| {
        report["differs"] == 3 - report["controller"].as_u64().unwrap_or_default()
    })?;
    ensure!(
        service.controller(1).log().contains("says something else"),
        "the operator is not told"
    );
    rewrite(&mut service, 2, 4, |_| {})?;
    expect_of_both(&watch, "both to have the newer one", |report| {
        report["configuration"] == 4 && report["differs"].is_null()
    })?;

    let seen = watch.stay(Duration::from_millis(200))?;
    ensure!(
        seen.changes
            .iter()
            .all(|(_, steers)| *steers == [true, false]),
        "who steers has changed: {seen:?}"
    );
    let report = watch.cluster(1).context("it does not answer")?;
    ensure!(report["counts"]["reigns"] == 1, "{report:#}");
    Ok(())
}

/// While three of four nodes are waited for, both controllers die. They start again where they were: one of
/// them is the main by the node that there is.
#[test]
fn controllers_that_start_again_know_the_nodes_before() -> Result<()> {
    let lab = lab()?;
    let (mut service, watch) = begin(&lab, Pair::patient())?;
    have_three_awaited(&mut service, &watch)?;
    for id in [1, 2] {
        service.controller(id).kill()?;
    }
    for id in [1, 2] {
        service.start_controller(id)?;
    }
    let again = joining(3);
    expect_of_both(&watch, "both to wait again, by one node", |report| {
        again(report) && report["needed"] == 1
    })?;
    eventually("one of them to be the main", PATIENCE, || {
        let reports = [1, 2].map(|id| watch.cluster(id));
        let is_main = |report: &serde_json::Value| report["role"] == "main";
        Ok(reports
            .iter()
            .flatten()
            .filter(|report| is_main(report))
            .count()
            == 1)
    })?;
    expect_of_both(&watch, "both to wait still", joining(3))?;
    run_the_awaited(&mut service, &watch)
}
