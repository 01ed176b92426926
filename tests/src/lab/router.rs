//! A router between the switch and the LBs: then VIPs are where a route leads, not who answers for them.
//!
//! ```text
//!   switch 10.79.0.2 ──── 10.79.0.1  router  10.77.0.2 ──── the lab's bridge
//! ```
//! What the switch sends to a VIP goes to the router, from the switch's usual address; nodes answer the
//! switch itself, as ever.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::host::{PORT, Port};
use super::{Host, Lab, Namespace};

/// The router's port on the switch's side, and the switch's on the router's.
const TO_SWITCH: &str = "eth1";
const TO_ROUTER: &str = "eth9";
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 77, 2];

/// A machine that forwards.
#[derive(Debug)]
pub struct Router {
    /// The machine, with its addresses on the LBs' side.
    pub host: Host,
}

impl Lab {
    /// Puts a router between the switch and the VIPs. It knows no way to them yet, and chooses among
    /// several by addresses and ports.
    ///
    /// # Errors
    /// There is one already, or a command of the system failed.
    pub fn add_router(&self) -> Result<Router> {
        let name = self.switch.namespace.name().replace("-switch", "-router");
        let mut host = Host {
            namespace: Namespace::create(name)?,
            v4: [10, 77, 0, 2].into(),
            v6: [0xfd77, 0, 0, 0, 0, 0, 0, 2].into(),
            mac: ROUTER_MAC,
            plugs: Vec::new(),
        };
        host.plug(&Port {
            name: PORT,
            mac: ROUTER_MAC,
            bridge: &self.bridge,
            master: "br0",
            plug: "router",
        })?;
        host.assign(PORT, host.v4.into(), 24)?;
        host.assign(PORT, host.v6.into(), 64)?;
        let (switch, router) = (&self.switch.namespace, &host.namespace);
        router.ip(&format!(
            "link add {TO_SWITCH} type veth peer name {TO_ROUTER} netns {}",
            switch.name()
        ))?;
        for (namespace, port, last) in [(router, TO_SWITCH, 1), (switch, TO_ROUTER, 2)] {
            namespace.ip(&format!("link set {port} up"))?;
            // Frames lie in memory as XDP is to see them; see `Host::plug`.
            namespace.run("ethtool", &format!("--offload {port} tx off"))?;
            namespace.ip(&format!("address add 10.79.0.{last}/24 dev {port}"))?;
            namespace.ip(&format!("address add fd79::{last}/64 dev {port} nodad"))?;
        }
        for family in ["ipv4", "ipv6"] {
            router.sysctl(&format!("net/{family}/conf/all/forwarding"), "1")?;
        }
        let all = Router { host };
        all.choose_by_ports(true)?;
        for (vip, via) in [
            (self.vip_v4().ip(), "10.79.0.1"),
            (self.vip_v6().ip(), "fd79::1"),
        ] {
            switch.ip(&format!("route add {vip} via {via} dev {TO_ROUTER}"))?;
        }
        Ok(all)
    }
}

impl Router {
    /// Whether the router chooses among several ways by addresses and ports, or by addresses alone.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn choose_by_ports(&self, by_ports: bool) -> Result<()> {
        let policy = if by_ports { "1" } else { "0" };
        for family in ["ipv4", "ipv6"] {
            let key = format!("net/{family}/fib_multipath_hash_policy");
            self.host.namespace.sysctl(&key, policy)?;
        }
        Ok(())
    }

    /// Where the router's routes to a VIP lead, in the kernel that forwards.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ways_to(&self, vip: IpAddr) -> Result<Vec<IpAddr>> {
        let shown = self.ip_json(&format!("route show exact {vip}"))?;
        let routes = shown.as_array().map_or(&[][..], Vec::as_slice);
        let mut ways = Vec::new();
        for route in routes {
            let hops = route["nexthops"].as_array();
            let hops = hops.map_or(std::slice::from_ref(route), Vec::as_slice);
            for gateway in hops.iter().filter_map(|hop| hop["gateway"].as_str()) {
                ways.push(gateway.parse()?);
            }
        }
        ways.sort_unstable();
        Ok(ways)
    }

    /// The way that the switch's datagrams from this port to the VIP take.
    ///
    /// # Errors
    /// There is none.
    pub fn way_of(&self, lab: &Lab, port: u16) -> Result<IpAddr> {
        let (vip, switch) = (lab.vip_v4(), lab.switch.v4);
        let shown = self.ip_json(&format!(
            "route get {} from {switch} iif {TO_SWITCH} ipproto udp sport {port} dport {}",
            vip.ip(),
            vip.port()
        ))?;
        match shown[0]["gateway"].as_str() {
            Some(gateway) => Ok(gateway.parse()?),
            None => bail!("no way to {vip}: {shown}"),
        }
    }

    fn ip_json(&self, words: &str) -> Result<Value> {
        let family = if words.contains("::") { "-6" } else { "-4" };
        let text = self.host.namespace.ip(&format!("{family} -json {words}"))?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("`ip {words}` prints no JSON"))
    }
}
