use super::*;
use crate::failover::fixtures::{CLUSTER, controller, keep_alive, ms, node};
use crate::failover::wire::CONTROL_LEN;
use crate::fixtures::KEY;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn members() -> Members {
    Members {
        controllers: BTreeMap::from([
            (controller(1), vec![ip("10.0.0.1"), ip("2001:db8::1")]),
            (controller(2), vec![ip("10.0.0.2")]),
        ]),
        nodes: BTreeMap::from([
            (node(1), vec![ip("10.0.1.1")]),
            (node(2), vec![ip("10.0.1.2")]),
        ]),
    }
}

fn gate(own: Party) -> Gate {
    Gate::new(own, CLUSTER, vec![KEY], members())
}

fn main_sends(stamper: &mut Stamper, body: Body) -> Bytes {
    stamper.write(KEY, 0, Term(1), Marks::default(), body).1
}

const STANDBY: Party = Party::Controller(match ControllerId::new(2) {
    Some(id) => id,
    None => unreachable!(),
});

fn stamper(epoch: u32) -> Stamper {
    Stamper::new(Party::Controller(controller(1)), CLUSTER, epoch)
}

#[test]
fn each_refusal() {
    let mut gate = gate(STANDBY);
    let now = ms(0);
    let mut sender = stamper(5);
    let good = main_sends(&mut sender, keep_alive());
    let main = ip("10.0.0.1");

    // From elsewhere, from a node that was not asked to forward, from another controller.
    for from in ["10.0.0.9", "10.0.1.1", "10.0.0.2"] {
        assert_eq!(gate.take(now, ip(from), &good).err(), Some(Refusal::Origin));
    }
    let mut forged = good;
    forged[20] ^= 1;
    let forged = gate.take(now, main, &forged).err();
    assert_eq!(forged, Some(Refusal::Seal(SealError::Forged)));
    let mut other = Stamper::new(Party::Controller(controller(1)), CLUSTER + 1, 5);
    let other = main_sends(&mut other, keep_alive());
    assert_eq!(gate.take(now, main, &other).err(), Some(Refusal::Cluster));
    let marks = Marks::default();
    let (_, elsewhere) = sender.write(KEY, 3, Term(1), marks, Body::Release);
    let elsewhere = gate.take(now, main, &elsewhere).err();
    assert_eq!(elsewhere, Some(Refusal::Recipient));
    for unknown in [
        Party::Controller(controller(3)),
        Party::Node(node(9)),
        STANDBY,
    ] {
        let mut unknown = Stamper::new(unknown, CLUSTER, 5);
        let bytes = match unknown.own {
            Party::Controller(_) => main_sends(&mut unknown, keep_alive()),
            Party::Node(_) => {
                let ack = crate::failover::wire::Ack {
                    echo: Stamp::default(),
                    missing: Default::default(),
                };
                main_sends(&mut unknown, Body::Ack(ack))
            }
        };
        let refused = gate.take(now, main, &bytes).err();
        assert_eq!(refused, Some(Refusal::UnknownSender));
    }

    // None of that used up its number.
    assert!(gate.take(now, main, &good).is_ok());
    assert_eq!(gate.take(now, main, &good).err(), Some(Refusal::Replayed));
    let second = main_sends(&mut sender, Body::Release);
    assert!(gate.take(now, ip("2001:db8::1"), &second).is_ok());
    let mapped = main_sends(&mut sender, Body::Release);
    assert!(gate.take(now, ip("::ffff:10.0.0.1"), &mapped).is_ok());
    let old = main_sends(&mut stamper(4), keep_alive());
    assert_eq!(gate.take(now, main, &old).err(), Some(Refusal::OldEpoch));
    let new = main_sends(&mut stamper(6), keep_alive());
    assert!(gate.take(now, main, &new).is_ok());
    let over = main_sends(&mut sender, keep_alive());
    assert_eq!(gate.take(now, main, &over).err(), Some(Refusal::OldEpoch));
}

#[test]
fn overtaken_ones_count_once_and_not_for_long() {
    let mut gate = gate(STANDBY);
    let mut sender = stamper(1);
    let main = ip("10.0.0.1");
    let all: Vec<Bytes> = (0..100)
        .map(|_| main_sends(&mut sender, Body::Release))
        .collect();
    assert!(gate.take(ms(0), main, &all[99]).is_ok());
    for (place, bytes) in all.iter().enumerate().rev().skip(1) {
        let taken = gate.take(ms(0), main, bytes);
        assert_eq!(taken.is_ok(), place >= 99 - 63, "{place}");
    }
    for bytes in &all {
        assert_eq!(gate.take(ms(0), main, bytes).err(), Some(Refusal::Replayed));
    }
}

/// A forwarded copy proves its path; only the first to come is news; and only keep-alives come by
/// nodes, from those that were asked, for as long as they were.
#[test]
fn copies_by_another_path() {
    let mut gate = gate(STANDBY);
    let mut sender = stamper(1);
    let (main, relay) = (ip("10.0.0.1"), ip("10.0.1.2"));
    gate.expect_relays(node(2), ms(1_000));
    let first = main_sends(&mut sender, keep_alive());
    let direct = gate.take(ms(1), main, &first).expect("genuine");
    assert_eq!(
        (direct.path, direct.is_newest, direct.is_copy),
        (Path::Direct, true, false)
    );
    let copy = gate.take(ms(2), relay, &first).expect("a copy");
    assert_eq!(
        (copy.path, copy.is_newest, copy.is_copy),
        (Path::Relayed(node(2)), false, true)
    );
    assert_eq!(
        gate.take(ms(3), relay, &first).err(),
        Some(Refusal::Replayed)
    );
    assert_eq!(
        gate.take(ms(3), main, &first).err(),
        Some(Refusal::Replayed)
    );

    let second = main_sends(&mut sender, keep_alive());
    let by_node = gate.take(ms(4), relay, &second).expect("genuine");
    assert!(by_node.is_newest && !by_node.is_copy);
    assert!(gate.take(ms(4), main, &second).expect("a copy").is_copy);

    let command = main_sends(
        &mut sender,
        Body::Yield {
            reason: crate::failover::wire::Reason::Loss,
        },
    );
    assert_eq!(
        gate.take(ms(5), relay, &command).err(),
        Some(Refusal::Origin)
    );
    let late = main_sends(&mut sender, keep_alive());
    assert_eq!(
        gate.take(ms(1_000), relay, &late).err(),
        Some(Refusal::Origin)
    );
}

#[test]
fn a_stamper_out_of_numbers_begins_another_epoch() {
    let mut sender = stamper(3);
    sender.last.sequence = u32::MAX - 1;
    let stamps = [(); 3].map(|()| sender.next());
    assert!(stamps.is_sorted());
    assert_eq!(
        stamps[1],
        Stamp {
            epoch: 4,
            sequence: 0
        }
    );
}

#[test]
fn refusals_are_counted_each() {
    let mut refusals = Refusals::default();
    for refusal in Refusal::ALL {
        refusals.count(refusal);
        assert_eq!(refusals.get(refusal), 1, "{refusal:?}");
    }
    refusals.count(Refusal::Replayed);
    assert_eq!(refusals.get(Refusal::Replayed), 2);
    let mut names: Vec<&str> = Refusal::ALL.iter().map(|one| one.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Refusal::ALL.len());
}

proptest! {
    /// In whatever order and how often they come: each is taken once at most, all of those that are
    /// not overtaken by 64 are taken.
    #[test]
    fn each_stamp_counts_once(order in prop::collection::vec((1u32..4, 0u32..150), 1..400)) {
        let mut window = Window::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut newest = Stamp::default();
        for (epoch, sequence) in order {
            let stamp = Stamp { epoch, sequence };
            let is_taken = matches!(window.take(stamp), Novelty::Newest | Novelty::Late);
            let is_known = seen.contains(&stamp);
            let is_near = epoch > newest.epoch
                || epoch == newest.epoch && sequence + 64 > newest.sequence;
            prop_assert_eq!(is_taken, !is_known && is_near, "{:?} after {:?}", stamp, newest);
            if is_taken {
                seen.insert(stamp);
                newest = newest.max(stamp);
            }
        }
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..CONTROL_LEN + 8)) {
        prop_assert!(gate(STANDBY).take(ms(0), ip("10.0.0.1"), &bytes).is_err());
    }
}
