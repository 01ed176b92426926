//! Figure 7 of RFC 3261, as RFC 6026 redraws it.

use super::super::TRYING_AFTER;
use super::super::invite_server::{Event, InviteServer, State, Timer};
use super::*;

fn start(transport: Transport) -> InviteServer {
    InviteServer::start(START, DEFAULT, transport, Some("100".into()))
}

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("again", Event::Again),
        ("ACK", Event::Ack("ACK".into())),
        ("180", response(180).into()),
        ("200", response(200).into()),
        ("486", response(486).into()),
        ("error", Event::TransportError),
        ("Trying", Event::Timer(Timer::Trying)),
        ("Patience", Event::Timer(Timer::Patience)),
        ("G", Event::Timer(Timer::G)),
        ("H", Event::Timer(Timer::H)),
        ("I", Event::Timer(Timer::I)),
        ("L", Event::Timer(Timer::L)),
    ]
}

#[test]
fn the_whole_table_over_udp() {
    let ways: [Vec<Event>; 6] = [
        vec![],
        vec![response(183).into()],
        vec![response(503).into()],
        vec![response(503).into(), Event::Ack("ACK".into())],
        vec![response(200).into()],
        vec![Event::Timer(Timer::Patience)],
    ];
    let mut rows = Vec::new();
    for (index, way) in ways.into_iter().enumerate() {
        for (name, event) in events() {
            let mut server = start(UDP);
            let mut out = Vec::new();
            for event in &way {
                server.handle(START, event.clone(), &mut out);
            }
            out.clear();
            let mut before = format!("{:?}", server.state());
            if index == 1 {
                before.push_str(" after 183");
            }
            let unchanged = server.state();
            server.handle(START, event, &mut out);
            let mut then = server_words(&out);
            if server.state() != unchanged {
                then += &format!(" -> {:?}", server.state());
            }
            rows.push([before, name.to_owned(), then]);
        }
    }
    assert_table(
        rows,
        "Proceeding + again =>
        Proceeding + ACK =>
        Proceeding + 180 => send 180
        Proceeding + 200 => send 200 -> Accepted
        Proceeding + 486 => send 486 -> Completed
        Proceeding + error => transport failed
        Proceeding + Trying => send 100
        Proceeding + Patience => Abandoned -> Ended
        Proceeding + G =>
        Proceeding + H =>
        Proceeding + I =>
        Proceeding + L =>
        Proceeding after 183 + again => send 183
        Proceeding after 183 + ACK =>
        Proceeding after 183 + 180 => send 180
        Proceeding after 183 + 200 => send 200 -> Accepted
        Proceeding after 183 + 486 => send 486 -> Completed
        Proceeding after 183 + error => transport failed
        Proceeding after 183 + Trying =>
        Proceeding after 183 + Patience => Abandoned -> Ended
        Proceeding after 183 + G =>
        Proceeding after 183 + H =>
        Proceeding after 183 + I =>
        Proceeding after 183 + L =>
        Completed + again => send 503
        Completed + ACK =>  -> Confirmed
        Completed + 180 =>
        Completed + 200 =>
        Completed + 486 =>
        Completed + error => transport failed
        Completed + Trying =>
        Completed + Patience =>
        Completed + G => send 503
        Completed + H => Unacknowledged -> Ended
        Completed + I =>
        Completed + L =>
        Confirmed + again =>
        Confirmed + ACK =>
        Confirmed + 180 =>
        Confirmed + 200 =>
        Confirmed + 486 =>
        Confirmed + error =>
        Confirmed + Trying =>
        Confirmed + Patience =>
        Confirmed + G =>
        Confirmed + H =>
        Confirmed + I => Answered -> Ended
        Confirmed + L =>
        Accepted + again =>
        Accepted + ACK => user ack
        Accepted + 180 =>
        Accepted + 200 => send 200
        Accepted + 486 =>
        Accepted + error => transport failed
        Accepted + Trying =>
        Accepted + Patience =>
        Accepted + G =>
        Accepted + H =>
        Accepted + I =>
        Accepted + L => Answered -> Ended
        Ended + again =>
        Ended + ACK =>
        Ended + 180 =>
        Ended + 200 =>
        Ended + 486 =>
        Ended + error =>
        Ended + Trying =>
        Ended + Patience =>
        Ended + G =>
        Ended + H =>
        Ended + I =>
        Ended + L =>",
    );
}

/// All that time does to it, with nothing else happening: milliseconds and words.
fn settle(server: &mut InviteServer) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    while let Some(at) = server.next_timeout() {
        let mut out = Vec::new();
        server.on_timeout(at, &mut out);
        seen.push((ms(at), server_words(&out)));
        assert!(seen.len() < 20, "no end: {seen:?}");
    }
    assert_eq!(server.state(), State::Ended);
    seen
}

#[test]
fn a_silent_user_gets_its_100_and_then_up() {
    let mut server = start(UDP);
    assert_eq!(server.next_timeout(), Some(START + TRYING_AFTER));
    assert_eq!(
        settle(&mut server),
        [
            (200, "send 100".to_owned()),
            (241_000, "Abandoned".to_owned())
        ]
    );
}

#[test]
fn after_the_100_a_copy_is_answered_with_it() {
    let mut server = start(UDP);
    let mut out = Vec::new();
    server.on_timeout(START + TRYING_AFTER, &mut out);
    server.handle(START + TRYING_AFTER, Event::Again, &mut out);
    assert_eq!(server_words(&out), "send 100, send 100");
}

#[test]
fn a_user_that_answers_within_200_ms_sends_no_100() {
    let mut server = start(UDP);
    let mut out = Vec::new();
    server.handle(START, response(180).into(), &mut out);
    assert_eq!(settle(&mut server), [(241_000, "Abandoned".to_owned())]);
}

#[test]
fn an_unacknowledged_failure_is_sent_eleven_times() {
    let mut server = start(UDP);
    let mut out = Vec::new();
    server.handle(START, response(503).into(), &mut out);
    let seen = settle(&mut server);
    let times: Vec<u64> = seen.iter().map(|(at, _)| *at).collect();
    // Intervals of 0.5, 1, 2, 4, 4, 4 … seconds (§17.2.1), and timer H.
    assert_eq!(
        times,
        [
            500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500, 32_000
        ]
    );
    assert!(seen[..10].iter().all(|(_, words)| words == "send 503"));
    assert_eq!(seen[10].1, "Unacknowledged");
}

#[test]
fn over_tcp_a_failure_is_sent_once_but_its_ack_awaited() {
    let mut server = start(TCP);
    let mut out = Vec::new();
    server.handle(START, response(503).into(), &mut out);
    assert_eq!(settle(&mut server), [(32_000, "Unacknowledged".to_owned())]);

    let mut server = start(TCP);
    let mut out = Vec::new();
    server.handle(START, response(503).into(), &mut out);
    server.handle(START, Event::Ack("ACK".into()), &mut out);
    assert_eq!(server_words(&out), "send 503, Answered");
}

#[test]
fn copies_of_the_ack_are_absorbed_for_t4() {
    let mut server = start(UDP);
    let mut out = Vec::new();
    server.handle(START, response(503).into(), &mut out);
    server.handle(START, Event::Ack("ACK".into()), &mut out);
    assert_eq!(settle(&mut server), [(5_000, "Answered".to_owned())]);
}

#[test]
fn a_success_is_not_retransmitted_by_the_machine() {
    for transport in [UDP, TCP] {
        let mut server = start(transport);
        let mut out = Vec::new();
        server.handle(START, response(200).into(), &mut out);
        assert_eq!(settle(&mut server), [(32_000, "Answered".to_owned())]);
    }
}
