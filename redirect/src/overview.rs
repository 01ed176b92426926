//! What `status` tells of the redirect server, beside the status plane's [report](crate::report).

use crate::report::Report;
use crate::sip::Sip;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Everything that `status` tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Overview {
    #[serde(flatten)]
    pub report: Report,
    /// `None` where there is no redirect server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// `None` where there is no pair of controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessReport>,
}

/// The node as a witness of which controller is the main. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WitnessReport {
    /// The controller that is obeyed.
    pub main: Option<u16>,
    /// Its term.
    pub term: Option<u64>,
    /// How long its lease runs.
    pub lease_ms: u64,
    /// Nothing has been heard of it for longer than it said.
    pub missed: bool,
    /// The highest term that was ever granted.
    pub highest_term: u64,
    /// Controllers that have a link here.
    pub linked: Vec<u16>,
    /// Controllers to which the main's keep-alives are forwarded.
    pub relays: Vec<u16>,
    /// Control datagrams that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// What was asked over links, by what became of it.
    pub asked: BTreeMap<String, u64>,
    /// Links, and what became of attempts at them, by reason.
    pub links: BTreeMap<String, u64>,
}

impl WitnessReport {
    /// As people read it.
    pub(crate) fn render(&self) -> String {
        let mut text = match (self.main, self.term) {
            (Some(main), Some(term)) if self.missed => {
                format!("controllers: {main} is the main, term {term}, and is missed")
            }
            (Some(main), Some(term)) => format!(
                "controllers: {main} is the main, term {term}, its lease runs {} ms",
                self.lease_ms
            ),
            _ => "controllers: none is the main".to_owned(),
        };
        let refused = self.refused.iter().filter(|(_, count)| **count > 0);
        let refused: Vec<String> = refused
            .map(|(why, count)| format!("{why} {count}"))
            .collect();
        if !refused.is_empty() {
            text += &format!("; refused: {}", refused.join(", "));
        }
        text.push('\n');
        text
    }
}

/// The redirect server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Redirect {
    pub listen: Vec<SocketAddr>,
    pub advertise: SocketAddr,
    pub draining: bool,
    /// It is draining, and the last call has gone.
    pub drained: bool,
    /// Dialogs by their state.
    pub early: usize,
    pub confirmed: usize,
    pub held: usize,
    /// Slots that are held for calls which were promised one.
    pub promised: u32,
    /// Messages and calls by what became of them.
    pub counts: BTreeMap<String, u64>,
    /// New calls that were not taken, by why.
    pub refused_calls: BTreeMap<String, u64>,
    /// Messages that the system did not send.
    pub not_sent: u64,
}

impl Redirect {
    pub(crate) fn of(sip: &mut Sip, now: Duration) -> Self {
        let facts = sip.core.gate().facts(now);
        let capacity = sip.core.gate().slots().capacity();
        let dialogs = sip.core.dialogs();
        let (draining, drained) = sip.core.draining();
        let words = |(name, count): (&str, u64)| (name.to_owned(), count);
        Self {
            listen: sip.core.ways().listeners().to_vec(),
            advertise: sip.core.ways().advertise(),
            draining,
            drained,
            early: dialogs.early,
            confirmed: dialogs.confirmed,
            held: dialogs.held,
            promised: capacity.saturating_sub(facts.active + facts.free),
            counts: sip.core.counts().iter().map(words).collect(),
            refused_calls: sip.core.refusals().map(words).collect(),
            not_sent: sip.not_sent,
        }
    }

    /// As people read it: what never happened is left out.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let listen: Vec<String> = self.listen.iter().map(SocketAddr::to_string).collect();
        let state = match (self.draining, self.drained) {
            (true, true) => ", drained: the last call has gone",
            (true, false) => ", draining",
            (false, _) => "",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "\nredirect server at {}, advertised as {}{state}",
            listen.join(", "),
            self.advertise
        );
        let _ = writeln!(
            text,
            "dialogs: {} early, {} confirmed, {} held; slots promised: {}",
            self.early, self.confirmed, self.held, self.promised
        );
        for (title, counts) in [("counted", &self.counts), ("refused", &self.refused_calls)] {
            let counts: Vec<String> = counts
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(name, count)| format!("{count} {name}"))
                .collect();
            if !counts.is_empty() {
                let _ = writeln!(text, "{title}: {}", counts.join(", "));
            }
        }
        if self.not_sent > 0 {
            let _ = writeln!(
                text,
                "{} messages that the system did not send",
                self.not_sent
            );
        }
        text
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn redirect() -> Redirect {
        let counts = [("request-in", 7), ("call-taken", 2), ("drop-not-sip", 0)];
        let words = |(name, count): (&str, u64)| (name.to_owned(), count);
        Redirect {
            listen: vec![
                ([192, 0, 2, 100], 5060).into(),
                ([192, 0, 2, 11], 5062).into(),
            ],
            advertise: ([192, 0, 2, 11], 5062).into(),
            draining: true,
            drained: false,
            early: 1,
            confirmed: 2,
            held: 0,
            promised: 3,
            counts: counts.map(words).into(),
            refused_calls: [words(("calls", 4)), words(("rate", 0))].into(),
            not_sent: 5,
        }
    }

    #[test]
    fn a_screen_leaves_out_what_never_happened() {
        let mut redirect = redirect();
        assert_eq!(
            redirect.render(),
            "\nredirect server at 192.0.2.100:5060, 192.0.2.11:5062, advertised as \
             192.0.2.11:5062, draining\n\
             dialogs: 1 early, 2 confirmed, 0 held; slots promised: 3\n\
             counted: 2 call-taken, 7 request-in\n\
             refused: 4 calls\n\
             5 messages that the system did not send\n"
        );
        redirect.drained = true;
        assert!(
            redirect
                .render()
                .contains("drained: the last call has gone")
        );
    }
}
