//! Emptying a node while calls come.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::sip::Method;
use pointsman_tests::daemons::{PATIENCE, Redirecting};
use pointsman_tests::lab::{Lab, eventually, realtime_ns};
use pointsman_tests::record::{Calls, Kind, Recorder, Sighting};
use pointsman_tests::traffic::{CallLoad, Switch};

use crate::service::{Service, redirecting};

const CALLS: u32 = 4_000;
const RATE: u32 = 500;
/// Longer than it takes until new calls stop: so that there are old calls when there are no new ones.
const TALK: Duration = Duration::from_secs(3);
const DRAINED: u16 = 1;

fn in_dialog(sighting: &Sighting, wanted: Method) -> bool {
    sighting.kind
        == Kind::Request {
            method: wanted,
            in_dialog: true,
        }
}

/// At 500 calls a second a node is told to drain: no call fails, new ones stop coming within a second,
/// old ones are served to their end, and then it says so.
#[test]
fn a_node_is_emptied_without_a_call_lost() -> Result<()> {
    let lab = Lab::of(3)?;
    let service = Service::start(&lab, redirecting(Redirecting::default()))?;
    let recorder = Recorder::start(&lab.nodes)?;
    let load = CallLoad {
        target: lab.vip_v4(),
        calls: CALLS,
        rate: RATE,
        talk: TALK,
    };
    let mut switch = Switch::start_following(&lab, "switch", &load)?;
    thread::sleep(Duration::from_secs(3));
    let drain_ns = realtime_ns();
    let said = service
        .daemons
        .redirect_command(DRAINED, "drain")
        .output()?;
    ensure!(said.status.success(), "{said:?}");
    let before_the_end = service.daemons.ask_redirect(DRAINED, "status")?;
    assert_eq!(before_the_end["redirect"]["drained"], false);
    let stats = switch.wait(Duration::from_secs(60))?;
    assert_eq!((stats.succeeded, stats.failed), (CALLS, 0), "{stats:?}");
    eventually("the last call to be gone", PATIENCE, || {
        let status = service.daemons.ask_redirect(DRAINED, "status")?;
        Ok(status["redirect"]["drained"] == true && status["active"] == 0)
    })?;
    assert!(
        service.said(DRAINED).contains("the last call has gone"),
        "{}",
        service.said(DRAINED)
    );

    let tapes = recorder.finish()?;
    assert!(tapes.iter().all(|tape| tape.dropped == 0), "frames missed");
    let at_drained = &tapes[usize::from(DRAINED) - 1].sightings;
    let last_new = at_drained.iter().filter(|s| s.is_new_call());
    let last_new = last_new.map(|s| s.time_ns).max().unwrap_or_default();
    let lasted = Duration::from_nanos(last_new.saturating_sub(drain_ns));
    assert!(
        last_new > 0 && lasted < Duration::from_secs(1),
        "{lasted:?}"
    );
    let late = |wanted| {
        let late = at_drained.iter().filter(|s| s.time_ns > drain_ns);
        late.filter(|s| in_dialog(s, wanted)).count()
    };
    // Three seconds' calls of a third of 500 a second are under way: each is changed once, and hung up.
    assert!(late(Method::Bye) > 300, "{} BYEs", late(Method::Bye));
    assert!(late(Method::Invite) > 300, "{}", late(Method::Invite));
    // The other nodes have carried the load.
    let spread = Calls::read(&tapes).spread(3);
    assert!(spread[1] + spread[2] > 2 * spread[0], "{spread:?}");

    let said = service
        .daemons
        .redirect_command(DRAINED, "undrain")
        .output()?;
    ensure!(said.status.success(), "{said:?}");
    let taken = service.daemons.counted(DRAINED, "call-taken")?;
    let again = CallLoad {
        calls: 300,
        talk: Duration::from_millis(50),
        ..load
    };
    let stats = Switch::start(&lab, "again", &again)?.wait(Duration::from_secs(60))?;
    assert_eq!((stats.succeeded, stats.failed), (300, 0), "{stats:?}");
    assert!(
        service.daemons.counted(DRAINED, "call-taken")? > taken,
        "it takes calls again"
    );
    Ok(())
}
