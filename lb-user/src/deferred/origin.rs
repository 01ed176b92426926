//! May a datagram be sent on at all? Where it comes from, and how often it has been round.

use std::net::{IpAddr, SocketAddr};

use super::counters::Loss;

/// Refuses what must not be sent on: from a source that no answer can find, from a VIP itself (a
/// node that holds it would answer itself), or with its hops used up.
///
/// # Errors
/// [`Loss::BadSource`] or [`Loss::HopLimit`].
pub fn admit(
    client: SocketAddr,
    hop_limit: u8,
    is_vip: impl Fn(SocketAddr) -> bool,
) -> Result<(), Loss> {
    if !can_be_answered(client) || is_vip(client) {
        Err(Loss::BadSource)
    } else if hop_limit <= 1 {
        Err(Loss::HopLimit)
    } else {
        Ok(())
    }
}

fn can_be_answered(client: SocketAddr) -> bool {
    let ip = client.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    client.port() != 0
        && !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(source: &str, hop_limit: u8) -> Result<(), Loss> {
        let vip: SocketAddr = "192.0.2.10:5060".parse().unwrap();
        admit(source.parse().unwrap(), hop_limit, |address| address == vip)
    }

    #[test]
    fn sources_that_nobody_can_answer_are_refused() {
        for source in [
            "127.0.0.1:5060",
            "0.0.0.0:5060",
            "224.0.0.1:5060",
            "255.255.255.255:5060",
            "192.0.2.1:0",
            "192.0.2.10:5060",
            "[::1]:5060",
            "[ff02::1]:5060",
            "[::]:5060",
        ] {
            assert_eq!(origin(source, 64), Err(Loss::BadSource), "{source}");
        }
        for source in [
            "192.0.2.1:5060",
            "192.0.2.10:5061",
            "[2001:db8::1]:1",
            "[fe80::1]:5060",
        ] {
            assert_eq!(origin(source, 64), Ok(()), "{source}");
        }
    }

    #[test]
    fn used_up_hops_are_refused() {
        assert_eq!(origin("192.0.2.1:5060", 1), Err(Loss::HopLimit));
        assert_eq!(origin("192.0.2.1:5060", 0), Err(Loss::HopLimit));
        assert_eq!(origin("192.0.2.1:5060", 2), Ok(()));
    }
}
