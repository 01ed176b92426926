//! Messages that are lost on the way, and sent again: nothing happens twice.

use std::time::Duration;

use anyhow::Result;
use lb_sip::Method;

use crate::service::{AT_ONCE, Ends, lab};

/// Each answer of a call is missed once, by one end or the other. The phone rings once, there is one
/// call, and it ends once.
#[test]
fn answers_are_lost() -> Result<()> {
    let lab = lab()?;
    let mut ends = Ends::start(&lab)?;
    // The phone misses the INVITE, and Kamailio sends it again.
    let (mut near, missed) = ends.call_bob()?;
    let invite = ends.bob.take(Method::Invite)?;
    assert_eq!(missed.message.bytes(), invite.message.bytes());
    ends.bob.answer(&invite, 180, None)?;
    ends.switch.expect(Method::Invite, 180)?;

    // The switch has missed the 180 and sends its INVITE again: Kamailio says what it said.
    ends.switch.repeat(&near)?;
    ends.switch.expect(Method::Invite, 180)?;
    ends.bob.expect_nothing(AT_ONCE)?;
    ends.service.expect_calls([1, 0, 0])?;

    // It misses the 200, too, and gets it in the same way.
    ends.bob.answer(&invite, 200, Some("sendrecv"))?;
    ends.switch.expect(Method::Invite, 200)?;
    ends.switch.repeat(&near)?;
    let answer = ends.switch.expect(Method::Invite, 200)?;
    ends.bob.expect_nothing(AT_ONCE)?;
    ends.switch.acknowledge(&mut near, &answer)?;
    // The phone has missed the ACK, and gets it again with its next 200.
    let missed = ends.bob.take(Method::Ack)?;
    ends.bob.answer_again(&invite)?;
    ends.switch.expect_nothing(Duration::from_millis(200))?;
    let ack = ends.bob.take(Method::Ack)?;
    assert_eq!(missed.message.cseq()?.number, ack.message.cseq()?.number);
    ends.service.expect_calls([0, 1, 0])?;
    assert_eq!(ends.service.counted("call-taken")?, 1);

    // The answer to BYE is lost: the second BYE is answered, and the phone hears of one.
    ends.hang_up(&mut near)?;
    ends.service.expect_calls([0, 0, 0])?;
    ends.switch.repeat(&near)?;
    ends.switch.expect(Method::Bye, 200)?;
    ends.bob.expect_nothing(AT_ONCE)?;
    ends.service.expect_all_over()
}

/// The refusal of a call is missed, and the INVITE comes again: the phone hears of it once.
#[test]
fn a_refusal_is_lost() -> Result<()> {
    let lab = lab()?;
    let mut ends = Ends::start(&lab)?;
    let (leg, invite) = ends.call_bob()?;
    ends.bob.answer(&invite, 486, None)?;
    ends.bob.take(Method::Ack)?;
    ends.switch.expect(Method::Invite, 486)?;
    ends.switch.repeat(&leg)?;
    let refusal = ends.switch.expect(Method::Invite, 486)?;
    ends.end_refused(&leg, &refusal)?;
    assert_eq!(ends.service.counted("call-taken")?, 1);
    Ok(())
}
