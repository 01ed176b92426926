//! SIP messages made by hand, for tests that need to know every byte.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// One call, from whose point of view messages are written.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its Call-ID.
    pub call_id: String,
    /// The caller.
    pub client: SocketAddr,
    /// Whom it calls.
    pub vip: SocketAddr,
}

impl Call {
    /// The INVITE that begins it. Written again, it is the same: a retransmission.
    pub fn invite(&self) -> Vec<u8> {
        self.request("INVITE", 1, None, b"")
    }

    /// The same with a body of `len` bytes.
    pub fn invite_with_body(&self, len: usize) -> Vec<u8> {
        let body: Vec<u8> = b"v=0\r\ns=-\r\na=padding\r\n"
            .iter()
            .copied()
            .cycle()
            .take(len)
            .collect();
        self.request("INVITE", 1, None, &body)
    }

    /// The ACK to the answer.
    pub fn ack(&self, to_tag: &str) -> Vec<u8> {
        self.request("ACK", 1, Some(to_tag), b"")
    }

    /// A re-INVITE.
    pub fn reinvite(&self, to_tag: &str) -> Vec<u8> {
        self.request("INVITE", 2, Some(to_tag), b"")
    }

    /// The BYE that ends it.
    pub fn bye(&self, to_tag: &str) -> Vec<u8> {
        self.request("BYE", 3, Some(to_tag), b"")
    }

    /// A REGISTER, which begins no call.
    pub fn register(&self) -> Vec<u8> {
        self.request("REGISTER", 1, None, b"")
    }

    fn request(&self, method: &str, cseq: u32, to_tag: Option<&str>, body: &[u8]) -> Vec<u8> {
        let Self {
            call_id,
            client,
            vip,
        } = self;
        let to_tag = to_tag.map(|tag| format!(";tag={tag}")).unwrap_or_default();
        let mut text = format!("{method} sip:service@{vip} SIP/2.0\r\n");
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "Via: SIP/2.0/UDP {client};branch=z9hG4bK-{method}-{cseq}-{call_id}\r\n\
             From: <sip:switch@{client}>;tag=s-{call_id}\r\n\
             To: <sip:service@{vip}>{to_tag}\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:switch@{client}>\r\n\
             Max-Forwards: 70\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}
