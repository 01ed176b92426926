//! The main is lost: the stand-by takes over.

use anyhow::{Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::pair::Service;

use crate::lab::{lab, settings};

#[test]
fn the_stand_by_takes_over_from_a_main_that_is_killed() -> Result<()> {
    let lab = lab()?;
    let mut service = Service::start(&lab, settings(Pair::default()))?;
    let before = service.cluster(2)?;
    ensure!(before["steers"] == false, "{before:#}");
    service.controller(1).kill()?;
    let after = service.wait_for_role(2, "main")?;
    eprintln!("{after:#}");
    ensure!(after["steers"] == true, "{after:#}");
    Ok(())
}
