//! The INVITE client transaction (RFC 3261 §17.1.1, RFC 6026 §7.2).

use super::deadlines::Alarms;
use super::{Class, ClientAction, ClientEnd, Response, Timing, Transport};
use bytes::Bytes;
use std::time::Duration;

/// Where an INVITE client transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The INVITE was sent; nothing came back.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// A provisional response came, and a CANCEL was asked for.
    Cancelling,
    /// A failure came and was acknowledged; its copies are awaited.
    Completed,
    /// A success came; its copies, and successes of other forks, are awaited.
    Accepted,
    /// Over.
    Ended,
}

/// The timers of an INVITE client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Sends the INVITE again, after T1 and then twice as long each time. Not on reliable transports.
    A,
    /// Gives up: no response in 64 × T1.
    B,
    /// Cancels: no final response, and no further provisional one, for three minutes (§16.6 step 11).
    C,
    /// Gives up: no final response in 64 × T1 since the CANCEL (§9.1).
    Cancelled,
    /// Ends the wait for copies of a failure.
    D,
    /// Ends the wait for copies of a success, and for other forks: 64 × T1.
    M,
}

/// What happens to an INVITE client transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A provisional response came.
    Provisional(Response),
    /// A 2xx came.
    Success(Response),
    /// A 3xx–6xx came.
    Failure(Response),
    /// The user wants it no more.
    Cancel,
    /// The transport could not send.
    TransportError,
    /// A timer fired.
    Timer(Timer),
}

impl From<Response> for Event {
    fn from(response: Response) -> Self {
        match response.status.class() {
            Class::Provisional => Self::Provisional(response),
            Class::Success => Self::Success(response),
            Class::Failure => Self::Failure(response),
        }
    }
}

/// One INVITE that was sent.
///
/// ```text
///        start: send INVITE, A, B                         B or transport error: timed out, failed
///                 │                 ┌───────────────────────────────────────────────► Ended
///        A: send  ▼                 │                                                   ▲ ▲ ▲ ▲
///          ┌── Calling ─────────────┤ 2xx: to user ──────────────► Accepted ── M ───────┘ │ │ │
///          └─────►│                 │                              ▲ ▲   │ ▲              │ │ │
///            1xx: │ to user, C      │                              │ │   └─┘ 2xx: to user │ │ │
///                 ▼                 │      2xx: to user            │ │                    │ │ │
///           Proceeding ─────────────│──────────────────────────────┘ │                    │ │ │
///           1xx: to │   │           │ 3xx–6xx: ack, to user          │                    │ │ │
///           user, C │   └───────────┴────────────► Completed ── D, or transport error ────┘ │ │
///  cancel, or C:    ▼                              ▲    │ ▲                                 │ │
///  ask for CANCEL  Cancelling ── 3xx–6xx: ack, ────┘    └─┘ 3xx–6xx: ack                    │ │
///                   │   │        to user                                                    │ │
///                   │   └─ 2xx: to user ─────────────► Accepted                             │ │
///                   └─ 64 × T1: timed out ──────────────────────────────────────────────────┘ │
/// ```
/// The edges are Figure 5 of RFC 3261 as RFC 6026 §7.2 redraws it (its state Accepted and timer M),
/// and CANCEL's rules (§9.1): a cancel that comes while calling waits for the first provisional
/// response, and what is cancelled ends 64 × T1 later at the latest. Timer C (§16.6 step 11, §16.8) is
/// in the machine although the RFC gives it to proxies, since without it Proceeding has no end. A
/// transport error while proceeding is nothing: the transaction sends nothing then, and the
/// response may come by another connection (§18.2.2).
#[derive(Debug)]
pub struct InviteClient {
    timing: Timing,
    transport: Transport,
    request: Bytes,
    state: State,
    /// Timer A's next interval.
    interval: Duration,
    alarms: Alarms<Timer>,
    /// A CANCEL is due as soon as a provisional response permits it.
    is_cancel_wanted: bool,
}

impl InviteClient {
    /// Begins: sends the INVITE.
    pub fn start(
        now: Duration,
        timing: Timing,
        transport: Transport,
        request: Bytes,
        out: &mut Vec<ClientAction>,
    ) -> Self {
        out.push(ClientAction::Send(request.clone()));
        let mut alarms = Alarms::none();
        alarms.end(Timer::B, now + timing.give_up());
        if transport == Transport::Unreliable {
            alarms.repeat(Timer::A, now + timing.t1);
        }
        Self {
            timing,
            transport,
            request,
            state: State::Calling,
            interval: timing.t1,
            alarms,
            is_cancel_wanted: false,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// When to call [`InviteClient::on_timeout`] next.
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
            (State::Calling, Event::Timer(Timer::A)) => {
                out.push(ClientAction::Send(self.request.clone()));
                self.interval = self.interval.saturating_mul(2);
                self.alarms.repeat(Timer::A, now + self.interval);
            }
            (State::Calling, Event::Provisional(response)) => {
                out.push(ClientAction::Respond(response));
                self.state = State::Proceeding;
                self.alarms.stop_repeating();
                self.alarms.end(Timer::C, now + self.timing.c);
                if self.is_cancel_wanted {
                    self.cancel(now, out);
                }
            }
            (State::Calling, Event::Cancel) => self.is_cancel_wanted = true,

            (State::Proceeding, Event::Provisional(response)) => {
                // §16.7 step 2: timer C starts anew with 101–199, not with 100.
                if response.status != super::Status::TRYING {
                    self.alarms.end(Timer::C, now + self.timing.c);
                }
                out.push(ClientAction::Respond(response));
            }
            (State::Proceeding, Event::Cancel | Event::Timer(Timer::C)) => self.cancel(now, out),

            (State::Cancelling, Event::Provisional(response)) => {
                out.push(ClientAction::Respond(response));
            }

            (
                State::Calling | State::Proceeding | State::Cancelling,
                Event::Success(response),
            ) => {
                out.push(ClientAction::Respond(response));
                self.state = State::Accepted;
                self.alarms.clear();
                self.alarms.end(Timer::M, now + self.timing.give_up());
            }
            (
                State::Calling | State::Proceeding | State::Cancelling,
                Event::Failure(response),
            ) => {
                self.acknowledge(&response, out);
                out.push(ClientAction::Respond(response));
                self.complete(now, out);
            }
            (State::Accepted, Event::Success(response)) => {
                out.push(ClientAction::Respond(response));
            }
            (State::Completed, Event::Failure(response)) => self.acknowledge(&response, out),

            (State::Calling, Event::Timer(Timer::B))
            | (State::Cancelling, Event::Timer(Timer::Cancelled)) => {
                self.end(ClientEnd::TimedOut, out);
            }
            (State::Calling, Event::TransportError) => {
                self.end(ClientEnd::TransportFailed, out);
            }
            (State::Completed, Event::TransportError) => self.end(ClientEnd::AckFailed, out),
            (State::Completed, Event::Timer(Timer::D))
            | (State::Accepted, Event::Timer(Timer::M)) => self.end(ClientEnd::Answered, out),

            // The transaction sends nothing in these states: it is somebody else's error.
            (
                State::Proceeding | State::Cancelling | State::Accepted,
                Event::TransportError,
            )
            // Late, or about what has been settled.
            | (State::Cancelling, Event::Cancel)
            | (
                State::Completed,
                Event::Provisional(_) | Event::Success(_) | Event::Cancel,
            )
            | (
                State::Accepted,
                Event::Provisional(_) | Event::Failure(_) | Event::Cancel,
            )
            | (
                State::Ended,
                Event::Provisional(_)
                | Event::Success(_)
                | Event::Failure(_)
                | Event::Cancel
                | Event::TransportError
                | Event::Timer(_),
            )
            // Timers of other states, which are disarmed.
            | (
                State::Calling,
                Event::Timer(Timer::C | Timer::Cancelled | Timer::D | Timer::M),
            )
            | (
                State::Proceeding,
                Event::Timer(Timer::A | Timer::B | Timer::Cancelled | Timer::D | Timer::M),
            )
            | (
                State::Cancelling,
                Event::Timer(Timer::A | Timer::B | Timer::C | Timer::D | Timer::M),
            )
            | (
                State::Completed,
                Event::Timer(Timer::A | Timer::B | Timer::C | Timer::Cancelled | Timer::M),
            )
            | (
                State::Accepted,
                Event::Timer(Timer::A | Timer::B | Timer::C | Timer::Cancelled | Timer::D),
            ) => {}
        }
    }

    fn cancel(&mut self, now: Duration, out: &mut Vec<ClientAction>) {
        out.push(ClientAction::Cancel {
            request: self.request.clone(),
        });
        self.state = State::Cancelling;
        self.alarms
            .end(Timer::Cancelled, now + self.timing.give_up());
    }

    fn acknowledge(&self, response: &Response, out: &mut Vec<ClientAction>) {
        out.push(ClientAction::Acknowledge {
            request: self.request.clone(),
            response: response.message.clone(),
        });
    }

    fn complete(&mut self, now: Duration, out: &mut Vec<ClientAction>) {
        let wait = self.timing.d(self.transport);
        if wait.is_zero() {
            return self.end(ClientEnd::Answered, out);
        }
        self.state = State::Completed;
        self.alarms.clear();
        self.alarms.end(Timer::D, now + wait);
    }

    fn end(&mut self, end: ClientEnd, out: &mut Vec<ClientAction>) {
        self.state = State::Ended;
        self.alarms.clear();
        out.push(ClientAction::Ended(end));
    }
}
