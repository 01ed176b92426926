//! Messages that are lost on the way, and sent again: nothing happens twice.

use std::time::Duration;

use anyhow::Result;
use lb_sip::Method;

use crate::service::{Ends, lab};

/// Each answer of a call is missed once, by one end or the other. The phone rings once, there is one
/// call, and it ends once.
#[test]
fn answers_are_lost() -> Result<()> {
    let lab = lab()?;
    let Ends {
        service,
        mut switch,
        mut bob,
    } = Ends::start(&lab)?;
    let instant = Duration::from_millis(1);
    let mut near = switch.call("bob", lab.vip_v4(), &service.call_id("lost")?)?;
    // The phone misses the INVITE, and Kamailio sends it again.
    let missed = bob.take(Method::Invite)?;
    let invite = bob.take(Method::Invite)?;
    assert_eq!(missed.message.bytes(), invite.message.bytes());
    bob.answer(&invite, 180, None)?;
    switch.expect(Method::Invite, 180)?;

    // The switch has missed the 180 and sends its INVITE again: Kamailio says what it said.
    switch.repeat(&near)?;
    switch.expect(Method::Invite, 180)?;
    bob.expect_nothing(instant)?;
    service.expect_calls([1, 0, 0])?;

    // It misses the 200, too, and gets it in the same way.
    bob.answer(&invite, 200, Some("sendrecv"))?;
    switch.expect(Method::Invite, 200)?;
    switch.repeat(&near)?;
    let answer = switch.expect(Method::Invite, 200)?;
    bob.expect_nothing(instant)?;
    switch.acknowledge(&mut near, &answer)?;
    // The phone has missed the ACK, and gets it again with its next 200.
    let missed = bob.take(Method::Ack)?;
    bob.answer_again(&invite)?;
    switch.expect_nothing(Duration::from_millis(200))?;
    let ack = bob.take(Method::Ack)?;
    assert_eq!(missed.message.cseq()?.number, ack.message.cseq()?.number);
    service.expect_calls([0, 1, 0])?;
    assert_eq!(service.counted("call-taken")?, 1);

    // The answer to BYE is lost: the second BYE is answered, and the phone hears of one.
    switch.request(&mut near, Method::Bye, None)?;
    let bye = bob.take(Method::Bye)?;
    bob.answer(&bye, 200, None)?;
    switch.expect(Method::Bye, 200)?;
    service.expect_calls([0, 0, 0])?;
    switch.repeat(&near)?;
    switch.expect(Method::Bye, 200)?;
    bob.expect_nothing(instant)?;
    service.expect_all_over()
}

/// The refusal of a call is missed, and the INVITE comes again: the phone hears of it once.
#[test]
fn a_refusal_is_lost() -> Result<()> {
    let lab = lab()?;
    let Ends {
        service,
        mut switch,
        mut bob,
    } = Ends::start(&lab)?;
    let leg = switch.call("bob", lab.vip_v4(), &service.call_id("refused")?)?;
    let invite = bob.take(Method::Invite)?;
    bob.answer(&invite, 486, None)?;
    bob.take(Method::Ack)?;
    switch.expect(Method::Invite, 486)?;
    switch.repeat(&leg)?;
    let refusal = switch.expect(Method::Invite, 486)?;
    switch.acknowledge_refusal(&leg, &refusal)?;
    switch.expect_nothing(Duration::from_secs(1))?;
    bob.expect_nothing(Duration::from_millis(1))?;
    assert_eq!(service.counted("call-taken")?, 1);
    service.expect_all_over()
}
