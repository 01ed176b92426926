//! False alarms: a network that loses and delays, as networks do, is no reason for a takeover.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pointsman_tests::daemons::Pair;

use super::begin::begin;
use super::weather::{Foul, Weather};
use crate::lab::lab;

const PATIENCE: Duration = Duration::from_secs(5);
/// 750 keep-alives of the main to each of five others; the simulation looks at a million.
const TIME: Duration = Duration::from_secs(15);
const WEATHER: Weather = Weather {
    lost: 10,
    jitter: Duration::from_millis(20),
};

#[test]
fn loss_and_jitter_raise_no_alarm() -> Result<()> {
    let lab = lab()?;
    let (service, watch) = begin(&lab, Pair::default())?;
    let foul = Foul::begin(&lab, "lb", WEATHER)?;
    watch.wait_until_well(PATIENCE)?;
    let before = watch.cluster(2).context("no answer")?;
    let candidacies = watch.count(2, "candidacies")?;
    watch.forget();
    let seen = watch.stay(TIME)?;
    let [carried, lost] = foul.counts();
    let (first, second) = (watch.cluster(1), watch.cluster(2).context("no answer")?);
    let first = first.context("no answer")?;
    eprintln!(
        "{carried} frames carried, {lost} lost; changes {}, missed {}, stalls of the daemons {} and {}",
        seen.changes.len() - 1,
        second["counts"]["missed"],
        first["counts"]["stalls"],
        second["counts"]["stalls"]
    );
    ensure!(
        carried > 5_000 && lost > 25,
        "there was no weather: {carried}, {lost}"
    );
    let is_quiet = seen.changes.len() == 1
        && watch.count(2, "candidacies")? == candidacies
        && first["term"] == before["term"];
    ensure!(
        is_quiet || !watch.is_calm(),
        "{:?}\n{first:#}\n{second:#}\n{}",
        seen.changes,
        service.log(1)
    );
    drop(foul);
    watch.wait_until_well(PATIENCE)?;
    Ok(())
}
