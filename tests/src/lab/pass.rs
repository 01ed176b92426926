//! A program that passes every frame, on the far end of the LB's veth pair.
//!
//! A veth device takes frames from `XDP_TX` and `XDP_REDIRECT` only if its peer has a receive queue
//! of its own, and that it has only while an XDP program is attached to it. Real network cards need
//! nothing of the kind. It must be there before the first frame: turning on GRO instead, or late,
//! was seen to stop the pair altogether.
#![expect(
    unsafe_code,
    reason = "the bpf system call has no safe wrapper in the standard library"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};

use super::{Namespace, sys};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`, as the kernel lays out instructions.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
const LICENSE: &[u8; 4] = b"GPL\0";

/// The start of the kernel's `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct LoadProgram {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The start of the kernel's `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct CreateLink {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

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
        namespace
            .inside(|| {
                let index = sys::interface_index(interface)?;
                let program = load()?;
                let link = CreateLink {
                    program: program.as_raw_fd().cast_unsigned(),
                    interface: index,
                    attach_type: BPF_XDP,
                    flags: XDP_FLAGS_DRV_MODE,
                };
                // SAFETY: CreateLink is laid out as the kernel reads this command.
                unsafe { bpf(BPF_LINK_CREATE, &link) }
            })?
            .map(|link| Self { _link: link })
            .with_context(|| format!("cannot attach an XDP program to {interface}"))
    }
}

fn load() -> io::Result<OwnedFd> {
    let program = LoadProgram {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: PASS.len() as u32,
        instructions: PASS.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"lab_pass\0\0\0\0\0\0\0\0",
    };
    // SAFETY: LoadProgram is laid out as the kernel reads this command; what it points to is static.
    unsafe { bpf(BPF_PROG_LOAD, &program) }
}

/// A command of the bpf system call that gives a new descriptor.
///
/// # Safety
/// `attributes` is laid out as the kernel reads it for `command`, and its addresses are valid.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let attributes: *const T = attributes;
    // SAFETY: the kernel reads as many bytes as said; the caller answers for what they mean.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    let descriptor = RawFd::try_from(result).map_err(io::Error::other)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
