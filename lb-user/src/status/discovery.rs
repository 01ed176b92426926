//! Nodes that nobody configured: learnt from their beacons, forgotten after long silence.
//!
//! Who has a key is of the cluster, so a beacon under one is all that it takes. A learnt node is
//! reached at the address that its beacon came from, if the beacon names it under its MAC, and else
//! (a link-local one) at one that it names; that stays its address for as long as it names it. It
//! takes as many calls as any other: weight 1.
//!
//! It keeps its place in the steering table while it is `Stale` or `Down`, like a configured one, so
//! that a restart of it moves no call. It loses it after a silence of the configured length. Only such
//! time counts in which this receiver listened and heard somebody else: an outage of the status plane
//! makes nobody forgotten, and neither does a controller that did not run. So the last node that was
//! heard is never forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_common::Address;
use lb_common::beacon::Beacon;
use lb_proto::status::map::Discovery;

/// Nodes that were learnt, and where they are; `None` for one that an earlier controller has learnt
/// and that was not heard since.
pub type Learnt = BTreeMap<u16, Option<IpAddr>>;

/// How often silence is added up.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// Why a node whose beacons are good is not learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLearnt {
    /// There are as many as there may be.
    Full,
    /// Its beacons name no address that frames could be sent to.
    NoAddress,
    /// The address is a VIP, or this machine's, or that of a node which is there.
    AddressTaken,
}

impl NotLearnt {
    /// All of them: the counters' order.
    pub const ALL: [Self; 3] = [Self::Full, Self::NoAddress, Self::AddressTaken];

    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "members-full",
            Self::NoAddress => "no-address",
            Self::AddressTaken => "address-taken",
        }
    }
}

/// What no learnt node can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reserved {
    /// The nodes that are configured, and where they are.
    pub(super) nodes: BTreeMap<u16, IpAddr>,
    /// Other addresses: the VIPs, and the machine's own.
    pub(super) addresses: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: Option<IpAddr>,
    /// Silence that counts.
    silence: Duration,
    /// Heard since silence was last added up.
    is_heard: bool,
}

/// The learnt nodes of one controller.
#[derive(Debug)]
pub(super) struct Learner {
    discovery: Discovery,
    nodes: BTreeMap<u16, Entry>,
    looked: Duration,
    /// Somebody was heard since silence was last added up.
    is_anybody_heard: bool,
}

impl Learner {
    /// One that goes on with what was learnt before, as if it had just been heard.
    pub(super) fn new(discovery: Discovery, now: Duration, learnt: &Learnt) -> Self {
        let nodes = learnt.iter().map(|(id, address)| {
            let entry = Entry {
                address: *address,
                silence: Duration::ZERO,
                is_heard: false,
            };
            (*id, entry)
        });
        Self {
            discovery,
            nodes: nodes.collect(),
            looked: now,
            is_anybody_heard: false,
        }
    }

    /// A good beacon came from there. Whether that changed what is learnt.
    ///
    /// # Errors
    /// [`NotLearnt`]; a node that was learnt before is so still, where it was.
    pub(super) fn heard(
        &mut self,
        beacon: &Beacon,
        from: IpAddr,
        reserved: &Reserved,
    ) -> Result<bool, NotLearnt> {
        self.is_anybody_heard = true;
        if reserved.nodes.contains_key(&beacon.node) {
            return Ok(false);
        }
        if let Some(entry) = self.nodes.get_mut(&beacon.node) {
            entry.is_heard = true;
            entry.silence = Duration::ZERO;
            if entry.address.is_some_and(|known| names(beacon, known)) {
                return Ok(false);
            }
        } else if self.nodes.len() >= self.discovery.most {
            return Err(NotLearnt::Full);
        }
        let address = address(beacon, from).ok_or(NotLearnt::NoAddress)?;
        self.claim(beacon.node, address, reserved)?;
        let entry = Entry {
            address: Some(address),
            silence: Duration::ZERO,
            is_heard: true,
        };
        self.nodes.insert(beacon.node, entry);
        Ok(true)
    }

    /// Makes sure that an address is nobody else's. Whoever had it, and has fallen silent, is
    /// forgotten: a machine that was given another id.
    fn claim(&mut self, id: u16, address: IpAddr, reserved: &Reserved) -> Result<(), NotLearnt> {
        let is_configured = reserved.nodes.values().any(|other| *other == address);
        if is_configured || reserved.addresses.contains(&address) {
            return Err(NotLearnt::AddressTaken);
        }
        let mut others = self.nodes.iter().filter(|(other, _)| **other != id);
        let holder = others.find(|(_, entry)| entry.address == Some(address));
        match holder.map(|(other, entry)| (*other, entry.silence)) {
            None => Ok(()),
            Some((_, silence)) if silence < LOOK => Err(NotLearnt::AddressTaken),
            Some((other, _)) => {
                self.nodes.remove(&other);
                Ok(())
            }
        }
    }

    /// When to call [`look`](Self::look) next.
    pub(super) fn next_look(&self) -> Duration {
        self.looked + LOOK
    }

    /// Adds up silence, and forgets those of whom it is too long; says whom. To be called with the
    /// sockets empty.
    pub(super) fn look(&mut self, now: Duration) -> Vec<u16> {
        // Who did not look did not listen either.
        let passed = now.saturating_sub(self.looked).min(LOOK * 2);
        self.looked = now;
        let counts = std::mem::take(&mut self.is_anybody_heard);
        for entry in self.nodes.values_mut() {
            if !std::mem::take(&mut entry.is_heard) && counts {
                entry.silence += passed;
            }
        }
        let limit = self.discovery.forget_after;
        let forgotten = self.nodes.extract_if(.., |_, entry| entry.silence > limit);
        forgotten.map(|(id, _)| id).collect()
    }

    /// Goes by another configuration: who is in it now is not learnt, and whose address is. Whether
    /// that changed what is learnt.
    pub(super) fn follow(&mut self, reserved: &Reserved) -> bool {
        let before = self.nodes.len();
        self.nodes.retain(|id, entry| {
            let is_taken = |address| {
                reserved.addresses.contains(&address)
                    || reserved.nodes.values().any(|other| *other == address)
            };
            !reserved.nodes.contains_key(id) && !entry.address.is_some_and(is_taken)
        });
        self.nodes.len() != before
    }

    pub(super) fn learnt(&self) -> Learnt {
        let nodes = self.nodes.iter();
        nodes.map(|(id, entry)| (*id, entry.address)).collect()
    }
}

fn names(beacon: &Beacon, address: IpAddr) -> bool {
    [beacon.address_v4, beacon.address_v6].contains(&Address::from(address))
}

/// Where frames for a node go.
fn address(beacon: &Beacon, from: IpAddr) -> Option<IpAddr> {
    let named = [beacon.address_v4, beacon.address_v6].map(IpAddr::from);
    let source = Some(from).filter(|from| names(beacon, *from));
    let mut addresses = source.into_iter().chain(named);
    addresses.find(|address| {
        let is_everybody = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        !(address.is_unspecified() || address.is_multicast() || is_everybody)
    })
}

#[cfg(test)]
mod tests;
