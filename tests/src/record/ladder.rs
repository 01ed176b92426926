//! One call's messages as a ladder: who sent what to whom, one line a message.
//!
//! ```text
//!   switch          LB          node 1          node 2
//!      │ INVITE      ◆ ──────────►│               │       to the VIP
//!      │◄──────────────────────────────────── 302 │
//! ```

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use lb_common::sip::Method;

use super::{CallHash, Kind, Sighting, Tape};
use crate::lab::Lab;

/// Columns from one machine to the next.
const STEP: usize = 15;
/// Columns left of the first machine's line: the time.
const MARGIN: usize = 12;

/// A call's messages, to be printed.
#[derive(Debug)]
pub struct Ladder {
    names: Vec<String>,
    rungs: Vec<Rung>,
}

#[derive(Debug)]
struct Rung {
    time: Duration,
    from: usize,
    to: usize,
    steered: bool,
    text: String,
    note: String,
}

/// Place of the load balancer among the machines; the switch comes first, node 1 next.
const LB: usize = 1;

impl Ladder {
    /// The messages of a call, from the tapes of the switch and of nodes 1, 2, 3 …, in this order.
    pub fn of(lab: &Lab, tapes: &[Tape], call: CallHash) -> Self {
        let machines = [&lab.switch, &lab.lb].into_iter().chain(&lab.nodes);
        let machines: Vec<_> = machines.collect();
        let nodes = lab.node_ids().map(|node| format!("node {node}"));
        let names = ["switch".to_owned(), "LB".to_owned()].into_iter();
        let mut arrivals: Vec<(usize, &Sighting)> = Vec::new();
        for (place, tape) in tapes.iter().enumerate() {
            let taker = if place == 0 { 0 } else { place + 1 };
            let of_call = tape.sightings.iter().filter(|s| s.call == call);
            arrivals.extend(of_call.map(|sighting| (taker, sighting)));
        }
        arrivals.sort_by_key(|(_, sighting)| sighting.time_ns);
        let start = arrivals.first().map_or(0, |(_, first)| first.time_ns);
        let rungs = arrivals.into_iter().filter_map(|(to, sighting)| {
            let way = sighting.way;
            let sender = machines.iter().position(|m| m.mac == way.sender)?;
            let origin = |ip| machines.iter().position(|m| m.address(ip) == ip);
            let from = match sender {
                // What a machine sends to the VIP may come back to it.
                LB => origin(way.source.ip())
                    .filter(|from| *from != to)
                    .unwrap_or(LB),
                other => other,
            };
            let is_to_vip = [lab.vip_v4(), lab.vip_v6()].contains(&way.destination);
            Some(Rung {
                time: Duration::from_nanos(sighting.time_ns - start),
                from,
                to,
                steered: sender == LB,
                text: describe(sighting),
                note: if is_to_vip {
                    "to the VIP".to_owned()
                } else {
                    format!("to {}", way.destination)
                },
            })
        });
        Self {
            rungs: rungs.collect(),
            names: names.chain(nodes).collect(),
        }
    }

    /// Leaves out machines that nothing came from or went to, but for the first three.
    #[must_use]
    pub fn without_bystanders(mut self) -> Self {
        let used = self.rungs.iter().map(|rung| rung.from.max(rung.to)).max();
        self.names.truncate(used.unwrap_or_default().max(2) + 1);
        self
    }
}

fn describe(sighting: &Sighting) -> String {
    let method = |method: Method| match method {
        Method::Invite => "INVITE",
        Method::Ack => "ACK",
        Method::Bye => "BYE",
        Method::Cancel => "CANCEL",
        Method::Response | Method::InDialogOnly | Method::Other => "request",
    };
    match sighting.kind {
        Kind::Request {
            method: Method::Invite,
            in_dialog: true,
        } => "re-INVITE".to_owned(),
        Kind::Request { method: of, .. } => method(of).to_owned(),
        Kind::Response { status, to } => format!("{status} ({})", method(to)),
    }
}

fn column(machine: usize) -> usize {
    MARGIN + STEP * machine
}

impl Rung {
    fn line(&self, machines: usize) -> String {
        let mut line: Vec<char> = vec![' '; column(machines - 1) + 3];
        for machine in 0..machines {
            line[column(machine)] = '│';
        }
        let (left, right) = (
            column(self.from.min(self.to)),
            column(self.from.max(self.to)),
        );
        line[left + 1..right].fill('─');
        if self.steered {
            line[column(LB)] = '◆';
        }
        let (head, place) = if self.from < self.to {
            ('►', right - 1)
        } else {
            ('◄', left + 1)
        };
        line[place] = head;
        // Beside the sender, over the line.
        let text = format!(" {} ", self.text);
        let len = text.chars().count();
        let begin = if self.from < self.to {
            left + 1
        } else {
            right.saturating_sub(len)
        };
        let places = line.iter_mut().skip(begin).take(len);
        for (place, letter) in places.zip(text.chars()) {
            *place = letter;
        }
        let millis = format!("{:>8.1} ms", self.time.as_secs_f64() * 1e3);
        for (place, letter) in line.iter_mut().zip(millis.chars()) {
            *place = letter;
        }
        let text: String = line.into_iter().collect();
        format!("{text}{}", self.note)
    }
}

impl Display for Ladder {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut head = String::new();
        for (machine, name) in self.names.iter().enumerate() {
            let begin = column(machine).saturating_sub(name.chars().count() / 2);
            let blanks = begin.saturating_sub(head.chars().count());
            head.push_str(&" ".repeat(blanks));
            head.push_str(name);
        }
        writeln!(f, "{head}")?;
        for rung in &self.rungs {
            writeln!(f, "{}", rung.line(self.names.len()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_goes_from_sender_to_taker() {
        let rung = |from, to, steered, text: &str| Rung {
            time: Duration::from_micros(1_500),
            from,
            to,
            steered,
            text: text.to_owned(),
            note: "to X".to_owned(),
        };
        let ladder = Ladder {
            names: ["switch", "LB", "node 1"].map(str::to_owned).to_vec(),
            rungs: vec![rung(0, 2, true, "INVITE"), rung(2, 0, false, "302")],
        };
        let expected = "         switch           LB           node 1\n     \
            1.5 ms │ INVITE ──────◆─────────────►│  to X\n     \
            1.5 ms │◄─────────────────────── 302 │  to X\n";
        assert_eq!(ladder.to_string(), expected, "\n{ladder}");
    }
}
