//! A machine that is lost all at once, as in a power cut, and whose place on the link nobody takes.
//!
//! The bridge still knows which port its link address is at; what goes there or comes from there is dropped. It
//! is otherwise with a cable that is pulled ([`Lab::unplug`]): the bridge forgets who was there and floods,
//! as real switches do, and an LB on the same link, which here sees every frame, steers what was for the
//! other.

use std::fmt;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use super::cut::TCX_DROP;
use super::host::Plug;
use super::{Host, Lab};
use crate::bpf::{Hook, only};

/// A machine that is lost; there again when this value is dropped.
#[must_use]
pub struct Lost {
    _links: Vec<OwnedFd>,
    who: String,
}

impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lost").field(&self.who).finish()
    }
}

impl Lab {
    /// Takes a machine away.
    ///
    /// # Errors
    /// The kernel does not take the program.
    pub fn lose(&self, host: &Host) -> Result<Lost> {
        let who = host.namespace.name().to_owned();
        let mut links = Vec::new();
        for Plug { name, .. } in &host.plugs {
            for hook in [Hook::Egress, Hook::Ingress] {
                let drop = only(TCX_DROP.cast_unsigned());
                let link = self.bridge.attach(name, hook, "lab_lose", &drop);
                links.push(link.with_context(|| format!("cannot cut off {who}"))?);
            }
        }
        Ok(Lost { _links: links, who })
    }
}
