//! All calls are reset to a designated state, because a load balancer takes over that knows of none.
//!
//! Those that were there when it was said are ended, some hundred at a time as when a node is emptied;
//! what comes meanwhile is no part of it, and finds their slots free at once. The most urgent are ended
//! last.

use super::calls::Residence;
use super::count::Count;
use super::record::{HANG_UP_AT_ONCE, LOOK_AT_ONCE, NEXT_HANG_UP};
use super::{Output, Server};
use lb_proto::call_state::Designated;
use lb_sip::dialog::table::DialogId;
use lb_sip::dialog::{Side, State};
use std::time::Duration;

/// A reset that goes on, or none.
#[derive(Debug, Default)]
pub(super) struct Reset {
    /// Dialogs that are to be ended, the first at the end. Some may be over already.
    doomed: Vec<DialogId>,
    /// When the next ones are.
    next: Option<Duration>,
}

impl Reset {
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.next
    }
}

impl Server {
    /// Resets all calls that are there now.
    ///
    /// [`Designated::Drop`]: a BYE to each side of an answered call; of one that rings, the caller is told
    /// 480 and the callee is sent a CANCEL. [`Designated::Reinitialise`]: the records are forgotten, and
    /// what the sides say to each other still passes.
    pub(crate) fn reset(&mut self, now: Duration, designated: Designated, out: &mut Vec<Output>) {
        let page = self.dialogs.page(None, usize::MAX);
        let doomed: Vec<DialogId> = page.dialogs.iter().map(|(id, _)| *id).collect();
        match designated {
            Designated::Drop => {
                for id in &doomed {
                    if let Some(dialog) = self.dialogs.get(*id) {
                        let call = self.call_of(dialog);
                        self.gate.end(call);
                    }
                }
                self.reset = Reset {
                    doomed,
                    next: Some(now),
                };
                self.reset_on(now, out);
            }
            Designated::Reinitialise => {
                self.reset = Reset::default();
                for id in doomed {
                    if self.dialogs.abandon(now, id, &mut self.events) {
                        self.counts.add(Count::ResetForgotten);
                        self.settle(now, out);
                    }
                }
            }
        }
    }

    /// Calls that are yet to be ended: those that nothing was said to, and those that rang and whose
    /// callee has not given its final response.
    pub(crate) fn reset_left(&self) -> usize {
        self.reset.doomed.len() + self.cut_offs.open()
    }

    /// Ends some more.
    pub(super) fn reset_on(&mut self, now: Duration, out: &mut Vec<Output>) {
        if self.reset.next.is_none_or(|at| at > now) {
            return;
        }
        let mut left = HANG_UP_AT_ONCE;
        for _ in 0..LOOK_AT_ONCE {
            let has_room = self.asking.room() >= Side::BOTH.len() && !self.cut_offs.is_full();
            if left == 0 || !has_room {
                break;
            }
            let Some(id) = self.reset.doomed.pop() else {
                break;
            };
            left -= usize::from(self.end_properly(now, id, out));
        }
        let is_over = self.reset.doomed.is_empty();
        self.reset.next = (!is_over).then_some(now + NEXT_HANG_UP);
    }

    /// Ends a call on both sides. Whether there was one.
    fn end_properly(&mut self, now: Duration, id: DialogId, out: &mut Vec<Output>) -> bool {
        let Some(dialog) = self.dialogs.get(id) else {
            return false;
        };
        let (call, state) = (self.call_of(dialog), dialog.state());
        let entry = self.calls.get(call);
        let has_others = entry.is_some_and(|entry| self.live_dialogs(entry).nth(1).is_some());
        if entry.is_some_and(|entry| matches!(entry.residence, Residence::Reporting { .. })) {
            // What the callee has said comes before the end.
            self.release(call, Some(Count::Unreported), out);
        }
        let is_ended = match state {
            State::Ended => return false,
            State::Confirmed | State::Held => self.hang_up(now, id, out),
            State::Early => match self.calls.take_invite_of(call, id) {
                Some(invite) => self.cut_off(now, call, invite, out),
                None => false,
            },
        };
        if is_ended {
            self.counts.add(Count::ResetEnded);
            return true;
        }
        let is_forgotten = self.dialogs.abandon(now, id, &mut self.events);
        // A fork that rings ends with the one that was accepted (RFC 3261 §13.2.2.4).
        if is_forgotten && !(state == State::Early && has_others) {
            self.counts.add(Count::ResetUntold);
        }
        self.settle(now, out);
        is_forgotten
    }
}
