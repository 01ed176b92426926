//! The answer for one frame.

use lb_common::{Outcome, Reason};
use serde::{Serialize, Serializer};

/// What was done with a frame, and why. In JSON, what does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The frame's number.
    pub n: u64,
    /// What the program returned.
    pub verdict: Verdict,
    /// What became of the frame. One that the program let pass, but that reaches the socket on the VIP,
    /// is deferred, whatever the program's reason was.
    #[serde(serialize_with = "outcome_name")]
    pub outcome: Outcome,
    /// Why; left out when the program did not see the frame and its reason is not certain.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "reason_name"
    )]
    pub reason: Option<Reason>,
    /// The Call-ID that it was steered by.
    #[serde(flatten, serialize_with = "call_id_text")]
    pub key: Option<Vec<u8>>,
    /// The node that it was sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<u16>,
    /// Bytes of the frame as the program left it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_len: Option<usize>,
    /// Bytes of the frame that the program saw, when these were not all: a test run shows it a page at
    /// most, less some headroom (3,520 bytes), and so does a port with a larger MTU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_len: Option<usize>,
    /// The capture holds only the frame's beginning, so the answer is about that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub captured_short: bool,
    /// What userspace does with the datagram that the frame is, or that it completes.
    #[serde(flatten)]
    pub userspace: Option<Userspace>,
}

/// What the XDP program returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// The program failed.
    #[serde(rename = "XDP_ABORTED")]
    Aborted,
    /// Not to be received.
    #[serde(rename = "XDP_DROP")]
    Drop,
    /// To the network stack.
    #[serde(rename = "XDP_PASS")]
    Pass,
    /// Back out of the port it came in by.
    #[serde(rename = "XDP_TX")]
    Tx,
    /// Out of another port.
    #[serde(rename = "XDP_REDIRECT")]
    Redirect,
    /// The kernel takes no such frame: it is shorter than an Ethernet header, or longer than any. The
    /// program did not run.
    #[serde(rename = "EINVAL")]
    Refused,
}

impl Verdict {
    /// The verdict that is this number in the kernel.
    pub(super) fn of_action(action: u32) -> Self {
        match action {
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Tx,
            4 => Self::Redirect,
            // What the kernel does with 0, and with numbers that it does not know.
            _ => Self::Aborted,
        }
    }

    /// The kernel's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aborted => "XDP_ABORTED",
            Self::Drop => "XDP_DROP",
            Self::Pass => "XDP_PASS",
            Self::Tx => "XDP_TX",
            Self::Redirect => "XDP_REDIRECT",
            Self::Refused => "EINVAL",
        }
    }
}

/// What userspace does with a deferred datagram ("end to end").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Userspace {
    /// The node that it is sent to.
    #[serde(rename = "e2e_node", skip_serializing_if = "Option::is_none")]
    pub node: Option<u16>,
    /// By Call-ID or by the client's address: `steer-callid` or `steer-fallback`.
    #[serde(rename = "e2e_outcome", skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Why this node.
    #[serde(rename = "e2e_reason", skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The Call-ID that it was steered by, as text.
    #[serde(rename = "e2e_key", skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why it is not sent anywhere.
    #[serde(rename = "e2e_loss", skip_serializing_if = "Option::is_none")]
    pub loss: Option<&'static str>,
}

impl Record {
    /// The record as one JSON object.
    pub fn json(&self) -> String {
        // The keys are strings and no value can fail, so there is no error to report.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn outcome_name<S: Serializer>(outcome: &Outcome, to: S) -> Result<S::Ok, S::Error> {
    outcome.name().serialize(to)
}

fn reason_name<S: Serializer>(reason: &Option<Reason>, to: S) -> Result<S::Ok, S::Error> {
    reason.map(Reason::name).serialize(to)
}

/// `key`, or `key_hex` for what is not UTF-8.
fn call_id_text<S: Serializer>(key: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let mut map = to.serialize_map(None)?;
    match key.as_deref().map(|key| (key, str::from_utf8(key))) {
        None => {}
        Some((_, Ok(text))) => map.serialize_entry("key", text)?,
        Some((bytes, Err(_))) => map.serialize_entry("key_hex", &hex(bytes))?,
    }
    map.end()
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            n: 3,
            verdict: Verdict::Tx,
            outcome: Outcome::SteerCallId,
            reason: Some(Reason::Home),
            key: Some(b"a@b".to_vec()),
            node: Some(2),
            out_len: Some(60),
            seen_len: None,
            captured_short: false,
            userspace: None,
        }
    }

    #[test]
    fn a_record_is_one_flat_object() {
        assert_eq!(
            record().json(),
            r#"{"n":3,"verdict":"XDP_TX","outcome":"steer-callid","reason":"home","key":"a@b","node":2,"out_len":60}"#
        );
        let bytes = Record {
            key: Some(vec![0xff, 0]),
            ..record()
        };
        assert!(
            bytes.json().contains(r#""key_hex":"ff00""#),
            "{}",
            bytes.json()
        );
        let deferred = Record {
            verdict: Verdict::Pass,
            key: None,
            node: None,
            userspace: Some(Userspace {
                node: Some(1),
                outcome: Some("steer-fallback"),
                reason: Some("home"),
                key: None,
                loss: None,
            }),
            ..record()
        };
        assert!(
            deferred.json().ends_with(
                r#""out_len":60,"e2e_node":1,"e2e_outcome":"steer-fallback","e2e_reason":"home"}"#
            ),
            "{}",
            deferred.json()
        );
    }
}
