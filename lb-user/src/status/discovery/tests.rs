use super::*;
use lb_common::Admission;
use proptest::prelude::*;

const FORGET: Duration = Duration::from_secs(900);

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn v6(last: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])
}

fn beacon(node: u16, v4: Option<IpAddr>, v6: Option<IpAddr>) -> Beacon {
    Beacon {
        admission: Admission::Free,
        key_id: 1,
        cluster: 1,
        node,
        epoch: 1,
        sequence: 1,
        capacity: 1,
        active: 0,
        headroom: 1,
        calls_per_second: 0,
        oc_permille: 1000,
        period_ms: 100,
        sip_port: 5060,
        redirect_port: 0,
        address_v4: v4.map(Address::from).unwrap_or_default(),
        address_v6: v6.map(Address::from).unwrap_or_default(),
    }
}

/// Node 1 is configured, at .1; .10 is the VIP.
fn reserved() -> Reserved {
    Reserved {
        nodes: BTreeMap::from([(1, ip(1))]),
        addresses: BTreeSet::from([ip(10)]),
    }
}

fn learner(most: usize, learnt: &Learnt) -> Learner {
    let discovery = Discovery {
        most,
        forget_after: FORGET,
    };
    Learner::new(discovery, Duration::ZERO, learnt)
}

/// A beacon of a node at an IPv4 address, from there.
fn hear(learner: &mut Learner, node: u16, at: IpAddr) -> Result<bool, NotLearnt> {
    learner.heard(&beacon(node, Some(at), None), at, &reserved())
}

/// Looks as often as it should, `times` times; `heard` is heard before each. Who is forgotten.
fn look(learner: &mut Learner, times: u32, heard: &[u16]) -> Vec<u16> {
    let mut forgotten = Vec::new();
    for _ in 0..times {
        for node in heard {
            let at = ip(*node as u8);
            let _ = learner.heard(&beacon(*node, Some(at), None), at, &reserved());
        }
        forgotten.extend(learner.look(learner.next_look()));
    }
    forgotten
}

#[test]
fn a_node_is_learnt_once_and_followed() {
    let mut learner = learner(255, &Learnt::new());
    assert_eq!(hear(&mut learner, 7, ip(7)), Ok(true));
    assert_eq!(hear(&mut learner, 7, ip(7)), Ok(false));
    assert_eq!(hear(&mut learner, 1, ip(1)), Ok(false), "configured");
    assert_eq!(hear(&mut learner, 7, ip(77)), Ok(true), "moved");
    assert_eq!(learner.learnt(), Learnt::from([(7, Some(ip(77)))]));
}

#[test]
fn the_address_is_the_one_that_it_comes_from_and_names() {
    let on_link = "fe80::1".parse().expect("an address");
    for (v4, v6, from, expected) in [
        (Some(ip(7)), Some(v6(7)), ip(7), Some(ip(7))),
        (Some(ip(7)), Some(v6(7)), v6(7), Some(v6(7))),
        (Some(ip(7)), Some(v6(7)), on_link, Some(ip(7))),
        (None, Some(v6(7)), on_link, Some(v6(7))),
        (None, None, on_link, None),
        (Some(IpAddr::from([255; 4])), None, on_link, None),
        (Some(IpAddr::from([239, 1, 1, 1])), None, on_link, None),
    ] {
        let got = address(&beacon(7, v4, v6), from);
        assert_eq!(got, expected, "{v4:?} {v6:?} {from}");
    }
    // What was chosen stays while it is named, wherever the next beacon comes from.
    let mut learner = learner(255, &Learnt::new());
    let both = beacon(7, Some(ip(7)), Some(v6(7)));
    assert_eq!(learner.heard(&both, v6(7), &reserved()), Ok(true));
    assert_eq!(learner.heard(&both, ip(7), &reserved()), Ok(false));
    assert_eq!(learner.learnt(), Learnt::from([(7, Some(v6(7)))]));
}

#[test]
fn what_cannot_be_learnt_has_a_name() {
    let mut learner = learner(1, &Learnt::new());
    for taken in [ip(1), ip(10)] {
        assert_eq!(hear(&mut learner, 8, taken), Err(NotLearnt::AddressTaken));
    }
    let mute = learner.heard(&beacon(8, None, None), ip(8), &reserved());
    assert_eq!(mute, Err(NotLearnt::NoAddress));
    assert_eq!(hear(&mut learner, 7, ip(7)), Ok(true));
    assert_eq!(hear(&mut learner, 8, ip(8)), Err(NotLearnt::Full));
    // Who is learnt already may move, but not to another's place.
    assert_eq!(hear(&mut learner, 7, ip(10)), Err(NotLearnt::AddressTaken));
    assert_eq!(learner.learnt(), Learnt::from([(7, Some(ip(7)))]));
}

#[test]
fn a_machine_under_another_id_takes_the_place_of_the_old_one() {
    let mut learner = learner(255, &Learnt::new());
    assert_eq!(hear(&mut learner, 7, ip(7)), Ok(true));
    assert_eq!(hear(&mut learner, 8, ip(7)), Err(NotLearnt::AddressTaken));
    look(&mut learner, 3, &[1]);
    assert_eq!(hear(&mut learner, 8, ip(7)), Ok(true));
    assert_eq!(learner.learnt(), Learnt::from([(8, Some(ip(7)))]));
}

#[test]
fn who_is_silent_while_others_are_heard_is_forgotten() {
    let looks = (FORGET.as_secs() / LOOK.as_secs()) as u32;
    let mut learner = learner(255, &Learnt::from([(7, Some(ip(7))), (9, None)]));
    // Nobody is heard: an outage, however long.
    assert!(look(&mut learner, 10 * looks, &[]).is_empty());
    assert!(look(&mut learner, looks, &[1, 7]).is_empty());
    assert_eq!(look(&mut learner, 1, &[1, 7]), [9]);
    assert_eq!(learner.learnt(), Learnt::from([(7, Some(ip(7)))]));
    assert!(look(&mut learner, looks, &[1]).is_empty());
    assert_eq!(look(&mut learner, 1, &[1]), [7]);
    assert!(learner.learnt().is_empty());
}

/// A controller that was stopped for an hour has missed beacons, not its nodes.
#[test]
fn a_stall_makes_nobody_forgotten() {
    let mut learner = learner(255, &Learnt::from([(7, Some(ip(7)))]));
    assert_eq!(hear(&mut learner, 1, ip(1)), Ok(false));
    assert!(learner.look(Duration::from_secs(3_600)).is_empty());
}

#[test]
fn what_is_configured_is_not_learnt_any_more() {
    let before = Learnt::from([(7, Some(ip(7))), (8, Some(ip(8))), (9, None)]);
    let mut learner = learner(255, &before);
    let mut reserved = reserved();
    assert!(!learner.follow(&reserved));
    reserved.nodes.insert(7, ip(70));
    reserved.addresses.insert(ip(8));
    assert!(learner.follow(&reserved));
    assert_eq!(learner.learnt(), Learnt::from([(9, None)]));
}

proptest! {
    /// Whatever comes: no more than there may be, nobody configured, no address twice.
    #[test]
    fn what_is_learnt_makes_sense(
        events in prop::collection::vec((1u16..9, 1u8..12, 0u8..4), 0..200),
        most in 1usize..6,
    ) {
        let mut learner = learner(most, &Learnt::new());
        for (node, at, looks) in events {
            let _ = hear(&mut learner, node, ip(at));
            look(&mut learner, u32::from(looks) * 30, &[1]);
            let learnt = learner.learnt();
            prop_assert!(learnt.len() <= most && !learnt.contains_key(&1));
            let addresses: BTreeSet<_> = learnt.values().flatten().collect();
            prop_assert_eq!(addresses.len(), learnt.len());
            prop_assert!(!addresses.contains(&ip(1)) && !addresses.contains(&ip(10)));
        }
    }
}
