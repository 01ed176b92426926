//! Reading a hash map in batches, which aya does not know.
//!
//! Walking a hash map key by key starts over whenever the key it stands on is deleted meanwhile. A
//! batch takes whole buckets and continues at the next bucket, whatever happens to the entries; and
//! it is one system call for some thousand entries (Linux 5.6).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use lb_common::Shared;

/// `BPF_MAP_LOOKUP_BATCH`.
const COMMAND: libc::c_long = 24;

/// Entries asked for at once. A bucket that holds more makes the kernel refuse; the request is then
/// repeated with twice as many.
const BATCH: usize = 4_096;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

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
        let start = from.map_or(0, |cursor| cursor.0);
        let mut next = 0u32;
        let mut attributes = Attributes {
            in_batch: if from.is_some() {
                (&raw const start).expose_provenance() as u64
            } else {
                0
            },
            out_batch: (&raw mut next).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: size as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the attributes are laid out as the kernel has them; it writes at most `count`
        // keys and values of the map's sizes (checked against `u64` and `V` when the map was
        // opened), the cursor, and `count`. All of these outlive the call.
        #[expect(unsafe_code, reason = "a bpf(2) command that aya does not offer")]
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                COMMAND,
                &raw mut attributes,
                size_of::<Attributes>() as libc::c_long,
            )
        };
        let count = (attributes.count as usize).min(size);
        let error = io::Error::last_os_error();
        let more = match (result, error.raw_os_error()) {
            (0.., _) => true,
            (_, Some(libc::ENOENT)) => false,
            (_, Some(libc::ENOSPC)) => {
                size *= 2;
                continue;
            }
            _ => return Err(error),
        };
        let entries = keys.into_iter().zip(values).take(count).collect();
        return Ok(Batch {
            entries,
            next: more.then_some(Cursor(next)),
        });
    }
}
