//! The table: what finds what, what does not fit, and what time does to many.

use super::*;
use crate::transaction::{ClientEnd, ServerEnd, Status};

const T0: Duration = Duration::from_secs(100);
const UDP: Transport = Transport::Unreliable;

fn table(clients: usize, servers: usize) -> Transactions {
    Transactions::new(Timing::DEFAULT, Capacity { clients, servers })
}

fn facts(method: &'static str, branch: &'static str) -> RequestFacts<'static> {
    RequestFacts {
        method: method.as_bytes(),
        request_uri: b"sip:bob@example.com",
        branch: Some(branch.as_bytes()).filter(|branch| !branch.is_empty()),
        sent_by: b"192.0.2.1",
        top_via: b"SIP/2.0/UDP 192.0.2.1",
        call_id: b"call",
        cseq: 1,
        from_tag: Some(b"a"),
        to_tag: None,
    }
}

fn response(code: u16) -> Response {
    Response {
        status: Status::new(code).expect("a status code"),
        message: Bytes::from(code.to_string()),
    }
}

fn take(
    table: &mut Transactions,
    now: Duration,
    facts: &RequestFacts<'_>,
    out: &mut Vec<Output>,
) -> Incoming {
    let message = Bytes::copy_from_slice(facts.method);
    let incoming = table.request(now, facts, UDP, &message, || None, out);
    assert!(table.is_consistent());
    incoming
}

fn new(table: &mut Transactions, facts: &RequestFacts<'_>) -> ServerId {
    match take(table, T0, facts, &mut Vec::new()) {
        Incoming::New(id) => id,
        other => panic!("not new but {other:?}"),
    }
}

fn answer<'a>(response: &'a Response, to_tag: &'a [u8]) -> Answer<'a> {
    Answer {
        to_tag: Some(to_tag),
        response,
    }
}

/// Lets time pass until nothing is due any more; returns what was asked for, by time.
fn settle(table: &mut Transactions) -> Vec<(Duration, Output)> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    while let Some(at) = table.next_timeout() {
        table.on_timeout(at, &mut out);
        assert!(table.is_consistent());
        seen.extend(out.drain(..).map(|output| (at, output)));
    }
    seen
}

#[test]
fn a_redirected_invite_from_first_to_last() {
    let mut table = table(10, 10);
    let mut out = Vec::new();
    let invite = facts("INVITE", "z9hG4bK1");
    let id = new(&mut table, &invite);
    table
        .respond(T0, id, answer(&response(302), b"b"), &mut out)
        .expect("known");
    assert_eq!(
        take(&mut table, T0, &invite, &mut out),
        Incoming::Known(id),
        "a copy"
    );
    assert_eq!(
        take(&mut table, T0, &facts("ACK", "z9hG4bK1"), &mut out),
        Incoming::Known(id)
    );
    let sent = Output::Server(id, ServerAction::Send("302".into()));
    assert_eq!(out, [sent.clone(), sent]);
    let end = Output::Server(id, ServerAction::Ended(ServerEnd::Answered));
    assert_eq!(settle(&mut table), [(T0 + Duration::from_secs(5), end)]);
    assert_eq!(table.servers(), 0);
    assert_eq!(
        table.respond(T0, id, answer(&response(200), b"b"), &mut out),
        Err(Gone)
    );
}

#[test]
fn without_branches_an_ack_finds_its_invite_by_the_answers_tag() {
    let mut table = table(10, 10);
    let mut out = Vec::new();
    let id = new(&mut table, &facts("INVITE", ""));
    table
        .respond(T0, id, answer(&response(302), b"b"), &mut out)
        .expect("known");
    let ack = |to_tag: &'static [u8]| RequestFacts {
        to_tag: Some(to_tag),
        ..facts("ACK", "")
    };
    assert_eq!(
        take(&mut table, T0, &ack(b"c"), &mut out),
        Incoming::Ack,
        "of another answer"
    );
    assert_eq!(
        take(&mut table, T0, &ack(b"b"), &mut out),
        Incoming::Known(id)
    );
    settle(&mut table);
    assert_eq!(
        take(&mut table, T0, &ack(b"b"), &mut out),
        Incoming::Ack,
        "the transaction is over"
    );
}

#[test]
fn a_cancel_is_a_transaction_and_names_its_invite() {
    let mut table = table(10, 10);
    let invite = new(&mut table, &facts("INVITE", "z9hG4bK1"));
    let cancel = facts("CANCEL", "z9hG4bK1");
    assert_eq!(table.cancelled_by(&cancel), Some(invite));
    assert_ne!(new(&mut table, &cancel), invite);
    assert_eq!(table.cancelled_by(&facts("CANCEL", "z9hG4bK2")), None);
}

#[test]
fn a_full_table_refuses_what_is_new_and_nothing_else() {
    let mut table = table(1, 1);
    let mut out = Vec::new();
    let invite = facts("INVITE", "z9hG4bK1");
    let id = new(&mut table, &invite);
    assert_eq!(
        take(&mut table, T0, &facts("INVITE", "z9hG4bK2"), &mut out),
        Incoming::Full
    );
    assert_eq!(take(&mut table, T0, &invite, &mut out), Incoming::Known(id));
    assert_eq!(
        take(&mut table, T0, &facts("ACK", "z9hG4bK2"), &mut out),
        Incoming::Ack
    );
    // Requests of our own have room of their own.
    let key = |branch: &[u8]| ClientKey::new(branch, b"BYE");
    let send =
        |table: &mut Transactions, key| table.send(T0, key, UDP, "BYE".into(), &mut Vec::new());
    assert!(send(&mut table, key(b"z9hG4bK3")).is_ok());
    assert_eq!(send(&mut table, key(b"z9hG4bK4")), Err(SendError::Full));
    settle(&mut table);
    assert!(matches!(
        take(&mut table, T0, &facts("INVITE", "z9hG4bK2"), &mut out),
        Incoming::New(_)
    ));
    assert!(send(&mut table, key(b"z9hG4bK4")).is_ok());
}

#[test]
fn responses_find_their_request_by_branch_and_method() {
    let mut table = table(10, 10);
    let mut out = Vec::new();
    let branch = b"z9hG4bK1";
    let [invite, cancel] = [b"INVITE".as_slice(), b"CANCEL"].map(|method| {
        let request = Bytes::copy_from_slice(method);
        let key = ClientKey::new(branch, method);
        table
            .send(T0, key, UDP, request, &mut Vec::new())
            .expect("room")
    });
    assert_eq!(
        table.send(
            T0,
            ClientKey::new(branch, b"INVITE"),
            UDP,
            "INVITE".into(),
            &mut out
        ),
        Err(SendError::BranchInUse)
    );
    assert_eq!(
        table.send(
            T0,
            ClientKey::new(branch, b"ACK"),
            UDP,
            "ACK".into(),
            &mut out
        ),
        Err(SendError::Ack)
    );
    for (method, id) in [(b"INVITE".as_slice(), invite), (b"CANCEL", cancel)] {
        let key = ClientKey::new(branch, method);
        assert_eq!(table.response(T0, &key, response(200), &mut out), Ok(id));
    }
    assert_eq!(
        table.response(
            T0,
            &ClientKey::new(b"z9hG4bK2", b"INVITE"),
            response(200),
            &mut out
        ),
        Err(Gone)
    );
    assert!(table.is_consistent());
}

#[test]
fn a_cancel_of_ours_and_what_comes_of_it() {
    let mut table = table(10, 10);
    let mut out = Vec::new();
    let key = ClientKey::new(b"z9hG4bK1", b"INVITE");
    let id = table
        .send(T0, key.clone(), UDP, "INVITE".into(), &mut out)
        .expect("room");
    table.cancel(T0, id, &mut out).expect("known");
    out.clear();
    table
        .response(T0, &key, response(180), &mut out)
        .expect("known");
    let request = Bytes::from("INVITE");
    assert_eq!(out[1], Output::Client(id, ClientAction::Cancel { request }));
    let timed_out = Output::Client(id, ClientAction::Ended(ClientEnd::TimedOut));
    assert_eq!(
        settle(&mut table),
        [(T0 + Duration::from_secs(32), timed_out)]
    );
    assert_eq!(table.cancel(T0, id, &mut out), Err(Gone));
}

#[test]
fn transport_errors_end_clients_and_not_servers() {
    let mut table = table(10, 10);
    let mut out = Vec::new();
    let server = new(&mut table, &facts("INVITE", "z9hG4bK1"));
    table
        .respond(T0, server, answer(&response(503), b"b"), &mut out)
        .expect("known");
    let client = table
        .send(
            T0,
            ClientKey::new(b"z9hG4bK2", b"OPTIONS"),
            UDP,
            "OPTIONS".into(),
            &mut out,
        )
        .expect("room");
    out.clear();
    table
        .server_transport_failed(T0, server, &mut out)
        .expect("known");
    table
        .client_transport_failed(T0, client, &mut out)
        .expect("known");
    assert_eq!(
        out,
        [
            Output::Server(server, ServerAction::TransportFailed),
            Output::Client(client, ClientAction::Ended(ClientEnd::TransportFailed)),
        ]
    );
    assert_eq!((table.clients(), table.servers()), (0, 1));
}

#[test]
fn what_is_due_at_once_comes_in_order_and_in_batches() {
    let count = TIMERS_PER_CALL + 10;
    let mut table = table(count, 0);
    let mut out = Vec::new();
    let ids: Vec<ClientId> = (0..count)
        .map(|branch| {
            let key = ClientKey::new(branch.to_string().as_bytes(), b"BYE");
            table
                .send(T0, key, UDP, "BYE".into(), &mut out)
                .expect("room")
        })
        .collect();
    out.clear();
    let due = T0 + Duration::from_millis(500);
    table.on_timeout(due, &mut out);
    assert_eq!(out.len(), TIMERS_PER_CALL);
    assert_eq!(table.next_timeout(), Some(due), "the rest is still due");
    table.on_timeout(due, &mut out);
    let sent: Vec<Output> = ids
        .into_iter()
        .map(|id| Output::Client(id, ClientAction::Send("BYE".into())))
        .collect();
    assert_eq!(out, sent);
    assert_eq!(
        table.next_timeout(),
        Some(T0 + Duration::from_millis(1_500))
    );
}
