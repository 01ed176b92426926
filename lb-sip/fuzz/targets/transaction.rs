//! Bytes as lists of events for a table of transactions: each promise that the table makes is checked
//! on the way, by the same code as the seeded tests use.
#![no_main]

#[path = "../../tests/support/transaction_events.rs"]
mod transaction_events;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    transaction_events::run(bytes);
});
