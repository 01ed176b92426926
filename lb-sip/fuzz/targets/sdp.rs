//! Any bytes as a session description, and as a body with parts.

#![no_main]

#[path = "../../tests/properties/sdp.rs"]
mod sdp;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sdp::check(bytes));
