//! The non-INVITE server transaction (RFC 3261 §17.2.2, RFC 4320).

use super::deadlines::Alarms;
use super::{Class, Response, ServerAction, ServerEnd, Timing, Transport};
use bytes::Bytes;
use std::time::Duration;

/// Where a non-INVITE server transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The request is with the user, who has said nothing.
    Trying,
    /// The user sent a provisional response.
    Proceeding,
    /// The final response was sent; copies of the request are answered with it.
    Completed,
    /// Over.
    Ended,
}

/// The timers of a non-INVITE server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Gives up on the user, 64 × T1 after the request: the client has given up by then as well, and
    /// no answer may be sent any more (RFC 4320 §4.2).
    Patience,
    /// Ends the wait for copies of the request.
    J,
}

/// What happens to a non-INVITE server transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The request came again.
    Again,
    /// The user answers 1xx.
    Provisional(Bytes),
    /// The user answers 2xx–6xx.
    Final(Bytes),
    /// The transport could not send.
    TransportError,
    /// A timer fired.
    Timer(Timer),
}

impl From<Response> for Event {
    fn from(response: Response) -> Self {
        match response.status.class() {
            Class::Provisional => Self::Provisional(response.message),
            Class::Success | Class::Failure => Self::Final(response.message),
        }
    }
}

/// One request other than INVITE and ACK that came in.
///
/// ```text
///               start
///                 │             patience: abandoned
///   again: nothing▼             ┌───────────────────────────────► Ended
///             Trying ───────────┤                                  ▲
///                 │             │ 2xx–6xx: send                    │
///        1xx: send│             ├───────────────► Completed ── J ──┘
///                 ▼             │                 │ ▲
///           Proceeding ─────────┘                 └─┘ again: send
///           │ ▲                                       user: discarded
///           └─┘ again: send, 1xx: send
/// ```
/// The edges are Figure 8 of RFC 3261, except that a transport error ends nothing (RFC 6026 §7.1).
#[derive(Debug)]
pub struct PlainServer {
    timing: Timing,
    transport: Transport,
    state: State,
    /// What a copy of the request is answered with.
    last: Option<Bytes>,
    alarms: Alarms<Timer>,
}

impl PlainServer {
    /// Begins.
    pub fn start(now: Duration, timing: Timing, transport: Transport) -> Self {
        let mut alarms = Alarms::none();
        alarms.end(Timer::Patience, now + timing.give_up());
        Self {
            timing,
            transport,
            state: State::Trying,
            last: None,
            alarms,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// When to call [`PlainServer::on_timeout`] next.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.alarms.next()
    }

    /// Fires one timer, if one is due.
    pub fn on_timeout(&mut self, now: Duration, out: &mut Vec<ServerAction>) {
        if let Some(timer) = self.alarms.take_due(now) {
            self.handle(now, Event::Timer(timer), out);
        }
    }

    /// Takes one event.
    pub fn handle(&mut self, now: Duration, event: Event, out: &mut Vec<ServerAction>) {
        match (self.state, event) {
            (State::Trying | State::Proceeding, Event::Provisional(message)) => {
                self.answer(message, out);
                self.state = State::Proceeding;
            }
            (State::Trying | State::Proceeding, Event::Final(message)) => {
                self.answer(message, out);
                self.complete(now, out);
            }
            (State::Proceeding | State::Completed, Event::Again) => {
                out.extend(self.last.clone().map(ServerAction::Send));
            }
            (State::Trying | State::Proceeding, Event::Timer(Timer::Patience)) => {
                self.end(ServerEnd::Abandoned, out);
            }
            (State::Completed, Event::Timer(Timer::J)) => self.end(ServerEnd::Answered, out),
            (State::Proceeding | State::Completed, Event::TransportError) => {
                out.push(ServerAction::TransportFailed);
            }

            // Nothing was sent yet, so there is nothing to send again and nothing that failed.
            (State::Trying, Event::Again | Event::TransportError)
            // The user answered already.
            | (State::Completed, Event::Provisional(_) | Event::Final(_))
            // Timers of other states, which are disarmed.
            | (State::Trying | State::Proceeding, Event::Timer(Timer::J))
            | (State::Completed, Event::Timer(Timer::Patience))
            | (
                State::Ended,
                Event::Again
                | Event::Provisional(_)
                | Event::Final(_)
                | Event::TransportError
                | Event::Timer(_),
            ) => {}
        }
    }

    fn answer(&mut self, message: Bytes, out: &mut Vec<ServerAction>) {
        self.last = Some(message.clone());
        out.push(ServerAction::Send(message));
    }

    fn complete(&mut self, now: Duration, out: &mut Vec<ServerAction>) {
        let wait = self.timing.j(self.transport);
        if wait.is_zero() {
            return self.end(ServerEnd::Answered, out);
        }
        self.state = State::Completed;
        self.alarms.clear();
        self.alarms.end(Timer::J, now + wait);
    }

    fn end(&mut self, end: ServerEnd, out: &mut Vec<ServerAction>) {
        self.state = State::Ended;
        self.alarms.clear();
        out.push(ServerAction::Ended(end));
    }
}
