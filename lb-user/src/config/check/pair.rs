//! Does `[pair]` make sense, and do `[[controller]]`s go with it?

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use lb_proto::failover::Timing;
use toml::Spanned;

use super::super::file;
use super::super::pair::{DEFAULT_ADMIN, DEFAULT_STATE_DIR, Pair, Standby, Takeover};
use super::super::{NodeConfig, Status};
use super::Checker;

/// Ids of controllers are 1 to this.
const MAX_CONTROLLERS: i64 = 15;

impl Checker {
    pub(super) fn pair(
        &mut self,
        pair: Option<Spanned<file::Pair>>,
        controllers: &[file::Controller],
        (vips, nodes, status): (&[SocketAddr], &[NodeConfig], &Status),
    ) -> Option<Pair> {
        let Some(pair) = pair else {
            if let Some(controller) = controllers.first() {
                let help = "say which of them this one is: [pair], id = 1";
                self.wrong(controller.id.span(), "[[controller]] without [pair]", help);
            }
            return None;
        };
        let (span, pair) = (pair.span(), pair.into_inner());
        let known = self.controllers(&span, controllers, vips, nodes);
        let id = self.number(Some(&pair.id), 1, 1..=MAX_CONTROLLERS) as u16;
        if !known.contains_key(&id) {
            let help = "write down both controllers: [[controller]], id = 1, address = \"…\"";
            self.wrong(pair.id.span(), "no [[controller]] has this id", help);
        }
        if nodes.iter().all(|node| node.is_silent) {
            let help = "nodes are the witnesses of which controller is the main: configure at least \
                        one that sends beacons";
            self.wrong(span.clone(), "nobody can witness", help);
        }
        let wildcard = |ip: &IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        if let Some(own) = known.get(&id)
            && let Some(other) = known.values().find(|at| at.is_ipv4() != own.is_ipv4())
        {
            let what = format!("controllers at {} and {}", wildcard(own), wildcard(other));
            self.wrong(span.clone(), what, "give both an address of one family");
        }
        if status.discovery.is_some() {
            let help = "both must have the same steering table, so both must be told the nodes";
            self.wrong(span.clone(), "a pair that learns its nodes", help);
        }
        let takeover = self.takeover(&span, &pair);
        let mode = match (pair.mode.unwrap_or_default(), pair.designated_state) {
            (file::StandbyMode::Hot, None) => Standby::Hot,
            (file::StandbyMode::Cold, state) => {
                Standby::Cold(state.map(Spanned::into_inner).unwrap_or_default())
            }
            (file::StandbyMode::Hot, Some(state)) => {
                let help = "a hot stand-by keeps calls as they are; for the other: mode = \"cold\"";
                self.wrong(state.span(), "a designated state, but mode = \"hot\"", help);
                Standby::Hot
            }
        };
        let keep_alive = self.number(pair.keepalive_ms.as_ref(), 100, 10..=1_000);
        let keep_alive = Duration::from_millis(keep_alive as u64);
        let misses = self.number(pair.misses.as_ref(), 3, 1..=10) as u32;
        if let Err(error) = Timing::new(keep_alive, misses as u8, None) {
            let at = pair.misses.as_ref().or(pair.keepalive_ms.as_ref());
            let at = at.map_or(span, Spanned::span);
            let help = "have a shorter keepalive_ms or fewer misses";
            self.wrong(at, error.to_string(), help);
        }
        Some(Pair {
            id,
            controllers: known,
            state_dir: self.absolute(pair.state_dir, DEFAULT_STATE_DIR),
            keep_alive,
            misses,
            mode,
            switchback: pair.switchback,
            takeover,
            version: self.number(pair.version.as_ref(), 1, 1..=i64::MAX) as u64,
            serve_outdated: pair.serve_outdated,
            admin: self.absolute(pair.admin, DEFAULT_ADMIN),
        })
    }

    fn controllers(
        &mut self,
        pair: &Range<usize>,
        listed: &[file::Controller],
        vips: &[SocketAddr],
        nodes: &[NodeConfig],
    ) -> BTreeMap<u16, IpAddr> {
        let mut known = BTreeMap::new();
        for controller in listed {
            let id = self.number(Some(&controller.id), 1, 1..=MAX_CONTROLLERS) as u16;
            let address = *controller.address.get_ref();
            self.unicast(&controller.address, "a controller");
            let is_taken = known.values().any(|other| *other == address)
                || vips.iter().any(|vip| vip.ip() == address)
                || nodes.iter().any(|node| node.address == address);
            if is_taken {
                let what = format!("{address} is somebody else's, or a VIP");
                let help = "a controller has an address of its own, which stays where it is";
                self.wrong(controller.address.span(), what, help);
            }
            if known.insert(id, address).is_some() {
                let what = format!("controller {id} is there twice");
                self.wrong(controller.id.span(), what, "give each an id of its own");
            }
        }
        if known.len() < 2 {
            let help = "write down both controllers, in both files: [[controller]], id = 1, \
                        address = \"192.0.2.10\"";
            self.wrong(pair.clone(), "a pair of fewer than two", help);
        }
        known
    }

    fn takeover(&mut self, span: &Range<usize>, pair: &file::Pair) -> Takeover {
        if let Some(name) = &pair.vip_interface {
            self.interface_name(name);
        }
        let name = pair
            .vip_interface
            .as_ref()
            .map(|name| name.get_ref().clone());
        match (pair.vip.unwrap_or_default(), name) {
            (file::VipMode::None, _) => Takeover::Nothing,
            (file::VipMode::Address, Some(name)) => Takeover::Address(name),
            (file::VipMode::Announce, Some(name)) => Takeover::Announce(name),
            (_, None) => {
                let help = "name where the VIPs are added when this controller is the main: \
                            vip_interface = \"eth0\"; or leave them to others: vip = \"none\"";
                self.wrong(span.clone(), "no vip_interface", help);
                Takeover::Nothing
            }
        }
    }

    fn absolute(&mut self, path: Option<Spanned<PathBuf>>, default: &str) -> PathBuf {
        let Some(path) = path else {
            return default.into();
        };
        if !path.get_ref().is_absolute() {
            self.wrong(path.span(), "a relative path", "write it from the root");
        }
        path.into_inner()
    }
}
