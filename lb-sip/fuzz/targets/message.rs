//! Any bytes as a datagram and as a stream.

#![no_main]

#[path = "../../tests/properties/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| message::check(bytes));
