//! The bpf(2) commands that aya does not offer, or not as they are needed here.
//!
//! Links are made here because aya, when the kernel refuses a link, silently attaches in the old
//! way: without a link that could be pinned, and with no handle left to undo it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lb_common::Shared;

/// `enum bpf_cmd` of <linux/bpf.h>.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Command {
    ObjectPin = 6,
    ObjectGet = 7,
    ObjectInfo = 15,
    LookupBatch = 24,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// `BPF_XDP` of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;
/// `BPF_LINK_TYPE_XDP` of `enum bpf_link_type`.
const LINK_XDP: u32 = 6;

/// Calls bpf(2).
///
/// # Safety
/// `attributes` begins like the member of `union bpf_attr` that `command` reads, and what its
/// pointers point to is as large as the kernel will read or write there.
#[expect(unsafe_code, reason = "the system call itself")]
unsafe fn bpf<T>(command: Command, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's promise; the attributes' own size goes along.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw mut *attributes,
            size_of::<T>() as libc::c_ulong,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches an XDP program to an interface by a link. `flags`: `XDP_FLAGS_*`.
#[expect(unsafe_code, reason = "BPF_LINK_CREATE")]
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        ifindex,
        attach_type: ATTACH_XDP,
        flags,
    };
    // SAFETY: the layout of BPF_LINK_CREATE, without pointers; it returns a new descriptor.
    unsafe {
        Ok(OwnedFd::from_raw_fd(bpf(
            Command::LinkCreate,
            &mut attributes,
        )?))
    }
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Replaces the program of a link: the next packet meets the new one.
#[expect(unsafe_code, reason = "BPF_LINK_UPDATE")]
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkUpdate {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    // SAFETY: the layout of BPF_LINK_UPDATE, without pointers.
    unsafe { bpf(Command::LinkUpdate, &mut attributes) }.map(drop)
}

/// Ends a link, now and not when the last reference to it has gone (Linux 5.9).
#[expect(unsafe_code, reason = "BPF_LINK_DETACH")]
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = link.as_raw_fd() as u32;
    // SAFETY: the layout of BPF_LINK_DETACH, a descriptor alone.
    unsafe { bpf(Command::LinkDetach, &mut attributes) }.map(drop)
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins the object behind a descriptor.
#[expect(unsafe_code, reason = "BPF_OBJ_PIN")]
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Object {
        path: path.as_ptr().expose_provenance() as u64,
        fd: object.as_raw_fd() as u32,
        flags: 0,
    };
    // SAFETY: the layout of BPF_OBJ_PIN; the path is terminated and outlives the call.
    unsafe { bpf(Command::ObjectPin, &mut attributes) }.map(drop)
}

/// Opens a pinned object.
#[expect(unsafe_code, reason = "BPF_OBJ_GET")]
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Object {
        path: path.as_ptr().expose_provenance() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the layout of BPF_OBJ_GET; the path is terminated and outlives the call, which returns
    // a new descriptor.
    unsafe {
        Ok(OwnedFd::from_raw_fd(bpf(
            Command::ObjectGet,
            &mut attributes,
        )?))
    }
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkFacts {
    /// It is one of XDP.
    pub(super) is_xdp: bool,
    /// The id of its program.
    pub(super) program_id: u32,
    /// Its interface; 0 when that is gone.
    pub(super) ifindex: u32,
}

/// The start of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    ifindex: u32,
    rest: [u32; 11],
}

#[repr(C)]
struct InfoRequest {
    fd: u32,
    len: u32,
    info: u64,
}

/// Asks the kernel about a link.
#[expect(unsafe_code, reason = "BPF_OBJ_GET_INFO_BY_FD")]
pub(super) fn link_facts(link: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    let mut info = LinkInfo::default();
    let mut attributes = InfoRequest {
        fd: link.as_raw_fd() as u32,
        len: size_of::<LinkInfo>() as u32,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the layout of BPF_OBJ_GET_INFO_BY_FD; the kernel writes at most `len` bytes of info.
    unsafe { bpf(Command::ObjectInfo, &mut attributes) }?;
    let LinkInfo {
        kind,
        program,
        ifindex,
        ..
    } = info;
    Ok(LinkFacts {
        is_xdp: kind == LINK_XDP,
        program_id: program,
        ifindex,
    })
}

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    elem_flags: u64,
    flags: u64,
}

/// A batch of entries: how many were written, and the place to go on from, if any.
pub(super) struct BatchRead {
    pub(super) count: usize,
    pub(super) next: Option<u32>,
}

/// Reads entries into the slices, whose elements must be as large as the map's keys and values.
///
/// # Errors
/// `ENOSPC`: the next bucket holds more than the slices.
#[expect(unsafe_code, reason = "BPF_MAP_LOOKUP_BATCH")]
pub(super) fn lookup_batch<K: Shared, V: Shared>(
    map: BorrowedFd<'_>,
    from: Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<BatchRead> {
    let size = keys.len().min(values.len());
    let start = from.unwrap_or_default();
    let mut next = 0u32;
    let mut attributes = Batch {
        in_batch: match from {
            Some(_) => (&raw const start).expose_provenance() as u64,
            None => 0,
        },
        out_batch: (&raw mut next).expose_provenance() as u64,
        keys: keys.as_mut_ptr().expose_provenance() as u64,
        values: values.as_mut_ptr().expose_provenance() as u64,
        count: size as u32,
        map: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the layout of BPF_MAP_LOOKUP_BATCH. The kernel writes a cursor of four bytes and at
    // most `count` keys and values of the map's sizes, which were compared with the types when the
    // map was opened. Any bit pattern is a `K` and a `V`.
    let more = match unsafe { bpf(Command::LookupBatch, &mut attributes) } {
        Ok(_) => true,
        // The end of the map; the last entries come with it.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => return Err(error),
    };
    Ok(BatchRead {
        count: (attributes.count as usize).min(size),
        next: more.then_some(next),
    })
}
