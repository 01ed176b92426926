//! All of a process's transactions: found by key, bounded in number, driven by one deadline.

use super::deadlines::Deadlines;
use super::invite_client::InviteClient;
use super::invite_server::{self, InviteServer};
use super::key::{ClientKey, RequestFacts, ServerKey};
use super::plain_client::PlainClient;
use super::plain_server::{self, PlainServer};
use super::{ClientAction, Response, ServerAction, Timing, Transport};
use bytes::Bytes;
use std::collections::HashMap;
use std::time::Duration;

/// Timers that one call of [`Transactions::on_timeout`] fires at most: chosen, so that a caller that
/// was kept from running looks at its sockets in between.
pub const TIMERS_PER_CALL: usize = 256;

/// A client transaction of one table. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

/// A server transaction of one table. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(u64);

/// How many transactions there may be at a time, ended ones not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Requests of our own.
    pub clients: usize,
    /// Requests of others. Counted apart, so that a flood of them leaves room for a BYE of ours.
    pub servers: usize,
}

/// What a transaction asks of the table's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A client transaction asks.
    Client(ClientId, ClientAction),
    /// A server transaction asks.
    Server(ServerId, ServerAction),
}

/// What a request that came in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A new one: the user's, to be answered under this id.
    New(ServerId),
    /// A copy of one that is known, or an ACK that its transaction waits for: done with.
    Known(ServerId),
    /// An ACK of no transaction: one of a success, which belongs to the dialog.
    Ack,
    /// A new one for which there is no room: answer 503 without a transaction (§8.2.7), or drop it.
    /// No transaction gives way to another.
    Full,
}

/// What the user answers a request with.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The tag in its To, by which the ACKs of senders without branches are known.
    pub to_tag: Option<&'a [u8]>,
    /// The answer itself.
    pub response: &'a Response,
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There are as many client transactions as there may be.
    #[error("no room for another client transaction")]
    Full,
    /// A transaction with this branch and method is there.
    #[error("the branch is in use")]
    BranchInUse,
    /// ACK has no transaction of its own (§17).
    #[error("an ACK has no transaction")]
    Ack,
}

/// The transaction is over, or never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction is over")]
pub struct Gone;

#[derive(Debug)]
enum ClientMachine {
    Invite(InviteClient),
    Plain(PlainClient),
}

#[derive(Debug)]
struct Client {
    key: ClientKey,
    machine: ClientMachine,
    deadline: Option<Duration>,
}

#[derive(Debug)]
enum ServerMachine {
    Invite(InviteServer),
    Plain(PlainServer),
}

#[derive(Debug)]
struct Server {
    key: ServerKey,
    /// Under which its ACK is found, if that is not its own key.
    ack_key: Option<ServerKey>,
    machine: ServerMachine,
    deadline: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Client(ClientId),
    Server(ServerId),
}

/// The transactions of a process.
///
/// Every method that takes `out` appends what is to be done, in order. Carry it out before the next
/// call, or keep it: nothing is asked twice. Two tables that are told the same say the same: ids
/// count up, and what is due at one time comes in the order of ids.
///
/// Between them, the maps have one entry for each transaction, and one more for each INVITE without
/// a branch that was answered.
#[derive(Debug)]
pub struct Transactions {
    timing: Timing,
    capacity: Capacity,
    next_id: u64,
    clients: HashMap<ClientId, Client>,
    servers: HashMap<ServerId, Server>,
    client_ids: HashMap<ClientKey, ClientId>,
    server_ids: HashMap<ServerKey, ServerId>,
    deadlines: Deadlines<Id>,
    /// Empty between calls.
    client_actions: Vec<ClientAction>,
    /// Empty between calls.
    server_actions: Vec<ServerAction>,
}

impl Transactions {
    /// No transactions yet.
    pub fn new(timing: Timing, capacity: Capacity) -> Self {
        Self {
            timing,
            capacity,
            next_id: 0,
            clients: HashMap::new(),
            servers: HashMap::new(),
            client_ids: HashMap::new(),
            server_ids: HashMap::new(),
            deadlines: Deadlines::new(),
            client_actions: Vec::new(),
            server_actions: Vec::new(),
        }
    }

    /// Client transactions that are not over.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Server transactions that are not over.
    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    /// When to call [`Transactions::on_timeout`] next.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.deadlines.next()
    }

    /// Fires what is due, [`TIMERS_PER_CALL`] at most; the rest remains due.
    pub fn on_timeout(&mut self, now: Duration, out: &mut Vec<Output>) {
        for _ in 0..TIMERS_PER_CALL {
            match self.deadlines.due(now) {
                None => return,
                Some(Id::Client(id)) => {
                    let _ = self.drive_client(id, out, |machine, actions| match machine {
                        ClientMachine::Invite(machine) => machine.on_timeout(now, actions),
                        ClientMachine::Plain(machine) => machine.on_timeout(now, actions),
                    });
                }
                Some(Id::Server(id)) => {
                    let _ = self.drive_server(id, out, |machine, actions| match machine {
                        ServerMachine::Invite(machine) => machine.on_timeout(now, actions),
                        ServerMachine::Plain(machine) => machine.on_timeout(now, actions),
                    });
                }
            }
        }
    }

    /// Sends a request in a new transaction. The key holds its method.
    pub fn send(
        &mut self,
        now: Duration,
        key: ClientKey,
        transport: Transport,
        request: Bytes,
        out: &mut Vec<Output>,
    ) -> Result<ClientId, SendError> {
        if key.method() == b"ACK" {
            return Err(SendError::Ack);
        }
        if self.clients.len() >= self.capacity.clients {
            return Err(SendError::Full);
        }
        if self.client_ids.contains_key(&key) {
            return Err(SendError::BranchInUse);
        }
        let id = ClientId(self.take_id());
        let actions = &mut self.client_actions;
        let machine = if key.method() == b"INVITE" {
            ClientMachine::Invite(InviteClient::start(
                now,
                self.timing,
                transport,
                request,
                actions,
            ))
        } else {
            ClientMachine::Plain(PlainClient::start(
                now,
                self.timing,
                transport,
                request,
                actions,
            ))
        };
        self.client_ids.insert(key.clone(), id);
        self.clients.insert(
            id,
            Client {
                key,
                machine,
                deadline: None,
            },
        );
        // Known as of the line above.
        let _ = self.drive_client(id, out, |_, _| ());
        Ok(id)
    }

    /// Cancels an INVITE of ours as soon as that is permitted (§9.1). Nothing happens to other
    /// requests, or when the final response is there.
    pub fn cancel(
        &mut self,
        now: Duration,
        id: ClientId,
        out: &mut Vec<Output>,
    ) -> Result<(), Gone> {
        self.drive_client(id, out, |machine, actions| match machine {
            ClientMachine::Invite(machine) => {
                machine.handle(now, super::invite_client::Event::Cancel, actions);
            }
            ClientMachine::Plain(_) => {}
        })
    }

    /// Takes a response, and says whose it is. One that is nobody's is to be dropped by user agents
    /// and servers, and forwarded by a stateless proxy (§18.1.2).
    pub fn response(
        &mut self,
        now: Duration,
        key: &ClientKey,
        response: Response,
        out: &mut Vec<Output>,
    ) -> Result<ClientId, Gone> {
        let id = *self.client_ids.get(key).ok_or(Gone)?;
        self.drive_client(id, out, |machine, actions| match machine {
            ClientMachine::Invite(machine) => machine.handle(now, response.into(), actions),
            ClientMachine::Plain(machine) => machine.handle(now, response.into(), actions),
        })?;
        Ok(id)
    }

    /// What was asked for by a client transaction could not be sent.
    pub fn client_transport_failed(
        &mut self,
        now: Duration,
        id: ClientId,
        out: &mut Vec<Output>,
    ) -> Result<(), Gone> {
        use super::{invite_client, plain_client};
        self.drive_client(id, out, |machine, actions| match machine {
            ClientMachine::Invite(machine) => {
                machine.handle(now, invite_client::Event::TransportError, actions);
            }
            ClientMachine::Plain(machine) => {
                machine.handle(now, plain_client::Event::TransportError, actions);
            }
        })
    }

    /// Takes a request. `trying` makes the 100 for a new INVITE, or not if none shall be sent.
    pub fn request(
        &mut self,
        now: Duration,
        facts: &RequestFacts<'_>,
        transport: Transport,
        message: &Bytes,
        trying: impl FnOnce() -> Option<Bytes>,
        out: &mut Vec<Output>,
    ) -> Incoming {
        let key = ServerKey::of(facts);
        let is_ack = facts.method == b"ACK";
        if let Some(&id) = self.server_ids.get(&key) {
            // What the map names is there.
            let _ = self.drive_server(id, out, |machine, actions| match machine {
                ServerMachine::Invite(machine) if is_ack => {
                    let event = invite_server::Event::Ack(message.clone());
                    machine.handle(now, event, actions);
                }
                ServerMachine::Invite(machine) => {
                    machine.handle(now, invite_server::Event::Again, actions);
                }
                ServerMachine::Plain(machine) => {
                    machine.handle(now, plain_server::Event::Again, actions);
                }
            });
            return Incoming::Known(id);
        }
        if is_ack {
            return Incoming::Ack;
        }
        if self.servers.len() >= self.capacity.servers {
            return Incoming::Full;
        }
        let id = ServerId(self.take_id());
        let machine = if facts.method == b"INVITE" {
            ServerMachine::Invite(InviteServer::start(now, self.timing, transport, trying()))
        } else {
            ServerMachine::Plain(PlainServer::start(now, self.timing, transport))
        };
        self.server_ids.insert(key.clone(), id);
        self.servers.insert(
            id,
            Server {
                key,
                ack_key: None,
                machine,
                deadline: None,
            },
        );
        // Known as of the line above.
        let _ = self.drive_server(id, out, |_, _| ());
        Incoming::New(id)
    }

    /// The INVITE that a CANCEL with these facts is about (§9.2), if its transaction is there.
    pub fn cancelled_by(&self, facts: &RequestFacts<'_>) -> Option<ServerId> {
        self.server_ids
            .get(&ServerKey::of_cancelled(facts))
            .copied()
    }

    /// Answers a request. An answer that comes after the final one is discarded, except one more
    /// success of an INVITE.
    pub fn respond(
        &mut self,
        now: Duration,
        id: ServerId,
        answer: Answer<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Gone> {
        let Answer { to_tag, response } = answer;
        let server = self.servers.get_mut(&id).ok_or(Gone)?;
        if server.ack_key.is_none()
            && response.status.class() != super::Class::Provisional
            && let Some(ack_key) = server.key.acknowledged_with(to_tag)
        {
            // Two INVITEs that differ only in their To tags may be answered with one tag: then the
            // first has the ACK.
            if !self.server_ids.contains_key(&ack_key) {
                self.server_ids.insert(ack_key.clone(), id);
                server.ack_key = Some(ack_key);
            }
        }
        let response = response.clone();
        self.drive_server(id, out, |machine, actions| match machine {
            ServerMachine::Invite(machine) => machine.handle(now, response.into(), actions),
            ServerMachine::Plain(machine) => machine.handle(now, response.into(), actions),
        })
    }

    /// What was asked for by a server transaction could not be sent.
    pub fn server_transport_failed(
        &mut self,
        now: Duration,
        id: ServerId,
        out: &mut Vec<Output>,
    ) -> Result<(), Gone> {
        self.drive_server(id, out, |machine, actions| match machine {
            ServerMachine::Invite(machine) => {
                machine.handle(now, invite_server::Event::TransportError, actions);
            }
            ServerMachine::Plain(machine) => {
                machine.handle(now, plain_server::Event::TransportError, actions);
            }
        })
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Does something to a machine, notes its new deadline, and passes on what it asks for.
    fn drive_client(
        &mut self,
        id: ClientId,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut ClientMachine, &mut Vec<ClientAction>),
    ) -> Result<(), Gone> {
        let client = self.clients.get_mut(&id).ok_or(Gone)?;
        act(&mut client.machine, &mut self.client_actions);
        let next = match &client.machine {
            ClientMachine::Invite(machine) => machine.next_timeout(),
            ClientMachine::Plain(machine) => machine.next_timeout(),
        };
        self.deadlines
            .replace(Id::Client(id), client.deadline, next);
        client.deadline = next;
        for action in self.client_actions.drain(..) {
            if let ClientAction::Ended(_) = action
                && let Some(client) = self.clients.remove(&id)
            {
                self.client_ids.remove(&client.key);
            }
            out.push(Output::Client(id, action));
        }
        Ok(())
    }

    /// As [`Transactions::drive_client`].
    fn drive_server(
        &mut self,
        id: ServerId,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut ServerMachine, &mut Vec<ServerAction>),
    ) -> Result<(), Gone> {
        let server = self.servers.get_mut(&id).ok_or(Gone)?;
        act(&mut server.machine, &mut self.server_actions);
        let next = match &server.machine {
            ServerMachine::Invite(machine) => machine.next_timeout(),
            ServerMachine::Plain(machine) => machine.next_timeout(),
        };
        self.deadlines
            .replace(Id::Server(id), server.deadline, next);
        server.deadline = next;
        for action in self.server_actions.drain(..) {
            if let ServerAction::Ended(_) = action
                && let Some(server) = self.servers.remove(&id)
            {
                self.server_ids.remove(&server.key);
                if let Some(ack_key) = server.ack_key {
                    self.server_ids.remove(&ack_key);
                }
            }
            out.push(Output::Server(id, action));
        }
        Ok(())
    }

    /// Whether the maps agree with one another.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let deadlines = self.clients.values().map(|client| client.deadline);
        let deadlines = deadlines.chain(self.servers.values().map(|server| server.deadline));
        let ack_keys = self
            .servers
            .values()
            .filter(|server| server.ack_key.is_some());
        self.deadlines.len() == deadlines.flatten().count()
            && self.deadlines.len() == self.clients.len() + self.servers.len()
            && self.client_ids.len() == self.clients.len()
            && self.server_ids.len() == self.servers.len() + ack_keys.count()
    }
}

#[cfg(test)]
mod tests;
