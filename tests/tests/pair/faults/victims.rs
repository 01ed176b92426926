//! Who is lied to, from where, and what they say of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_proto::failover::wire::{Bytes, CONTROL_LEN, MAGIC};
use pointsman_tests::daemons::{BEACON_KEY_ID, CLUSTER};
use pointsman_tests::lab::{Host, Lab, wait_until};
use pointsman_tests::record::PacketSocket;

use super::watch::ask;

const PATIENCE: Duration = Duration::from_secs(5);
pub(super) const PORT: u16 = 7700;
/// Lies at a time, so that no queue on the way is full.
const BATCH: usize = 100;
/// Attempts at links, of each kind.
const LINKS: u64 = 50;

/// Who is lied to.
pub(super) struct Victim {
    pub(super) name: String,
    at: SocketAddr,
    socket: PathBuf,
    is_node: bool,
}

impl Victim {
    pub(super) fn controller(lab: &Lab, id: u16) -> Self {
        Self {
            name: format!("controller {id}"),
            at: SocketAddr::new(lab.balancer(id).v4.into(), PORT),
            socket: lab
                .directory()
                .join(format!("controller-{id}/controller.sock")),
            is_node: false,
        }
    }

    pub(super) fn node(lab: &Lab, id: u16) -> Self {
        Self {
            name: format!("node {id}"),
            at: SocketAddr::new(lab.node(id).v4.into(), PORT),
            socket: lab.directory().join(format!("redirect-{id}/redirect.sock")),
            is_node: true,
        }
    }

    /// What it says of `refused` or `links`.
    fn counts(&self, what: &str) -> Result<BTreeMap<String, u64>> {
        let answer = if self.is_node {
            ask(&self.socket, "status").map(|mut answer| answer["witness"][what].take())
        } else {
            ask(&self.socket, "cluster").map(|mut answer| answer[what].take())
        };
        let answer = answer.with_context(|| format!("{} does not answer", self.name))?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Sends it lies; each must be refused, for one of these reasons.
    pub(super) fn refuses(
        &self,
        mouths: &Mouths,
        what: &str,
        reasons: &[&str],
        lies: impl IntoIterator<Item = (IpAddr, Bytes)>,
    ) -> Result<()> {
        let before = self.counts("refused")?;
        let refused_since = |now: &BTreeMap<String, u64>| -> BTreeMap<String, u64> {
            let since = |(why, count): (&String, &u64)| {
                let more = count - before.get(why).copied().unwrap_or(0);
                (more > 0).then(|| (why.clone(), more))
            };
            now.iter().filter_map(since).collect()
        };
        let (begin, mut sent) = (Instant::now(), 0);
        for (from, lie) in lies {
            mouths.at(from)?.send_to(&lie, self.at)?;
            sent += 1;
            if sent % BATCH == 0 {
                self.wait_for(what, sent as u64, refused_since)?;
            }
        }
        let refused = self.wait_for(what, sent as u64, refused_since)?;
        let stray: Vec<_> = refused
            .keys()
            .filter(|why| !reasons.contains(&why.as_str()))
            .collect();
        eprintln!(
            "{:13} {what:32} {sent:5} sent, refused {refused:?} in {:?}",
            self.name,
            begin.elapsed()
        );
        ensure!(
            stray.is_empty(),
            "{} refused {what} as {stray:?}",
            self.name
        );
        let total: u64 = refused.values().sum();
        ensure!(
            total == sent as u64,
            "{}: {sent} of {what}, refused {refused:?}",
            self.name
        );
        Ok(())
    }

    fn wait_for(
        &self,
        what: &str,
        sent: u64,
        refused_since: impl Fn(&BTreeMap<String, u64>) -> BTreeMap<String, u64>,
    ) -> Result<BTreeMap<String, u64>> {
        let mut last = BTreeMap::new();
        wait_until("all to be refused", PATIENCE, || {
            last = refused_since(&self.counts("refused")?);
            let is_all = last.values().sum::<u64>() >= sent;
            Ok(is_all.then(|| last.clone()))
        })
        .with_context(|| format!("{}: {sent} of {what}: {last:?}", self.name))
    }
}

/// Where lies are sent from.
pub(super) struct Mouths(BTreeMap<IpAddr, UdpSocket>);

impl Mouths {
    pub(super) fn open(lab: &Lab) -> Result<Self> {
        let hosts = [&lab.switch, lab.balancer(1), lab.balancer(2)];
        let open = |host: &Host| {
            let at = SocketAddr::new(host.v4.into(), 0);
            anyhow::Ok((at.ip(), host.namespace.inside(|| UdpSocket::bind(at))??))
        };
        let mouths = hosts.into_iter().chain(&lab.nodes).map(open);
        Ok(Self(mouths.collect::<Result<_>>()?))
    }

    fn at(&self, address: IpAddr) -> Result<&UdpSocket> {
        self.0.get(&address).context("nobody lies there")
    }
}

/// Control datagrams that a machine gets, and from where.
pub(super) fn overhear(host: &Host, time: Duration) -> Result<Vec<(IpAddr, Bytes)>> {
    let mut socket = PacketSocket::open(&host.namespace, "eth0")?;
    let mut heard = Vec::new();
    let end = Instant::now() + time;
    wait_until("the time to pass", time * 2, || {
        socket.receive(|frame| {
            let frame = frame.bytes;
            let is_control = frame.get(12..14) == Some(&[8, 0])
                && frame.get(30..34) == Some(&host.v4.octets())
                && frame.get(42..46) == Some(&MAGIC);
            let source = frame
                .get(26..30)
                .and_then(|source| source.first_chunk::<4>());
            let payload = frame
                .get(42..42 + CONTROL_LEN)
                .and_then(|bytes| bytes.try_into().ok());
            if let (true, Some(source), Some(payload)) = (is_control, source, payload) {
                heard.push((IpAddr::from(*source), payload));
            }
        })?;
        Ok((Instant::now() >= end).then_some(()))
    })?;
    ensure!(
        heard.len() > 5,
        "only {} control datagrams came",
        heard.len()
    );
    Ok(heard)
}

/// Connections to the links' port: from where no member is, and from where one is, without the key.
pub(super) fn links_are_refused(lab: &Lab, victim: &Victim, member: &Host) -> Result<()> {
    let hello = |id: u8, cluster: u32| {
        let mut bytes = b"PML1\x01".to_vec();
        bytes.extend([id, 0, 0]);
        bytes.extend(cluster.to_be_bytes());
        bytes.extend([0x5a; 51]);
        bytes
    };
    for (host, hello, why) in [
        (&lab.switch, hello(BEACON_KEY_ID, CLUSTER), "unknown_source"),
        (member, hello(BEACON_KEY_ID, CLUSTER), "not_authentic"),
        (member, hello(9, CLUSTER), "unknown_key"),
        (member, hello(BEACON_KEY_ID, CLUSTER + 1), "other_cluster"),
        (member, vec![0x5a; 63], "not_a_link"),
    ] {
        let before = victim.counts("links")?;
        host.namespace.inside(|| -> Result<()> {
            for _ in 0..LINKS {
                let mut stream = TcpStream::connect(victim.at)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                // Who is refused at once may be told so by a reset.
                let _ = stream.write_all(&hello);
                let mut answer = [0; 1];
                let got = stream.read(&mut answer);
                ensure!(
                    matches!(got, Ok(0) | Err(_)),
                    "{}: it is answered ({why})",
                    victim.name
                );
            }
            Ok(())
        })??;
        wait_until(why, PATIENCE, || {
            let now = victim.counts("links")?;
            let more = |why: &str| {
                now.get(why).copied().unwrap_or(0) - before.get(why).copied().unwrap_or(0)
            };
            ensure!(
                more("made") == 0,
                "{}: a link was made ({why})",
                victim.name
            );
            Ok((more(why) == LINKS).then_some(()))
        })
        .with_context(|| format!("{}: {:?}", victim.name, victim.counts("links")))?;
        eprintln!("{:13} links: {why:25} {LINKS:5} refused", victim.name);
    }
    Ok(())
}
