//! The INVITE server transaction (RFC 3261 §17.2.1, RFC 6026 §7.1).

use super::deadlines::Alarms;
use super::{Class, Response, ServerAction, ServerEnd, TRYING_AFTER, Timing, Transport};
use bytes::Bytes;
use std::time::Duration;

/// Where an INVITE server transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The INVITE is with the user.
    Proceeding,
    /// A failure was sent; its ACK is awaited.
    Completed,
    /// The ACK came; its copies are absorbed.
    Confirmed,
    /// A success was sent; copies of the INVITE are absorbed.
    Accepted,
    /// Over.
    Ended,
}

/// The timers of an INVITE server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Sends 100: the user has been silent for 200 ms.
    Trying,
    /// Gives up on the user.
    Patience,
    /// Sends the failure again: after T1, then twice as long each time up to T2. Not on reliable
    /// transports.
    G,
    /// Gives up on the ACK: 64 × T1.
    H,
    /// Ends the wait for copies of the ACK.
    I,
    /// Ends the wait for copies of the INVITE after a success: 64 × T1.
    L,
}

/// What happens to an INVITE server transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The INVITE came again.
    Again,
    /// An ACK came.
    Ack(Bytes),
    /// The user answers 1xx.
    Provisional(Bytes),
    /// The user answers 2xx.
    Success(Bytes),
    /// The user answers 3xx–6xx.
    Failure(Bytes),
    /// The transport could not send.
    TransportError,
    /// A timer fired.
    Timer(Timer),
}

impl From<Response> for Event {
    fn from(response: Response) -> Self {
        match response.status.class() {
            Class::Provisional => Self::Provisional(response.message),
            Class::Success => Self::Success(response.message),
            Class::Failure => Self::Failure(response.message),
        }
    }
}

/// One INVITE that came in.
///
/// ```text
///      start: 100 after 200 ms
///                 │           patience: abandoned
///  again: send    ▼           ┌────────────────────────────────────────────────► Ended
///  the last  ┌► Proceeding ───┤ 2xx: send ────────────► Accepted ───── L ──────────┘▲▲
///  1xx: send └────┘           │                         │ ▲ again: absorbed         ││
///                             │                         └─┘ 2xx: send               ││
///                             │ 3xx–6xx: send               ACK: to user            ││
///                             ▼                                                     ││
///               ┌────────► Completed ─────────── H: unacknowledged ─────────────────┘│
///               └────────────┘     │ ACK                                             │
///     again: send; G: send         ▼                                                 │
///                             Confirmed ─────────── I ───────────────────────────────┘
///                                  any more: absorbed
/// ```
/// The edges are Figure 7 of RFC 3261 as RFC 6026 §7.1 redraws it: a success is not the end, an ACK
/// that comes then is the user's, and a transport error ends nothing, because copies of the
/// INVITE must still find the transaction. The user retransmits its success until the ACK comes
/// (RFC 3261 §13.3.1.4). Patience starts anew with each 1xx of the user's (§13.3.1.1 has it send one a
/// minute).
#[derive(Debug)]
pub struct InviteServer {
    timing: Timing,
    transport: Transport,
    state: State,
    /// What a copy of the INVITE is answered with.
    last: Option<Bytes>,
    /// The 100 to send if the user is slow.
    trying: Option<Bytes>,
    /// Timer G's next interval.
    interval: Duration,
    alarms: Alarms<Timer>,
}

impl InviteServer {
    /// Begins. `trying` is the 100 that is sent when the user has not answered within 200 ms; without
    /// it, none is sent.
    pub fn start(
        now: Duration,
        timing: Timing,
        transport: Transport,
        trying: Option<Bytes>,
    ) -> Self {
        let mut alarms = Alarms::none();
        alarms.end(Timer::Patience, now + timing.patience);
        if trying.is_some() {
            alarms.repeat(Timer::Trying, now + TRYING_AFTER);
        }
        Self {
            timing,
            transport,
            state: State::Proceeding,
            last: None,
            trying,
            interval: timing.t1,
            alarms,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// When to call [`InviteServer::on_timeout`] next.
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
            (State::Proceeding, Event::Timer(Timer::Trying)) => {
                self.last = self.trying.take();
                self.send_last(out);
            }
            (State::Proceeding, Event::Provisional(message)) => {
                self.answer(message, out);
                self.alarms.stop_repeating();
                self.alarms
                    .end(Timer::Patience, now + self.timing.patience);
            }
            (State::Proceeding, Event::Success(message)) => {
                self.answer(message, out);
                self.state = State::Accepted;
                self.alarms.clear();
                self.alarms.end(Timer::L, now + self.timing.give_up());
            }
            (State::Proceeding, Event::Failure(message)) => {
                self.answer(message, out);
                self.state = State::Completed;
                self.alarms.clear();
                self.alarms.end(Timer::H, now + self.timing.give_up());
                if self.transport == Transport::Unreliable {
                    self.alarms.repeat(Timer::G, now + self.interval);
                }
            }
            (State::Accepted, Event::Success(message)) => self.answer(message, out),
            (State::Proceeding | State::Completed, Event::Again) => self.send_last(out),
            (State::Completed, Event::Timer(Timer::G)) => {
                self.send_last(out);
                self.interval = self.interval.saturating_mul(2).min(self.timing.t2);
                self.alarms.repeat(Timer::G, now + self.interval);
            }
            (State::Completed, Event::Ack(_)) => self.confirm(now, out),
            (State::Accepted, Event::Ack(message)) => {
                out.push(ServerAction::Acknowledged(message));
            }

            (State::Proceeding, Event::Timer(Timer::Patience)) => {
                self.end(ServerEnd::Abandoned, out);
            }
            (State::Completed, Event::Timer(Timer::H)) => {
                self.end(ServerEnd::Unacknowledged, out);
            }
            (State::Confirmed, Event::Timer(Timer::I))
            | (State::Accepted, Event::Timer(Timer::L)) => self.end(ServerEnd::Answered, out),

            (
                State::Proceeding | State::Completed | State::Accepted,
                Event::TransportError,
            ) => out.push(ServerAction::TransportFailed),

            // Copies that need no answer.
            (State::Confirmed, Event::Again | Event::Ack(_))
            | (State::Accepted, Event::Again)
            // An ACK of nothing.
            | (State::Proceeding, Event::Ack(_))
            // The user answered already.
            | (
                State::Completed | State::Confirmed,
                Event::Provisional(_) | Event::Success(_) | Event::Failure(_),
            )
            | (
                State::Accepted,
                Event::Provisional(_) | Event::Failure(_),
            )
            // Nothing is being sent.
            | (State::Confirmed, Event::TransportError)
            // Timers of other states, which are disarmed.
            | (
                State::Proceeding,
                Event::Timer(Timer::G | Timer::H | Timer::I | Timer::L),
            )
            | (
                State::Completed,
                Event::Timer(Timer::Trying | Timer::Patience | Timer::I | Timer::L),
            )
            | (
                State::Confirmed,
                Event::Timer(Timer::Trying | Timer::Patience | Timer::G | Timer::H | Timer::L),
            )
            | (
                State::Accepted,
                Event::Timer(Timer::Trying | Timer::Patience | Timer::G | Timer::H | Timer::I),
            )
            | (
                State::Ended,
                Event::Again
                | Event::Ack(_)
                | Event::Provisional(_)
                | Event::Success(_)
                | Event::Failure(_)
                | Event::TransportError
                | Event::Timer(_),
            ) => {}
        }
    }

    fn answer(&mut self, message: Bytes, out: &mut Vec<ServerAction>) {
        self.last = Some(message);
        self.trying = None;
        self.send_last(out);
    }

    fn send_last(&self, out: &mut Vec<ServerAction>) {
        out.extend(self.last.clone().map(ServerAction::Send));
    }

    fn confirm(&mut self, now: Duration, out: &mut Vec<ServerAction>) {
        let wait = self.timing.stragglers(self.transport);
        if wait.is_zero() {
            return self.end(ServerEnd::Answered, out);
        }
        self.state = State::Confirmed;
        self.last = None;
        self.alarms.clear();
        self.alarms.end(Timer::I, now + wait);
    }

    fn end(&mut self, end: ServerEnd, out: &mut Vec<ServerAction>) {
        self.state = State::Ended;
        self.alarms.clear();
        out.push(ServerAction::Ended(end));
    }
}
