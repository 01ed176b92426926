//! A machine of the lab: a namespace with one port on a bridge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use super::{Namespace, sys};

/// The name of every host's (first) port.
pub(super) const PORT: &str = "eth0";

/// A machine of the lab.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its own IPv4 address.
    pub v4: Ipv4Addr,
    /// Its own IPv6 address.
    pub v6: Ipv6Addr,
    /// The link address of its first port.
    pub mac: [u8; 6],
    /// Its ports, as far as they are plugged in.
    pub(super) plugs: Vec<Plug>,
}

/// The bridge's end of a port.
#[derive(Clone, Debug)]
pub(super) struct Plug {
    /// Its name, in the bridge's namespace.
    pub(super) name: String,
    /// The port's name, in the host's.
    pub(super) port: String,
    /// The link address of the port, not of this end.
    pub(super) mac: [u8; 6],
}

impl Host {
    /// Its own address of the family that `like` is of.
    pub fn address(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() {
            self.v4.into()
        } else {
            self.v6.into()
        }
    }

    /// Whether one of its interfaces has this address.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn has_address(&self, interface: &str, address: IpAddr) -> Result<bool> {
        let addresses = self
            .namespace
            .ip(&format!("address show dev {interface}"))?;
        Ok(addresses.contains(&format!(" {address}/")))
    }

    /// The index of one of its ports.
    ///
    /// # Errors
    /// There is no such port.
    pub fn port_index(&self, port: &str) -> Result<u32> {
        self.namespace
            .inside(|| sys::interface_index(port))?
            .with_context(|| format!("no port {port} in {}", self.namespace.name()))
    }

    /// Plugs a port into a bridge: a veth pair, one end here, the other in the bridge's namespace.
    ///
    /// Checksums are written out in full and VLAN tags kept in the frame, on both ends: XDP sees
    /// frames as they lie in memory, where offloads leave both undone.
    pub(super) fn plug(&mut self, port: &Port<'_>) -> Result<()> {
        let Port {
            name,
            mac,
            bridge,
            plug,
            ..
        } = port;
        let (here, there) = (self.namespace.name(), bridge.name());
        self.namespace.ip(&format!(
            "link add {name} address {} type veth peer name {plug} netns {there}",
            colons(*mac)
        ))?;
        self.namespace.ip(&format!("link set {name} up"))?;
        bridge.ip(&format!("link set {plug} master {} up", port.master))?;
        for (namespace, end) in [(&self.namespace, *name), (*bridge, *plug)] {
            namespace
                .run(
                    "ethtool",
                    &format!("--offload {end} tx off txvlan off tx-vlan-stag-hw-insert off"),
                )
                .with_context(|| format!("while plugging {here} into {there}"))?;
        }
        self.plugs.push(Plug {
            name: (*plug).to_owned(),
            port: (*name).to_owned(),
            mac: *mac,
        });
        Ok(())
    }

    /// Gives one of its interfaces an address of the lab.
    pub(super) fn assign(&self, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        self.namespace.ip(&format!(
            "address add {address}/{prefix} dev {interface}{nodad}"
        ))?;
        Ok(())
    }
}

/// A port to be, and where it is plugged in.
pub(super) struct Port<'a> {
    pub(super) name: &'a str,
    pub(super) mac: [u8; 6],
    pub(super) bridge: &'a Namespace,
    /// The bridge's device.
    pub(super) master: &'a str,
    /// The name of the bridge's end.
    pub(super) plug: &'a str,
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
