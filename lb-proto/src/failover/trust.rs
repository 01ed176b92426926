//! Whose a control datagram is, whether it is new, and why it is not taken.
//!
//! The MAC proves that a member of the cluster made it. Beyond that it must come from an address that
//! is configured for its sender (a relayed keep-alive: for any node), which makes a member that is
//! taken over no master of the others' voices; and it must be new: each sender numbers what it sends,
//! and each number counts once.

use super::wire::{Body, Bytes, Datagram, Header, Stamp};
use super::{ControllerId, NodeId, Party, Term};
use crate::keys::NumberedKey;
use crate::sealed::SealError;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Who takes part, and from which addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The controllers, one's own among them.
    pub controllers: BTreeMap<ControllerId, Vec<IpAddr>>,
    /// The access nodes.
    pub nodes: BTreeMap<NodeId, Vec<IpAddr>>,
}

impl Members {
    /// Where somebody is.
    pub fn addresses(&self, party: Party) -> Option<&[IpAddr]> {
        match party {
            Party::Controller(id) => self.controllers.get(&id),
            Party::Node(id) => self.nodes.get(&id),
        }
        .map(Vec::as_slice)
    }

    /// The node that an address is of.
    fn node_at(&self, address: IpAddr) -> Option<NodeId> {
        let has = |addresses: &[IpAddr]| is_among(addresses, address);
        self.nodes
            .iter()
            .find_map(|(id, addresses)| has(addresses).then_some(*id))
    }
}

fn is_among(addresses: &[IpAddr], address: IpAddr) -> bool {
    let address = address.to_canonical();
    addresses.iter().any(|one| one.to_canonical() == address)
}

/// By which path something came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// From its sender.
    Direct,
    /// Forwarded by a node.
    Relayed(NodeId),
}

/// Why a control datagram is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// None, or not genuine.
    #[error("no genuine control datagram, but {0}")]
    Seal(#[from] SealError),
    /// Of another cluster.
    #[error("a control datagram of another cluster")]
    Cluster,
    /// To somebody else, or of a kind that this machine has no use for.
    #[error("a control datagram for somebody else")]
    Recipient,
    /// Of nobody who is configured, or one's own.
    #[error("a control datagram of an unknown sender")]
    UnknownSender,
    /// Not from an address of its sender.
    #[error("a control datagram from elsewhere than its sender")]
    Origin,
    /// Of an earlier life of its sender.
    #[error("a control datagram of an earlier life")]
    OldEpoch,
    /// Its stamp has been used, or is older than what is remembered.
    #[error("a control datagram played back")]
    Replayed,
    /// Of a term that is over.
    #[error("a control datagram of a lower term")]
    LowerTerm,
    /// An answer that nobody waits for, or a command that is not the sender's to give.
    #[error("a control datagram out of turn")]
    OutOfTurn,
}

impl Refusal {
    /// All of them: the counters' order.
    pub const ALL: [Self; 12] = [
        Self::Seal(SealError::Foreign),
        Self::Seal(SealError::Malformed),
        Self::Seal(SealError::UnknownKey),
        Self::Seal(SealError::Forged),
        Self::Cluster,
        Self::Recipient,
        Self::UnknownSender,
        Self::Origin,
        Self::OldEpoch,
        Self::Replayed,
        Self::LowerTerm,
        Self::OutOfTurn,
    ];

    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal(error) => error.name(),
            Self::Cluster => "cluster",
            Self::Recipient => "recipient",
            Self::UnknownSender => "unknown-sender",
            Self::Origin => "origin",
            Self::OldEpoch => "old-epoch",
            Self::Replayed => "replayed",
            Self::LowerTerm => "lower-term",
            Self::OutOfTurn => "out-of-turn",
        }
    }
}

/// How often each [`Refusal`] has been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    pub(super) fn count(&mut self, refusal: Refusal) {
        let place = Refusal::ALL.iter().position(|one| *one == refusal);
        if let Some(count) = place.and_then(|place| self.0.get_mut(place)) {
            *count += 1;
        }
    }

    /// How often it has been.
    pub fn get(&self, refusal: Refusal) -> u64 {
        let mut all = self.iter();
        all.find(|(one, _)| *one == refusal)
            .map_or(0, |(_, count)| count)
    }

    /// Each of them and how often it has been.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().zip(self.0)
    }
}

/// Which of one sender's stamps have been seen.
///
/// Each counts once. Those that were overtaken count as long as they are among the last 64, or the
/// network could make a release or an answer be lost by letting a keep-alive by.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    newest: Option<Stamp>,
    /// Bit n: the sequence n below the newest has been seen.
    seen: u64,
}

/// What a window says of a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Novelty {
    /// Above all that has been seen.
    Newest,
    /// Not seen, but overtaken.
    Late,
    /// Seen, and not long ago.
    Again,
    /// So old that nobody knows whether it was seen.
    Old,
    /// Of an earlier life.
    OldEpoch,
}

impl Window {
    fn take(&mut self, stamp: Stamp) -> Novelty {
        let Some(newest) = self.newest.filter(|newest| stamp.epoch <= newest.epoch) else {
            *self = Self {
                newest: Some(stamp),
                seen: 1,
            };
            return Novelty::Newest;
        };
        if stamp.epoch < newest.epoch {
            return Novelty::OldEpoch;
        }
        if stamp.sequence > newest.sequence {
            let by = stamp.sequence - newest.sequence;
            self.seen = self.seen.checked_shl(by).unwrap_or(0) | 1;
            self.newest = Some(stamp);
            return Novelty::Newest;
        }
        match 1u64.checked_shl(newest.sequence - stamp.sequence) {
            None => Novelty::Old,
            Some(bit) if self.seen & bit != 0 => Novelty::Again,
            Some(bit) => {
                self.seen |= bit;
                Novelty::Late
            }
        }
    }
}

/// What came, from whom, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) datagram: Datagram,
    pub(super) path: Path,
    /// No later one of the sender has been seen.
    pub(super) is_newest: bool,
    /// A keep-alive that came by another path before: proves this path, and nothing else.
    pub(super) is_copy: bool,
}

/// Lets through what is genuine, from where it should be, and new.
#[derive(Debug)]
pub(super) struct Gate {
    own: Party,
    cluster: u32,
    keys: Vec<NumberedKey>,
    members: Members,
    windows: BTreeMap<Party, Window>,
    /// The newest keep-alive of each controller by each path.
    paths: BTreeMap<(ControllerId, Path), Stamp>,
    /// Until when each node may forward keep-alives, having been asked to.
    relays: BTreeMap<NodeId, Duration>,
}

impl Gate {
    pub(super) fn new(own: Party, cluster: u32, keys: Vec<NumberedKey>, members: Members) -> Self {
        Self {
            own,
            cluster,
            keys,
            members,
            windows: BTreeMap::new(),
            paths: BTreeMap::new(),
            relays: BTreeMap::new(),
        }
    }

    /// Makes these the keys and the members. What those have sent who go stays remembered: they may
    /// come again.
    pub(super) fn configure(&mut self, keys: Vec<NumberedKey>, members: Members) {
        self.keys = keys;
        self.members = members;
    }

    pub(super) const fn members(&self) -> &Members {
        &self.members
    }

    /// The key that this machine signs with. A ring is never empty; nobody would take what is signed
    /// with the key of an empty one.
    pub(super) fn signing(&self) -> NumberedKey {
        self.keys.first().copied().unwrap_or(NumberedKey {
            id: 0,
            key: Default::default(),
        })
    }

    /// Lets the node forward keep-alives until then.
    pub(super) fn expect_relays(&mut self, node: NodeId, until: Duration) {
        self.relays.insert(node, until);
    }

    /// Looks at what came.
    pub(super) fn take(
        &mut self,
        now: Duration,
        from: IpAddr,
        bytes: &[u8],
    ) -> Result<Received, Refusal> {
        let datagram = Datagram::read(bytes, &self.keys)?;
        let Header {
            cluster,
            from: sender,
            to,
            stamp,
            ..
        } = datagram.header;
        if cluster != self.cluster {
            return Err(Refusal::Cluster);
        }
        if to != 0 && to != self.own.id() {
            return Err(Refusal::Recipient);
        }
        let addresses = self.members.addresses(sender);
        let addresses = addresses.filter(|_| sender != self.own);
        let is_direct = is_among(addresses.ok_or(Refusal::UnknownSender)?, from);
        let carried = match (sender, datagram.body) {
            (Party::Controller(id), Body::KeepAlive(_)) => Some(id),
            _ => None,
        };
        let path = if is_direct {
            Path::Direct
        } else {
            let node = self.members.node_at(from);
            let until = node.and_then(|node| self.relays.get(&node));
            let is_expected = carried.is_some() && until.is_some_and(|until| now < *until);
            let node = node.filter(|_| is_expected);
            Path::Relayed(node.ok_or(Refusal::Origin)?)
        };
        let novelty = self.windows.entry(sender).or_default().take(stamp);
        let is_first = carried.is_some_and(|id| {
            let newest = self.paths.entry((id, path)).or_default();
            let is_newer = stamp > *newest;
            *newest = stamp.max(*newest);
            is_newer
        });
        let is_copy = novelty == Novelty::Again && is_first;
        match novelty {
            Novelty::OldEpoch => return Err(Refusal::OldEpoch),
            Novelty::Again if !is_copy => return Err(Refusal::Replayed),
            Novelty::Old => return Err(Refusal::Replayed),
            Novelty::Newest | Novelty::Late | Novelty::Again => {}
        }
        Ok(Received {
            datagram,
            path,
            is_newest: novelty == Novelty::Newest,
            is_copy,
        })
    }
}

/// Numbers and signs what one machine sends.
#[derive(Debug)]
pub(super) struct Stamper {
    own: Party,
    cluster: u32,
    last: Stamp,
}

impl Stamper {
    /// `epoch` must be above those of all earlier lives.
    pub(super) const fn new(own: Party, cluster: u32, epoch: u32) -> Self {
        let last = Stamp { epoch, sequence: 0 };
        Self { own, cluster, last }
    }

    /// The next stamp. After 2^32 datagrams, which take a year and more, it is of the next epoch.
    fn next(&mut self) -> Stamp {
        let Stamp { epoch, sequence } = self.last;
        self.last = match sequence.checked_add(1) {
            Some(sequence) => Stamp { epoch, sequence },
            None => Stamp {
                epoch: epoch.saturating_add(1),
                sequence: 0,
            },
        };
        self.last
    }

    /// Writes a datagram to one, or with `to` 0 to anybody.
    pub(super) fn write(
        &mut self,
        key: NumberedKey,
        to: u16,
        term: Term,
        marks: Marks,
        body: Body,
    ) -> (Stamp, Bytes) {
        let stamp = self.next();
        let header = Header {
            key_id: key.id,
            cluster: self.cluster,
            from: self.own,
            to,
            reigns: marks.reigns,
            is_urgent: marks.is_urgent,
            term,
            stamp,
        };
        (stamp, Datagram { header, body }.write(key.key))
    }
}

/// A datagram's flags.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub(super) reigns: bool,
    pub(super) is_urgent: bool,
}

#[cfg(test)]
mod tests;
