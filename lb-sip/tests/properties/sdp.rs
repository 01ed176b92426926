//! What holds for any bytes at all, taken for a session description. Shared by the seeded test and a
//! fuzz target.

use lb_sip::Message;
use lb_sip::sdp::Sdp;

/// A body is read as a session description.
pub(crate) fn check(body: &[u8]) {
    let sdp = Sdp::new(body);
    let _ = sdp.origin();
    let media = sdp.media().count();
    let lines = sdp.lines().filter(|line| line.0 == b'm').count();
    assert!(media <= lines);
    if let Some(audio) = sdp.audio() {
        assert!(audio.port != 0 && audio.kind == b"audio");
        let _ = audio.is_held();
    }
    let head = "INVITE sip:a SIP/2.0\r\nc: multipart/mixed;boundary=x\r\n\r\n";
    let whole = [head.as_bytes(), body].concat();
    if let Ok(message) = Message::from_datagram(whole.into())
        && let Some(part) = message.sdp()
    {
        let mut windows = body.windows(part.as_bytes().len().max(1));
        assert!(part.as_bytes().is_empty() || windows.any(|window| window == part.as_bytes()));
    }
}
