//! Answers for people.

use std::collections::BTreeMap;
use std::io::{self, Write};

use lb_common::Reason;

use super::record::{Record, Userspace, Verdict, hex};

/// Writes one frame's answer: a line of what and why, and one of the details.
pub(super) fn write(output: &mut dyn Write, record: &Record) -> io::Result<()> {
    let outcome = record.outcome.name();
    write!(
        output,
        "{:>6}  {:<12}  {outcome:<12}",
        record.n,
        record.verdict.name()
    )?;
    match record.node {
        Some(node) => write!(output, "  → node {node:<3}")?,
        None => write!(output, "            ")?,
    }
    match (record.reason, record.verdict) {
        (Some(reason), _) => writeln!(output, "  {}", reason.name())?,
        (None, Verdict::Refused) => {
            writeln!(output, "  longer than the kernel lets test frames be")?
        }
        (None, _) => writeln!(output)?,
    }
    if let Some(key) = &record.key {
        match str::from_utf8(key) {
            Ok(text) => detail(output, &format!("Call-ID {text}"))?,
            Err(_) => detail(output, &format!("Call-ID, in hex {}", hex(key)))?,
        }
    }
    if let Some(len) = record.seen_len {
        detail(
            output,
            &format!("the program saw the first {len} bytes only"),
        )?;
    }
    if record.captured_short {
        detail(
            output,
            "captured short: this is about the captured part alone",
        )?;
    }
    match &record.userspace {
        Some(userspace) => detail(output, &in_userspace(userspace)),
        None => Ok(()),
    }
}

fn detail(output: &mut dyn Write, text: &str) -> io::Result<()> {
    // Control characters in a Call-ID must not reach the terminal.
    let printable: String = text.chars().flat_map(printable).collect();
    writeln!(output, "        {printable}")
}

fn printable(character: char) -> Vec<char> {
    if character.is_control() {
        character.escape_default().collect()
    } else {
        vec![character]
    }
}

fn in_userspace(userspace: &Userspace) -> String {
    if let Some(loss) = userspace.loss {
        return format!("userspace does not send it on: {loss}");
    }
    let node = userspace.node.unwrap_or(0);
    let reason = userspace.reason.unwrap_or("");
    match &userspace.key {
        Some(key) => format!("userspace → node {node} ({reason}), Call-ID {key}"),
        None => format!("userspace → node {node} ({reason}), by the client's address"),
    }
}

/// How often each reason came up: what the words mean stands at the end, once.
#[derive(Debug, Default)]
pub(super) struct Tally {
    reasons: BTreeMap<Reason, u64>,
}

impl Tally {
    pub(super) fn count(&mut self, record: &Record) {
        if let Some(reason) = record.reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    pub(super) fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        if !self.reasons.is_empty() {
            writeln!(output)?;
        }
        for (reason, count) in &self.reasons {
            writeln!(
                output,
                "{count:>6}  {:<20}  {}",
                reason.name(),
                reason.describe()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::Outcome;

    #[test]
    fn an_answer_is_readable_and_harmless() {
        let record = Record {
            n: 7,
            verdict: Verdict::Tx,
            outcome: Outcome::SteerCallId,
            reason: Some(Reason::Home),
            key: Some("a\u{9b}b".as_bytes().to_vec()),
            node: Some(3),
            out_len: Some(60),
            seen_len: None,
            captured_short: false,
            userspace: None,
        };
        let mut text = Vec::new();
        let mut tally = Tally::default();
        tally.count(&record);
        write(&mut text, &record).unwrap();
        tally.write(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "     7  XDP_TX        steer-callid  → node 3    home\n        Call-ID a\\u{9b}b\n\n     \
             1  home                  Home is up and takes calls.\n"
        );
    }
}
