//! What tests and the demo need of the network: tried out in a namespace that vanishes again.

use std::process::Command;

use super::{Area, Check, State};
use crate::command;
use crate::repo;

/// Runs in a network namespace of its own and says a word for each thing that works.
const TRIAL: &str = "\
echo namespace
ip link add pm0 type veth peer name pm1 && echo veth
ip link add pmbr type bridge && echo bridge
ip address add 192.0.2.1/24 dev pm0 && ip link set pm0 up && grep -q pm0 /proc/net/igmp && \
    echo multicast
true";

/// The word that the trial says, and what it is needed for.
const THINGS: [(&str, &str); 4] = [
    (
        "namespace",
        "Each simulated machine is a network namespace.",
    ),
    (
        "veth",
        "Simulated machines are connected by veth pairs; XDP runs natively on them.",
    ),
    (
        "bridge",
        "A bridge in a namespace of its own stands for the switch port's LAN.",
    ),
    ("multicast", "Nodes tell their status by multicast."),
];

pub(super) fn checks() -> Vec<Check> {
    let said = if repo::is_root() {
        command::read(Command::new("unshare").args(["--net", "sh", "-c", TRIAL]))
            .map_err(|error| error.to_string())
    } else {
        Err("only root can try".to_owned())
    };
    THINGS
        .into_iter()
        .map(|(name, why)| {
            let (state, found) = match &said {
                Err(reason) if !repo::is_root() => (State::Unknown, reason.clone()),
                Err(reason) => (State::Advised, reason.clone()),
                Ok(words) if words.lines().any(|word| word == name) => {
                    (State::Ok, "works".to_owned())
                }
                Ok(_) => (State::Advised, "does not work".to_owned()),
            };
            let fix = match state {
                State::Unknown => "sudo -E cargo xtask doctor",
                _ => "`cargo xtask setup --lab`; then a kernel or container that allows it",
            };
            Check {
                area: Area::TestsAndDemo,
                name,
                state,
                found,
                why,
                fix: fix.to_owned(),
            }
        })
        .collect()
}
