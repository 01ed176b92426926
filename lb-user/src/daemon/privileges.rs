//! Giving up what only the start needs.
//!
//! From then on the process writes maps, runs the clock program, reads netlink, and sends frames
//! through descriptors that are open already; none of that takes a capability. What it cannot do any
//! more: attach or load programs, open raw sockets, bind ports below 1024. So new interfaces take a
//! restart.

use std::io;

use caps::errors::CapsError;
use caps::{CapSet, Capability};

/// Capabilities could not be dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrivilegeError {
    /// One of the sets.
    #[error("{0} set")]
    Set(&'static str, #[source] CapsError),
    /// The promise never to gain any again.
    #[error("no_new_privs")]
    NoNewPrivileges(#[source] io::Error),
}

/// Drops every capability of this thread, for good. Threads started later have none either.
pub(super) fn drop_all() -> Result<(), PrivilegeError> {
    // The bounding set first: shrinking it takes a capability.
    let bounding = caps::read(None, CapSet::Bounding)
        .map_err(|error| PrivilegeError::Set("bounding", error))?;
    let may_shrink = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)
        .map_err(|error| PrivilegeError::Set("effective", error))?;
    for capability in bounding.into_iter().filter(|_| may_shrink) {
        caps::drop(None, CapSet::Bounding, capability)
            .map_err(|error| PrivilegeError::Set("bounding", error))?;
    }
    let sets = [
        (CapSet::Ambient, "ambient"),
        (CapSet::Inheritable, "inheritable"),
        (CapSet::Effective, "effective"),
        (CapSet::Permitted, "permitted"),
    ];
    for (set, name) in sets {
        caps::clear(None, set).map_err(|error| PrivilegeError::Set(name, error))?;
    }
    no_new_privileges().map_err(PrivilegeError::NoNewPrivileges)
}

#[expect(unsafe_code, reason = "prctl")]
fn no_new_privileges() -> io::Result<()> {
    // SAFETY: this option takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
