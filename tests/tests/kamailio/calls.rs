//! Calls that are answered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use lb_sip::{Method, Name};
use pointsman_tests::traffic::{CallLoad, Switch, start_sipp_server};

use crate::phone::{Phone, address_of};
use crate::service::{Ends, HOME, Service, lab};

/// From INVITE to BYE, with a re-INVITE from either end in between: each message finds its way by the
/// route that Kamailio and the redirect server have recorded, and the record of the call keeps up.
#[test]
fn a_call_from_invite_to_bye() -> Result<()> {
    let lab = lab()?;
    let (vip, ends) = (lab.vip_v4(), Ends::start(&lab)?);
    let Ends {
        service,
        mut switch,
        mut bob,
    } = ends;
    let kamailio = service.kamailio();

    let mut near = switch.call("bob", vip, &service.call_id("call")?)?;
    let invite = bob.take(Method::Invite)?;
    assert_eq!(invite.from, kamailio);
    // The switch, the redirect server, Kamailio.
    assert_eq!(invite.message.elements(Name::Via).count(), 3);
    let mut far = bob.leg_of(&invite)?;
    let hops: Vec<_> = far.routes().map(address_of).collect();
    assert_eq!(hops, [Some(kamailio), Some(vip)]);
    bob.answer(&invite, 180, None)?;
    assert_eq!(switch.expect(Method::Invite, 180)?.from, vip);
    service.expect_calls([1, 0, 0])?;
    bob.answer(&invite, 200, Some("sendrecv"))?;
    let answer = switch.expect(Method::Invite, 200)?;
    assert_eq!(answer.from, vip);
    assert_eq!(answer.message.elements(Name::Via).count(), 1);
    switch.acknowledge(&mut near, &answer)?;
    let ack = bob.take(Method::Ack)?;
    assert!(ack.message.header(Name::Route).is_none());
    service.expect_calls([0, 1, 0])?;

    // The switch puts the call on hold.
    switch.request(&mut near, Method::Invite, Some("sendonly"))?;
    let again = bob.take(Method::Invite)?;
    assert_eq!(again.from, kamailio);
    bob.answer(&again, 200, Some("recvonly"))?;
    let answer = switch.expect(Method::Invite, 200)?;
    switch.acknowledge(&mut near, &answer)?;
    bob.take(Method::Ack)?;
    service.expect_calls([0, 0, 1])?;

    // The phone takes it up again.
    bob.request(&mut far, Method::Invite, Some("sendrecv"))?;
    let again = switch.take(Method::Invite)?;
    assert_eq!(again.from, vip);
    assert!(again.message.header(Name::Route).is_none());
    switch.answer(&again, 200, Some("sendrecv"))?;
    let answer = bob.expect(Method::Invite, 200)?;
    assert_eq!(answer.from, kamailio);
    bob.acknowledge(&mut far, &answer)?;
    assert_eq!(switch.take(Method::Ack)?.from, vip);
    service.expect_calls([0, 1, 0])?;

    assert_eq!(service.counted("call-taken")?, 1);
    let ends = Ends {
        service,
        switch,
        bob,
    };
    ends.hang_up(&mut near)
}

/// The one who was called hangs up.
#[test]
fn the_phone_hangs_up() -> Result<()> {
    let lab = lab()?;
    let Ends {
        service,
        mut switch,
        mut bob,
    } = Ends::start(&lab)?;
    let mut near = switch.call("bob", lab.vip_v4(), &service.call_id("call")?)?;
    let invite = bob.take(Method::Invite)?;
    bob.answer(&invite, 200, Some("sendrecv"))?;
    let answer = switch.expect(Method::Invite, 200)?;
    switch.acknowledge(&mut near, &answer)?;
    bob.take(Method::Ack)?;

    let mut far = bob.leg_of(&invite)?;
    bob.request(&mut far, Method::Bye, None)?;
    let bye = switch.take(Method::Bye)?;
    assert_eq!(bye.from, lab.vip_v4());
    switch.answer(&bye, 200, None)?;
    bob.expect(Method::Bye, 200)?;
    service.expect_all_over()
}

/// Some hundred calls, one in five with a re-INVITE, spread over both nodes.
#[test]
fn calls_under_load() -> Result<()> {
    const CALLS: u32 = 600;
    let lab = lab()?;
    let service = Service::start(&lab)?;
    let (vip, callee) = (lab.vip_v4(), SocketAddr::new(lab.switch.v4.into(), 5090));
    // Nodes share no location table here, so the phone tells each of them where it is.
    let mut phone = Phone::open(&lab.switch, callee.port(), "service")?;
    for node in lab.node_ids() {
        let kamailio = service.daemons.sip_server(node);
        phone.register(kamailio, vip, &format!("register-{node}"))?;
    }
    drop(phone);
    let _callee = start_sipp_server(&lab, &lab.switch, "callee", callee)?;
    let load = CallLoad {
        target: vip,
        calls: CALLS,
        rate: 200,
        talk: Duration::from_millis(50),
    };
    let stats = Switch::start(&lab, "switch", &load)?.wait(Duration::from_secs(60))?;
    let errors = std::fs::read_to_string(lab.directory().join("switch-errors.log"));
    assert_eq!(
        (stats.succeeded, stats.failed),
        (CALLS, 0),
        "{stats:?}; SIPp: {}",
        errors.unwrap_or_default()
    );
    let here = service.counted("call-taken")?;
    let there = service.status(HOME + 1)?["redirect"]["counts"]["call-taken"].as_u64();
    assert_eq!(Some(u64::from(CALLS) - here), there);
    assert!((1..u64::from(CALLS)).contains(&here), "{here}");
    service.expect_all_over()
}
