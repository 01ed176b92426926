//! The lab's faults do what they say, and no more: what is proved with them rests on that.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use pointsman_tests::daemons::PATIENCE;
use pointsman_tests::lab::{Arms, Host, Lab, Plan, eventually};

/// Two sockets of each machine, one of each family.
struct Ears([UdpSocket; 2]);

impl Ears {
    fn open(host: &Host) -> Result<Self> {
        let [v4, v6] = own(host).map(|address| {
            let socket = host.namespace.inside(|| UdpSocket::bind(address))??;
            socket.set_nonblocking(true)?;
            anyhow::Ok(socket)
        });
        Ok(Self([v4?, v6?]))
    }

    fn say(&self, to: &Host, what: &str) -> Result<()> {
        for (socket, address) in self.0.iter().zip(own(to)) {
            // A machine cannot while it has no cable, or looks for others with its queue full.
            let _ = socket.send_to(what.as_bytes(), address);
        }
        Ok(())
    }

    /// What has been heard by now, of each family.
    fn heard(&self) -> [Vec<String>; 2] {
        let mut buffer = [0; 64];
        self.0.each_ref().map(|socket| {
            let mut all = Vec::new();
            while let Ok((len, _)) = socket.recv_from(&mut buffer) {
                all.push(String::from_utf8_lossy(&buffer[..len]).into_owned());
            }
            all
        })
    }
}

fn own(host: &Host) -> [SocketAddr; 2] {
    [
        SocketAddr::new(host.v4.into(), 6666),
        SocketAddr::new(host.v6.into(), 6666),
    ]
}

/// Machines that say something to each other.
struct Talk<'lab> {
    hosts: Vec<&'lab Host>,
    ears: Vec<Ears>,
    round: u32,
}

impl<'lab> Talk<'lab> {
    fn open(hosts: Vec<&'lab Host>) -> Result<Self> {
        let ears = hosts.iter().map(|host| Ears::open(host));
        let ears = ears.collect::<Result<_>>()?;
        let mut talk = Self {
            hosts,
            ears,
            round: 0,
        };
        // Once, so that everybody knows where the others are.
        talk.expect("at first", |_, _| true)?;
        Ok(talk)
    }

    /// Expects everybody to hear exactly those that `hears(listener, speaker)` says.
    ///
    /// A round ends for a machine when it has heard itself. What should be heard may take some rounds, until
    /// everybody is found again; what should not must not be heard once, not even in the next round.
    fn expect(&mut self, when: &str, hears: impl Fn(usize, usize) -> bool) -> Result<()> {
        let first = self.round + 1;
        eventually(when, PATIENCE, || {
            self.round += 1;
            self.speak()?;
            let mut is_so = self.round > first;
            for listener in 0..self.hosts.len() {
                for heard in self.listen(listener)? {
                    for (round, speaker) in &heard {
                        let is_false = *round >= first && !hears(listener, *speaker);
                        ensure!(!is_false, "{when}: {listener} hears {speaker}");
                    }
                    let all = 0..self.hosts.len();
                    is_so &= all
                        .filter(|speaker| *speaker != listener && hears(listener, *speaker))
                        .all(|speaker| heard.contains(&(self.round, speaker)));
                }
            }
            Ok(is_so)
        })
    }

    /// Everybody says something to everybody else.
    fn speak(&self) -> Result<()> {
        let all = 0..self.hosts.len();
        for speaker in all.clone() {
            let word = format!("{} {speaker}", self.round);
            for listener in all.clone().filter(|listener| *listener != speaker) {
                self.ears[speaker].say(self.hosts[listener], &word)?;
            }
        }
        Ok(())
    }

    /// Rounds and speakers that a machine has heard, in each family, until it heard itself.
    fn listen(&self, listener: usize) -> Result<[Vec<(u32, usize)>; 2]> {
        let mut heard: [Vec<String>; 2] = Default::default();
        let end = format!("end {}", self.round);
        eventually("the end of the round", PATIENCE, || {
            self.ears[listener].say(self.hosts[listener], &end)?;
            for (all, new) in heard.iter_mut().zip(self.ears[listener].heard()) {
                all.extend(new);
            }
            Ok(heard.iter().all(|words| words.contains(&end)))
        })?;
        let read = |word: &String| {
            let (round, speaker) = word.split_once(' ')?;
            Some((round.parse().ok()?, speaker.parse().ok()?))
        };
        Ok(heard.map(|words| words.iter().filter_map(read).collect()))
    }
}

const LB: usize = 0;
const STAND_BY: usize = 1;
const SWITCH: usize = 2;

fn hosts(lab: &Lab) -> Vec<&Host> {
    let balancers = lab.controllers().iter().map(|id| lab.balancer(*id));
    balancers.chain([&lab.switch]).chain(&lab.nodes).collect()
}

#[test]
fn faults_cut_what_they_say() -> Result<()> {
    let lab = Lab::pair_of(3)?;
    let hosts = hosts(&lab);
    let mut talk = Talk::open(hosts.clone())?;

    let cut = lab.cut_one_way(hosts[LB], hosts[STAND_BY])?;
    talk.expect("cut one way", |listener, speaker| {
        (listener, speaker) != (STAND_BY, LB)
    })?;
    let back = lab.cut_one_way(hosts[STAND_BY], hosts[LB])?;
    talk.expect("cut both ways", |listener, speaker| {
        listener.max(speaker) != STAND_BY
    })?;
    drop(cut);
    talk.expect("cut the other way", |listener, speaker| {
        (listener, speaker) != (LB, STAND_BY)
    })?;
    drop(back);
    talk.expect("healed", |_, _| true)?;

    let parts = lab.part(&[
        &[hosts[LB], hosts[3]],
        &[hosts[STAND_BY], hosts[4], hosts[5]],
    ])?;
    let side = |host: usize| match host {
        LB | 3 => Some(0),
        SWITCH => None,
        _ => Some(1),
    };
    talk.expect("parted", |listener, speaker| {
        match (side(listener), side(speaker)) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
    })?;
    drop(parts);
    talk.expect("one again", |_, _| true)?;

    lab.unplug(hosts[LB])?;
    talk.expect("unplugged", |listener, speaker| {
        listener != LB && speaker != LB
    })?;
    lab.replug(hosts[LB])?;
    talk.expect("plugged in again", |_, _| true)?;

    for _ in 0..2 {
        lab.move_plug(hosts[SWITCH])?;
        talk.expect("moved", |_, _| true)?;
    }
    Ok(())
}

/// With two arms a cut is a cut on both of them.
#[test]
fn cuts_hold_for_every_port() -> Result<()> {
    let lab = Lab::start_pair(Plan {
        nodes: 1,
        arms: Arms::Two,
    })?;
    let near = |host: u8| SocketAddr::new(std::net::Ipv4Addr::new(10, 78, 0, host).into(), 6667);
    let open = |host: &Host, address| -> Result<UdpSocket> {
        let socket = host.namespace.inside(|| UdpSocket::bind(address))??;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let lb = open(lab.balancer(1), near(10))?;
    let node = open(lab.node(1), near(11))?;
    let arrives = || {
        lb.send_to(b"!", near(11))?;
        node.send_to(b"end", near(11))?;
        let mut first = None;
        eventually("the end of the round", PATIENCE, || {
            let mut buffer = [0; 8];
            let Ok((len, _)) = node.recv_from(&mut buffer) else {
                return Ok(false);
            };
            first = first.or(Some(len));
            Ok(len == 3)
        })?;
        anyhow::Ok(first == Some(1))
    };
    eventually("the node to be heard of", PATIENCE, arrives)?;
    let cut = lab.cut_one_way(lab.balancer(1), lab.node(1))?;
    assert!(!arrives()?, "{cut:?} does not cut");
    drop(cut);
    eventually("the cut to heal", PATIENCE, arrives)
}
