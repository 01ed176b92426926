//! Calls that are taken where the load balancer sends them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use pointsman_tests::daemons::Redirecting;
use pointsman_tests::lab::Lab;
use pointsman_tests::record::{Calls, Recorder};
use pointsman_tests::traffic::{CallLoad, Switch};

use crate::service::{Service, redirecting};

const CALLS: u32 = 900;

fn carry_calls(lab: &Lab, vip: SocketAddr) -> Result<()> {
    let service = Service::start(lab, redirecting(Redirecting::default()))?;
    let recorder = Recorder::start(&lab.nodes)?;
    let load = CallLoad {
        target: vip,
        calls: CALLS,
        rate: 450,
        talk: Duration::from_millis(50),
    };
    let stats = Switch::start(lab, "switch", &load)?.wait(Duration::from_secs(60))?;
    let tapes = recorder.finish()?;
    let status = service.daemons.ask_redirect(1, "status")?;
    assert_eq!(
        (stats.succeeded, stats.failed),
        (CALLS, 0),
        "{stats:?}; node 1: {status}"
    );
    let calls = Calls::read(&tapes);
    assert_eq!(calls.len(), CALLS as usize);
    assert_eq!(calls.split().count(), 0, "calls at several nodes");
    assert_eq!(service.counted_by_all("call-taken")?, u64::from(CALLS));
    for counter in [
        "call-relayed",
        "call-unavailable",
        "drop-invalid",
        "reject-invalid",
    ] {
        assert_eq!(service.counted_by_all(counter)?, 0, "{counter}");
    }
    for node in lab.node_ids() {
        let status = service.daemons.ask_redirect(node, "status")?;
        assert_eq!(status["active"], 0, "records are left: {status}");
    }
    Ok(())
}

#[test]
fn calls_over_ipv4() -> Result<()> {
    let lab = Lab::of(3)?;
    carry_calls(&lab, lab.vip_v4())
}

#[test]
fn calls_over_ipv6() -> Result<()> {
    let lab = Lab::of(3)?;
    carry_calls(&lab, lab.vip_v6())
}
