//! Takeovers on request: an operator's, or the preferred controller's that is back.

use super::{Controller, Event, Phase, State, Switchback};
use crate::failover::trust::Refusal;
use crate::failover::wire::{Body, Reason, Role, Status};
use crate::failover::{ControllerId, Party, Term};
use std::time::Duration;

/// A switchback is tried again after ten minutes at the latest, with the default wait.
const MOST_DOUBLINGS: u32 = 6;
/// From one try of an unfit main to hand over to the next.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(10);

/// Why nobody is asked to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is main already.
    #[error("that controller is the main")]
    AlreadyMain,
    /// It is not configured.
    #[error("no such controller is configured")]
    Unknown,
    /// Nobody is main: the first who can will be.
    #[error("there is no main that could yield")]
    NoMain,
    /// It has not been heard for a lease.
    #[error("that controller is not heard")]
    Silent,
    /// It cannot serve.
    #[error("that controller's machine has no carrier: the switch does not reach it")]
    Unfit,
    /// Its configuration is older than the main's.
    #[error("that controller has an older configuration")]
    OlderConfiguration,
}

/// A wish that was sent to the main.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    successor: ControllerId,
    reason: Reason,
    until: Duration,
    pub(super) next: Duration,
}

impl Controller {
    /// Has this controller become main, whoever is: an operator's wish. Here when this one is main,
    /// else the main is asked; whether it did, [`Event`]s and the roles say.
    ///
    /// # Errors
    /// [`RequestError`] when it cannot be.
    pub fn fail_over(&mut self, now: Duration, to: ControllerId) -> Result<(), RequestError> {
        self.wish(now, to, Reason::Command)
    }

    /// Has the preferred controller, the one of the lowest id, become main: an operator's wish.
    ///
    /// # Errors
    /// [`RequestError`] when it cannot be.
    pub fn resume(&mut self, now: Duration) -> Result<(), RequestError> {
        self.wish(now, self.preferred(), Reason::Command)
    }

    fn wish(
        &mut self,
        now: Duration,
        successor: ControllerId,
        reason: Reason,
    ) -> Result<(), RequestError> {
        self.check_reign(now);
        if let State::Main(_) = self.state {
            return self.yield_to(now, successor, reason);
        }
        if !self.config.members.controllers.contains_key(&successor) {
            return Err(RequestError::Unknown);
        }
        let main = match self.state {
            State::StandBy(Phase::Following) => self.main.ok_or(RequestError::NoMain)?,
            State::StandBy(_) | State::Candidate(_) | State::Main(_) => {
                return Err(RequestError::NoMain);
            }
        };
        if main.id == successor {
            return Err(RequestError::AlreadyMain);
        }
        self.asked = Some(Asked {
            successor,
            reason,
            until: now + self.config.timing.lease() * 2,
            next: now,
        });
        self.event(Event::Asked {
            main: main.id,
            successor,
        });
        self.ask_again(now);
        Ok(())
    }

    pub(super) fn ask_again(&mut self, now: Duration) {
        let interval = self.config.timing.interval();
        let Some(asked) = self.asked.filter(|asked| asked.next <= now) else {
            return;
        };
        let Some(main) = self.main.filter(|main| main.id != asked.successor) else {
            self.asked = None;
            return;
        };
        let Asked {
            successor, reason, ..
        } = asked;
        if now >= asked.until {
            self.asked = None;
            self.event(Event::AskFailed {
                main: main.id,
                successor,
            });
            return;
        }
        self.asked = Some(Asked {
            next: now + interval,
            ..asked
        });
        let body = Body::Ask { successor, reason };
        self.send(Party::Controller(main.id), main.term, body);
    }

    /// Somebody would have this main yield.
    pub(super) fn asked_to_yield(
        &mut self,
        now: Duration,
        by: ControllerId,
        term: Term,
        successor: ControllerId,
        reason: Reason,
    ) -> Result<(), Refusal> {
        let State::Main(reign) = &self.state else {
            return Err(Refusal::OutOfTurn);
        };
        if term < reign.term {
            return Err(Refusal::LowerTerm);
        }
        if term > reign.term {
            return Err(Refusal::OutOfTurn);
        }
        if let Err(why) = self.yield_to(now, successor, reason) {
            self.event(Event::AskRefused { by, successor, why });
        }
        Ok(())
    }

    /// A main that cannot serve gives the reign to one that can.
    pub(super) fn hand_over(&mut self, now: Duration) {
        let is_unfit = self.report.status == Status::Unfit;
        if !is_unfit || self.role() != Role::Main || now < self.next_hand_over {
            return;
        }
        let fit = self.peers.iter().find(|(id, peer)| {
            peer.life.report.status == Status::StandBy && self.check_successor(now, **id).is_ok()
        });
        let to = fit.map(|(id, _)| *id);
        if to.is_some_and(|to| self.yield_to(now, to, Reason::Unfit).is_ok()) {
            self.next_hand_over = now + HAND_OVER_AGAIN;
            self.switchbacks += 1;
        }
    }

    /// The preferred controller, when it is to, asks for the reign once it has been well for long
    /// enough: it ran without a stall, heard a main, had no older configuration, and can serve. Twice as long
    /// after each time that it asked and did not become main, or had to hand over soon after.
    pub(super) fn switch_back(&mut self, now: Duration) {
        let is_well = matches!(self.state, State::StandBy(Phase::Following))
            && self.newer.is_none()
            && self.report.status != Status::Unfit
            && self.config.switchback == Switchback::Resume
            && self.is_preferred();
        if !is_well {
            self.well_since = None;
            return;
        }
        let since = *self.well_since.get_or_insert(now);
        // Each that came to nothing has cost a moment without a main.
        let wait = self.config.switchback_after * (1 << self.switchbacks.min(MOST_DOUBLINGS));
        if now.saturating_sub(since) >= wait {
            self.well_since = Some(now);
            self.switchbacks += 1;
            // It follows a main, so there is one to ask.
            let _ = self.wish(now, self.id, Reason::Switchback);
        }
    }
}
