//! A program that passes every frame, on the far end of the LB's veth pair.
//!
//! A veth device takes frames from `XDP_TX` and `XDP_REDIRECT` only if its peer has a receive queue
//! of its own, and that it has only while an XDP program is attached to it. Real network cards need
//! nothing of the kind. It must be there before the first frame: turning on GRO instead, or late,
//! was seen to stop the pair altogether.

use std::os::fd::OwnedFd;

use anyhow::Result;

use super::Namespace;
use crate::bpf::{Hook, only};
use crate::packets::XDP_PASS;

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
        let program = only(XDP_PASS);
        Ok(Self {
            _link: namespace.attach(interface, Hook::NativeXdp, "lab_pass", &program)?,
        })
    }
}
