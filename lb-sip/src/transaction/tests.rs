//! The machines against the RFC: whole tables of state and event, sequences of times, and histories
//! made up at random.

mod invite_client;
mod invite_server;
mod plain_client;
mod plain_server;
mod properties;

use super::{ClientAction, Response, ServerAction, Status, Timing, Transport};
use bytes::Bytes;
use std::time::Duration;

/// When the transactions of these tests begin.
const START: Duration = Duration::from_secs(1_000);
const DEFAULT: Timing = Timing::DEFAULT;
const UDP: Transport = Transport::Unreliable;
const TCP: Transport = Transport::Reliable;

fn response(code: u16) -> Response {
    Response {
        status: Status::new(code).expect("a status code"),
        message: Bytes::from(code.to_string()),
    }
}

/// What clients ask for, in words.
fn client_words(actions: &[ClientAction]) -> String {
    let words: Vec<String> = actions
        .iter()
        .map(|action| match action {
            ClientAction::Send(_) => "send".to_owned(),
            ClientAction::Acknowledge { response, .. } => {
                format!("ack {}", String::from_utf8_lossy(response))
            }
            ClientAction::Cancel { .. } => "cancel".to_owned(),
            ClientAction::Respond(response) => format!("user {}", response.status.code()),
            ClientAction::Ended(end) => format!("{end:?}"),
        })
        .collect();
    words.join(", ")
}

/// What servers ask for, in words.
fn server_words(actions: &[ServerAction]) -> String {
    let words: Vec<String> = actions
        .iter()
        .map(|action| match action {
            ServerAction::Send(message) => format!("send {}", String::from_utf8_lossy(message)),
            ServerAction::Acknowledged(_) => "user ack".to_owned(),
            ServerAction::TransportFailed => "transport failed".to_owned(),
            ServerAction::Ended(end) => format!("{end:?}"),
        })
        .collect();
    words.join(", ")
}

/// Compares a whole table with what it should be, and shows all rows that differ.
fn assert_table(found: Vec<[String; 3]>, expected: &str) {
    let found: Vec<String> = found
        .into_iter()
        .map(|[state, event, then]| format!("{state} + {event} => {then}").trim_end().to_owned())
        .collect();
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    let differing: Vec<String> = found
        .iter()
        .filter(|row| !expected.contains(&row.as_str()))
        .map(|row| format!("found    {row}"))
        .chain(
            expected
                .iter()
                .filter(|row| !found.iter().any(|found| found == *row))
                .map(|row| format!("expected {row}")),
        )
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert_eq!(found.len(), expected.len(), "a row stands twice");
}

/// Milliseconds since the start.
fn ms(at: Duration) -> u64 {
    (at - START).as_millis() as u64
}

#[test]
fn default_times_are_the_rfcs() {
    let seconds = Duration::from_secs;
    assert_eq!(DEFAULT.give_up(), seconds(32));
    assert_eq!(DEFAULT.d(UDP), seconds(32));
    assert_eq!(DEFAULT.d(TCP), seconds(0));
    assert_eq!(DEFAULT.stragglers(UDP), seconds(5));
    assert_eq!(DEFAULT.stragglers(TCP), seconds(0));
    assert_eq!(DEFAULT.j(UDP), seconds(32));
    assert_eq!(DEFAULT.j(TCP), seconds(0));
    assert!(DEFAULT.c > seconds(180), "§16.6 step 11");
    let quick = Timing {
        t1: Duration::from_millis(10),
        ..DEFAULT
    };
    assert_eq!(quick.give_up(), Duration::from_millis(640));
    assert_eq!(quick.d(UDP), seconds(32), "at least, §17.1.1.2");
}

#[test]
fn status_codes_have_three_digits_and_a_class() {
    use super::Class;
    for code in [0, 99, 700, 1_000, u16::MAX] {
        assert_eq!(Status::new(code), None, "{code}");
    }
    let classes = [
        (100, Class::Provisional),
        (199, Class::Provisional),
        (200, Class::Success),
        (299, Class::Success),
        (300, Class::Failure),
        (699, Class::Failure),
    ];
    for (code, class) in classes {
        let status = Status::new(code).expect("a status code");
        assert_eq!((status.code(), status.class()), (code, class));
    }
}
