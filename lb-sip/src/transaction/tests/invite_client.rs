//! Figure 5 of RFC 3261, as RFC 6026 redraws it.

use super::super::invite_client::{Event, InviteClient, State, Timer};
use super::*;

fn start(transport: Transport) -> (InviteClient, Vec<ClientAction>) {
    let mut out = Vec::new();
    let client = InviteClient::start(START, DEFAULT, transport, "INVITE".into(), &mut out);
    (client, out)
}

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("100", response(100).into()),
        ("180", response(180).into()),
        ("200", response(200).into()),
        ("486", response(486).into()),
        ("cancel", Event::Cancel),
        ("error", Event::TransportError),
        ("A", Event::Timer(Timer::A)),
        ("B", Event::Timer(Timer::B)),
        ("C", Event::Timer(Timer::C)),
        ("Cancelled", Event::Timer(Timer::Cancelled)),
        ("D", Event::Timer(Timer::D)),
        ("M", Event::Timer(Timer::M)),
    ]
}

fn ways() -> Vec<Vec<Event>> {
    vec![
        vec![],
        vec![response(180).into()],
        vec![response(180).into(), Event::Cancel],
        vec![response(486).into()],
        vec![response(200).into()],
        vec![Event::TransportError],
    ]
}

fn table(transport: Transport) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    for way in ways() {
        for (name, event) in events() {
            let (mut client, mut out) = start(transport);
            for event in &way {
                client.handle(START, event.clone(), &mut out);
            }
            out.clear();
            let before = client.state();
            client.handle(START, event, &mut out);
            let then = match (client.state(), client_words(&out).as_str()) {
                (after, "") if after == before => String::new(),
                (after, words) if after == before => words.to_owned(),
                (after, words) => format!("{words} -> {after:?}"),
            };
            rows.push([format!("{before:?}"), name.to_owned(), then]);
        }
    }
    rows
}

#[test]
fn the_whole_table_over_udp() {
    assert_table(
        table(UDP),
        "Calling + 100 => user 100 -> Proceeding
        Calling + 180 => user 180 -> Proceeding
        Calling + 200 => user 200 -> Accepted
        Calling + 486 => ack 486, user 486 -> Completed
        Calling + cancel =>
        Calling + error => TransportFailed -> Ended
        Calling + A => send
        Calling + B => TimedOut -> Ended
        Calling + C =>
        Calling + Cancelled =>
        Calling + D =>
        Calling + M =>
        Proceeding + 100 => user 100
        Proceeding + 180 => user 180
        Proceeding + 200 => user 200 -> Accepted
        Proceeding + 486 => ack 486, user 486 -> Completed
        Proceeding + cancel => cancel -> Cancelling
        Proceeding + error =>
        Proceeding + A =>
        Proceeding + B =>
        Proceeding + C => cancel -> Cancelling
        Proceeding + Cancelled =>
        Proceeding + D =>
        Proceeding + M =>
        Cancelling + 100 => user 100
        Cancelling + 180 => user 180
        Cancelling + 200 => user 200 -> Accepted
        Cancelling + 486 => ack 486, user 486 -> Completed
        Cancelling + cancel =>
        Cancelling + error =>
        Cancelling + A =>
        Cancelling + B =>
        Cancelling + C =>
        Cancelling + Cancelled => TimedOut -> Ended
        Cancelling + D =>
        Cancelling + M =>
        Completed + 100 =>
        Completed + 180 =>
        Completed + 200 =>
        Completed + 486 => ack 486
        Completed + cancel =>
        Completed + error => AckFailed -> Ended
        Completed + A =>
        Completed + B =>
        Completed + C =>
        Completed + Cancelled =>
        Completed + D => Answered -> Ended
        Completed + M =>
        Accepted + 100 =>
        Accepted + 180 =>
        Accepted + 200 => user 200
        Accepted + 486 =>
        Accepted + cancel =>
        Accepted + error =>
        Accepted + A =>
        Accepted + B =>
        Accepted + C =>
        Accepted + Cancelled =>
        Accepted + D =>
        Accepted + M => Answered -> Ended
        Ended + 100 =>
        Ended + 180 =>
        Ended + 200 =>
        Ended + 486 =>
        Ended + cancel =>
        Ended + error =>
        Ended + A =>
        Ended + B =>
        Ended + C =>
        Ended + Cancelled =>
        Ended + D =>
        Ended + M =>",
    );
}

#[test]
fn over_tcp_a_failure_ends_it_at_once() {
    let (mut client, mut out) = start(TCP);
    client.handle(START, response(503).into(), &mut out);
    assert_eq!(client_words(&out), "send, ack 503, user 503, Answered");
    assert_eq!(client.state(), State::Ended);
    assert_eq!(client.next_timeout(), None);
}

/// All that time does to it, with nothing else happening: milliseconds and words.
fn settle(client: &mut InviteClient) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    while let Some(at) = client.next_timeout() {
        let mut out = Vec::new();
        client.on_timeout(at, &mut out);
        seen.push((ms(at), client_words(&out)));
        assert!(seen.len() < 20, "no end: {seen:?}");
    }
    assert_eq!(client.state(), State::Ended);
    seen
}

fn rows(rows: &[(u64, &str)]) -> Vec<(u64, String)> {
    rows.iter()
        .map(|(at, words)| (*at, (*words).to_owned()))
        .collect()
}

#[test]
fn an_unanswered_invite_is_sent_seven_times() {
    let (mut client, out) = start(UDP);
    assert_eq!(client_words(&out), "send");
    let expected = [
        (500, "send"),
        (1_500, "send"),
        (3_500, "send"),
        (7_500, "send"),
        (15_500, "send"),
        (31_500, "send"),
        (32_000, "TimedOut"),
    ];
    assert_eq!(settle(&mut client), rows(&expected));
}

#[test]
fn over_tcp_it_is_sent_once() {
    let (mut client, _) = start(TCP);
    assert_eq!(settle(&mut client), rows(&[(32_000, "TimedOut")]));
}

#[test]
fn ringing_stops_retransmission_and_timer_c_cancels() {
    let (mut client, mut out) = start(UDP);
    client.handle(
        START + Duration::from_secs(1),
        response(180).into(),
        &mut out,
    );
    let expected = [(182_000, "cancel"), (214_000, "TimedOut")];
    assert_eq!(settle(&mut client), rows(&expected));
}

#[test]
fn timer_c_starts_anew_with_180_and_not_with_100() {
    let second = Duration::from_secs(1);
    for (code, expected) in [(100, 182_000), (180, 281_000)] {
        let (mut client, mut out) = start(UDP);
        client.handle(START + second, response(100).into(), &mut out);
        client.handle(START + 100 * second, response(code).into(), &mut out);
        assert_eq!(client.next_timeout().map(ms), Some(expected), "{code}");
    }
}

#[test]
fn a_cancel_waits_for_the_first_provisional_response() {
    let (mut client, mut out) = start(UDP);
    client.handle(START, Event::Cancel, &mut out);
    out.clear();
    client.handle(START, response(100).into(), &mut out);
    assert_eq!(client_words(&out), "user 100, cancel");
    out.clear();
    client.handle(START, response(487).into(), &mut out);
    assert_eq!(client_words(&out), "ack 487, user 487");
    assert_eq!(settle(&mut client), rows(&[(32_000, "Answered")]));
}

#[test]
fn a_success_keeps_it_for_other_forks() {
    let (mut client, mut out) = start(TCP);
    client.handle(START, response(200).into(), &mut out);
    assert_eq!(settle(&mut client), rows(&[(32_000, "Answered")]));
}

#[test]
fn a_late_call_fires_one_timer_and_the_end_goes_first() {
    let (mut client, mut out) = start(UDP);
    out.clear();
    client.on_timeout(START + Duration::from_secs(60), &mut out);
    assert_eq!(client_words(&out), "TimedOut");
}
