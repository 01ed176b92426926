//! Does a value make sense? What serde asks of each field, and of sections whose settings may contradict
//! one another.

use super::{Beacon, Controller, Sip};
use lb_proto::failover::ControllerId;
use lb_proto::pin_report::{LbError, MOST_LBS};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Addresses that the redirect server listens at, at most.
const MAX_LISTENERS: usize = 16;

/// The section, checked for settings that contradict one another.
pub(super) fn beacon<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Beacon, D::Error> {
    let beacon = Beacon::deserialize(deserializer)?;
    if beacon.down_periods < beacon.hold_periods {
        return Err(D::Error::custom(format!(
            "hold_periods = {} must not be above down_periods = {}: a node is Stale before it is Down",
            beacon.hold_periods, beacon.down_periods
        )));
    }
    if beacon.groups.is_empty() && beacon.peers.is_empty() {
        return Err(D::Error::custom(
            "nobody would hear a beacon: give `groups`, or `peers`",
        ));
    }
    let has_group = |is_v4| {
        let peers = beacon.peers.iter().map(SocketAddr::ip);
        let mut heard = beacon.groups.iter().copied().chain(peers);
        heard.any(|address| address.is_ipv4() == is_v4)
    };
    match beacon
        .addresses
        .iter()
        .find(|address| !has_group(address.is_ipv4()))
    {
        Some(address) => Err(D::Error::custom(format!(
            "addresses: {address} is of a family that no group or peer is of"
        ))),
        None => Ok(beacon),
    }
}

/// The section, checked for settings that contradict one another.
pub(super) fn sip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sip, D::Error> {
    let sip = Sip::deserialize(deserializer)?;
    let Some(address) = sip.redirect_address() else {
        return match sip.advertise {
            Some(_) => Err(D::Error::custom(
                "advertise says where the redirect server is, but there is none without listen",
            )),
            None => Ok(sip),
        };
    };
    let server = sip.server;
    if sip.listen.contains(&server) {
        return Err(D::Error::custom(format!(
            "{server} cannot be the SIP server's address and one of listen"
        )));
    }
    if !(sip.listen.iter()).any(|listener| listener.is_ipv4() == server.is_ipv4()) {
        return Err(D::Error::custom(format!(
            "listen: no address is of the family of the SIP server, {server}"
        )));
    }
    if sip.advertise.is_none() && sip.listen.len() > 1 {
        return Err(D::Error::custom(
            "advertise: say which of the addresses in listen is this node's own, not the VIP: other \
             nodes and redirected callers are sent there",
        ));
    }
    if address.ip().is_unspecified() {
        return Err(D::Error::custom(format!(
            "advertise: say by which address others reach this node; {address} is none"
        )));
    }
    Ok(sip)
}

/// A whole number within bounds, or what it should have been.
fn within<'de, D: Deserializer<'de>>(
    deserializer: D,
    bounds: std::ops::RangeInclusive<i64>,
    what: &str,
) -> Result<i64, D::Error> {
    let number = i64::deserialize(deserializer)?;
    if bounds.contains(&number) {
        return Ok(number);
    }
    let (least, most) = (bounds.start(), bounds.end());
    Err(D::Error::custom(format!(
        "{number} is no {what}: give {least} to {most}"
    )))
}

pub(super) fn node_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    within(deserializer, 1..=255, "node id").map(|number| number as u16)
}

pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    within(deserializer, 1..=65_535, "port").map(|number| number as u16)
}

pub(super) fn calls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 1..=i64::from(u32::MAX), "number of calls").map(|number| number as u32)
}

pub(super) fn periods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 2..=1000, "number of periods").map(|number| number as u32)
}

pub(super) fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let number = within(deserializer, 1..=1_000_000, "number of calls")?;
    Ok(Some(number as u32))
}

pub(super) fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    within(deserializer, 0..=100, "pressure in per cent").map(|number| number as u8)
}

pub(super) fn listeners<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let listeners = Vec::<SocketAddr>::deserialize(deserializer)?;
    if listeners.len() > MAX_LISTENERS {
        return Err(D::Error::custom(format!(
            "give {MAX_LISTENERS} addresses at most"
        )));
    }
    match listeners
        .iter()
        .find(|address| address.ip().is_multicast() || address.port() == 0)
    {
        Some(address) => Err(D::Error::custom(format!(
            "{address} is no address to listen at: give one of this host, and a port"
        ))),
        None => Ok(listeners),
    }
}

pub(super) fn own_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    server(deserializer).map(Some)
}

pub(super) fn period<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let ms = within(deserializer, 10..=10_000, "beacon period in milliseconds")?;
    Ok(Duration::from_millis(ms as u64))
}

pub(super) fn probe_interval<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let ms = within(deserializer, 20..=60_000, "probe interval in milliseconds")?;
    Ok(Duration::from_millis(ms as u64))
}

pub(super) fn server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let server = SocketAddr::deserialize(deserializer)?;
    if server.ip().is_unspecified() || server.ip().is_multicast() || server.port() == 0 {
        return Err(D::Error::custom(format!(
            "{server} is no server's address: give one that it can be reached at, and its port"
        )));
    }
    Ok(server)
}

pub(super) fn groups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let groups = one_of_each_family(deserializer)?;
    match groups.iter().find(|group| !group.is_multicast()) {
        _ if groups.is_empty() => Err(D::Error::custom(
            "give at least one group, such as \"239.255.77.1\"",
        )),
        Some(address) => Err(D::Error::custom(format!(
            "{address} is no multicast group: those are in 224.0.0.0/4 and ff00::/8"
        ))),
        None => Ok(groups),
    }
}

pub(super) fn peers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let listed = Vec::<SocketAddr>::deserialize(deserializer)?;
    lb_proto::status::peers::check(&listed).map_err(D::Error::custom)
}

pub(super) fn lbs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let lbs = peers(deserializer)?;
    if lbs.len() > MOST_LBS {
        let count = lbs.len();
        return Err(D::Error::custom(LbError::TooMany(count)));
    }
    Ok(lbs)
}

pub(super) fn controllers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Controller>, D::Error> {
    let controllers = Vec::<Controller>::deserialize(deserializer)?;
    if controllers.len() == 1 || controllers.len() > MOST_LBS {
        return Err(D::Error::custom(format!(
            "give both controllers of the pair; a controller that is alone needs no witness \
             (at most {MOST_LBS} can be given)"
        )));
    }
    for (place, Controller { id, address }) in controllers.iter().enumerate() {
        if ControllerId::new((*id).try_into().unwrap_or(0)).is_none() {
            let most = ControllerId::MAX;
            let what = format!("{id} is no controller's id: give 1 to {most}");
            return Err(D::Error::custom(what));
        }
        if address.is_unspecified() || address.is_multicast() {
            let what = format!("{address} is not the address of one machine");
            return Err(D::Error::custom(what));
        }
        let others = controllers.iter().take(place);
        if others
            .clone()
            .any(|other| other.id == *id || other.address == *address)
        {
            let what = format!("controller {id} at {address}: id or address are there already");
            return Err(D::Error::custom(what));
        }
    }
    Ok(controllers)
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpAddr>, D::Error> {
    let addresses = one_of_each_family(deserializer)?;
    match addresses
        .iter()
        .find(|address| address.is_multicast() || address.is_unspecified())
    {
        Some(address) => Err(D::Error::custom(format!(
            "{address} is no address of a host"
        ))),
        None => Ok(addresses),
    }
}

fn one_of_each_family<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let addresses = Vec::<IpAddr>::deserialize(deserializer)?;
    for is_v4 in [true, false] {
        if addresses
            .iter()
            .filter(|address| address.is_ipv4() == is_v4)
            .count()
            > 1
        {
            let family = if is_v4 { "IPv4" } else { "IPv6" };
            return Err(D::Error::custom(format!(
                "give one {family} address at most"
            )));
        }
    }
    Ok(addresses)
}
