//! Who may link, from where.

use std::fmt;
use std::net::IpAddr;

/// Who somebody is, within the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A controller, by its id.
    Controller(u16),
    /// An access node, by its id.
    Node(u16),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(id) => write!(f, "controller {id}"),
            Self::Node(id) => write!(f, "node {id}"),
        }
    }
}

/// The members that may connect, each with the addresses it may come from.
///
/// A member may have several addresses, and several members one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster(Vec<(Identity, IpAddr)>);

impl Roster {
    /// Whether anybody may come from there.
    pub fn knows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|(_, known)| *known == address)
    }

    /// Whether this member may come from there.
    pub fn has(&self, member: Identity, address: IpAddr) -> bool {
        self.0.contains(&(member, address.to_canonical()))
    }
}

/// An IPv4 address within IPv6 (RFC 4291 §2.5.5.2) is the IPv4 address.
impl FromIterator<(Identity, IpAddr)> for Roster {
    fn from_iter<T: IntoIterator<Item = (Identity, IpAddr)>>(members: T) -> Self {
        let members = members.into_iter();
        Self(
            members
                .map(|(who, from)| (who, from.to_canonical()))
                .collect(),
        )
    }
}
