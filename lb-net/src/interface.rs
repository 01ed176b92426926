//! Network interfaces by name.
//!
//! Groups are joined and left by index, not by an address of the interface: addresses come, go and
//! are shared, and IPv6 knows link-local ones apart by the index alone.

use rustix::net::netdevice;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::fmt;
use std::io;

/// Longest name: `IFNAMSIZ` less the zero byte.
const MAX_NAME: usize = 15;

/// An interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    name: String,
    index: u32,
}

/// Why there is no such interface.
#[derive(Debug, thiserror::Error)]
#[error("no network interface `{name}`; `ip link` lists those there are")]
pub struct InterfaceError {
    name: String,
    source: io::Error,
}

impl Interface {
    /// Looks an interface up.
    ///
    /// # Errors
    /// [`InterfaceError`] when there is none of that name.
    pub fn find(name: &str) -> Result<Self, InterfaceError> {
        let failed = |source| InterfaceError {
            name: name.to_owned(),
            source,
        };
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        // Which family the socket has is of no account to the question.
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| failed(errno.into()))?;
        let index = netdevice::name_to_index(&socket, name).map_err(|e| failed(e.into()))?;
        Ok(Self {
            name: name.to_owned(),
            index,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index, never 0.
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_the_first() {
        let lo = Interface::find("lo").expect("a loopback");
        assert_eq!((lo.index(), lo.name()), (1, "lo"));
    }

    #[test]
    fn names_that_are_none() {
        for name in [
            "",
            "pm-none",
            "much-longer-than-a-name-can-be",
            "a/b",
            "nul\0",
        ] {
            let error = Interface::find(name).expect_err(name);
            assert!(error.to_string().contains("ip link"));
        }
    }
}
