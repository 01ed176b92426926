//! Control datagrams and links that are not genuine, not new, not from where they should be, or of a term
//! that is over: every single one is refused and counted, and none has an effect.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::siphash::SipKey;
use lb_proto::failover::wire::{
    Body, Bytes, CONTROL_LEN, Datagram, Header, KeepAlive, LeaseRequest, MAGIC, Reason, Report,
    Role, Stamp,
};
use lb_proto::failover::{ControllerId, Party, Term};
use lb_proto::keys::NumberedKey;
use pointsman_tests::daemons::{BEACON_KEY_ID, CLUSTER, Pair, beacon_key};
use pointsman_tests::lab::{Host, Lab, wait_until};
use pointsman_tests::packets::mutate::Dice;
use pointsman_tests::record::PacketSocket;

use super::begin::begin;
use super::watch::{Watch, ask};
use crate::service::lab;

const PATIENCE: Duration = Duration::from_secs(5);
const PORT: u16 = 7700;
/// Of each kind of lie, to each who is lied to.
const EACH: usize = 2_000;
/// So many at a time, so that no queue on the way is full.
const BATCH: usize = 100;
/// Attempts at links, of each kind.
const LINKS: u64 = 50;
/// Until a main has a term above one that somebody invented.
const OUTBID: Duration = Duration::from_millis(200);
const WRONG: SipKey = SipKey { k0: 1, k1: 2 };

/// Who is lied to.
struct Victim {
    name: String,
    at: SocketAddr,
    socket: PathBuf,
    is_node: bool,
}

impl Victim {
    fn controller(lab: &Lab, id: u16) -> Self {
        Self {
            name: format!("controller {id}"),
            at: SocketAddr::new(lab.balancer(id).v4.into(), PORT),
            socket: lab
                .directory()
                .join(format!("controller-{id}/controller.sock")),
            is_node: false,
        }
    }

    fn node(lab: &Lab, id: u16) -> Self {
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
    fn refuses(
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
struct Mouths(BTreeMap<IpAddr, UdpSocket>);

impl Mouths {
    fn open(lab: &Lab) -> Result<Self> {
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
fn overhear(host: &Host, time: Duration) -> Result<Vec<(IpAddr, Bytes)>> {
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

fn life(configuration: u64) -> KeepAlive {
    KeepAlive {
        wall_ms: 0,
        monotonic_ms: 0,
        report: Report::default(),
        role: Role::Main,
        configuration,
        lease: Duration::from_millis(100),
        interval: Duration::from_millis(20),
        misses: 3,
        nonce: 0,
    }
}

fn controller(id: u8) -> Result<Party> {
    Ok(Party::Controller(ControllerId::new(id).context("an id")?))
}

/// A datagram of a controller.
fn written(
    from: Party,
    cluster: u32,
    term: u64,
    stamp: Stamp,
    body: Body,
    key: NumberedKey,
) -> Bytes {
    let header = Header {
        key_id: key.id,
        cluster,
        from,
        to: 0,
        reigns: matches!(body, Body::KeepAlive(_)),
        is_urgent: false,
        term: Term(term),
        stamp,
    };
    Datagram { header, body }.write(key.key)
}

/// A keep-alive of a reign that nobody has, as new as can be.
fn usurper(from: Party, cluster: u32, key: NumberedKey, number: usize) -> Bytes {
    let stamp = Stamp {
        epoch: u32::MAX,
        sequence: number as u32,
    };
    written(
        from,
        cluster,
        1_000_000,
        stamp,
        Body::KeepAlive(life(99)),
        key,
    )
}

/// A wish for leases of a term that nobody has, as new as can be.
fn bid(from: Party, key: NumberedKey, number: usize) -> Bytes {
    let stamp = Stamp {
        epoch: u32::MAX,
        sequence: number as u32,
    };
    written(
        from,
        CLUSTER,
        1_000_000,
        stamp,
        Body::LeaseRequest(WISH),
        key,
    )
}

const WISH: LeaseRequest = LeaseRequest {
    nonce: 1,
    lease: Duration::from_millis(100),
    reason: Reason::Loss,
};

const fn key(id: u8, key: SipKey) -> NumberedKey {
    NumberedKey { id, key }
}

#[test]
fn no_lie_is_believed() -> Result<()> {
    let lab = lab()?;
    let mut service = begin(&lab, Pair::patient())?;
    let watch = Watch::start(&service)?;
    watch.wait_until_well(PATIENCE)?;
    let mouths = Mouths::open(&lab)?;
    let good = key(BEACON_KEY_ID, beacon_key());

    watch.forget();
    let before = [1, 2].map(|id| watch.cluster(id));
    for (victim, host, other) in [
        (Victim::controller(&lab, 1), lab.balancer(1), 2),
        (Victim::controller(&lab, 2), lab.balancer(2), 1),
        (Victim::node(&lab, 1), lab.node(1), 2),
    ] {
        let (party, address) = (controller(other)?, lab.balancer(other.into()).v4);
        let heard = overhear(host, Duration::from_millis(500))?;
        let all = heard.iter().copied().cycle().take(EACH);

        let stranger = controller(7)?;
        let (right, wrong) = (IpAddr::from(address), IpAddr::from(lab.switch.v4));
        let usurped = |party, cluster, key| {
            let lie = move |number| (right, usurper(party, cluster, key, number));
            (0..EACH).map(lie)
        };
        let refuses = |what, reasons: &[&str], lies: &mut dyn Iterator<Item = (IpAddr, Bytes)>| {
            victim.refuses(&mouths, what, reasons, lies)
        };
        let mut forged = usurped(party, CLUSTER, key(BEACON_KEY_ID, WRONG));
        refuses("under a wrong key", &["forged"], &mut forged)?;
        let mut unknown = usurped(party, CLUSTER, key(99, WRONG));
        refuses("under an unknown key", &["unknown-key"], &mut unknown)?;
        let mut dice = Dice::new(7);
        let mut flipped = all.clone().map(|(from, mut bytes)| {
            // The first four bytes say that it is a control datagram at all.
            let bit = 32 + dice.below((CONTROL_LEN - 4) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            (from, bytes)
        });
        let reasons = ["forged", "malformed", "unknown-key"];
        refuses("with a bit flipped", &reasons, &mut flipped)?;
        refuses("played back", &["replayed"], &mut all.clone())?;
        let mut moved = all.map(|(_, bytes)| (wrong, bytes));
        refuses("played back from elsewhere", &["origin"], &mut moved)?;
        let mut foreign = usurped(party, CLUSTER + 1, good);
        refuses("of another cluster", &["cluster"], &mut foreign)?;
        let mut stranger = (0..EACH).map(|number| (right, bid(stranger, good, number)));
        refuses(
            "of an unknown controller",
            &["unknown-sender"],
            &mut stranger,
        )?;
        links_are_refused(&lab, &victim, lab.balancer(other.into()))?;
    }
    unmoved(&watch, &before)?;

    // One who has the key, but another's address.
    for victim in [
        Victim::controller(&lab, 1),
        Victim::controller(&lab, 2),
        Victim::node(&lab, 1),
    ] {
        for other in [1, 2] {
            let party = controller(other)?;
            if victim.name == format!("controller {other}") {
                continue;
            }
            let wrong = IpAddr::from(lab.switch.v4);
            let lies = (0..EACH).map(|number| (wrong, bid(party, good, number)));
            victim.refuses(&mouths, "from an untrusted address", &["origin"], lies)?;
        }
    }
    unmoved(&watch, &before)?;
    a_main_outbids(&lab, &watch, &mouths, good)?;
    lower_terms(&lab, &mut service, &watch, &mouths)
}

/// Nobody's role or term has changed, and no data plane.
fn unmoved(watch: &Watch, before: &[Option<serde_json::Value>; 2]) -> Result<()> {
    let seen = watch.look()?;
    ensure!(
        seen.changes.len() <= 1 && seen.steers == [true, false],
        "{seen:?}"
    );
    for (id, before) in [1, 2].into_iter().zip(before) {
        let (now, before) = (watch.cluster(id).context("no answer")?, before.as_ref());
        for what in ["role", "term", "main", "configuration", "newer"] {
            let before = before.map(|before| &before[what]);
            ensure!(
                before == Some(&now[what]),
                "{what} of controller {id}: {now:#}"
            );
        }
    }
    watch.wait_until_well(PATIENCE)?;
    Ok(())
}

/// The program gives way to every later term under the right key, wherever it comes from: better once too
/// often. The daemon refuses it, and the nodes know of no such reign: the main goes on above it.
fn a_main_outbids(lab: &Lab, watch: &Watch, mouths: &Mouths, key: NumberedKey) -> Result<()> {
    let victim = Victim::controller(lab, 1);
    watch.forget();
    let lie = usurper(controller(2)?, CLUSTER, key, 1);
    victim.refuses(
        mouths,
        "a reign that there is not",
        &["origin"],
        [(IpAddr::from(lab.switch.v4), lie)],
    )?;
    let begin = Instant::now();
    let terms = || {
        watch
            .cluster(1)
            .map(|report| (report["term"].as_u64(), report["steers"] == true))
    };
    wait_until("the main to go on above it", PATIENCE, || {
        Ok((terms() == Some((Some(1_000_001), true))).then_some(()))
    })
    .with_context(|| format!("{:?}", watch.cluster(1)))?;
    let seen = watch.look()?;
    eprintln!("outbid after {:?}", begin.elapsed());
    ensure!(!seen.steers[1], "{seen:?}");
    ensure!(
        begin.elapsed() < OUTBID || !watch.is_calm(),
        "outbid after {:?}",
        begin.elapsed()
    );
    watch.wait_until_well(PATIENCE)?;
    Ok(())
}

/// An old main's voice, with all that makes it genuine, after its term.
fn lower_terms(
    lab: &Lab,
    service: &mut crate::service::Service<'_>,
    watch: &Watch,
    mouths: &Mouths,
) -> Result<()> {
    let heard = overhear(lab.node(1), Duration::from_millis(200))?;
    let old = controller(1)?;
    let keys = [key(BEACON_KEY_ID, beacon_key())];
    let stamps = heard.iter().filter_map(|(_, bytes)| {
        let header = Datagram::read(bytes, &keys).ok()?.header;
        (header.from == old).then_some(header.stamp)
    });
    let Stamp { epoch, sequence } = stamps.max().context("the main was not heard")?;
    service.controller(1).kill()?;
    service.controllers[0] = None;
    watch.expect([false, true], Instant::now(), PATIENCE)?;
    watch.forget();
    let reign = watch.cluster(2).context("no answer")?["term"]
        .as_u64()
        .context("no term")?;
    ensure!(reign > 1, "the reign is {reign}");
    let mut number = sequence + 100_000;
    let mut lie = |body, term| {
        number += 1;
        let stamp = Stamp {
            epoch,
            sequence: number,
        };
        let bytes = written(old, CLUSTER, term, stamp, body, keys[0]);
        (IpAddr::from(lab.balancer(1).v4), bytes)
    };
    let successor = ControllerId::new(1).context("an id")?;
    let asked = Body::Ask {
        successor,
        reason: Reason::Command,
    };
    for (victim, what, body) in [
        (
            Victim::controller(lab, 2),
            "a keep-alive of a lower term",
            Body::KeepAlive(life(1)),
        ),
        (Victim::controller(lab, 2), "a wish of a lower term", asked),
        (
            Victim::node(lab, 1),
            "a keep-alive of a lower term",
            Body::KeepAlive(life(1)),
        ),
        (
            Victim::node(lab, 1),
            "a request of a lower term",
            Body::LeaseRequest(WISH),
        ),
        (
            Victim::node(lab, 2),
            "a request of a lower term",
            Body::LeaseRequest(WISH),
        ),
    ] {
        let lies = (0..EACH as u64).map(|n| lie(body, n % reign));
        victim.refuses(mouths, what, &["lower-term"], lies)?;
    }
    let seen = watch.look()?;
    ensure!(seen.steers == [false, true], "{seen:?}");
    let now = watch.cluster(2).context("no answer")?;
    ensure!(now["role"] == "main" && now["term"] == reign, "{now:#}");
    let obeyed = watch.witnesses();
    let obeys =
        |node: &Option<serde_json::Value>| node.as_ref().is_some_and(|node| node["main"] == 2);
    ensure!(obeyed.iter().all(obeys), "{obeyed:?}");
    Ok(())
}

/// Connections to the links' port: from where no member is, and from where one is, without the key.
fn links_are_refused(lab: &Lab, victim: &Victim, member: &Host) -> Result<()> {
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
