//! Calls that come to nothing, and questions that are no calls.

use std::time::Duration;

use anyhow::Result;
use lb_sip::{Method, Name};
use pointsman_tests::lab::eventually;

use crate::phone::Phone;
use crate::service::{Ends, HOME, Service, lab};

/// Twice the time after which Kamailio sends an answer again that was not acknowledged (T1).
const SILENCE: Duration = Duration::from_secs(1);

/// The caller gives up while it rings.
#[test]
fn a_ringing_call_is_cancelled() -> Result<()> {
    let lab = lab()?;
    let Ends {
        service,
        mut switch,
        mut bob,
    } = Ends::start(&lab)?;
    let leg = switch.call("bob", lab.vip_v4(), &service.call_id("cancel")?)?;
    let invite = bob.take(Method::Invite)?;
    bob.answer(&invite, 180, None)?;
    switch.expect(Method::Invite, 180)?;
    service.expect_calls([1, 0, 0])?;

    switch.cancel(&leg)?;
    let ended = switch.expect(Method::Cancel, 200)?;
    assert_eq!(ended.from, lab.vip_v4());
    let cancel = bob.take(Method::Cancel)?;
    assert_eq!(
        cancel.message.top_via()?.branch(),
        invite.message.top_via()?.branch()
    );
    bob.answer(&cancel, 200, None)?;
    bob.answer(&invite, 487, None)?;
    // Kamailio's own, hop by hop (RFC 3261 §16.7 step 9).
    bob.take(Method::Ack)?;
    let refusal = switch.expect(Method::Invite, 487)?;
    switch.acknowledge_refusal(&leg, &refusal)?;
    // The switch's ends at Kamailio, which stops sending the 487.
    switch.expect_nothing(SILENCE)?;
    bob.expect_nothing(Duration::from_millis(1))?;
    service.expect_all_over()
}

/// Nobody of that name: Kamailio says so itself.
#[test]
fn an_unknown_user_is_not_found() -> Result<()> {
    let lab = lab()?;
    let Ends {
        service,
        mut switch,
        mut bob,
    } = Ends::start(&lab)?;
    let leg = switch.call("nobody", lab.vip_v4(), &service.call_id("unknown")?)?;
    let refusal = switch.expect(Method::Invite, 404)?;
    assert_eq!(refusal.from, lab.vip_v4());
    switch.acknowledge_refusal(&leg, &refusal)?;
    switch.expect_nothing(SILENCE)?;
    bob.expect_nothing(Duration::from_millis(1))?;
    service.expect_all_over()
}

/// The phone is busy: its 486 is acknowledged by Kamailio, the one that the switch gets by the switch.
#[test]
fn a_busy_phone_refuses() -> Result<()> {
    let lab = lab()?;
    let Ends {
        service,
        mut switch,
        mut bob,
    } = Ends::start(&lab)?;
    let leg = switch.call("bob", lab.vip_v4(), &service.call_id("busy")?)?;
    let invite = bob.take(Method::Invite)?;
    bob.answer(&invite, 486, None)?;
    let ack = bob.take(Method::Ack)?;
    assert_eq!(ack.from, service.kamailio());
    let refusal = switch.expect(Method::Invite, 486)?;
    // Not acknowledged, it comes again.
    switch.expect(Method::Invite, 486)?;
    switch.acknowledge_refusal(&leg, &refusal)?;
    switch.expect_nothing(SILENCE)?;
    bob.expect_nothing(Duration::from_millis(1))?;
    // Kamailio has absorbed it, not the redirect server, which refused nothing.
    assert_eq!(service.counted("ack-absorbed")?, 0);
    service.expect_all_over()
}

/// OPTIONS to the VIP come back from Kamailio, and so do the redirect server's own, whose answers say
/// that the node is there.
#[test]
fn kamailio_says_how_it_is() -> Result<()> {
    let lab = lab()?;
    let service = Service::start(&lab)?;
    let mut switch = Phone::open(&lab.switch, 5080, "trunk")?;
    let before = service.counted("request-in")?;
    let answer = switch.options(lab.vip_v4(), &service.call_id("options")?)?;
    assert_eq!(answer.from, lab.vip_v4());
    assert_eq!(answer.message.elements(Name::Via).count(), 1);
    let said = answer.message.header(Name::of(b"Server"));
    let said = said.map(|server| String::from_utf8_lossy(server.raw).into_owned());
    assert!(
        said.as_ref().is_some_and(|text| text.contains("kamailio")),
        "{said:?}"
    );
    assert_eq!(service.counted("request-in")?, before + 1);

    // When the last answer has become younger, it is another one.
    let (mut answers, mut last_age) = (0, None);
    eventually("answers to three questions", SILENCE * 10, || {
        let status = service.status(HOME)?;
        let age = status["sip_server"]["last_answer_age_ms"].as_u64();
        answers += u32::from(age < last_age);
        last_age = age;
        Ok(answers == 3)
    })?;
    service.expect_all_over()
}
