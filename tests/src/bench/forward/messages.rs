//! The messages of the calls: written once, with room for the call's number.

use std::net::SocketAddr;

/// Where a call's number stands.
const MARK: &str = "########";

/// A message, or the end of one.
struct Template {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    fn new(text: &str) -> Self {
        Self {
            bytes: text.as_bytes().to_vec(),
            places: text.match_indices(MARK).map(|(place, _)| place).collect(),
        }
    }

    fn write(&self, call: u32, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&self.bytes);
        let mut digits = [b'0'; MARK.len()];
        let mut left = call;
        for digit in digits.iter_mut().rev() {
            // A remainder by ten.
            *digit += (left % 10) as u8;
            left /= 10;
        }
        for place in &self.places {
            out[begin + place..][..MARK.len()].copy_from_slice(&digits);
        }
    }
}

/// A request of a call, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Invite,
    Ack,
    Reinvite,
    AckAgain,
    Bye,
}

impl Step {
    const ALL: [Self; 5] = [
        Self::Invite,
        Self::Ack,
        Self::Reinvite,
        Self::AckAgain,
        Self::Bye,
    ];

    /// Method and number in CSeq.
    const fn cseq(self) -> (&'static str, u8) {
        match self {
            Self::Invite => ("INVITE", 1),
            Self::Ack => ("ACK", 1),
            Self::Reinvite => ("INVITE", 2),
            Self::AckAgain => ("ACK", 2),
            Self::Bye => ("BYE", 3),
        }
    }
}

/// All messages of calls by way of one subject.
pub(super) struct Messages {
    requests: [Template; 5],
    /// What follows upon the Vias: of 180, of a 200 to an INVITE by its number, of a 200 to BYE.
    ringing: Template,
    answers: [Template; 3],
}

/// Messages forwarded in one call: INVITE, 180, 200, ACK, INVITE, 200, ACK, BYE, 200.
pub(super) const MESSAGES_PER_CALL: u32 = 9;

const ALLOW: &str = "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER\r\n\
                     Supported: timer, 100rel, replaces\r\n";

impl Messages {
    pub(super) fn new(caller: SocketAddr, subject: SocketAddr, sink: SocketAddr) -> Self {
        let request = |step: Step| Template::new(&request(step, caller, subject, sink));
        let end = |step: Step, has_body: bool| Template::new(&answer(step, sink, has_body));
        Self {
            requests: Step::ALL.map(request),
            ringing: end(Step::Invite, false),
            answers: [
                end(Step::Invite, true),
                end(Step::Reinvite, true),
                end(Step::Bye, false),
            ],
        }
    }

    /// Writes a request of a call.
    pub(super) fn request(&self, step: Step, call: u32, out: &mut Vec<u8>) {
        out.clear();
        self.requests[step as usize].write(call, out);
    }

    /// Writes the 180 to a request that arrived.
    pub(super) fn ringing(&self, glance: &Glance<'_>, out: &mut Vec<u8>) {
        self.response(b"SIP/2.0 180 Ringing\r\n", &self.ringing, glance, out);
    }

    /// Writes the 200 to a request that arrived.
    pub(super) fn answer(&self, glance: &Glance<'_>, out: &mut Vec<u8>) {
        let end = &self.answers[usize::from(glance.cseq) - 1];
        self.response(b"SIP/2.0 200 OK\r\n", end, glance, out);
    }

    fn response(&self, start: &[u8], end: &Template, glance: &Glance<'_>, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(start);
        // What a response repeats as it came (RFC 3261 §8.2.6.2, §12.1.1).
        for line in lines(glance.bytes) {
            if line.starts_with(b"Via:") || line.starts_with(b"Record-Route:") {
                out.extend_from_slice(line);
                out.extend_from_slice(b"\r\n");
            }
        }
        end.write(glance.call, out);
    }
}

fn request(step: Step, caller: SocketAddr, subject: SocketAddr, sink: SocketAddr) -> String {
    let (method, cseq) = step.cseq();
    let is_new = step == Step::Invite;
    let (uri, route, tag) = if is_new {
        (
            format!("sip:+4930{MARK}@{subject}"),
            String::new(),
            String::new(),
        )
    } else {
        let route = format!("Route: <sip:{subject};lr>\r\n");
        (format!("sip:bob@{sink}"), route, format!(";tag=b91x{MARK}"))
    };
    let (more, body) = match method {
        "INVITE" => (ALLOW, session("caller")),
        _ => ("", String::new()),
    };
    let content = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/sdp\r\n"
    };
    format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {caller};branch=z9hG4bK{letter}{cseq}k{MARK};rport\r\n\
         {route}Max-Forwards: 70\r\n\
         From: \"Alice\" <sip:+4940{MARK}@example.com>;tag=a73k{MARK}\r\n\
         To: <sip:+4930{MARK}@example.com>{tag}\r\n\
         Call-ID: {MARK}-f81d4fae-7dec-11d0-a765@example.com\r\n\
         CSeq: {cseq} {method}\r\n\
         Contact: <sip:alice@{caller}>\r\n\
         User-Agent: Example Switch 7.2\r\n\
         {more}{content}Content-Length: {length}\r\n\r\n{body}",
        letter = method.get(..1).unwrap_or_default(),
        length = body.len(),
    )
}

/// What follows upon the Vias of a response.
fn answer(step: Step, sink: SocketAddr, has_body: bool) -> String {
    let (method, cseq) = step.cseq();
    let (more, body) = if has_body {
        let more = format!("{ALLOW}Content-Type: application/sdp\r\n");
        (more, session("callee"))
    } else {
        (String::new(), String::new())
    };
    format!(
        "From: \"Alice\" <sip:+4940{MARK}@example.com>;tag=a73k{MARK}\r\n\
         To: <sip:+4930{MARK}@example.com>;tag=b91x{MARK}\r\n\
         Call-ID: {MARK}-f81d4fae-7dec-11d0-a765@example.com\r\n\
         CSeq: {cseq} {method}\r\n\
         Contact: <sip:bob@{sink}>\r\n\
         Server: Example Server 3.1\r\n\
         {more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn session(who: &str) -> String {
    format!(
        "v=0\r\no={who} 2890844526 2890844526 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n\
         t=0 0\r\nm=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}

/// What the two ends need to know of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glance<'a> {
    bytes: &'a [u8],
    pub(super) kind: Kind,
    pub(super) call: u32,
    /// The number in CSeq, 1 to 3.
    pub(super) cseq: u8,
}

/// Which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request, or one that is an ACK.
    Request { is_ack: bool },
    /// A response; final if it is a 200.
    Response { is_final: bool },
}

impl<'a> Glance<'a> {
    /// `None` for what is none of our calls' messages.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let kind = match bytes.strip_prefix(b"SIP/2.0 ") {
            Some(status) => Kind::Response {
                is_final: match status.get(..3)? {
                    b"180" => false,
                    b"200" => true,
                    _ => return None,
                },
            },
            None => Kind::Request {
                is_ack: bytes.starts_with(b"ACK"),
            },
        };
        let (mut call, mut cseq) = (None, None);
        for line in lines(bytes) {
            if let Some(value) = line.strip_prefix(b"Call-ID: ") {
                call = str::from_utf8(value.get(..MARK.len())?).ok()?.parse().ok();
            } else if let Some(value) = line.strip_prefix(b"CSeq: ") {
                cseq = value.first().map(|digit| digit.wrapping_sub(b'0'));
            }
        }
        Some(Self {
            bytes,
            kind,
            call: call?,
            cseq: cseq.filter(|cseq| (1..=3).contains(cseq))?,
        })
    }
}

/// The lines of the head, the first without its beginning.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.take_while(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_sip::{Message, Method, Verdict, validate};

    /// What is sent keeps the rules, so that no subject is measured at refusing it.
    #[test]
    fn messages_are_good() -> anyhow::Result<()> {
        let address = |port: u16| SocketAddr::from(([10, 77, 0, 11], port));
        let messages = Messages::new(address(5080), address(5062), address(5070));
        let mut out = Vec::new();
        let mut answer = Vec::new();
        for step in Step::ALL {
            messages.request(step, 1_234_567, &mut out);
            let request = Message::from_datagram(out.clone().into())?;
            assert_eq!(validate(&request), Verdict::Forward, "{step:?}");
            let glance = Glance::of(&out).expect("ours");
            let is_ack = request.method() == Some(Method::Ack);
            assert_eq!((glance.call, glance.cseq), (1_234_567, step.cseq().1));
            assert_eq!(glance.kind, Kind::Request { is_ack });
            if is_ack {
                continue;
            }
            for is_final in [false, true] {
                if is_final {
                    messages.answer(&glance, &mut answer);
                } else {
                    messages.ringing(&glance, &mut answer);
                }
                let response = Message::from_datagram(answer.clone().into())?;
                assert!(!response.is_request() && response.flaws() == request.flaws());
                assert_eq!(response.call_id()?, request.call_id()?);
                assert_eq!(response.top_via()?.branch(), request.top_via()?.branch());
                let seen = Glance::of(&answer).expect("ours");
                assert_eq!(seen.kind, Kind::Response { is_final });
            }
        }
        Ok(())
    }
}
