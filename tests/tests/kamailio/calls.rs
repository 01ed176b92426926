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
    let mut ends = Ends::start(&lab)?;
    let (vip, kamailio) = (lab.vip_v4(), ends.service.kamailio());

    let (mut near, invite) = ends.call_bob()?;
    assert_eq!(invite.from, kamailio);
    // The switch, the redirect server, Kamailio.
    assert_eq!(invite.message.elements(Name::Via).count(), 3);
    let mut far = ends.bob.leg_of(&invite)?;
    let hops: Vec<_> = far.routes().map(address_of).collect();
    assert_eq!(hops, [Some(kamailio), Some(vip)]);
    ends.bob.answer(&invite, 180, None)?;
    assert_eq!(ends.switch.expect(Method::Invite, 180)?.from, vip);
    ends.service.expect_calls([1, 0, 0])?;
    ends.bob.answer(&invite, 200, Some("sendrecv"))?;
    let answer = ends.switch.expect(Method::Invite, 200)?;
    assert_eq!(answer.from, vip);
    assert_eq!(answer.message.elements(Name::Via).count(), 1);
    ends.switch.acknowledge(&mut near, &answer)?;
    let ack = ends.bob.take(Method::Ack)?;
    assert!(ack.message.header(Name::Route).is_none());
    ends.service.expect_calls([0, 1, 0])?;

    // The switch puts the call on hold.
    ends.switch
        .request(&mut near, Method::Invite, Some("sendonly"))?;
    let again = ends.bob.take(Method::Invite)?;
    assert_eq!(again.from, kamailio);
    ends.bob.answer(&again, 200, Some("recvonly"))?;
    let answer = ends.switch.expect(Method::Invite, 200)?;
    ends.switch.acknowledge(&mut near, &answer)?;
    ends.bob.take(Method::Ack)?;
    ends.service.expect_calls([0, 0, 1])?;

    // The phone takes it up again.
    ends.bob
        .request(&mut far, Method::Invite, Some("sendrecv"))?;
    let again = ends.switch.take(Method::Invite)?;
    assert_eq!(again.from, vip);
    assert!(again.message.header(Name::Route).is_none());
    ends.switch.answer(&again, 200, Some("sendrecv"))?;
    let answer = ends.bob.expect(Method::Invite, 200)?;
    assert_eq!(answer.from, kamailio);
    ends.bob.acknowledge(&mut far, &answer)?;
    assert_eq!(ends.switch.take(Method::Ack)?.from, vip);
    ends.service.expect_calls([0, 1, 0])?;

    assert_eq!(ends.service.counted("call-taken")?, 1);
    ends.hang_up(&mut near)?;
    ends.service.expect_all_over()
}

/// The one who was called hangs up.
#[test]
fn the_phone_hangs_up() -> Result<()> {
    let lab = lab()?;
    let mut ends = Ends::start(&lab)?;
    let (mut near, invite) = ends.call_bob()?;
    ends.bob.answer(&invite, 200, Some("sendrecv"))?;
    let answer = ends.switch.expect(Method::Invite, 200)?;
    ends.switch.acknowledge(&mut near, &answer)?;
    ends.bob.take(Method::Ack)?;

    let mut far = ends.bob.leg_of(&invite)?;
    ends.bob.request(&mut far, Method::Bye, None)?;
    let bye = ends.switch.take(Method::Bye)?;
    assert_eq!(bye.from, lab.vip_v4());
    ends.switch.answer(&bye, 200, None)?;
    ends.bob.expect(Method::Bye, 200)?;
    ends.service.expect_all_over()
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
    let there = service.daemons.counted(HOME + 1, "call-taken")?;
    assert_eq!(here + there, u64::from(CALLS));
    assert!((1..u64::from(CALLS)).contains(&here), "{here}");
    service.expect_all_over()
}
