//! VIPs on a loopback device, from where a routing daemon announces them: they come with the reign, and go
//! with it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pointsman_tests::daemons::Pair;
use pointsman_tests::lab::{Lab, eventually};

use super::begin::begin;
use crate::lab::lab;

const PATIENCE: Duration = Duration::from_secs(10);

/// How many of the two VIPs are on a controller's loopback.
fn announced(lab: &Lab, controller: u16) -> Result<usize> {
    let mut count = 0;
    for vip in [lab.vip_v4().ip(), lab.vip_v6().ip()] {
        count += usize::from(lab.balancer(controller).has_address("lo", vip)?);
    }
    Ok(count)
}

#[test]
fn vips_to_announce_come_and_go_with_the_reign() -> Result<()> {
    let lab = lab()?;
    let pair = Pair {
        vip: "announce",
        vip_interface: "lo",
        ..Pair::default()
    };
    let (mut service, watch) = begin(&lab, pair)?;
    ensure!(
        [announced(&lab, 1)?, announced(&lab, 2)?] == [2, 0],
        "where are the VIPs?"
    );

    // On request: they go there and come here.
    let mut main = 1;
    for successor in [2, 1] {
        let begin = Instant::now();
        let mut command = service.daemons.controller_command_of(main, "failover");
        let output = command.args(["--to", &successor.to_string()]).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        watch.wait_for_main(successor, PATIENCE)?;
        let places = [announced(&lab, successor)?, announced(&lab, main)?];
        ensure!(places == [2, 0], "{places:?}");
        eprintln!(
            "announced by {successor} {:?} after the wish",
            begin.elapsed()
        );
        main = successor;
    }
    watch.expect_one_at_most()?;

    // On loss: a killed main's stay until it is back, which its routing daemon cannot know.
    service.controller(1).kill()?;
    service.wait_for_role(2, "main")?;
    ensure!(announced(&lab, 2)? == 2, "the new main announces nothing");
    service.start_controller(1)?;
    eventually("the old main to announce no more", PATIENCE, || {
        Ok(announced(&lab, 1)? == 0)
    })?;
    watch.wait_for_main(2, PATIENCE)
}
