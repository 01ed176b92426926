//! Requests of this node's own within the calls that pass: OPTIONS to ask whether a side is there,
//! and BYE.

use super::Output;
use super::ways::{Hop, Way};
use bytes::Bytes;
use lb_sip::build::{self, BuildError};
use lb_sip::dialog::Side;
use lb_sip::dialog::record::InDialog;
use lb_sip::dialog::table::DialogId;
use lb_sip::transaction::key::ClientKey;
use lb_sip::transaction::table::{self, Capacity, ClientId, SendError, Transactions};
use lb_sip::transaction::{ClientAction, ClientEnd, Response, Status, Timing, Transport};
use lb_sip::{Message, Method, Name, RequestBuilder};
use std::collections::HashMap;
use std::time::Duration;

/// Own requests on their way at a time. One more is not sent: the side is asked again later.
const MOST: usize = 8_192;

/// A question to one side of a dialog, or none: a BYE.
pub(crate) type Question = Option<(DialogId, Side)>;

/// What came of a question: the final status, or silence.
pub(crate) type Answer = (DialogId, Side, Option<Status>);

#[derive(Debug)]
struct Asked {
    to: Hop,
    question: Question,
}

/// The requests that are on their way.
#[derive(Debug)]
pub(crate) struct Asking {
    transactions: Transactions,
    asked: HashMap<ClientId, Asked>,
    outputs: Vec<table::Output>,
}

impl Asking {
    pub(crate) fn new() -> Self {
        let capacity = Capacity {
            clients: MOST,
            servers: 0,
        };
        Self {
            transactions: Transactions::new(Timing::DEFAULT, capacity),
            asked: HashMap::new(),
            outputs: Vec::new(),
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn send(
        &mut self,
        now: Duration,
        request: Request,
        question: Question,
        out: &mut Vec<Output>,
    ) -> Result<(), SendError> {
        let Request { to, key, bytes } = request;
        let transport = match to.way {
            Way::Datagram(_) => Transport::Unreliable,
            Way::Stream(_) => Transport::Reliable,
        };
        let outputs = &mut self.outputs;
        let id = self
            .transactions
            .send(now, key, transport, bytes, outputs)?;
        self.asked.insert(id, Asked { to, question });
        self.carry_out(out, &mut Vec::new());
        Ok(())
    }

    /// Takes a response with our Via alone.
    pub(crate) fn response(
        &mut self,
        now: Duration,
        response: &Message,
        out: &mut Vec<Output>,
        answers: &mut Vec<Answer>,
    ) {
        let key = response.top_via().ok().and_then(|via| {
            let branch = via.branch()?;
            Some(ClientKey::new(branch, response.cseq().ok()?.method))
        });
        let status = response.status().and_then(Status::new);
        let (Some(key), Some(status)) = (key, status) else {
            return;
        };
        let message = response.bytes().clone();
        let response = Response { status, message };
        // One to a request that is over is nobody's (§18.1.2).
        let _ = self
            .transactions
            .response(now, &key, response, &mut self.outputs);
        self.carry_out(out, answers);
    }

    /// How many more there is room for. Those that were answered keep theirs for another 5 s (timer K,
    /// §17.1.2.2).
    pub(crate) fn room(&self) -> usize {
        MOST.saturating_sub(self.transactions.clients())
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.transactions.next_timeout()
    }

    pub(crate) fn on_timeout(
        &mut self,
        now: Duration,
        out: &mut Vec<Output>,
        answers: &mut Vec<Answer>,
    ) {
        self.transactions.on_timeout(now, &mut self.outputs);
        self.carry_out(out, answers);
    }

    fn carry_out(&mut self, out: &mut Vec<Output>, answers: &mut Vec<Answer>) {
        for output in self.outputs.drain(..) {
            // No INVITE is sent here, and no request of others answered.
            let table::Output::Client(id, action) = output else {
                continue;
            };
            let Some(asked) = self.asked.get(&id) else {
                continue;
            };
            match action {
                ClientAction::Send(bytes) => out.push(Output::Send {
                    to: asked.to,
                    bytes,
                }),
                ClientAction::Respond(response) => {
                    if let Some((dialog, side)) = asked.question
                        && response.status.code() >= 200
                    {
                        answers.push((dialog, side, Some(response.status)));
                    }
                }
                ClientAction::Ended(end) => {
                    let is_silence =
                        matches!(end, ClientEnd::TimedOut | ClientEnd::TransportFailed);
                    if let Some((dialog, side)) = asked.question.filter(|_| is_silence) {
                        answers.push((dialog, side, None));
                    }
                    self.asked.remove(&id);
                }
                ClientAction::Acknowledge { .. } | ClientAction::Cancel { .. } => {}
            }
        }
    }
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Request {
    to: Hop,
    key: ClientKey,
    bytes: Bytes,
}

impl Request {
    /// The CANCEL of an INVITE, which goes where that went (RFC 3261 §9.1).
    ///
    /// # Errors
    /// The INVITE lacks what the CANCEL repeats.
    pub(crate) fn cancel(invite: &Message, to: Hop) -> Result<Self, BuildError> {
        let bytes = build::cancel_for(invite)?;
        let branch = invite.top_via()?.written_branch().unwrap_or_default();
        let key = ClientKey::new(branch, Method::Cancel.as_str().as_bytes());
        Ok(Self { to, key, bytes })
    }

    /// Sends it once, without waiting for an answer: an ACK.
    pub(crate) fn once(self) -> Output {
        Output::Send {
            to: self.to,
            bytes: self.bytes,
        }
    }

    /// An OPTIONS or BYE within a dialog, or the ACK that makes one.
    ///
    /// # Errors
    /// A value of the dialog's cannot stand in a request.
    pub(crate) fn within(
        dialog: &InDialog,
        method: Method,
        via: &str,
        branch: &str,
        to: Hop,
    ) -> Result<Self, BuildError> {
        let tagged = |address: &Bytes, tag: &Option<Bytes>| {
            let mut value = on_one_line(address);
            if let Some(tag) = tag {
                value.extend_from_slice(b";tag=");
                value.extend_from_slice(tag);
            }
            value
        };
        let mut request =
            RequestBuilder::new(method.as_str(), &dialog.request_uri).header(Name::Via, via);
        for route in &dialog.routes {
            request = request.header(Name::Route, on_one_line(route));
        }
        let bytes = request
            .header(Name::From, tagged(&dialog.from, &dialog.from_tag))
            .header(Name::To, tagged(&dialog.to, &dialog.to_tag))
            .header(Name::CallId, &dialog.call_id)
            .cseq(dialog.cseq)
            .finish()?;
        let key = ClientKey::new(branch.as_bytes(), method.as_str().as_bytes());
        Ok(Self { to, key, bytes })
    }
}

/// Folds are white space (RFC 3261 §7.3.1).
fn on_one_line(value: &[u8]) -> Vec<u8> {
    let space = |byte: &u8| match byte {
        b'\r' | b'\n' => b' ',
        byte => *byte,
    };
    value.iter().map(space).collect()
}
