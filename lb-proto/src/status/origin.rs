//! Where a node's beacons may come from: policy.
//!
//! The MAC proves who made a beacon, not who sent it: one that was caught on its way before it reached
//! anybody could be let go later, from anywhere. So it must also come from an address of its node:
//! one that is configured for it here, or else one that the beacon itself names under its MAC.

use lb_common::Address;
use lb_common::beacon::Beacon;
use std::net::IpAddr;

/// Whether a beacon may come from there. `configured` are the addresses configured for its node; when
/// there are none, those that the beacon names are good.
///
/// A link-local IPv6 address is good for a node that has an IPv6 address at all: hosts choose it as
/// the source to link-local groups (RFC 6724 §5, rule 2), and it does not come from further than the
/// link.
pub(super) fn is_good(configured: &[IpAddr], beacon: &Beacon, from: IpAddr) -> bool {
    let from = from.to_canonical();
    let is_on_link = matches!(from, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if !configured.is_empty() {
        let mut addresses = configured.iter().map(|address| address.to_canonical());
        return addresses.any(|address| address == from || is_on_link && address.is_ipv6());
    }
    // Zero is what a node names that has no address of a family.
    let source = Address::from(from);
    let is_named = source == beacon.address_v4 || source == beacon.address_v6;
    is_named && source != Address::default()
        || is_on_link && beacon.address_v6 != Address::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::map::tests::beacon;

    #[test]
    fn the_whole_table() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let says = |v4: Option<&str>, v6: Option<&str>| Beacon {
            address_v4: v4.map_or(Address::default(), |text| ip(text).into()),
            address_v6: v6.map_or(Address::default(), |text| ip(text).into()),
            ..beacon(7, 5, 0)
        };
        let both = says(Some("192.0.2.7"), Some("2001:db8::7"));
        let only_v4 = says(Some("192.0.2.7"), None);
        let mute = says(None, None);
        let none: &[&str] = &[];
        let cases = [
            (none, both, "192.0.2.7", true),
            (none, both, "::ffff:192.0.2.7", true),
            (none, both, "2001:db8::7", true),
            (none, both, "fe80::1", true),
            (none, both, "192.0.2.8", false),
            (none, only_v4, "2001:db8::7", false),
            (none, only_v4, "fe80::1", false),
            (none, mute, "192.0.2.7", false),
            (none, mute, "::", false),
            (&["192.0.2.9"], both, "192.0.2.9", true),
            (&["192.0.2.9"], both, "192.0.2.7", false),
            (&["192.0.2.9"], both, "fe80::1", false),
            (&["192.0.2.9", "2001:db8::9"], mute, "fe80::1", true),
            (&["192.0.2.9", "2001:db8::9"], mute, "2001:db8::9", true),
        ];
        for (configured, beacon, from, expected) in cases {
            let configured: Vec<IpAddr> = configured.iter().map(|text| ip(text)).collect();
            let got = is_good(&configured, &beacon, ip(from));
            assert_eq!(got, expected, "{configured:?} {from}");
        }
    }
}
