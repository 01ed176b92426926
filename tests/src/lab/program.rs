//! Programs of a few instructions, written out by hand, and their attachment to an interface.
#![expect(
    unsafe_code,
    reason = "the bpf system call has no safe wrapper in the standard library"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{Namespace, sys};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

const LICENSE: &[u8; 4] = b"GPL\0";

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// On what comes in, in the driver.
    NativeXdp,
    /// On what comes in, behind the driver (Linux 6.6).
    Ingress,
    /// On what goes out (Linux 6.6).
    Egress,
}

impl Hook {
    const fn program_type(self) -> u32 {
        match self {
            Self::NativeXdp => BPF_PROG_TYPE_XDP,
            Self::Ingress | Self::Egress => BPF_PROG_TYPE_SCHED_CLS,
        }
    }

    const fn attach_type(self) -> u32 {
        match self {
            Self::NativeXdp => BPF_XDP,
            Self::Ingress => BPF_TCX_INGRESS,
            Self::Egress => BPF_TCX_EGRESS,
        }
    }

    /// What the program is called in the kernel.
    const fn name(self) -> [u8; 16] {
        match self {
            Self::NativeXdp => *b"lab_pass\0\0\0\0\0\0\0\0",
            Self::Ingress | Self::Egress => *b"lab_cut\0\0\0\0\0\0\0\0\0",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::NativeXdp => XDP_FLAGS_DRV_MODE,
            Self::Ingress | Self::Egress => 0,
        }
    }
}

/// An instruction as the kernel lays it out (`struct bpf_insn`).
pub(super) const fn instruction(
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> u64 {
    let registers = destination | (source << 4);
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
}

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
    /// Which other program it is relative to: none.
    relative: [u32; 4],
}

/// Loads a program and attaches it to an interface of `namespace`. It ends with the descriptor.
pub(super) fn attach(
    namespace: &Namespace,
    interface: &str,
    hook: Hook,
    instructions: &[u64],
) -> anyhow::Result<io::Result<OwnedFd>> {
    namespace.inside(|| {
        let index = sys::interface_index(interface)?;
        let program = load(hook, instructions)?;
        let link = CreateLink {
            program: program.as_raw_fd().cast_unsigned(),
            interface: index,
            attach_type: hook.attach_type(),
            flags: hook.flags(),
            relative: [0; 4],
        };
        // SAFETY: CreateLink is laid out as the kernel reads this command.
        unsafe { bpf(BPF_LINK_CREATE, &link) }
    })
}

fn load(hook: Hook, instructions: &[u64]) -> io::Result<OwnedFd> {
    let program = LoadProgram {
        program_type: hook.program_type(),
        instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: hook.name(),
    };
    // SAFETY: LoadProgram is laid out as the kernel reads this command; what it points to outlives
    // the call.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_laid_out_as_the_kernel_reads_them() {
        // `r0 = 2` and `exit`, as `bpftool prog dump xlated … opcodes` shows them.
        let bytes = instruction(0xb7, 0, 0, 0, 2).to_ne_bytes();
        assert_eq!(bytes, [0xb7, 0, 0, 0, 2, 0, 0, 0]);
        // `r5 = *(u16 *)(r2 + 6)`.
        let bytes = instruction(0x69, 5, 2, 6, 0).to_ne_bytes();
        assert_eq!(bytes, [0x69, 0x25, 6, 0, 0, 0, 0, 0]);
    }
}
