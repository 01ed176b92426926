//! Figure 8 of RFC 3261.

use super::super::plain_server::{Event, PlainServer, Timer};
use super::*;

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("again", Event::Again),
        ("100", response(100).into()),
        ("200", response(200).into()),
        ("404", response(404).into()),
        ("error", Event::TransportError),
        ("Patience", Event::Timer(Timer::Patience)),
        ("J", Event::Timer(Timer::J)),
    ]
}

#[test]
fn the_whole_table_over_udp() {
    let ways: [Vec<Event>; 4] = [
        vec![],
        vec![response(183).into()],
        vec![response(202).into()],
        vec![Event::Timer(Timer::Patience)],
    ];
    let mut rows = Vec::new();
    for way in ways {
        for (name, event) in events() {
            let mut server = PlainServer::start(START, DEFAULT, UDP);
            let mut out = Vec::new();
            for event in &way {
                server.handle(START, event.clone(), &mut out);
            }
            out.clear();
            let before = server.state();
            server.handle(START, event, &mut out);
            let then = format!("{} -> {:?}", server_words(&out), server.state());
            rows.push([format!("{before:?}"), name.to_owned(), then]);
        }
    }
    assert_table(
        rows,
        "Trying + again =>  -> Trying
        Trying + 100 => send 100 -> Proceeding
        Trying + 200 => send 200 -> Completed
        Trying + 404 => send 404 -> Completed
        Trying + error =>  -> Trying
        Trying + Patience => Abandoned -> Ended
        Trying + J =>  -> Trying
        Proceeding + again => send 183 -> Proceeding
        Proceeding + 100 => send 100 -> Proceeding
        Proceeding + 200 => send 200 -> Completed
        Proceeding + 404 => send 404 -> Completed
        Proceeding + error => transport failed -> Proceeding
        Proceeding + Patience => Abandoned -> Ended
        Proceeding + J =>  -> Proceeding
        Completed + again => send 202 -> Completed
        Completed + 100 =>  -> Completed
        Completed + 200 =>  -> Completed
        Completed + 404 =>  -> Completed
        Completed + error => transport failed -> Completed
        Completed + Patience =>  -> Completed
        Completed + J => Answered -> Ended
        Ended + again =>  -> Ended
        Ended + 100 =>  -> Ended
        Ended + 200 =>  -> Ended
        Ended + 404 =>  -> Ended
        Ended + error =>  -> Ended
        Ended + Patience =>  -> Ended
        Ended + J =>  -> Ended",
    );
}

#[test]
fn a_user_is_waited_for_as_long_as_the_client_waits() {
    let mut server = PlainServer::start(START, DEFAULT, UDP);
    let mut out = Vec::new();
    let late = START + Duration::from_secs(20);
    server.handle(late, response(100).into(), &mut out);
    // A provisional response does not make the client wait longer (timer F).
    assert_eq!(server.next_timeout().map(ms), Some(32_000));
}

#[test]
fn copies_are_answered_for_timer_j() {
    let mut server = PlainServer::start(START, DEFAULT, UDP);
    let mut out = Vec::new();
    server.handle(START, response(200).into(), &mut out);
    assert_eq!(server.next_timeout().map(ms), Some(32_000));
    let mut server = PlainServer::start(START, DEFAULT, TCP);
    server.handle(START, response(200).into(), &mut out);
    assert_eq!(server.next_timeout(), None);
    assert_eq!(server_words(&out), "send 200, send 200, Answered");
}
