//! The non-INVITE client transaction (RFC 3261 §17.1.2).

use super::deadlines::Alarms;
use super::{Class, ClientAction, ClientEnd, Response, Timing, Transport};
use bytes::Bytes;
use std::time::Duration;

/// Where a non-INVITE client transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The request was sent; nothing came back.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// The final response came; its copies are awaited.
    Completed,
    /// Over.
    Ended,
}

/// The timers of a non-INVITE client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Sends the request again: after T1, then twice as long each time up to T2; every T2 once a
    /// provisional response has come. Not on reliable transports.
    E,
    /// Gives up: no final response in 64 × T1.
    F,
    /// Ends the wait for copies of the final response.
    K,
}

/// What happens to a non-INVITE client transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A provisional response came.
    Provisional(Response),
    /// A final response came.
    Final(Response),
    /// The transport could not send.
    TransportError,
    /// A timer fired.
    Timer(Timer),
}

impl From<Response> for Event {
    fn from(response: Response) -> Self {
        match response.status.class() {
            Class::Provisional => Self::Provisional(response),
            Class::Success | Class::Failure => Self::Final(response),
        }
    }
}

/// One request other than INVITE and ACK that was sent.
///
/// ```text
///        start: send request, E, F
///                 │
///        E: send  ▼        F, or transport error: timed out, failed
///          ┌─► Trying ────────────────────────────────────────────► Ended
///          └──────┤  │                                              ▲  ▲
///            1xx: │  │ 2xx–6xx: to user                             │  │
///         to user │  └───────────────────► Completed ────── K ──────┘  │
///                 ▼        2xx–6xx         ▲   │ ▲                     │
///          ┌─► Proceeding ─ to user ───────┘   └─┘ anything: absorbed  │
///          └──────┘  └───── F, or transport error: timed out, failed ──┘
///     E: send; 1xx: to user
/// ```
/// The edges are Figure 6 of RFC 3261.
#[derive(Debug)]
pub struct PlainClient {
    timing: Timing,
    transport: Transport,
    request: Bytes,
    state: State,
    /// Timer E's next interval.
    interval: Duration,
    alarms: Alarms<Timer>,
}

impl PlainClient {
    /// Begins: sends the request.
    pub fn start(
        now: Duration,
        timing: Timing,
        transport: Transport,
        request: Bytes,
        out: &mut Vec<ClientAction>,
    ) -> Self {
        out.push(ClientAction::Send(request.clone()));
        let mut alarms = Alarms::none();
        alarms.end(Timer::F, now + timing.give_up());
        if transport == Transport::Unreliable {
            alarms.repeat(Timer::E, now + timing.t1);
        }
        Self {
            timing,
            transport,
            request,
            state: State::Trying,
            interval: timing.t1,
            alarms,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// When to call [`PlainClient::on_timeout`] next.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.alarms.next()
    }

    /// Fires one timer, if one is due.
    pub fn on_timeout(&mut self, now: Duration, out: &mut Vec<ClientAction>) {
        if let Some(timer) = self.alarms.take_due(now) {
            self.handle(now, Event::Timer(timer), out);
        }
    }

    /// Takes one event.
    pub fn handle(&mut self, now: Duration, event: Event, out: &mut Vec<ClientAction>) {
        match (self.state, event) {
            (State::Trying, Event::Timer(Timer::E)) => {
                let interval = self.interval.saturating_mul(2).min(self.timing.t2);
                self.send_again(now, interval, out);
            }
            (State::Proceeding, Event::Timer(Timer::E)) => {
                self.send_again(now, self.timing.t2, out);
            }
            (State::Trying | State::Proceeding, Event::Provisional(response)) => {
                out.push(ClientAction::Respond(response));
                self.state = State::Proceeding;
            }
            (State::Trying | State::Proceeding, Event::Final(response)) => {
                out.push(ClientAction::Respond(response));
                self.complete(now, out);
            }
            (State::Trying | State::Proceeding, Event::Timer(Timer::F)) => {
                self.end(ClientEnd::TimedOut, out);
            }
            (State::Trying | State::Proceeding, Event::TransportError) => {
                self.end(ClientEnd::TransportFailed, out);
            }
            (State::Completed, Event::Timer(Timer::K)) => self.end(ClientEnd::Answered, out),

            // Late, or timers of other states, which are disarmed.
            (State::Trying | State::Proceeding, Event::Timer(Timer::K))
            | (
                State::Completed,
                Event::Provisional(_)
                | Event::Final(_)
                | Event::TransportError
                | Event::Timer(Timer::E | Timer::F),
            )
            | (
                State::Ended,
                Event::Provisional(_) | Event::Final(_) | Event::TransportError | Event::Timer(_),
            ) => {}
        }
    }

    fn send_again(&mut self, now: Duration, interval: Duration, out: &mut Vec<ClientAction>) {
        out.push(ClientAction::Send(self.request.clone()));
        self.interval = interval;
        self.alarms.repeat(Timer::E, now + interval);
    }

    fn complete(&mut self, now: Duration, out: &mut Vec<ClientAction>) {
        let wait = self.timing.stragglers(self.transport);
        if wait.is_zero() {
            return self.end(ClientEnd::Answered, out);
        }
        self.state = State::Completed;
        self.alarms.clear();
        self.alarms.end(Timer::K, now + wait);
    }

    fn end(&mut self, end: ClientEnd, out: &mut Vec<ClientAction>) {
        self.state = State::Ended;
        self.alarms.clear();
        out.push(ClientAction::Ended(end));
    }
}
