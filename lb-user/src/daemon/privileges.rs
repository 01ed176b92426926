//! Giving up what only the start needs.
//!
//! From then on the process writes maps, runs the clock program, reads netlink, and sends frames
//! through descriptors that are open already; none of that takes a capability. What it cannot do any
//! more: attach or load programs, open raw sockets, bind ports below 1024. So new interfaces take a
//! restart.
//!
//! The one exception is a controller that moves the VIPs' addresses: the kernel asks for
//! `CAP_NET_ADMIN` whenever one is added or removed, of whoever sends the request, so this one stays
//! ([`Mode::keeps`](crate::takeover::Mode::keeps)). It stays in the permitted and the effective set
//! only: with the others empty and the promise of no new privileges, no program that the process could
//! start would have it.

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

/// Drops every capability of this thread but these, for good. Threads started later have no others
/// either.
pub(super) fn drop_all_but(keep: &[Capability]) -> Result<(), PrivilegeError> {
    // The bounding set first: shrinking it takes a capability.
    let bounding = caps::read(None, CapSet::Bounding)
        .map_err(|error| PrivilegeError::Set("bounding", error))?;
    let may_shrink = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)
        .map_err(|error| PrivilegeError::Set("effective", error))?;
    for capability in bounding.into_iter().filter(|_| may_shrink) {
        caps::drop(None, CapSet::Bounding, capability)
            .map_err(|error| PrivilegeError::Set("bounding", error))?;
    }
    for (set, name) in [
        (CapSet::Ambient, "ambient"),
        (CapSet::Inheritable, "inheritable"),
    ] {
        caps::clear(None, set).map_err(|error| PrivilegeError::Set(name, error))?;
    }
    // The effective set must stay within the permitted one.
    let keep = keep.iter().copied().collect();
    for (set, name) in [
        (CapSet::Effective, "effective"),
        (CapSet::Permitted, "permitted"),
    ] {
        caps::set(None, set, &keep).map_err(|error| PrivilegeError::Set(name, error))?;
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::thread;

    use super::*;
    use crate::takeover::{Mode, Moved, Mover};

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// Drops all capabilities but these, then moves a VIP: in a thread and a network namespace of its
    /// own.
    fn move_after_dropping(keep: &'static [Capability]) -> (Moved, Moved) {
        let work = move || {
            #[expect(unsafe_code, reason = "unshare")]
            // SAFETY: it takes a number; only this thread gets another namespace.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "needs root");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let _guard = runtime.enter();
            let (mover, _keeper) = Mover::open("lo", [VIP], Mode::Announce).unwrap();
            drop_all_but(keep).unwrap();
            for (set, left) in [
                (CapSet::Permitted, keep),
                (CapSet::Effective, keep),
                (CapSet::Bounding, &[]),
                (CapSet::Inheritable, &[]),
                (CapSet::Ambient, &[]),
            ] {
                let left = left.iter().copied().collect();
                assert_eq!(caps::read(None, set).unwrap(), left, "{set:?}");
            }
            (mover.claim(), mover.release())
        };
        thread::spawn(work).join().unwrap()
    }

    #[test]
    fn the_one_capability_that_is_kept_moves_vips() {
        let (claimed, released) = move_after_dropping(Mode::Announce.keeps());
        assert!(claimed.failed.is_empty(), "{claimed}");
        assert_eq!(claimed.changed, [VIP]);
        assert_eq!(released.changed, [VIP]);
    }

    /// A socket that was opened with the capability does not do: so it must be kept.
    #[test]
    fn without_it_no_vip_moves() {
        let (claimed, _) = move_after_dropping(&[]);
        assert!(claimed.changed.is_empty());
        let (_, error) = &claimed.failed[0];
        let source = std::error::Error::source(error).expect("the kernel's answer");
        assert!(source.to_string().contains("not permitted"), "{source}");
    }
}
