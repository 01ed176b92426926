//! Random bytes from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// `N` random bytes, good enough for keys.
///
/// # Errors
/// When the system has no randomness to give, which since Linux 5.6 it always has.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// A random seed, for jitter and the like.
///
/// # Errors
/// As [`bytes()`].
pub fn seed() -> io::Result<u64> {
    bytes().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_differ() {
        let [a, b] = [(); 2].map(|()| super::bytes::<300>().expect("randomness"));
        assert_ne!(a, b);
        assert!(a[256..].iter().any(|byte| *byte != 0));
    }
}
