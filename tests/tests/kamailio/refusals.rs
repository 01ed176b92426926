//! Calls that come to nothing, and questions that are no calls.

use anyhow::Result;
use lb_sip::{Method, Name};
use pointsman_tests::lab::eventually;

use crate::phone::Phone;
use crate::service::{Ends, HOME, SILENCE, Service, lab};

/// The caller gives up while it rings.
#[test]
fn a_ringing_call_is_cancelled() -> Result<()> {
    let lab = lab()?;
    let mut ends = Ends::start(&lab)?;
    let (leg, invite) = ends.call_bob()?;
    ends.bob.answer(&invite, 180, None)?;
    ends.switch.expect(Method::Invite, 180)?;
    ends.service.expect_calls([1, 0, 0])?;

    ends.switch.cancel(&leg)?;
    let ended = ends.switch.expect(Method::Cancel, 200)?;
    assert_eq!(ended.from, lab.vip_v4());
    let cancel = ends.bob.take(Method::Cancel)?;
    assert_eq!(
        cancel.message.top_via()?.branch(),
        invite.message.top_via()?.branch()
    );
    ends.bob.answer(&cancel, 200, None)?;
    ends.bob.answer(&invite, 487, None)?;
    // Kamailio's own, hop by hop (RFC 3261 §16.7 step 9).
    ends.bob.take(Method::Ack)?;
    let refusal = ends.switch.expect(Method::Invite, 487)?;
    ends.end_refused(&leg, &refusal)
}

/// Nobody of that name: Kamailio says so itself.
#[test]
fn an_unknown_user_is_not_found() -> Result<()> {
    let lab = lab()?;
    let mut ends = Ends::start(&lab)?;
    let leg = ends.call("nobody")?;
    let refusal = ends.switch.expect(Method::Invite, 404)?;
    assert_eq!(refusal.from, lab.vip_v4());
    ends.end_refused(&leg, &refusal)
}

/// The phone is busy: its 486 is acknowledged by Kamailio, the one that the switch gets by the switch.
#[test]
fn a_busy_phone_refuses() -> Result<()> {
    let lab = lab()?;
    let mut ends = Ends::start(&lab)?;
    let (leg, invite) = ends.call_bob()?;
    ends.bob.answer(&invite, 486, None)?;
    let ack = ends.bob.take(Method::Ack)?;
    assert_eq!(ack.from, ends.service.kamailio());
    ends.switch.expect(Method::Invite, 486)?;
    // Not acknowledged, it comes again.
    let refusal = ends.switch.expect(Method::Invite, 486)?;
    ends.end_refused(&leg, &refusal)?;
    // Kamailio has absorbed the ACK, not the redirect server, which refused nothing.
    assert_eq!(ends.service.counted("ack-absorbed")?, 0);
    Ok(())
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
