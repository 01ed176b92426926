//! Random lists of events against a table of transactions.
//!
//! `LB_SIP_EVENT_LISTS` says how many lists; without it, as many as take a few seconds.

#[path = "support/transaction_events.rs"]
mod driver;

use std::collections::BTreeMap;

const LISTS: u64 = 20_000;

/// SplitMix64: the same lists in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.next() % 400;
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn transactions_keep_their_promises_under_any_events() {
    let lists = match std::env::var("LB_SIP_EVENT_LISTS") {
        Ok(lists) => lists.parse().expect("LB_SIP_EVENT_LISTS is a number"),
        Err(_) => LISTS,
    };
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..lists {
        let bytes = Random(seed).bytes();
        let trace = std::panic::catch_unwind(|| driver::run(&bytes));
        let trace = trace.unwrap_or_else(|_| panic!("seed {seed} breaks a promise"));
        for (_, output) in trace {
            *kinds.entry(kind(&output)).or_default() += 1;
        }
    }
    println!("{lists} lists: {kinds:#?}");
    // Lists that never come so far show nothing.
    assert!(kinds.len() >= 16 || lists < 1_000, "{kinds:#?}");
}

/// An output without what is particular to it.
fn kind(output: &lb_sip::transaction::table::Output) -> String {
    use lb_sip::transaction::table::Output;
    use lb_sip::transaction::{ClientAction, ServerAction};
    match output {
        Output::Client(_, ClientAction::Ended(end)) => format!("client {end:?}"),
        Output::Server(_, ServerAction::Ended(end)) => format!("server {end:?}"),
        Output::Client(_, ClientAction::Respond(response)) => {
            format!("client {:?}", response.status.class())
        }
        Output::Client(_, ClientAction::Send(_)) => "client sends".to_owned(),
        Output::Client(_, ClientAction::Acknowledge { .. }) => "client acknowledges".to_owned(),
        Output::Client(_, ClientAction::Cancel { .. }) => "client cancels".to_owned(),
        Output::Server(_, ServerAction::Send(_)) => "server sends".to_owned(),
        Output::Server(_, ServerAction::Acknowledged(_)) => "server acknowledged".to_owned(),
        Output::Server(_, ServerAction::TransportFailed) => "server failed to send".to_owned(),
    }
}

#[test]
fn the_same_events_have_the_same_outcome() {
    for seed in 0..200 {
        let bytes = Random(seed).bytes();
        assert_eq!(driver::run(&bytes), driver::run(&bytes), "seed {seed}");
    }
}
