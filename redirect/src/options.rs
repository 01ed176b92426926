//! The question put to the SIP server, and what of its answer counts.
//!
//! OPTIONS (RFC 3261 §11) over UDP, outside of any dialog. The answer is read only as far as needed to
//! tell that it is one, to this question, and what it says: status, and `Retry-After` (§20.33).

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// `Retry-After` beyond this is cut to it: a slip of the pen must not close a node for days.
pub(crate) const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// One series of questions: what they have in common, and what tells their answers from others.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    server: SocketAddr,
    /// Our own address, as the server sees it.
    local: SocketAddr,
    /// Random: Call-ID, From tag and branches are made of it.
    id: u64,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The question's number.
    pub number: u32,
    /// Its status code, 200 to 699.
    pub status: u16,
    pub retry_after: Option<Duration>,
}

impl Series {
    pub(crate) fn new(server: SocketAddr, local: SocketAddr, id: u64) -> Self {
        Self { server, local, id }
    }

    /// The question of this number, ready to send. Numbers must grow.
    pub(crate) fn question(&self, number: u32) -> String {
        let Self { server, local, id } = self;
        // A socket address writes IPv6 as SIP wants it, in brackets, and the scope as it does not.
        let (server, local) = (without_scope(*server), without_scope(*local));
        let mut text = String::with_capacity(512);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "OPTIONS sip:{server} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK{id:016x}{number:08x};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:pointsman@{local}>;tag={id:016x}\r\n\
             To: <sip:{server}>\r\n\
             Call-ID: {id:016x}-probe\r\n\
             CSeq: {number} OPTIONS\r\n\
             Contact: <sip:pointsman@{local}>\r\n\
             Accept: application/sdp\r\n\
             User-Agent: pointsman-redirect/{version}\r\n\
             Content-Length: 0\r\n\r\n",
            version = env!("CARGO_PKG_VERSION"),
        );
        text
    }

    /// Reads what came from the server. `None` for all that is no final answer to one of these
    /// questions.
    pub(crate) fn read(&self, bytes: &[u8]) -> Option<Answer> {
        let mut lines = bytes
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii_end);
        let status = status(lines.next()?)?;
        let (mut call_id, mut number, mut retry_after) = (None, None, None);
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            // Of two the first counts; a folded line has no name of ours.
            if is("Call-ID") || is("i") {
                call_id = call_id.or(Some(value));
            } else if is("CSeq") {
                number = number.or_else(|| cseq(value));
            } else if is("Retry-After") {
                retry_after = retry_after.or_else(|| seconds(value));
            }
        }
        let is_ours = call_id? == format!("{:016x}-probe", self.id).as_bytes();
        (is_ours && status >= 200).then_some(Answer {
            number: number?,
            status,
            retry_after,
        })
    }
}

fn without_scope(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// The status code of `SIP/2.0 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"SIP/2.0 ")?;
    let (code, rest) = rest.split_at_checked(3)?;
    let is_code = matches!(rest.first(), None | Some(b' '));
    let code = digits(code).filter(|_| is_code && code.iter().all(u8::is_ascii_digit))?;
    (100..700).contains(&code).then_some(code as u16)
}

/// The number of `42 OPTIONS`.
fn cseq(value: &[u8]) -> Option<u32> {
    let number = digits(value)?;
    value
        .ends_with(b"OPTIONS")
        .then(|| u32::try_from(number).ok())?
}

/// The time of `120 (having lunch);duration=60`.
fn seconds(value: &[u8]) -> Option<Duration> {
    digits(value).map(|number| Duration::from_secs(number).min(LONGEST_RETRY))
}

/// The number that the value starts with, as far as it fits.
fn digits(value: &[u8]) -> Option<u64> {
    let end = value
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(value.len());
    let digits = value.get(..end).filter(|digits| !digits.is_empty())?;
    let add = |number: u64, digit: &u8| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    };
    Some(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series() -> Series {
        Series::new(
            "192.0.2.11:5060".parse().expect("an address"),
            "192.0.2.11:40000".parse().expect("an address"),
            0xfeed,
        )
    }

    fn answer(head: &str, more: &str) -> Vec<u8> {
        format!(
            "{head}\r\nVia: SIP/2.0/UDP 192.0.2.11:40000;branch=z9hG4bK1;rport=40000\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n{more}\r\n\r\n"
        )
        .into_bytes()
    }

    const OURS: &str = "Call-ID: 000000000000feed-probe\r\nCSeq: 7 OPTIONS";

    #[test]
    fn a_question_is_a_proper_request() {
        assert_eq!(
            series().question(7),
            format!(
                "OPTIONS sip:192.0.2.11:5060 SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 192.0.2.11:40000;branch=z9hG4bK000000000000feed00000007;rport\r\n\
                 Max-Forwards: 70\r\n\
                 From: <sip:pointsman@192.0.2.11:40000>;tag=000000000000feed\r\n\
                 To: <sip:192.0.2.11:5060>\r\n\
                 Call-ID: 000000000000feed-probe\r\n\
                 CSeq: 7 OPTIONS\r\n\
                 Contact: <sip:pointsman@192.0.2.11:40000>\r\n\
                 Accept: application/sdp\r\n\
                 User-Agent: pointsman-redirect/{}\r\n\
                 Content-Length: 0\r\n\r\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn ipv6_stands_in_brackets_and_without_scope() {
        let server = "[fe80::1%3]:5060".parse().expect("an address");
        let local = "[fe80::2%3]:40000".parse().expect("an address");
        let question = Series::new(server, local, 1).question(1);
        assert!(
            question.starts_with("OPTIONS sip:[fe80::1]:5060 SIP/2.0\r\n"),
            "{question}"
        );
        assert!(
            question.contains("Via: SIP/2.0/UDP [fe80::2]:40000;branch="),
            "{question}"
        );
        assert!(!question.contains('%'));
    }

    #[test]
    fn answers_are_read_in_every_form() {
        let read = |bytes: Vec<u8>| series().read(&bytes);
        let plain = Answer {
            number: 7,
            status: 200,
            retry_after: None,
        };
        assert_eq!(read(answer("SIP/2.0 200 OK", OURS)), Some(plain));
        let compact = "i : 000000000000feed-probe \r\ncseq:7  OPTIONS";
        assert_eq!(read(answer("SIP/2.0 200", compact)), Some(plain));
        let busy = format!("{OURS}\r\nRetry-After: 18 (lunch);duration=3");
        let retry_after = Some(Duration::from_secs(18));
        assert_eq!(
            read(answer("SIP/2.0 503 Service Unavailable", &busy)),
            Some(Answer {
                number: 7,
                status: 503,
                retry_after
            })
        );
        let forever = format!("retry-AFTER: {}\r\n{OURS}", "9".repeat(40));
        let cut = read(answer("SIP/2.0 503 Oh", &forever)).expect("an answer");
        assert_eq!(cut.retry_after, Some(LONGEST_RETRY));
    }

    #[test]
    fn what_is_no_answer_of_ours_is_nothing() {
        let cases = [
            answer("SIP/2.0 100 Trying", OURS),
            answer("SIP/2.0 20 OK", OURS),
            answer("SIP/2.0 2000 OK", OURS),
            answer("SIP/2.0 +20 OK", OURS),
            answer("SIP/2.0 999 OK", OURS),
            answer("SIP/1.0 200 OK", OURS),
            answer("OPTIONS sip:a@b SIP/2.0", OURS),
            answer("SIP/2.0 200 OK", "Call-ID: other\r\nCSeq: 7 OPTIONS"),
            answer(
                "SIP/2.0 200 OK",
                "Call-ID: 000000000000feed-probe\r\nCSeq: 7 INVITE",
            ),
            answer(
                "SIP/2.0 200 OK",
                "Call-ID: 000000000000feed-probe\r\nCSeq: x OPTIONS",
            ),
            answer("SIP/2.0 200 OK", "Call-ID: 000000000000feed-probe"),
            answer("SIP/2.0 200 OK", &format!("\r\n{OURS}")),
            b"".to_vec(),
        ];
        for bytes in cases {
            assert_eq!(
                series().read(&bytes),
                None,
                "{}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes: Vec<u8>, at in 0usize..300, byte: u8) {
            prop_assert_eq!(series().read(&bytes), None);
            let mut near = answer("SIP/2.0 503 Busy", &format!("{OURS}\r\nRetry-After: 5"));
            let at = at % near.len();
            near[at] = byte;
            let _ = series().read(&near);
            let _ = series().read(&near[..at]);
        }
    }
}
