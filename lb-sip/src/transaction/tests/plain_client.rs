//! Figure 6 of RFC 3261.

use super::super::plain_client::{Event, PlainClient, State, Timer};
use super::*;

fn start(transport: Transport) -> (PlainClient, Vec<ClientAction>) {
    let mut out = Vec::new();
    let client = PlainClient::start(START, DEFAULT, transport, "BYE".into(), &mut out);
    (client, out)
}

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("100", response(100).into()),
        ("200", response(200).into()),
        ("481", response(481).into()),
        ("error", Event::TransportError),
        ("E", Event::Timer(Timer::E)),
        ("F", Event::Timer(Timer::F)),
        ("K", Event::Timer(Timer::K)),
    ]
}

#[test]
fn the_whole_table_over_udp() {
    let ways: [Vec<Event>; 4] = [
        vec![],
        vec![response(100).into()],
        vec![response(200).into()],
        vec![Event::TransportError],
    ];
    let mut rows = Vec::new();
    for way in ways {
        for (name, event) in events() {
            let (mut client, mut out) = start(UDP);
            for event in &way {
                client.handle(START, event.clone(), &mut out);
            }
            out.clear();
            let before = client.state();
            client.handle(START, event, &mut out);
            let then = format!("{} -> {:?}", client_words(&out), client.state());
            rows.push([format!("{before:?}"), name.to_owned(), then]);
        }
    }
    assert_table(
        rows,
        "Trying + 100 => user 100 -> Proceeding
        Trying + 200 => user 200 -> Completed
        Trying + 481 => user 481 -> Completed
        Trying + error => TransportFailed -> Ended
        Trying + E => send -> Trying
        Trying + F => TimedOut -> Ended
        Trying + K =>  -> Trying
        Proceeding + 100 => user 100 -> Proceeding
        Proceeding + 200 => user 200 -> Completed
        Proceeding + 481 => user 481 -> Completed
        Proceeding + error => TransportFailed -> Ended
        Proceeding + E => send -> Proceeding
        Proceeding + F => TimedOut -> Ended
        Proceeding + K =>  -> Proceeding
        Completed + 100 =>  -> Completed
        Completed + 200 =>  -> Completed
        Completed + 481 =>  -> Completed
        Completed + error =>  -> Completed
        Completed + E =>  -> Completed
        Completed + F =>  -> Completed
        Completed + K => Answered -> Ended
        Ended + 100 =>  -> Ended
        Ended + 200 =>  -> Ended
        Ended + 481 =>  -> Ended
        Ended + error =>  -> Ended
        Ended + E =>  -> Ended
        Ended + F =>  -> Ended
        Ended + K =>  -> Ended",
    );
}

/// When it sends, in milliseconds since the start, until it ends by itself.
fn settle(client: &mut PlainClient) -> (Vec<u64>, (u64, String)) {
    let mut sent = Vec::new();
    while let Some(at) = client.next_timeout() {
        let mut out = Vec::new();
        client.on_timeout(at, &mut out);
        match client_words(&out).as_str() {
            "send" => sent.push(ms(at)),
            end => {
                assert_eq!(client.state(), State::Ended);
                return (sent, (ms(at), end.to_owned()));
            }
        }
        assert!(sent.len() < 20, "no end: {sent:?}");
    }
    panic!("it stopped without an end");
}

#[test]
fn an_unanswered_request_is_sent_eleven_times() {
    let (mut client, out) = start(UDP);
    assert_eq!(client_words(&out), "send");
    let (sent, end) = settle(&mut client);
    // Intervals of 0.5, 1, 2, 4, 4, 4 … seconds (§17.1.2.1).
    assert_eq!(
        sent,
        [
            500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    assert_eq!(end, (32_000, "TimedOut".to_owned()));
}

#[test]
fn after_a_provisional_response_it_is_sent_every_four_seconds() {
    let (mut client, mut out) = start(UDP);
    client.handle(
        START + Duration::from_millis(700),
        response(100).into(),
        &mut out,
    );
    let (sent, end) = settle(&mut client);
    // The timer that was running still runs out (§17.1.2.2).
    assert_eq!(
        sent,
        [500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500]
    );
    assert_eq!(end, (32_000, "TimedOut".to_owned()));
}

#[test]
fn over_tcp_it_is_sent_once_and_ends_with_the_answer() {
    let (mut client, _) = start(TCP);
    assert_eq!(
        settle(&mut client),
        (vec![], (32_000, "TimedOut".to_owned()))
    );
    let (mut client, mut out) = start(TCP);
    client.handle(START, response(200).into(), &mut out);
    assert_eq!(client_words(&out), "send, user 200, Answered");
    assert_eq!(client.next_timeout(), None);
}

#[test]
fn copies_of_the_answer_are_awaited_for_t4() {
    let (mut client, mut out) = start(UDP);
    client.handle(START, response(200).into(), &mut out);
    assert_eq!(
        settle(&mut client),
        (vec![], (5_000, "Answered".to_owned()))
    );
}
