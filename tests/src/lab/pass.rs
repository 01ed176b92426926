//! A program that passes every frame, on the far end of the LB's veth pair.
//!
//! A veth device takes frames from `XDP_TX` and `XDP_REDIRECT` only if its peer has a receive queue
//! of its own, and that it has only while an XDP program is attached to it. Real network cards need
//! nothing of the kind. It must be there before the first frame: turning on GRO instead, or late,
//! was seen to stop the pair altogether.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use super::Namespace;
use super::program::{Hook, attach, instruction};

/// `r0 = XDP_PASS; exit`.
const PASS: [u64; 2] = [instruction(0xb7, 0, 0, 0, 2), instruction(0x95, 0, 0, 0, 0)];

/// The attachment; ends with this value.
#[derive(Debug)]
pub struct PassProgram {
    _link: OwnedFd,
}

impl PassProgram {
    /// Attaches it, in the driver, to an interface of `namespace`.
    ///
    /// # Errors
    /// Another program is there, or the driver does not take any.
    pub fn attach(namespace: &Namespace, interface: &str) -> Result<Self> {
        attach(namespace, interface, Hook::NativeXdp, &PASS)?
            .map(|link| Self { _link: link })
            .with_context(|| format!("cannot attach an XDP program to {interface}"))
    }
}
