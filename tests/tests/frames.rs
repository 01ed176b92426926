//! Frames of unusual form on a real wire: VLAN tags, fragments, messages that userspace must steer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use pointsman_tests::daemons::{PATIENCE, Settings};
use pointsman_tests::fleet::Fleet;
use pointsman_tests::lab::{Lab, eventually};
use pointsman_tests::record::{CallHash, PacketSocket, Recorder};
use pointsman_tests::traffic::{Client, Ears, frame};

const NODES: u16 = 3;

fn lab() -> Result<Lab> {
    Lab::of(NODES)
}

/// Tagged frames go to the same node as untagged ones, and keep their tags.
#[test]
fn tagged_frames_keep_their_tags() -> Result<()> {
    let lab = lab()?;
    let fleet = Fleet::start(&lab, Settings::patient())?;
    let wire = PacketSocket::open(&lab.switch.namespace, "eth0")?;
    for vip in [lab.vip_v4(), lab.vip_v6()] {
        for vlans in [vec![], vec![77], vec![100, 77]] {
            let recorder = Recorder::start(&lab.nodes)?;
            let source = SocketAddr::new(lab.switch.address(vip.ip()), 5080);
            let link = frame::Link {
                destination: lab.lb.mac,
                source: lab.switch.mac,
                vlans: vlans.clone(),
            };
            let client = Client::open(&lab, vip)?;
            for node in lab.node_ids() {
                let name = format!("vlan-{}-{}", vlans.len(), vip.is_ipv6());
                let call_id = &fleet.homes.call_ids(&name, node, 1)?[0];
                let message = client.call(call_id).invite();
                wire.send(&frame::udp(&link, source, vip, &message))?;
                let tape = usize::from(node) - 1;
                eventually(&format!("{call_id} at node {node}"), PATIENCE, || {
                    Ok(recorder.look(tape, |tape| !tape.sightings.is_empty()))
                })?;
                let seen = recorder.look(tape, |tape| tape.sightings[0]);
                assert_eq!(seen.call, CallHash::of(call_id));
                // The recorder shows the outer tag; the inner one is still in the frame.
                assert_eq!(seen.vlan, vlans.first().copied());
            }
            recorder.catch_up()?;
            for tape in 0..usize::from(NODES) {
                assert_eq!(
                    recorder.look(tape, |tape| tape.sightings.len()),
                    1,
                    "{vlans:?}"
                );
            }
        }
    }
    Ok(())
}

/// Sends each node a message that the kernel program must leave to userspace, and expects it at its
/// home, whole, and from the client's own address.
fn arrives_deferred(
    name: &str,
    vip_of: fn(&Lab) -> SocketAddr,
    message: fn(&Client, &str) -> Vec<u8>,
    reason: &str,
) -> Result<()> {
    let lab = lab()?;
    let vip = vip_of(&lab);
    let fleet = Fleet::start(&lab, Settings::patient())?;
    let ears = Ears::open(&lab.nodes, vip)?;
    let client = Client::open(&lab, vip)?;
    let before = fleet.daemons.reason(reason)?;
    for node in lab.node_ids() {
        for call_id in fleet.homes.call_ids(name, node, 3)? {
            let message = message(&client, &call_id);
            client.send(&message)?;
            let (at, heard) = ears
                .next(PATIENCE)?
                .with_context(|| format!("{call_id} arrived nowhere"))?;
            assert_eq!(at, node, "{call_id} came to the wrong node");
            assert_eq!(
                heard.from,
                client.address(),
                "the client's address was not kept"
            );
            assert!(heard.payload == message, "{call_id} arrived changed");
        }
    }
    assert_eq!(
        ears.next(Duration::from_millis(100))?,
        None,
        "something arrived twice"
    );
    let after = fleet.daemons.reason(reason)?;
    assert!(
        after >= before + 3 * u64::from(NODES),
        "`{reason}` was counted {before} → {after}"
    );
    Ok(())
}

/// Larger than the wire takes: the switch's kernel cuts it in pieces, the LB's puts them together.
fn large_invite(client: &Client, call_id: &str) -> Vec<u8> {
    client.call(call_id).invite_with_body(4_000)
}

#[test]
fn fragments_over_ipv4() -> Result<()> {
    arrives_deferred("fragment-v4", Lab::vip_v4, large_invite, "fragment")
}

#[test]
fn fragments_over_ipv6() -> Result<()> {
    arrives_deferred("fragment-v6", Lab::vip_v6, large_invite, "fragment")
}

/// A Call-ID on a line of its own (RFC 3261 §7.3.1): not for the kernel, but no guess either.
#[test]
fn folded_call_ids() -> Result<()> {
    let folded = |client: &Client, call_id: &str| {
        let plain = client.call(call_id).invite();
        let text = String::from_utf8_lossy(&plain).replace("Call-ID: ", "Call-ID:\r\n ");
        text.into_bytes()
    };
    arrives_deferred("folded", Lab::vip_v4, folded, "folded")
}
