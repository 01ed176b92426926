//! The peers that beacons go to one by one, where multicast is not to be had.
//!
//! To the [sender](super::sender) the whole list is one more group: all on it are sent the same bytes
//! at the same time. It may stand beside multicast groups; who hears both hears two beacons a period,
//! each with a stamp of its own. Probes go to them likewise.

use std::net::SocketAddr;

/// Peers at most: every other node of the largest cluster, and its controllers.
pub const MAX_PEERS: usize = 512;

/// Why a list of peers cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// An address that is not one machine's.
    #[error("{0} is not the address of one machine")]
    NotOne(SocketAddr),
    /// No port.
    #[error("{0} names no port")]
    NoPort(SocketAddr),
    /// More than [`MAX_PEERS`].
    #[error("{0} peers; {MAX_PEERS} at most")]
    TooMany(usize),
}

/// The peers to send to: each once, in order.
///
/// # Errors
/// [`PeerError`] for the first that is wrong.
pub fn check(list: &[SocketAddr]) -> Result<Vec<SocketAddr>, PeerError> {
    let mut peers = Vec::new();
    for peer in list {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let is_broadcast = matches!(peer, SocketAddr::V4(peer) if peer.ip().is_broadcast());
        if peer.ip().is_multicast() || peer.ip().is_unspecified() || is_broadcast {
            return Err(PeerError::NotOne(peer));
        }
        if peer.port() == 0 {
            return Err(PeerError::NoPort(peer));
        }
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    if peers.len() > MAX_PEERS {
        return Err(PeerError::TooMany(peers.len()));
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once_and_only_machines() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let list = [
            "192.0.2.1:7700",
            "[::ffff:192.0.2.1]:7700",
            "[2001:db8::1]:7700",
        ]
        .map(at);
        assert_eq!(check(&list), Ok(vec![list[0], list[2]]));
        for bad in [
            "239.255.77.1:1",
            "[ff05::1]:1",
            "0.0.0.0:1",
            "[::]:1",
            "255.255.255.255:1",
        ] {
            assert_eq!(check(&[at(bad)]), Err(PeerError::NotOne(at(bad))));
        }
        let no_port = at("192.0.2.1:0");
        assert_eq!(check(&[no_port]), Err(PeerError::NoPort(no_port)));
        let many: Vec<SocketAddr> = (0..=MAX_PEERS as u16)
            .map(|port| SocketAddr::new([192, 0, 2, 1].into(), port + 1))
            .collect();
        assert_eq!(check(&many), Err(PeerError::TooMany(513)));
        assert_eq!(check(&many[1..]).map(|peers| peers.len()), Ok(MAX_PEERS));
    }
}
