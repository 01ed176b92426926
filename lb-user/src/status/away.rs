//! Pins a call to the node that says it has it: from then on, the call's messages go there.

use lb_common::maps::{Pin, Turnout, slot_of};
use lb_proto::call::Call;
use lb_proto::pin_report::wire::Verdict;

use crate::plane::maps::Insertion;
use crate::plane::{AccessError, Maps};

/// Looks taken at a pin that others make and expire at the same time.
const ATTEMPTS: u32 = 4;

/// Makes the call's pin name `node`, at the moment `now` (in jiffies); `confirmed` of one that was answered.
///
/// | the call has | then |
/// |---|---|
/// | no pin, and the node is its home by every table that is asked | nothing is needed |
/// | no pin | one is made, its hint first |
/// | a pin to that node | its time starts over |
/// | a pin to another node | it is moved, and not confirmed unless it is said to be: no ACK of this answer has passed |
///
/// `None` when the call's pin came and went meanwhile, again and again: ask once more. Doing it twice
/// does what doing it once does. A packet that passes by a pin while it is written
/// anew may lose its mark; the next one makes it again.
///
/// # Errors
/// [`AccessError`] when a map cannot be read or written.
pub fn pin_away(
    maps: &Maps,
    now: u64,
    call: Call,
    node: u16,
    confirmed: bool,
) -> Result<Option<Verdict>, AccessError> {
    let key = call.key();
    let flags = Pin::BY_CONTROLLER | if confirmed { Pin::CONFIRMED } else { 0 };
    let fresh = Pin {
        node,
        flags,
        reserved: 0,
        created: now,
        last_seen: now,
    };
    for _ in 0..ATTEMPTS {
        if let Some(pin) = maps.pin(key)? {
            // It lives, whatever has passed.
            let marks = if pin.node == node {
                pin.flags & !Pin::ENDED
            } else {
                0
            };
            let flags = marks | fresh.flags;
            if maps.update_pin(key, Pin { flags, ..fresh })? {
                return Ok(Some(Verdict::Pinned));
            }
            // It has just expired.
            continue;
        }
        if is_home(maps, key, node)? {
            return Ok(Some(Verdict::AtHome));
        }
        match maps.insert_pin(key, fresh)? {
            Insertion::Made => return Ok(Some(Verdict::Pinned)),
            Insertion::Full => return Ok(Some(Verdict::Full)),
            // The program was faster.
            Insertion::Exists => {}
        }
    }
    Ok(None)
}

/// Says of a call's pin to `node` that the call has ended there: a BYE that the callee's side sends goes past
/// the LB. It is kept for as long as one whose BYE has passed. Nothing, if the call is pinned elsewhere.
///
/// # Errors
/// [`AccessError`] when a map cannot be read or written.
pub fn end_away(maps: &Maps, now: u64, call: Call, node: u16) -> Result<(), AccessError> {
    let Some(pin) = maps.pin(call.key())?.filter(|pin| pin.node == node) else {
        return Ok(());
    };
    let ended = Pin {
        flags: pin.flags | Pin::ENDED,
        last_seen: now,
        ..pin
    };
    // One that has just expired stays so.
    maps.update_pin(call.key(), ended).map(drop)
}

/// Whether messages of a call without a pin go to the node, whatever their kind. While the tables are
/// changing, what is within a dialog goes by the old one.
fn is_home(maps: &Maps, key: u64, node: u16) -> Result<bool, AccessError> {
    let (word, slot) = (maps.turnout()?.word, slot_of(key));
    let generation = (word & 1) as u32;
    let is_by_old = word & Turnout::DRAINING != 0;
    Ok(maps.home(generation, slot)? == node
        && (!is_by_old || maps.home(generation ^ 1, slot)? == node))
}
