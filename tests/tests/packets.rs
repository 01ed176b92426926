//! Frames through the real program in the kernel: the cases are data, in `tests/fixtures/packets`.

use anyhow::Result;
use pointsman_tests::packets::check;

#[test]
fn frames_are_decoded() -> Result<()> {
    check::file("frames")
}

#[test]
fn messages_show_their_call_id_or_are_deferred() -> Result<()> {
    check::file("messages")
}

#[test]
fn nodes_are_chosen() -> Result<()> {
    check::file("choice")
}
