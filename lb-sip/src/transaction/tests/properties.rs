//! Machines under random timings: when they send, against the RFC's sums written out, and that they
//! end.

use super::super::invite_client::InviteClient;
use super::super::invite_server::{self, InviteServer};
use super::super::plain_client::PlainClient;
use super::*;
use proptest::prelude::*;

fn timings() -> impl Strategy<Value = Timing> {
    (1_u64..2_000, 1_u64..10_000, 1_u64..10_000).prop_map(|(t1, t2, t4)| Timing {
        t1: Duration::from_millis(t1),
        t2: Duration::from_millis(t2),
        t4: Duration::from_millis(t4),
        ..DEFAULT
    })
}

/// The times at which something is sent again if each interval is twice the one before, `cap` at the
/// most, until `limit`.
fn doubling(t1: Duration, cap: Duration, limit: Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut at = t1;
    let mut interval = t1;
    while at < limit {
        times.push(at);
        interval = (interval * 2).min(cap);
        at += interval;
    }
    times
}

proptest! {
    #[test]
    fn an_invite_is_sent_again_with_doubling_intervals(timing in timings(), stop in 0_u64..80) {
        // A response comes after `stop` × T1, if not too late.
        let stop = timing.t1 * u32::try_from(stop).expect("small") + timing.t1 / 2;
        let mut out = Vec::new();
        let mut client = InviteClient::start(START, timing, UDP, "INVITE".into(), &mut out);
        let mut sent = Vec::new();
        while let Some(at) = client.next_timeout().filter(|at| *at < START + stop) {
            out.clear();
            client.on_timeout(at, &mut out);
            if out.iter().any(|action| matches!(action, ClientAction::Send(_))) {
                sent.push(at - START);
            }
        }
        prop_assert_eq!(&sent, &doubling(timing.t1, Duration::MAX, stop.min(64 * timing.t1)));
        prop_assert!(sent.len() <= 6);
        client.handle(START + stop, response(180).into(), &mut out);
        out.clear();
        while let Some(at) = client.next_timeout() {
            client.on_timeout(at, &mut out);
        }
        let sends_more = out.iter().any(|action| matches!(action, ClientAction::Send(_)));
        prop_assert!(!sends_more);
    }

    #[test]
    fn a_request_is_sent_again_every_t2_in_the_end(timing in timings()) {
        let mut out = Vec::new();
        let mut client = PlainClient::start(START, timing, UDP, "BYE".into(), &mut out);
        let mut sent = Vec::new();
        let mut ended = None;
        while let Some(at) = client.next_timeout() {
            out.clear();
            client.on_timeout(at, &mut out);
            match out.as_slice() {
                [ClientAction::Send(_)] => sent.push(at - START),
                [ClientAction::Ended(_)] => ended = Some(at - START),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(sent, doubling(timing.t1, timing.t2, 64 * timing.t1));
        prop_assert_eq!(ended, Some(64 * timing.t1));
    }

    #[test]
    fn a_failure_is_sent_again_until_its_ack(timing in timings(), stop in 0_u64..70) {
        let stop = timing.t1 * u32::try_from(stop).expect("small") + timing.t1 / 2;
        let mut out = Vec::new();
        let mut server = InviteServer::start(START, timing, UDP, None);
        server.handle(START, response(503).into(), &mut out);
        let mut sent = Vec::new();
        while let Some(at) = server.next_timeout().filter(|at| *at < START + stop) {
            out.clear();
            server.on_timeout(at, &mut out);
            if out.iter().any(|action| matches!(action, ServerAction::Send(_))) {
                sent.push(at - START);
            }
        }
        let limit = stop.min(64 * timing.t1);
        // §17.2.1: the first interval is T1 also where T2 is less.
        prop_assert_eq!(sent, doubling(timing.t1, timing.t2, limit));
        server.handle(START + stop, invite_server::Event::Ack("ACK".into()), &mut out);
        if stop < 64 * timing.t1 {
            prop_assert_eq!(server.next_timeout(), Some(START + stop + timing.t4));
        } else {
            prop_assert_eq!(server.next_timeout(), None);
        }
    }
}
