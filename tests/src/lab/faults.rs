//! Faults of cables and switches.

use anyhow::{Context, Result};

use super::host::Plug;
use super::{Host, Lab};

/// A bridge beside the first one, for ports that move.
const ASIDE: &str = "br9";

impl Lab {
    /// Pulls a machine's cables: its ports lose their carrier, and keep their addresses.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn unplug(&self, host: &Host) -> Result<()> {
        self.set_plugs(host, "down")
    }

    /// Puts them in again.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn replug(&self, host: &Host) -> Result<()> {
        self.set_plugs(host, "up")
    }

    fn set_plugs(&self, host: &Host, state: &str) -> Result<()> {
        for Plug { name, .. } in &host.plugs {
            self.bridge.ip(&format!("link set {name} {state}"))?;
        }
        Ok(())
    }

    /// Moves a machine's cable (its first) to another port of the network, behind another bridge, or back
    /// again: whoever knows where its link address is knows it no longer.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn move_plug(&self, host: &Host) -> Result<()> {
        let plug = host.plugs.first().context("a machine without a cable")?;
        if self.bridge.ip(&format!("link show {ASIDE}")).is_err() {
            self.bridge.ip(&format!(
                "link add {ASIDE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
            ))?;
            self.bridge
                .ip("link add trunk0 type veth peer name trunk9")?;
            for (end, master) in [("trunk0", "br0"), ("trunk9", ASIDE)] {
                self.bridge
                    .ip(&format!("link set {end} master {master} up"))?;
            }
            self.bridge.ip(&format!("link set {ASIDE} up"))?;
        }
        let name = &plug.name;
        let is_aside = self
            .bridge
            .ip(&format!("link show {name}"))?
            .contains(&format!("master {ASIDE}"));
        let master = if is_aside { "br0" } else { ASIDE };
        self.bridge
            .ip(&format!("link set {name} master {master}"))?;
        Ok(())
    }

    /// Sets a machine's own ports down, as its administrator would: IPv6 addresses go with that.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn set_ports_down(&self, host: &Host) -> Result<()> {
        set_ports(host, "down")
    }

    /// Sets them up again. The IPv6 addresses do not come back by themselves.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn set_ports_up(&self, host: &Host) -> Result<()> {
        set_ports(host, "up")
    }
}

fn set_ports(host: &Host, state: &str) -> Result<()> {
    for Plug { port, .. } in &host.plugs {
        host.namespace.ip(&format!("link set {port} {state}"))?;
    }
    Ok(())
}
