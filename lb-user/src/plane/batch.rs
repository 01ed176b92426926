//! Reading maps in batches (Linux 5.6): one system call for thousands of entries.
//!
//! Walking a hash map key by key starts over whenever the key it stands on is deleted meanwhile. A
//! batch takes whole buckets and continues at the next bucket, whatever happens to the entries.

use std::io;
use std::os::fd::BorrowedFd;

use lb_common::Shared;

use super::sys;

/// Entries asked for at once. A bucket that holds more makes the kernel refuse; the request is then
/// repeated with twice as many.
const BATCH: usize = 4_096;

/// Where in the map a walk stands: the next bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(u32);

/// Some of a map's entries.
#[derive(Clone, Debug)]
pub struct Batch<V> {
    /// Keys and values, in no order.
    pub entries: Vec<(u64, V)>,
    /// Where the walk goes on. `None`: the map has been seen to its end.
    pub next: Option<Cursor>,
}

/// The entries from `from` on; from the start if `None`.
///
/// # Errors
/// What the kernel answers.
pub(super) fn read<V: Shared + Default>(
    map: BorrowedFd<'_>,
    from: Option<Cursor>,
) -> io::Result<Batch<V>> {
    let mut size = BATCH;
    loop {
        let mut keys = vec![0u64; size];
        let mut values = vec![V::default(); size];
        let from = from.map(|cursor| cursor.0);
        match sys::lookup_batch(map, from, &mut keys, &mut values) {
            Ok(read) => {
                let entries = keys.into_iter().zip(values).take(read.count).collect();
                return Ok(Batch {
                    entries,
                    next: read.next.map(Cursor),
                });
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => size *= 2,
            Err(error) => return Err(error),
        }
    }
}
