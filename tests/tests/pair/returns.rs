//! A main that was lost comes back while the other is still asking for calls: its term is over.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::dialogs::{Bustle, Phase};
use pointsman_tests::lab::Signal;

use crate::lab::lab;
use crate::scene::{PATIENCE, Scene};

const CALLS: usize = 2_000;
const ROOM: u32 = 300;

/// How the main goes and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    /// It is killed, and a new one started.
    Killed,
    /// It stands still, and goes on as if nothing had been.
    Stopped,
}

fn comes_back(absence: Absence, switchback: &'static str) -> Result<()> {
    let lab = lab()?;
    let pair = Pair {
        switchback,
        ..Pair::default()
    };
    let mut scene = Scene::start(&lab, pair, CALLS, ROOM)?;
    match absence {
        Absence::Killed => scene.service.controller(1).kill()?,
        Absence::Stopped => scene.service.controller(1).signal(Signal::Stop)?,
    }
    // Its log says so at once, where asking it takes a process of its own.
    let begin = Instant::now();
    while !scene.service.log(2).contains("this controller is the main") {
        ensure!(begin.elapsed() < PATIENCE, "nobody took over");
        scene.callers.run_for(Duration::from_millis(1))?;
    }
    match absence {
        Absence::Killed => scene.service.start_controller(1)?,
        Absence::Stopped => scene.service.controller(1).signal(Signal::Continue)?,
    }
    let log = scene.service.log(2);
    let is_rebuilding = !log.contains("call state is rebuilt");
    scene.bustle(&Bustle {
        changes: (1_000, 1_000),
        calls: (200, 200),
        name: "meanwhile",
    })?;
    println!("{absence:?}: it came back while calls were asked for: {is_rebuilding}");
    let main = scene.service.wait_for_role(2, "main")?;
    let returned = scene.service.wait_for_role(1, "stand-by")?;
    ensure!(
        returned["main"] == 2 && returned["steers"] == false,
        "{returned:#}"
    );
    ensure!(returned["term"] == main["term"], "{returned:#}");
    scene.expect_list(2)?;
    if switchback == "resume" {
        let begin = Instant::now();
        // With what the list above took, less than the wait of ten seconds.
        scene.callers.run_for(Duration::from_secs(2))?;
        ensure!(scene.service.cluster(1)?["role"] == "stand-by", "too early");
        loop {
            // Calls go on meanwhile.
            scene.bustle(&Bustle {
                changes: (100, 200),
                calls: (0, 1),
                name: "none",
            })?;
            let report = scene.service.cluster(1)?;
            if report["role"] == "main" {
                println!(
                    "the first is the main again after {:?}: {}",
                    begin.elapsed(),
                    report["last_switch"]
                );
                ensure!(
                    report["last_switch"]["reason"] == "switchback",
                    "{report:#}"
                );
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "it does not resume: {report:#}");
        }
        scene.service.wait_for_role(2, "stand-by")?;
        scene.expect_list(1)?;
    }
    ensure!(scene.callers.count(Phase::Lost) == 0);
    scene.expect_all_alive()
}

#[test]
fn a_main_that_starts_again_stands_by() -> Result<()> {
    comes_back(Absence::Killed, "stay")
}

#[test]
fn a_main_that_wakes_up_stands_by() -> Result<()> {
    comes_back(Absence::Stopped, "stay")
}

#[test]
fn a_main_that_starts_again_resumes_when_it_is_well() -> Result<()> {
    comes_back(Absence::Killed, "resume")
}
