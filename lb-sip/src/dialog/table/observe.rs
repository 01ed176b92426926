//! Which dialog a message is of, and what it begins.

use super::{DialogId, DialogTable, Event};
use crate::dialog::record::Dialog;
use crate::dialog::record::life::Signal;
use crate::dialog::{MessageFacts, Method, Side, State};
use crate::transaction::{Class, Status};
use std::time::Duration;

/// What a message is to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It began a dialog.
    Began(DialogId),
    /// It began one more dialog of an INVITE that began another.
    Forked(DialogId),
    /// It belongs to a dialog.
    Known(DialogId),
    /// It is a request of a dialog, but older than the last: a user agent answers 500 (§12.2.2).
    OutOfOrder(DialogId),
    /// It belongs to no dialog that is known.
    Unknown,
    /// It would begin a dialog, and there is no room: the table is full, or its Call-ID has
    /// [`MOST_PER_CALL_ID`](super::MOST_PER_CALL_ID). Ended dialogs give way; others never do.
    Full,
}

impl DialogTable {
    /// Takes a message that passes.
    pub fn observe(
        &mut self,
        now: Duration,
        facts: &MessageFacts<'_>,
        out: &mut Vec<Event>,
    ) -> Observed {
        match (facts.status, facts.to_tag) {
            (None, None) if facts.method == Method::Invite => self.invite(now, facts, out),
            (None, to_tag) => {
                let to_tag = to_tag.unwrap_or_default();
                let Some((id, by)) = self.find(facts.call_id, facts.from_tag, to_tag) else {
                    return Observed::Unknown;
                };
                let policy = self.policy;
                match self.change(id, out, |dialog| dialog.request(now, by, facts, &policy)) {
                    Some(true) => Observed::Known(id),
                    Some(false) => Observed::OutOfOrder(id),
                    None => Observed::Unknown,
                }
            }
            (Some(status), _) => self.response(now, facts, status, out),
        }
    }

    /// An INVITE without a To tag.
    fn invite(
        &mut self,
        now: Duration,
        facts: &MessageFacts<'_>,
        out: &mut Vec<Event>,
    ) -> Observed {
        let attempts: Vec<(DialogId, u32, State)> = self
            .with_call_id(facts.call_id)
            .filter(|(_, dialog)| dialog.party(Side::Caller).tag.as_deref() == Some(facts.from_tag))
            .map(|(id, dialog)| (id, dialog.invite_cseq(), dialog.state()))
            .collect();
        if let Some((id, ..)) = attempts
            .iter()
            .find(|(_, cseq, _)| *cseq == facts.cseq)
            .or_else(|| attempts.iter().find(|(_, cseq, _)| *cseq > facts.cseq))
        {
            return Observed::Known(*id);
        }
        let policy = self.policy;
        for (id, _, state) in attempts {
            // The caller begins again: what refused the attempt before did not pass here.
            if state == State::Early {
                self.change(id, out, |dialog| dialog.life(now, Signal::Refused, &policy));
            }
        }
        let dialog = Dialog::begin(now, facts, self.own_routes, &policy);
        match self.insert(dialog, out) {
            Some(id) => Observed::Began(id),
            None => Observed::Full,
        }
    }

    fn response(
        &mut self,
        now: Duration,
        facts: &MessageFacts<'_>,
        status: Status,
        out: &mut Vec<Event>,
    ) -> Observed {
        let policy = self.policy;
        let to_tag = facts.to_tag.unwrap_or_default();
        let (mut found, mut siblings) = (None, Vec::new());
        for (id, dialog) in self.with_call_id(facts.call_id) {
            if found.is_none() {
                let side = dialog.sender(facts.from_tag, to_tag);
                found = side.map(|side| (id, side));
            }
            if facts.method == Method::Invite
                && dialog.invite_cseq() == facts.cseq
                && dialog.party(Side::Caller).tag.as_deref() == Some(facts.from_tag)
            {
                siblings.push(id);
            }
        }
        let Some(first) = siblings.first().copied() else {
            // Not of an INVITE that began a dialog.
            let Some((id, to)) = found else {
                return Observed::Unknown;
            };
            self.change(id, out, |dialog| {
                dialog.response(now, to, facts, status, &policy);
            });
            return Observed::Known(id);
        };
        if status.class() == Class::Failure {
            // It is the INVITE's, and thereby every fork's that was not accepted (§12.3).
            for id in siblings {
                self.change(id, out, |dialog| dialog.life(now, Signal::Refused, &policy));
            }
            return Observed::Known(found.map_or(first, |(id, _)| id));
        }
        let is_provisional = status.class() == Class::Provisional;
        if status == Status::TRYING || is_provisional && facts.to_tag.is_none() {
            return Observed::Known(first);
        }
        let (id, observed) = match (found, self.without_callee(&siblings)) {
            (Some((id, _)), _) | (None, Some(id)) => (id, Observed::Known(id)),
            // A fork that was never seen is over (199), or rings although all is over.
            (None, None) if status.code() == 199 || is_provisional && !self.has_live(&siblings) => {
                return Observed::Known(first);
            }
            (None, None) => {
                let fork = self.get(first).map(|dialog| dialog.fork(now, &policy));
                match fork.and_then(|fork| self.insert(fork, out)) {
                    Some(id) => (id, Observed::Forked(id)),
                    None => return Observed::Full,
                }
            }
        };
        let is_first_success = status.class() == Class::Success
            && self
                .get(id)
                .is_some_and(|dialog| dialog.state() == State::Early);
        self.change(id, out, |dialog| {
            dialog.response(now, Side::Caller, facts, status, &policy);
        });
        if observed == Observed::Forked(id)
            && siblings.iter().any(|sibling| {
                self.get(*sibling)
                    .is_some_and(|it| it.confirmed().is_some())
            })
        {
            // It rings after another was accepted (§13.2.2.4); one that accepts as well stays.
            self.change(id, out, |dialog| {
                dialog.life(now, Signal::OtherAccepted, &policy);
            });
        }
        if is_first_success {
            for sibling in siblings.into_iter().filter(|sibling| *sibling != id) {
                self.change(sibling, out, |dialog| {
                    dialog.life(now, Signal::OtherAccepted, &policy);
                });
            }
        }
        observed
    }

    /// The one whose callee has not spoken yet and may still.
    fn without_callee(&self, ids: &[DialogId]) -> Option<DialogId> {
        ids.iter().copied().find(|id| {
            self.get(*id).is_some_and(|dialog| {
                dialog.party(Side::Callee).tag.is_none() && dialog.end().is_none()
            })
        })
    }

    fn has_live(&self, ids: &[DialogId]) -> bool {
        ids.iter()
            .any(|id| self.get(*id).is_some_and(|dialog| dialog.end().is_none()))
    }
}
