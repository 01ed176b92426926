//! What a node answers to those who would reign: grants, renewals, refusals.

use super::{Event, Output, Witness};
use crate::failover::lease::{Grant, Refused};
use crate::failover::silence::Pulse;
use crate::failover::trust::Refusal;
use crate::failover::wire::{
    Ack, Body, Header, KeepAlive, LeaseAnswer, LeaseRequest, Reason, Stamp, Verdict,
};
use crate::failover::{ControllerId, Term};
use std::time::Duration;

/// What a controller asks for, by a keep-alive or by a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) grant: Grant,
    /// Which datagram is answered.
    echo: Stamp,
    /// A request's nonce and reason; `None` for a keep-alive.
    request: Option<(u64, Reason)>,
}

impl Witness {
    /// A main's keep-alive.
    pub(super) fn renew(
        &mut self,
        now: Duration,
        from: ControllerId,
        header: &Header,
        life: &KeepAlive,
    ) -> Result<(), Refusal> {
        let wanted = Grant {
            term: header.term,
            holder: from,
            lease: life.lease,
        };
        let wish = Wish {
            grant: wanted,
            echo: header.stamp,
            request: None,
        };
        let refused = match self.wish(now, wish) {
            Ok(()) => {
                let was_missed = self.heard.is_some_and(|heard| heard.is_missed);
                self.hear(now, from, life.interval, life.interval * life.misses.into());
                if was_missed && self.accepted(now) == Some((header.term, from)) {
                    self.event(Event::Heard {
                        controller: from,
                        term: header.term,
                    });
                }
                return Ok(());
            }
            Err(refused) => refused,
        };
        let verdict = self.verdict(now, refused);
        self.refuse(now, &wish, verdict);
        match refused {
            Refused::LowerTerm => Err(Refusal::LowerTerm),
            Refused::Runs | Refused::TooLong => Err(Refusal::OutOfTurn),
            Refused::Starting => Ok(()),
        }
    }

    /// A candidate's request.
    pub(super) fn consider(
        &mut self,
        now: Duration,
        from: ControllerId,
        header: &Header,
        request: &LeaseRequest,
    ) -> Result<(), Refusal> {
        let wanted = Grant {
            term: header.term,
            holder: from,
            lease: request.lease,
        };
        let wish = Wish {
            grant: wanted,
            echo: header.stamp,
            request: Some((request.nonce, request.reason)),
        };
        let Err(refused) = self.wish(now, wish) else {
            return Ok(());
        };
        let verdict = self.verdict(now, refused);
        self.refuse(now, &wish, verdict);
        self.event(Event::Refused {
            controller: from,
            term: header.term,
            verdict,
        });
        match refused {
            Refused::LowerTerm => Err(Refusal::LowerTerm),
            Refused::Runs | Refused::Starting | Refused::TooLong => Ok(()),
        }
    }

    /// Grants at once what is on the disk already, and has the rest kept first. While that takes, what
    /// was granted before is renewed as if nothing had been asked.
    fn wish(&mut self, now: Duration, wish: Wish) -> Result<(), Refused> {
        let wanted = wish.grant;
        let is_kept = self.kept.is_some_and(|kept| {
            kept.term == wanted.term && kept.holder == wanted.holder && wanted.lease <= kept.lease
        });
        if is_kept {
            self.book.grant(now, wanted)?;
            self.granted(now, wish);
            return Ok(());
        }
        self.book.check(now, wanted)?;
        let wish = Wish {
            grant: self.book.to_keep(now, wanted),
            ..wish
        };
        let pending = self.pending.map(|pending| pending.grant);
        if pending.is_some_and(|pending| {
            wanted.term < pending.term
                || wanted.term == pending.term && wanted.holder != pending.holder
        }) {
            return Err(Refused::LowerTerm);
        }
        self.pending = Some(wish);
        if pending != Some(wish.grant) {
            self.outputs.push_back(Output::Persist(wish.grant));
        }
        Ok(())
    }

    /// The grant of this term is on the disk: it is granted, and the answer goes out.
    pub fn persisted(&mut self, now: Duration, term: Term) {
        let Some(wish) = self.pending.take_if(|wish| wish.grant.term == term) else {
            return;
        };
        self.kept = Some(wish.grant);
        // If it may not be granted any more, whoever asked asks again.
        if self.book.grant(now, wish.grant).is_ok() {
            self.granted(now, wish);
        }
    }

    /// The grant of this term could not be kept: it is not granted, and it is tried again when the
    /// controller asks again.
    pub fn persist_failed(&mut self, term: Term) {
        self.pending.take_if(|wish| wish.grant.term == term);
    }

    /// Sends the good news.
    fn granted(&mut self, now: Duration, wish: Wish) {
        let Wish {
            grant,
            echo,
            request,
        } = wish;
        let is_new = self.told.is_none_or(|told| told.term != grant.term);
        if is_new {
            self.told = Some(grant);
            // Without a main it need not have looked at the time.
            self.pulse = Pulse::new(now);
            self.event(Event::Accepted {
                controller: grant.holder,
                term: grant.term,
                reason: request.map(|(_, reason)| reason),
            });
        }
        let body = match request {
            Some((nonce, _)) => {
                let known = self.heard.filter(|heard| heard.controller == grant.holder);
                // Its first keep-alive says how often they come.
                let (interval, limit) = known.map_or((grant.lease, grant.lease), |heard| {
                    (heard.interval, heard.limit)
                });
                self.hear(now, grant.holder, interval, limit);
                self.lease_answer(now, echo, nonce, Verdict::Granted)
            }
            None => Body::Ack(Ack {
                echo,
                missing: self.missing,
            }),
        };
        self.send(grant.holder, grant.term, body);
    }

    fn refuse(&mut self, now: Duration, wish: &Wish, verdict: Verdict) {
        let nonce = wish.request.map_or(0, |(nonce, _)| nonce);
        let body = self.lease_answer(now, wish.echo, nonce, verdict);
        self.send(wish.grant.holder, wish.grant.term, body);
    }

    fn verdict(&self, now: Duration, refused: Refused) -> Verdict {
        match refused {
            Refused::LowerTerm => Verdict::LowerTerm,
            Refused::Runs if self.hears_main(now) => Verdict::HearsMain,
            Refused::Runs => Verdict::LeaseRuns,
            Refused::Starting => Verdict::Starting,
            Refused::TooLong => Verdict::TooLong,
        }
    }

    fn lease_answer(&self, now: Duration, echo: Stamp, nonce: u64, verdict: Verdict) -> Body {
        Body::LeaseAnswer(LeaseAnswer {
            nonce,
            echo,
            verdict,
            holder: self.book.last().map(|grant| grant.holder),
            remaining: self.book.remaining(now),
            highest: self.book.highest(),
        })
    }
}
