//! What the daemon counts beside the maps: asked of its page for Prometheus, if it has one and lives.
//!
//! The program counts what it defers, the daemon what became of it. Without this the operator would
//! see datagrams leave one table and arrive in none.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;

use super::metrics::LEARNT;
use super::table::Table;
use super::units;
use crate::deferred::Loss;

/// How long to wait for the daemon, at each step. It is on this machine, or dead.
const PATIENCE: Duration = Duration::from_millis(300);
/// Bytes of a page that are read.
const MAX_PAGE: u64 = 4 << 20;

/// What became of deferred datagrams. Counts from the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Deferred {
    steered: Vec<Steered>,
    lost: Vec<Lost>,
    held: u64,
    frames: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Steered {
    outcome: String,
    reason: String,
    datagrams: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Lost {
    reason: String,
    datagrams: u64,
}

impl Deferred {
    /// Asks the daemon; `None` when there is no answer.
    pub(super) fn ask(address: SocketAddr) -> Option<Self> {
        page(address).ok().as_deref().and_then(Self::of_page)
    }

    fn of_page(page: &str) -> Option<Self> {
        let mut found = Self::default();
        let mut is_ours = false;
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let Ok(datagrams) = value.parse() else {
                continue;
            };
            match name {
                "pointsman_deferred_datagrams_total" => {
                    let outcome = label(labels, "outcome")?.to_owned();
                    let reason = label(labels, "reason")?.to_owned();
                    found.steered.push(Steered {
                        outcome,
                        reason,
                        datagrams,
                    });
                }
                "pointsman_deferred_lost_total" if datagrams > 0 => {
                    let reason = label(labels, "reason")?.to_owned();
                    found.lost.push(Lost { reason, datagrams });
                }
                "pointsman_deferred_held_total" => found.held = datagrams,
                "pointsman_deferred_frames_total" => {
                    is_ours = true;
                    found.frames = datagrams;
                }
                _ => {}
            }
        }
        is_ours.then_some(found)
    }

    /// Writes a table, if there is anything to tell.
    pub(super) fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["DEFERRED", "REASON", ">DATAGRAMS", "WHY"]);
        for Steered {
            outcome,
            reason,
            datagrams,
        } in &self.steered
        {
            let datagrams = units::count(*datagrams);
            table.row([outcome.clone(), reason.clone(), datagrams, String::new()]);
        }
        for Lost { reason, datagrams } in &self.lost {
            let loss = Loss::ALL.iter().find(|loss| loss.name() == reason);
            let why = loss.map_or("", |loss| loss.describe()).to_owned();
            table.row([
                "lost".to_owned(),
                reason.clone(),
                units::count(*datagrams),
                why,
            ]);
        }
        if table.is_empty() {
            return Ok(());
        }
        writeln!(output)?;
        table.write(output)
    }
}

/// Asks the daemon where the nodes are that it has learnt; `None` when there is no answer.
pub(super) fn learnt(address: SocketAddr) -> Option<BTreeMap<u16, IpAddr>> {
    Some(learnt_of_page(&page(address).ok()?))
}

fn learnt_of_page(page: &str) -> BTreeMap<u16, IpAddr> {
    let nodes = page.lines().filter_map(|line| {
        let (labels, _) = line
            .strip_prefix(LEARNT)?
            .strip_prefix('{')?
            .split_once("} ")?;
        let of = |name| label(labels, name);
        Some((of("node")?.parse().ok()?, of("address")?.parse().ok()?))
    });
    nodes.collect()
}

/// The content of a label. Ours hold no quotes.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = labels.trim_end_matches('}').split(',');
    pairs.find_map(|pair| {
        pair.strip_prefix(name)?
            .strip_prefix("=\"")?
            .strip_suffix('"')
    })
}

fn page(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_PAGE).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    const PAGE: &str = "HTTP/1.1 200 OK\r\n\r\n\
        # TYPE pointsman_deferred_datagrams_total counter\n\
        pointsman_deferred_datagrams_total{outcome=\"steer-callid\",reason=\"home\"} 24\n\
        pointsman_deferred_lost_total{reason=\"queue-full\"} 0\n\
        pointsman_deferred_lost_total{reason=\"no-neighbour\"} 5\n\
        pointsman_deferred_held_total 7\n\
        pointsman_deferred_frames_total 30\n\
        something_else 1.5\n";

    #[test]
    fn the_daemons_page_is_understood() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(PAGE.as_bytes()).unwrap();
        });
        let found = Deferred::ask(address).unwrap();
        server.join().unwrap();
        assert_eq!((found.held, found.frames), (7, 30));
        assert_eq!(found.lost.len(), 1);
        let mut text = Vec::new();
        found.write(&mut text).unwrap();
        let expected = "
DEFERRED      REASON        DATAGRAMS  WHY
steer-callid  home                 24
lost          no-neighbour          5  The node's link address did not become known in time.
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn learnt_nodes_are_found() {
        let page = "# TYPE pointsman_learnt_node_info gauge\n\
            pointsman_learnt_node_info{node=\"9\",address=\"2001:db8::9\"} 1\n\
            pointsman_learnt_node_info{node=\"10\",address=\"\"} 1\n\
            pointsman_node_up{node=\"9\"} 1\n";
        let at = "2001:db8::9".parse().unwrap();
        assert_eq!(learnt_of_page(page), BTreeMap::from([(9, at)]));
    }

    #[test]
    fn other_pages_and_no_page_are_nothing() {
        assert_eq!(Deferred::of_page("HTTP/1.1 404 Not Found\r\n\r\n"), None);
        assert_eq!(
            Deferred::of_page("pointsman_deferred_datagrams_total{x} 1\n"),
            None
        );
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert_eq!(Deferred::ask(closed), None);
    }
}
